import base64
import hashlib
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from made_pages import HOSTILE, boards_of, save_hostile, save_networks, write_thumbnails
from made_results import made_result, photographs, save

from dualpixel.evaluate.leaderboard.page import ASSETS, page
from dualpixel.evaluate.leaderboard.page_images import Pictures, image_data
from dualpixel.evaluate.leaderboard.printed import published_boards
from dualpixel.evaluate.leaderboard.tables import Entry, leaderboards
from dualpixel.evaluate.published import published_rows


class Elements(HTMLParser):
    """Counts elements and attributes, and keeps the text of scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.found, self.texts, self.inside = [], {}, None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        self.inside = dict(attributes).get("id", tag) if tag in ("script", "style") else None

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside:
            self.texts[self.inside] = self.texts.get(self.inside, "") + data


def content_of(text):
    return json.loads(Elements(text).texts["content"])


def board_of(text, place=0):
    return content_of(text)["boards"][place]


def rows_of(board, kind):
    return [row for row in board["rows"] if row["kind"] == kind]


def cell(board, row, heading, group=None):
    (place,) = [
        place
        for place, column in enumerate(board["columns"])
        if (column["heading"], column.get("group")) == (heading, group)
    ]
    return row["cells"][place]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "runs"
    save_networks(folder)
    return folder


def test_the_page_needs_no_other_file_and_lets_nothing_else_run(runs):
    text = page(boards_of(runs))
    elements = Elements(text)
    names = [tag for tag, _ in elements.found]
    assert names.count("script") == 2 and not {"link", "img", "iframe", "base", "object"} & {*names}
    assert not any({"src", "href", "style", "action"} & {*attributes} for _, attributes in elements.found)
    assert not any(name.startswith("on") for _, attributes in elements.found for name in attributes)
    assert "{{" not in text.replace(elements.texts["content"], "") and "http" not in elements.texts["style"]
    policy = next(one["content"] for _, one in elements.found if one.get("http-equiv") == "Content-Security-Policy")
    for name in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(elements.texts[name].encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:; ") and "unsafe" not in policy


def test_no_name_ends_the_data_or_is_filled_in(tmp_path):
    save_hostile(tmp_path)
    boards = boards_of(tmp_path)
    entry = replace(boards[0].entries[0], run=HOSTILE, link=f'javascript:alert(1)"{HOSTILE}')
    text = page(leaderboards([entry]), [HOSTILE])
    content = Elements(text).texts["content"]
    assert not re.search("[<>&\u2028\x1b\u202e]", content) and content.isascii()
    assert len([tag for tag, _ in Elements(text).found if tag == "script"]) == 2
    board = json.loads(content)["boards"][0]
    (row,) = rows_of(board, "measured")
    shown = HOSTILE.replace("\x1b", "?").replace("\u202e", "?").replace("\u2028", " ")
    assert row["cells"][2] == shown == board["images"]["keys"][0][:-1] and "link" not in row
    assert json.loads(content)["left_out"] == [shown]


@pytest.mark.parametrize(
    ("link", "kept"),
    [
        ("https://wandb.ai/a/b/runs/1", True), ("http://localhost:8080/a", True), ("javascript:alert(1)", False),
        ("data:text/html,x", False), ("https://a b", False), (" https://a", False), ("https://a\nx", False), ("//a", False), (None, False),
    ],
)  # fmt: skip
def test_links_lead_to_web_pages_only(runs, link, kept):
    entry = Entry(runs, "one", photographs(25.0), link=link)
    (row,) = rows_of(board_of(page(leaderboards([entry]))), "measured")
    assert row.get("link") == (link if kept else None)


def test_rows_have_texts_and_the_numbers_to_sort_by(runs):
    board = board_of(page(boards_of(runs, "dpdnet-dpdd-1")))
    first = rows_of(board, "measured")[0]
    mean = boards_of(runs)[0].rows[0].entry.result.means
    value, text, best = cell(board, first, "PSNR (95 %)")
    assert best and value == mean["overall"]["psnr"] and re.fullmatch(rf"{value:.3f} \([0-9.]+ to [0-9.]+\)", text)
    assert board["columns"][board["ranked"]]["heading"] == "PSNR (95 %)"
    assert cell(board, first, "PSNR", "indoor")[:2] == [mean["indoor"]["psnr"], f"{mean['indoor']['psnr']:.3f}"]
    assert cell(board, first, "MACs") == [3352e9, "3,352.00 G at 1152x1792"]
    assert cell(board, first, "time") == [0.9, "0.9 s"] and cell(board, first, "device") == "NVIDIA H200"
    assert cell(board, first, "against dpdnet-dpdd-1")[0] == pytest.approx(1.3, abs=0.1)
    assert [row["cells"][0] for row in rows_of(board, "measured")] == [[place, str(place)] for place in (1, 2, 3, 4)]
    (unprocessed,) = rows_of(board, "input")
    assert unprocessed["cells"][:2] == ["–", "unprocessed input"] and cell(board, unprocessed, "MACs") == ""
    assert cell(board, unprocessed, "MAE", "outdoor")[0] == mean["outdoor"]["input_mae"]
    untimed = next(row for row in rows_of(board, "measured") if row["cells"][1] == "mdp")
    assert cell(board, untimed, "time") == cell(board, untimed, "device") == ""


def test_published_rows_stand_in_the_same_table_with_groups_source_and_doubt(runs):
    board = board_of(page(boards_of(runs)))
    printed = {(row["cells"][1], row["cells"][2]): row for row in rows_of(board, "published")}
    row = printed["DPDNet", "Abuolaim and Brown, ECCV 2020, table 1"]
    assert cell(board, row, "PSNR (95 %)") == [25.13, "25.13"] and row["cells"][0] == "–"
    assert cell(board, row, "SSIM", "outdoor") == [0.726, "0.726"] and cell(board, row, "LPIPS") == [0.223, "0.223"]
    doubtful = printed["MDP", "Abuolaim, Afifi and Brown, WACV 2022, table 1"]
    assert board["doubts"][doubtful["doubt"] - 1].startswith(
        "MDP (Abuolaim, Afifi and Brown, WACV 2022, table 1): the time"
    )
    assert any(line.startswith("Abuolaim and Brown, ECCV 2020, table 1: whole images;") for line in board["sources"])
    assert {(one.dataset, one.protocol) for one in boards_of(runs)[0].printed_alike} == {("dpdd", "dpdnet-16bit")}
    assert len(printed) == len(boards_of(runs)[0].printed_alike) == 13


def test_every_published_row_is_shown_once_and_unknown_protocols_apart(runs):
    boards = content_of(page(boards_of(runs)))["boards"]
    assert sum(len(rows_of(board, "published")) for board in boards) == len(published_rows())
    unmeasured = boards[1:]
    assert [board["measured"] for board in boards] == [True] + [False] * len(unmeasured)
    unknown = [board["protocol"] == "another or unknown protocol" for board in unmeasured]
    assert unknown == sorted(unknown) and sum(unknown) == 12
    assert ("dpdd", "dpdnet-16bit") not in {(board["dataset"], board["protocol"]) for board in unmeasured}
    for board in published_boards(boards_of(runs)):
        assert len({(row.dataset, row.protocol) for row in board.published}) == 1
        assert board.about.protocol or len({row.citation for row in board.published}) == 1
    known = next(board for board in unmeasured if board["protocol"] == "k3dn-1152x1792")
    assert known["facts"][0] == "Data: DPDD test (DPD-blur)." and "bicubic" in known["facts"][1]
    assert known["columns"][known["ranked"]]["heading"] == "PSNR"


def test_costs_of_other_sizes_devices_and_counts_have_axes_of_their_own(runs):
    board = board_of(page(boards_of(runs)))
    assert board["axes"] == [
        "parameters", "multiply-accumulates at 1152x1792", "seconds per image on NVIDIA H200", "seconds per image on cpu",
        "multiply-accumulates at 1120x1680",
        *(axis for axis in board["axes"] if axis.startswith("seconds as printed")),
    ]  # fmt: skip
    of_network = {row["cells"][1]: row["costs"] for row in rows_of(board, "measured")}
    assert of_network["k3dn"] == {"0": 15_900_000, "1": 3352e9, "2": 0.9}
    assert of_network["k3dn_tiny"] == {"0": 3_003_000, "1": 571e9, "3": 0.2}
    assert of_network["mdp"] == {"0": 46_000_000, "4": 1900e9}


def test_operations_of_papers_stand_by_what_was_counted_and_are_not_sorted_among_ours(tmp_path):
    save(tmp_path, "one", photographs(25.0, protocol="k3dn-1152x1792", recipe="k3dn"))
    boards = content_of(page(boards_of(tmp_path)))["boards"]
    (unknown,) = [one for one in boards if "unknown protocol: Yang" in one["title"] and "table 1" in one["title"]]
    axes = [axis.split("; ")[1] for axis in unknown["axes"] if axis.startswith("operations as printed: FLOPs")]
    assert len(axes) == 3 and axes.count("what was counted is not known") == 1
    printed = {row["cells"][1]: cell(boards[0], row, "MACs") for row in rows_of(boards[0], "published")}
    assert printed["K3DN Tiny"].startswith("571 G as printed: multiply-accumulates at 1152x1792, with batch")


def test_tables_that_differ_in_the_data_alone_are_told_apart(tmp_path):
    for run in ("e", "f"):
        save(tmp_path, run, photographs(25.0, fingerprint=run * 16))
    save(tmp_path, "views", photographs(25.0, split="val"))
    titles = [board["title"] for board in content_of(page(boards_of(tmp_path)))["boards"] if board["measured"]]
    said = [f"dpdd test, protocol dpdnet-16bit, data {run * 16}" for run in ("e", "f")]
    assert titles == [*said, "dpdd val, protocol dpdnet-16bit"]


def test_scores_of_images_are_all_there(runs):
    board = board_of(page(boards_of(runs)))
    images = board["images"]
    assert [column["heading"] for column in images["columns"]] == ["PSNR", "SSIM", "MAE"] and images["ranked"] == 0
    assert len(images["keys"]) == 76 and images["groups"][40] == "outdoor"
    for row, of_board in zip(rows_of(board, "measured"), boards_of(runs)[0].rows, strict=True):
        scores = np.frombuffer(base64.b64decode(row["scores"]), "<f8").reshape(76, 3)
        expected = [[one[name] for name in ("psnr", "ssim", "mae")] for one in of_board.entry.result.rows]
        assert scores.tolist() == expected
    of_input = np.frombuffer(base64.b64decode(images["input"]), "<f8").reshape(76, 3)
    assert of_input[5, 2] == pytest.approx(of_board.entry.result.rows[5]["input_mae"])


def test_missing_scores_of_images_stay_empty(tmp_path):
    result = made_result({"psnr": [25.0, 26.0], "mae": [0.1, 0.2]}, ["", ""])
    del result.rows[1]["mae"]
    result.means["overall"]["mae"] = None
    save(tmp_path, "other", made_result({"psnr": [25.0, 26.0], "mae": [0.1, 0.2]}, ["", ""]))
    save(tmp_path, "one", result)
    board = board_of(page(boards_of(tmp_path)))
    row = next(row for row in rows_of(board, "measured") if row["cells"][2] == "one")
    scores = np.frombuffer(base64.b64decode(row["scores"]), "<f8").reshape(2, 2)
    assert np.isnan(scores).tolist() == [[False, False], [False, True]]
    assert np.isnan(np.frombuffer(base64.b64decode(board["images"]["input"]), "<f8")).all()


def test_pictures_go_from_the_worst_to_the_best_and_shared_ones_stand_once(runs):
    boards = boards_of(runs)
    board = board_of(page(boards, thumbnails=3))
    with_pictures = range(0, 76, 13)
    entries = [row.entry for row in boards[0].rows if row.entry.run != "mdp-dpdd-1"]
    gains = {
        place: np.mean([one.result.rows[place]["psnr"] - one.result.rows[place]["input_psnr"] for one in entries])
        for place in with_pictures
    }
    ordered = sorted(with_pictures, key=gains.get)
    chosen = {str(ordered[0]), str(ordered[2]), str(ordered[-1])}  # of six the third is in the middle
    assert {*board["images"]["pictures"]} == chosen
    assert all({*kinds} == {"scene", "input", "target"} for kinds in board["images"]["pictures"].values())
    outputs = {row["cells"][1]: {*row.get("outputs", {})} for row in rows_of(board, "measured")}
    assert outputs == {"k3dn": chosen, "k3dn_tiny": chosen, "dpdnet": chosen, "mdp": set()}
    assert "pictures of 3 of 76 images" in board["images"]["said"] and "3 of 4 results" in board["images"]["said"]
    none = board_of(page(boards))
    assert not none["images"]["pictures"] and not any("outputs" in row for row in rows_of(none, "measured"))


def test_pictures_beyond_the_room_are_left_out_and_that_is_said(runs):
    pictures = Pictures(2, room=12_000)
    images, of_rows = image_data(boards_of(runs)[0], pictures)
    embedded = [one for kinds in images["pictures"].values() for one in kinds.values()]
    embedded += [one for row in of_rows for one in row.get("outputs", {}).values()]
    taken = sum(len(base64.b64decode(one)) for one in embedded)
    assert 6_000 < taken <= 12_000 and pictures.room == 12_000 - taken
    shown = sum("outputs" in row for row in of_rows)
    assert 0 < shown < 3 and images["said"].endswith(f"Those of {3 - shown} more were left out to keep the page small.")


def test_only_pictures_of_a_fitting_size_are_read(tmp_path):
    result = photographs(25.0, count=3)
    file = save(tmp_path, "one", result)
    write_thumbnails(file, ["scene00", "scene01", "scene02"])
    folder = file.parent / "thumbnails"
    (folder / "scene00-output.webp").write_bytes(b"<svg onload=alert(1)>")
    (folder / "scene00-scene.webp").write_bytes(b"RIFF\0\0\0\0WAVEfmt ")
    large = (folder / "scene01-output.webp").read_bytes()
    (folder / "scene01-output.webp").write_bytes(large + bytes(200_000))
    board = board_of(page(boards_of(tmp_path), thumbnails=3))
    (row,) = rows_of(board, "measured")
    assert [*row["outputs"]] == ["2"] and [*board["images"]["pictures"]["0"]] == ["input", "target"]


def test_infinite_scores_of_a_group_are_no_numbers_of_json(tmp_path):
    result = photographs(25.0)
    result.means["indoor"]["psnr"] = math.inf
    board = board_of(page(leaderboards([Entry(tmp_path, "one", result)])))
    assert cell(board, rows_of(board, "measured")[0], "PSNR", "indoor") == "inf"


def test_programs_and_style_name_no_address(runs):
    for file in ASSETS.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http" not in text.replace("http-equiv", "") and "innerHTML" not in text and "eval(" not in text, file
