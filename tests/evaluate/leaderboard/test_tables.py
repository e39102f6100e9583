from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from made_results import made_result, photographs, save

from dualpixel.evaluate.leaderboard.grids import doubts, facts, group_means, printed_groups, published, ranking
from dualpixel.evaluate.leaderboard.markdown import markdown
from dualpixel.evaluate.leaderboard.reading import collect, find_results, run_of
from dualpixel.evaluate.leaderboard.tables import leaderboards
from dualpixel.evaluate.published import published_rows
from dualpixel.evaluate.result import save_result
from dualpixel.evaluate.statistics import compare, mean_interval


def boards_of(runs, against=None):
    entries, left_out = collect(find_results([runs]))
    assert not left_out
    return leaderboards(entries, against)


def texts(grid):
    return [[cell.text for cell in row] for row in grid.rows]


def column(grid, heading):
    place = grid.headings.index(heading)
    return [row[place] for row in grid.rows]


def psnrs(result):
    return np.array([row["psnr"] for row in result.rows])


@pytest.fixture
def runs(tmp_path):
    """Three runs on the same images, by one protocol."""
    for run, psnr in (("low", 24.5), ("high", 26.0), ("middle", 25.0)):
        save(tmp_path / "runs", run, photographs(psnr, seed=len(run), recipe=f"net_{run}"))
    return tmp_path / "runs"


def test_results_are_ranked_with_their_intervals(runs):
    (board,) = boards_of(runs)
    assert [(row.entry.run, row.rank) for row in board.rows] == [("high", 1), ("middle", 2), ("low", 3)]
    for row in board.rows:
        assert row.interval == pytest.approx(tuple(mean_interval(psnrs(row.entry.result))), abs=1e-9)
    grid = ranking(board)
    assert grid.headings == [
        "rank",
        "recipe",
        "run",
        "PSNR (95 %)",
        "SSIM",
        "MAE",
        "parameters",
        "MACs",
        "time",
        "weights",
        "code",
    ]
    best = board.rows[0]
    mean, (low, high) = psnrs(best.entry.result).mean(), best.interval
    assert texts(grid)[0] == [
        "1", "net_high", "high", f"{mean:.3f} ({low:.3f} to {high:.3f})", f"{0.7 + mean / 500:.4f}", f"{0.06 - mean / 1000:.4f}",
        "31,035,151", "1,574.30 G at 1120x1680", "", "x.ckpt 0123456789ab", "0.1.0",
    ]  # fmt: skip


def test_the_best_of_each_column_stands_out(runs):
    sharp = photographs(24.0, recipe="smooth")
    worse = [{**row, "ssim": row["ssim"] + 0.2} for row in sharp.rows]
    columns = {name: [row[name] for row in worse] for name in worse[0] if name not in ("key", "group")}
    save(runs, "smooth", made_result(columns, [row["group"] for row in worse]))
    (board,) = boards_of(runs)
    grid = ranking(board)
    assert [cell.best for cell in column(grid, "PSNR (95 %)")] == [True, False, False, False, False]
    assert [cell.best for cell in column(grid, "SSIM")] == [False, False, False, True, False]
    assert [cell.best for cell in column(grid, "MAE")] == [True, False, False, False, False]  # the smallest


def test_the_unprocessed_input_has_no_rank_and_is_never_the_best(tmp_path):
    save(tmp_path, "worse", photographs(20.0))
    (board,) = boards_of(tmp_path)
    of_input = texts(ranking(board))[-1]
    assert of_input[:4] == ["–", "unprocessed input", "", f"{board.about.means['overall']['input_psnr']:.3f}"]
    assert float(of_input[3]) > 22
    assert [cell.best for cell in column(ranking(board), "PSNR (95 %)")] == [False, False]  # the input is better
    assert [cell.best for cell in column(ranking(board), "SSIM")] == [True, False]


def test_equal_scores_share_a_rank(runs):
    for run in ("again", "copy"):
        save(runs, run, photographs(26.0, seed=len("high")))
    (board,) = boards_of(runs)
    ranks = [(row.entry.run, row.rank) for row in board.rows]
    assert ranks == [("again", 1), ("copy", 1), ("high", 1), ("middle", 4), ("low", 5)]
    assert [cell.best for cell in column(ranking(board), "MAE")] == [True, True, True, False, False, False]


@pytest.mark.parametrize(
    "other",
    [
        {"protocol": "k3dn-1152x1792"}, {"fingerprint": "e" * 16}, {"split": "val"}, {"dataset": "quickstart"}, {"complete": False},
    ],
)  # fmt: skip
def test_what_was_measured_otherwise_is_another_table(runs, other):
    save(runs, "best", photographs(40.0, **other))
    boards = boards_of(runs)
    assert sorted([row.entry.run for row in board.rows] for board in boards) == [["best"], ["high", "middle", "low"]]
    assert all(board.rows[0].rank == 1 for board in boards)


