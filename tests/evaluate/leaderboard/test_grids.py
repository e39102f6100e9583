from dataclasses import replace

import pytest
from made_results import made_result, photographs

from dualpixel.evaluate.leaderboard.cells import name_cells, source
from dualpixel.evaluate.leaderboard.grids import INTERVALS, facts, main_columns, published, ranking, summary, titles
from dualpixel.evaluate.leaderboard.markdown import markdown
from dualpixel.evaluate.leaderboard.reading import collect, find_results
from dualpixel.evaluate.leaderboard.tables import Entry, leaderboards
from dualpixel.evaluate.published import published_rows

WHOLE = {"id": "mine", "notes": "a", "metrics": ["psnr", "ssim"]}


def boards_of(runs, against=None):
    entries, left_out = collect(find_results([runs]))
    assert not left_out
    return leaderboards(entries, against)


def board_of(folder, *results):
    return leaderboards([Entry(folder, f"run{place}", one) for place, one in enumerate(results)])


def cells(grid, heading):
    return [row[grid.headings.index(heading)].text for row in grid.rows]


def recipes(folder, **changes):
    (board,) = board_of(folder, photographs(25.0, **changes))
    return name_cells(board.rows[0])[0].text


def test_options_that_the_recipe_has_otherwise_stand_behind_its_name(tmp_path):
    own = {"views": "dual", "width": 1.0, "dropout": 0.4, "residual": False}
    assert recipes(tmp_path, options=own) == "dpdnet"
    assert recipes(tmp_path, options=own | {"width": 0.25, "residual": True}) == "dpdnet (width 0.25, residual True)"
    assert recipes(tmp_path, options={"width": 0.25}, recipe="../../etc/passwd") == "../../etc/passwd"
    origin = {"recipe": "mdp", "weights_sha256": "1" * 64, "source": "mdp.safetensors"}
    assert recipes(tmp_path, options={"width": 0.5}, views_from=origin) == "dpdnet (width 0.5) on views of mdp"
    long = recipes(tmp_path, options={"width": "x\x1b" * 1000})
    assert long.endswith("...)") and len(long) < 110 and "\x1b" not in long


def test_weights_are_named_by_their_file_and_hash(tmp_path):
    (board,) = board_of(tmp_path, photographs(25.0, weights_source="/home/me/runs/a/best.ckpt"))
    assert cells(ranking(board), "weights")[0] == "best.ckpt 0123456789ab"


def test_a_terminal_gets_the_main_scores_and_parameters(tmp_path):
    names = ("psnr", "left_psnr", "views_psnr", "coarse_abs_rel")
    (board,) = board_of(tmp_path, made_result({name: [25.0, 26.0] for name in names}, ["", ""]))
    grid = summary(board)
    assert grid.headings == ["rank", "recipe", "run", "PSNR (95 %)", "parameters"]
    assert [cell.text for cell in grid.rows[0]][4] == "31,035,151" and grid.numeric == {0, 3, 4}
    (views,) = board_of(tmp_path, made_result({"views_psnr": [25.0, 26.0], "left_psnr": [25.0, 26.0]}, ["", ""]))
    assert main_columns(views) == views.columns and len(views.columns) == 2


@pytest.mark.parametrize("other", [{"dataset_version": "2"}, {"protocol_settings": {**WHOLE, "metrics": ["psnr"]}}])
def test_other_versions_and_settings_are_other_tables(tmp_path, other):
    one = photographs(25.0, protocol_settings=WHOLE)
    boards = board_of(tmp_path, one, replace(one, **other))
    assert [len(board.entries) for board in boards] == [1, 1]
    said = {"dataset_version": "version 2", "protocol_settings": "settings "}
    assert any(said[next(iter(other))] in name for name in titles(boards))


def test_words_of_settings_part_nothing_and_results_without_settings_go_by_the_id(tmp_path):
    one = photographs(25.0, protocol_settings=WHOLE)
    old = photographs(24.0)
    (board,) = board_of(tmp_path, old, one, replace(one, protocol_settings={**WHOLE, "notes": "b"}))
    assert len(board.entries) == 3
    other = replace(one, protocol_settings={**WHOLE, "border": 4})
    assert sorted(len(board.entries) for board in board_of(tmp_path, old, one, other)) == [1, 1, 1]


