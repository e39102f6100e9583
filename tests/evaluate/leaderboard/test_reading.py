import math
from dataclasses import replace
from pathlib import Path

import pytest
from made_results import made_result, photographs, save

from dualpixel.evaluate.leaderboard.reading import collect, find_results, put_together
from dualpixel.evaluate.leaderboard.tables import Entry


def refusal(folder, result):
    save(folder, "wrong", result)
    entries, (line,) = collect(find_results([folder]))
    assert not entries
    return line


def test_the_mean_of_a_group_is_that_of_its_images(tmp_path):
    result = photographs(25.0)
    result.means["indoor"]["psnr"] += 0.39
    result.means["outdoor"]["psnr"] -= 0.37  # so that together they are the overall mean
    assert "'indoor' psnr is not the mean of the images" in refusal(tmp_path, result)


def test_a_group_without_images_has_no_means(tmp_path):
    result = made_result({"psnr": [25.0, 26.0]}, ["", ""])
    result.means["night"] = {"psnr": 25.0}
    assert "means of 'night', of which there are no images" in refusal(tmp_path, result)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"parameters": 0}, "no network has so many parameters"),
        ({"parameters": -1}, "no network has so many parameters"),
        ({"macs": 0}, "or multiply-accumulates, or none"),
        ({"macs": -5}, "or multiply-accumulates, or none"),
        ({"macs_size": [1120]}, "macs_size is [1120], not height and width"),
        ({"macs_size": [1120, 0]}, "not height and width"),
        ({"macs_size": [10**7, 1]}, "not height and width"),
        ({"recipe": "x" * 401}, "recipe of 401 letters, 400 at most"),
        ({"weights_source": "x" * 500}, "weights_source of 500 letters"),
        ({"views_from": {"recipe": "x" * 401, "weights_sha256": "", "source": ""}}, "views_from recipe of 401 letters"),
        ({"rows": [{"key": "k" * 401, "group": "", "psnr": 25.0}]}, "key of 401 letters"),
        ({"rows": [{"key": "k", "group": "g" * 401, "psnr": 25.0}]}, "group of 401 letters"),
    ],
)
def test_costs_and_lengths_have_limits(tmp_path, changes, said):
    assert said in refusal(tmp_path, made_result({"psnr": [25.0]}, [""], **changes))


def test_the_limits_themselves_are_taken(tmp_path):
    largest = {"parameters": 10**18, "macs": 10**18, "macs_size": [10**6, 10**6], "recipe": "x" * 400}
    save(tmp_path, "large", made_result({"psnr": [25.0]}, [""], **largest))
    save(tmp_path, "none", made_result({"psnr": [25.0]}, [""], parameters=1, macs=None, macs_size=None))
    entries, left_out = collect(find_results([tmp_path]))
    assert len(entries) == 2 and not left_out


def test_the_same_result_stands_once_and_keeps_its_link():
    result, other = photographs(25.0), photographs(26.0)
    address = "https://example.org/1"
    local, copied = Entry(Path("/a"), "a", result), Entry(Path("/b"), "b", replace(result))
    fetched = Entry(Path("/w/me/blur/id1"), "mine", replace(result), link=address)
    found = put_together([local, copied, fetched, Entry(Path("/c"), "c", other)])
    assert [(one.run, one.link) for one in found] == [("a", address), ("c", None)]
    kept = put_together([local, copied, fetched], Path("/b"))  # that is what others are compared with
    assert [(one.run, one.link) for one in kept] == [("b", address)]
    again = replace(result, made="2026-01-02T00:00:00+00:00")
    assert len(put_together([local, Entry(Path("/b"), "b", again)])) == 2
    nothing = replace(result, rows=[{**result.rows[0], "psnr": math.pi}])
    assert len(put_together([local, Entry(Path("/b"), "b", nothing)])) == 2


def test_runs_of_folders_and_of_projects_have_names_of_their_own():
    entries = [
        Entry(Path("/runs/mine"), "mine", photographs(25.0)),
        Entry(Path("/w/me/blur/id1"), "mine", photographs(26.0), link="https://example.org/1"),
        Entry(Path("/w/me/other/id1"), "mine", photographs(27.0), link="https://example.org/2"),
        Entry(Path("/runs/own"), "own", photographs(28.0)),
    ]
    names = [one.run for one in put_together(entries)]
    assert names[1:] == ["mine (me/blur/id1)", "mine (me/other/id1)", "own"] and names[0].endswith("runs/mine")