def test_other_images_are_another_table_whatever_the_fingerprint_says(runs):
    save(runs, "half", photographs(30.0, count=38))
    assert sorted(len(board.about.rows) for board in boards_of(runs)) == [38, 76]


def test_groups_have_tables_of_their_own(runs):
    (board,) = boards_of(runs)
    assert board.groups == {"indoor": 37, "outdoor": 39}
    grid = group_means(board, "indoor")
    assert grid.title == "indoor, 37 images" and grid.headings == ["recipe", "run", "PSNR", "SSIM", "MAE"]
    means = board.rows[0].entry.result.means["indoor"]
    expected = ["net_high", "high", f"{means['psnr']:.3f}", f"{means['ssim']:.4f}", f"{means['mae']:.4f}"]
    assert texts(grid)[0] == expected and grid.rows[0][2].best
    assert texts(grid)[-1][2] == f"{means['input_psnr']:.3f}"


def test_a_run_is_compared_with_the_others_image_by_image(runs):
    (board,) = boards_of(runs, (runs / "low").resolve())
    results = {row.entry.run: row.entry.result for row in board.rows}
    (expected,) = compare(psnrs(results["middle"])[None], psnrs(results["low"]))
    found = {row.entry.run: row.comparison for row in board.rows}
    assert found["low"] is None
    assert found["middle"].difference == pytest.approx(expected.difference)
    assert (found["middle"].low, found["middle"].high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert found["middle"].p_value == expected.p_value == 1 / 10_001
    assert 0.3 < expected.low < expected.difference < expected.high < 0.7
    said = f"{expected.difference:+.3f} ({expected.low:+.3f} to {expected.high:+.3f})"
    assert [cell.text for cell in column(ranking(board), "against low")][1:] == [said, "", ""]
    assert [cell.text for cell in column(ranking(board), "p")] == ["0.0001", "0.0001", "", ""]


def test_pairs_are_found_by_key_and_not_by_place(tmp_path):
    save(tmp_path, "one", photographs(25.0))
    turned = photographs(25.0)
    save(tmp_path, "two", made_result({}, rows=turned.rows[::-1], means=turned.means))
    (board,) = boards_of(tmp_path, (tmp_path / "one").resolve())
    assert board.rows[1].comparison.difference == 0 and board.rows[1].comparison.p_value == 1


def test_published_groups_have_tables_of_their_own(runs):
    (board,) = boards_of(runs)
    assert printed_groups(board.published) == ["indoor", "outdoor"]
    grid = published(board, "outdoor")
    assert grid.title == "published, outdoor: not measured here, not ranked"
    assert [
        "DPDNet",
        "Abuolaim and Brown, ECCV 2020, table 1",
        "22.90",
        "0.726",
        "0.052",
        "0.255",
        "",
        "",
        "",
    ] in texts(grid)
    assert 2 <= len(grid.rows) < len(published(board).rows)
    lines = markdown([board]).splitlines()
    titles = [line for line in lines if line.startswith("### ")]
    assert titles == [
        "### indoor, 37 images", "### outdoor, 39 images", "### published: not measured here, not ranked",
        "### published, indoor: not measured here, not ranked", "### published, outdoor: not measured here, not ranked",
    ]  # fmt: skip


def test_times_stand_beside_what_they_were_taken_on(runs):
    (board,) = boards_of(runs)
    assert {cell.text for cell in column(ranking(board), "time")} == {""} and not any(
        "Time" in fact for fact in facts(board)
    )
    save(
        runs, "timed", photographs(20.0, seconds=0.12345, environment={"device": "cuda:0", "device_name": "Abacus\x1b"})
    )
    (board,) = boards_of(runs)
    assert [cell.text for cell in column(ranking(board), "time")] == ["", "", "", "0.123 s", ""]
    said = "Time is that of one image, the median, the recipe's forward pass alone, on Abacus?"
    assert f"{said}." in facts(board)
    for place in range(10):
        measured = {"seconds": 1.0, "environment": {"device": "cpu", "threads": 2}}
        save(runs, f"slow{place}", photographs(19.0 - place / 10, **measured))
    (board,) = boards_of(runs)
    listed = ", ".join(f"slow{place}" for place in range(8))
    assert f"{said} (timed), cpu, 2 threads ({listed} and 2 more)." in facts(board)


def test_only_published_rows_by_the_same_protocol_stand_below(runs):
    (board,) = boards_of(runs)
    assert {(row.dataset, row.protocol) for row in board.published} == {("dpdd", "dpdnet-16bit")}
    grid = published(board)
    assert "not measured here" in grid.title and "rank" not in grid.headings
    row = ["DPDNet", "Abuolaim and Brown, ECCV 2020, table 1", "25.13", "0.786", "0.041", "0.223", "", "", ""]
    assert row in texts(grid)
    assert not any(cell.best for row in grid.rows for cell in row)
    everything = [row for row in published_rows("dpdd") if row.means]
    assert len(board.published) + sum(board.not_shown.values()) == len(everything)
    assert board.not_shown["k3dn-1152x1792"] == Counter(row.protocol for row in everything)["k3dn-1152x1792"] == 13
    (said,) = [fact for fact in facts(board) if "not shown" in fact]
    assert "13 of k3dn-1152x1792" in said and "of another or unknown protocol" in said
    assert any(line.startswith("MDP (Abuolaim, Afifi and Brown, WACV 2022, table 1): ") for line in doubts(board))


@pytest.mark.parametrize(
    "other",
    [{"split": "val"}, {"complete": False}, {"dataset": "quickstart"}, {"fingerprint": f"{'f' * 16}-optics-ad984a38"}],
)
def test_published_rows_stand_beside_whole_test_splits_only(tmp_path, other):
    save(tmp_path, "one", photographs(25.0, **other))
    (board,) = boards_of(tmp_path)
    assert not board.published
    assert ("These are not all images of the split." in facts(board)) == ("complete" in other)
    printed = [row for row in published_rows("dpdd") if row.means]
    assert sum(board.not_shown.values()) == (0 if "dataset" in other else len(printed)) and len(printed) > 60


def test_printed_errors_are_brought_to_our_units(tmp_path):
    columns = {"psnr": [25.0, 26.0], "rmse_relative": [6.0, 5.0], "mae": [0.04, 0.05]}
    save(tmp_path, "one", made_result(columns, ["", ""], dataset="dpdd", protocol="dddnet-half"))
    (board,) = boards_of(tmp_path)
    grid = published(board)
    assert "RMSE %" in grid.headings
    for row, cell in zip(board.published, column(grid, "RMSE %"), strict=True):
        printed = row.scores["overall"].get("rmse_relative")
        assert cell.text == "" if printed is None else float(cell.text) == pytest.approx(printed.value)
    assert any(cell.text for cell in column(grid, "RMSE %"))


def test_errors_rank_from_below_where_blur_alone_is_scored(tmp_path):
    for run, score in (("good", 0.1), ("bad", 0.3)):
        columns = {name: [score, score + 0.1] for name in ("ai1", "ai2", "one_minus_abs_rho", "geometric_mean")}
        save(tmp_path, run, made_result(columns, ["", ""], dataset="dpd_disp", protocol="dpd-disp"))
    (board,) = boards_of(tmp_path)
    assert board.ranked_by == "geometric_mean" and [row.entry.run for row in board.rows] == ["good", "bad"]
    assert ranking(board).headings[3:7] == ["AI(1)", "AI(2)", "1-|rho|", "geometric mean (95 %)"]


def test_results_without_the_ranking_score_come_last_without_a_rank(runs):
    views = photographs(30.0)
    of_views = {"views_psnr": psnrs(views).tolist(), "psnr": [None] * 76}
    save(runs, "a_views", made_result(of_views, [row["group"] for row in views.rows], recipe="mdp_views"))
    (board,) = boards_of(runs)
    last = board.rows[-1]
    assert (last.entry.run, last.rank, last.interval) == ("a_views", None, None)
    cells = dict(zip(ranking(board).headings, texts(ranking(board))[3], strict=True))
    assert cells["rank"] == "–" and cells["PSNR (95 %)"] == "" and cells["views PSNR"] == f"{psnrs(views).mean():.3f}"


def test_one_image_has_no_interval(tmp_path):
    save(tmp_path, "one", made_result({"psnr": [25.0]}, [""]))
    (board,) = boards_of(tmp_path, (tmp_path / "one").resolve())
    assert board.rows[0].interval is None and texts(ranking(board))[0][3] == "25.000"
    assert facts(board)[0].startswith("Data ffffffffffffffff, 1 image. ")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": 2}, "not a result of schema 1"),
        ({"means": {"overall": {"psnr": 130.0}}}, "outside of 0 to 120"),
        ({"means": {"overall": {"psnr": "inf"}}}, "outside of 0 to 120"),
        ({"means": {"overall": {"psnr": 26.0}}}, "overall psnr is not the mean of the images"),
        ({"means": {"overall": {"psnr": "much"}}}, "psnr is 'much', not a number"),
        ({"means": {"overall": {"psnr": True}}}, "psnr is True, not a number"),
        ({"means": {"overall": {"psnr": 10**400}}}, "too large"),
        ({"means": {}}, "no overall mean"),
        ({"macs": 10**400}, "no network has so many"),
        ({"seconds": -1.0}, "no network takes -1.0 seconds"),
        ({"seconds": float("inf")}, "no network takes inf seconds"),
        ({"rows": []}, "no images"),
        ({"rows": [{"key": "a", "group": "", "psnr": 25.0}] * 2}, "an image that stands twice"),
        ({"rows": [{"key": "a", "psnr": 25.0}]}, "a row without key and group"),
        ({"rows": [{"key": "a", "group": "", "psnr": float("nan")}]}, "not the mean of the images"),
        ({"rows": [{"key": "a", "group": "", "psnr": None}]}, "not the mean of the images"),
    ],
)
def test_what_cannot_have_been_measured_is_left_out_in_one_line(runs, changes, said):
    path = save(runs, "wrong", made_result({"psnr": [25.0]}, [""], **changes))
    entries, (line,) = collect(find_results([runs]))
    assert len(entries) == 3 and said in line and str(path) in line and "\n" not in line
    assert "\n- " in markdown(leaderboards(entries), [line]).partition("## Left out")[2]