def test_inputs_that_differ_between_runs_are_named(tmp_path):
    one, two, odd = photographs(25.0), photographs(26.0), photographs(24.0)
    (board,) = board_of(tmp_path, one, two)
    assert not any("must agree" in fact for fact in facts(board))
    odd.rows[7]["input_psnr"] += 0.01
    (board,) = board_of(tmp_path, one, two, odd)
    (said,) = [fact for fact in facts(board) if "must agree" in fact]
    assert "between: run0, run2." in said


def test_nothing_is_the_best_where_the_input_is_as_good(tmp_path):
    scores = {"psnr": [25.0, 26.0], "mae": [0.04, 0.04]}
    inputs = {"input_psnr": [24.0, 24.0], "input_mae": [0.04, 0.04]}
    (board,) = board_of(tmp_path, made_result(scores | inputs, ["", ""]))
    assert [cell.best for cell in ranking(board).rows[0][3:5]] == [True, False]


def test_tables_of_one_title_are_told_apart(tmp_path):
    whole, part = photographs(25.0), photographs(25.0, count=20, complete=False)
    boards = board_of(tmp_path, whole, part, replace(whole, fingerprint="e" * 16), photographs(25.0, split="val"))
    found = titles(boards)
    assert len({*found}) == 4 and found[-1] == "dpdd val, protocol dpdnet-16bit"
    assert "dpdd test, protocol dpdnet-16bit, 20 images, a part of the split, data ffffffffffffffff" in found
    other = replace(whole, rows=[{**row, "key": f"x{row['key']}"} for row in whole.rows])
    assert titles(board_of(tmp_path, whole, other)) == [
        "dpdd test, protocol dpdnet-16bit (1)", "dpdd test, protocol dpdnet-16bit (2)",
    ]  # fmt: skip


def test_scores_that_papers_alone_have_are_shown_and_said(tmp_path):
    (board,) = board_of(tmp_path, photographs(25.0))
    row = next(one for one in published(board).rows if one[0].text == "DPDNet")
    assert row[published(board).headings.index("LPIPS")].text == "0.223"
    assert "LPIPS was not measured." in facts(board)
    assert "LPIPS" not in published(board, columns=board.columns).headings
    (unnamed,) = board_of(tmp_path, photographs(25.0, protocol_settings=WHOLE))
    assert not any("not measured" in fact for fact in facts(unnamed))


def test_papers_of_other_numbers_of_images_do_not_stand_beside(tmp_path):
    result = photographs(25.0)
    (board,) = board_of(tmp_path, result)
    assert "dpdnet-16bit (38 indoor images here, 37 there)" not in board.not_shown and len(board.printed_alike) == 13
    moved = [{**row, "group": "indoor"} if place == 37 else row for place, row in enumerate(result.rows)]
    (board,) = board_of(tmp_path, replace(result, rows=moved))
    assert board.not_shown["dpdnet-16bit (38 indoor images here, 37 there)"] == 4
    assert len(board.printed_alike) == 9 and all(not row.table.groups for row in board.printed_alike)


def test_rows_that_were_measured_otherwise_say_so():
    (row,) = [row for row in published_rows("ddd_syn", "dddnet") if row.method == "DMENet"]
    assert ", measured otherwise: PSNR is of batches of 8 images" in source(row)
    departing = {(row.paper, row.table.table) for row in published_rows() if row.part.departs}
    assert departing == {("dddnet", "1"), ("dddnet", "3"), ("k3dn", "4"), ("k3dn", "5")}


def test_the_number_of_results_left_out_stands_at_the_head(tmp_path):
    boards = board_of(tmp_path, photographs(25.0))
    assert "1 results ([2 left out](#left-out)), by dualpixel" in markdown(boards, ["a", "b"]).splitlines()[2]
    assert "left out" not in markdown(boards)
    assert "Images count as independent" in INTERVALS


def test_time_names_the_precision_and_bounded_threads(tmp_path):
    def said(**environment):
        (board,) = board_of(tmp_path, photographs(25.0, seconds=1.0, environment=environment))
        return next(fact for fact in facts(board) if "Time" in fact).partition(", on ")[2]

    assert said(device_name="NVIDIA H200", precision="bf16-mixed") == "NVIDIA H200, precision bf16-mixed."
    assert said(device_name="NVIDIA H200", precision="32-true") == "NVIDIA H200."
    assert said(device="cpu", threads=10**50) == "cpu." and said(device="cpu", threads=2) == "cpu, 2 threads."