def test_results_are_found_in_runs_and_in_a_run_and_once_each(runs, monkeypatch):
    one = runs / "low" / "results" / "dpdd-test" / "dpdnet-16bit" / "result.json"
    assert find_results([runs / "low"]) == [one] == find_results([one])
    assert len(find_results([runs, runs / "low", one])) == 3
    monkeypatch.chdir(one.parents[3])
    assert len(find_results([Path(), runs / "low"])) == 1
    assert run_of(find_results([one.relative_to(one.parents[3])])[0]) == (runs / "low").resolve()


def test_runs_of_the_same_name_are_told_apart(runs, monkeypatch):
    monkeypatch.chdir(runs.parent)
    save(runs.parent / "other", "low", photographs(25.5))
    entries, _ = collect(find_results([runs, runs.parent / "other"]))
    assert {one.run for one in entries} == {"high", "middle", "runs/low", "other/low"}
    (board,) = leaderboards(entries, (runs / "low").resolve())
    assert [row.comparison is None for row in board.rows] == [False, False, False, True]


def test_files_outside_of_runs_have_their_own_names(tmp_path):
    for name in ("a.json", "b.json"):
        save_result(tmp_path / name, photographs(25.0))
    (board,) = leaderboards(collect([tmp_path / "a.json", tmp_path / "b.json"])[0])
    assert [row.entry.run for row in board.rows] == ["a", "b"]


def test_markdown_has_all_tables_and_takes_names_as_text(runs):
    hostile = "a|b*c*<i>\x1b[31m[x](y)"
    save(runs, "a_b_", photographs(27.0, recipe="net"))
    entries, _ = collect(find_results([runs]))
    entries[0].result.means[hostile] = entries[0].result.means.pop("outdoor")
    for row in entries[0].result.rows:
        row["group"] = row["group"].replace("outdoor", hostile)
    text = markdown(leaderboards(entries))
    lines = text.splitlines()
    assert lines[0] == "# Leaderboard" and "## dpdd test, protocol dpdnet-16bit" in lines
    assert "### indoor, 37 images" in lines and "### published: not measured here, not ranked" in lines
    assert r"### a\|b\*c\*\<i\>?\[31m\[x\](y), 39 images" in lines and "\x1b" not in text
    assert any(line.startswith(r"| 1 | net | a_b\_ | **27.") for line in lines)
    widths = {line.replace(r"\|", "").count("|") for line in lines if line.startswith(("| rank", "| 1 |", "| – |"))}
    assert widths == {12}
    assert "sign-flip" not in text
    base = next(one.folder for one in entries if one.run == "low")
    assert "minus that of low" in markdown(leaderboards(entries, base))


def test_rows_say_whose_views_a_network_saw_and_which_words_differ(runs):
    origin = {"recipe": "mdp", "weights_sha256": "1" * 64, "source": "mdp.safetensors"}
    save(runs, "last", photographs(20.0, views_from=origin, protocol_description="other words"))
    (board,) = boards_of(runs)
    assert [cell.text for cell in column(ranking(board), "recipe")][3] == "dpdnet on views of mdp"
    assert "The protocol was described in other words in: last." in facts(board)
