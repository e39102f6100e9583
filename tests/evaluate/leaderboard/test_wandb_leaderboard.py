import json
import os
import subprocess
import threading
from dataclasses import replace

import pytest
import wandb
from made_results import made_result, photographs, save
from wandb_files import stored_runs

from dualpixel.errors import DualPixelError
from dualpixel.evaluate.leaderboard.reading import collect, find_results
from dualpixel.evaluate.leaderboard.tables import leaderboards
from dualpixel.evaluate.leaderboard.wandb_leaderboard import publish, table_rows, why_offline

HOSTILE = "</script>\x1b[31m../../x"


def made_boards(folder):
    """Two boards with published rows, of which one is compared, and one whose names are hostile."""
    for run, psnr in (("low", 24.5), ("high", 26.0)):
        save(folder, run, photographs(psnr, seed=len(run), recipe=f"net_{run}", seconds=psnr / 100))
    save(folder, "part", photographs(25.0, complete=False))
    entries, _ = collect(find_results([folder]))
    entries = [replace(one, link=f"https://server.example/team/blur/runs/{one.run}") for one in entries]
    odd = made_result(
        {"psnr": [20.0] * 4}, ("a", "a", HOSTILE, HOSTILE), dataset="../../evil", protocol=HOSTILE, recipe=HOSTILE
    )
    entries.append(replace(entries[0], result=odd, run=HOSTILE, link=None))
    low = next(one for one in entries if one.run == "low")
    return leaderboards(entries, low.folder)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    boards = made_boards(folder / "runs")
    files = [folder / "one" / "board.md", folder / "board.html", folder / "board.md"]
    for place, file in enumerate(files):
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"content {place}")
    wandb.teardown()
    before = {*threading.enumerate()}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(wandb, "run", None)  # other tests of this process may have left one behind
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_RUN_ID", "others00")
        patch.setenv("WANDB_RESUME", "must")
        patch.setenv("WANDB_DATA_DIR", "")  # so that it is restored
        patch.delenv("WANDB_DATA_DIR")
        said = publish(boards, files, "team/blur")
    left = {*threading.enumerate()} - before
    children = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "wandb"], capture_output=True, text=True).stdout
    (stored,) = stored_runs(folder)
    return boards, said, stored, left, children


def table(stored, key):
    content = json.loads((stored.folder / stored.summary[f"{key}.path"]).read_text())
    return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


def test_the_run_is_a_new_one_of_its_own_kind(published):
    _, said, stored, left, children = published
    assert (stored.project, stored.entity, stored.job_type, stored.name) == (
        "blur",
        "team",
        "leaderboard",
        "leaderboard",
    )
    assert stored.id != "others00" and stored.resume is not True and stored.exit_code == 0
    why, command = said.splitlines()
    assert why == "nothing was sent to W&B: the mode is offline. This sends it:"
    assert command == f"wandb sync {stored.path.parent}"
    assert not left and not children


def test_each_board_is_a_table_of_numbers(published):
    boards, _, stored, _, _ = published
    keys = [
        name.removesuffix(".path")
        for name in stored.summary
        if name.endswith(".path") and name.startswith("leaderboard/")
    ]
    hostile = "leaderboard/------evil-test/--script---31m------x"
    assert sorted(keys) == [hostile, "leaderboard/dpdd-test/dpdnet-16bit", "leaderboard/dpdd-test/dpdnet-16bit 2"]
    board = next(one for one in boards if len(one.entries) == 2)
    key = next(key for key in keys if any(row["run"] == "high" for row in table(stored, key)))
    first, second, unprocessed, *printed = table(stored, key)
    high = board.rows[0]
    assert [first[name] for name in ("kind", "rank", "recipe", "run")] == ["measured", 1, "net_high", "high"]
    assert first["page"] == "https://server.example/team/blur/runs/high"
    assert first["PSNR"] == high.entry.result.means["overall"]["psnr"]
    assert first["PSNR, indoor"] == high.entry.result.means["indoor"]["psnr"]
    assert (first["95 % from"], first["95 % to"]) == high.interval
    assert first["against low"] == high.comparison.difference and first["p"] == high.comparison.p_value
    assert second["against low"] is None and second["rank"] == 2
    assert (first["parameters"], first["MACs"], first["time"]) == (31_035_151, 1_574_299_000_000, 0.26)
    assert unprocessed["kind"] == "unprocessed input" and unprocessed["rank"] is None
    assert unprocessed["PSNR"] == board.inputs["overall"]["psnr"]
    assert len(printed) == len(board.published) > 5


def test_published_rows_are_marked_with_their_source(published):
    boards, _, stored, _, _ = published
    board = next(one for one in boards if len(one.entries) == 2)
    rows = [row for row in table_rows(board) if row["kind"] == "published"]
    first = next(
        row for row in rows if row["source"] == "Abuolaim and Brown, ECCV 2020, table 1" and row["recipe"] == "DPDNet"
    )
    assert first["PSNR"] == 25.13 and not {"rank", "run", "page"} & {*first}
    key = next(
        name for name in stored.config if name.startswith("leaderboard/dpdd") and stored.config[name]["doubtful"]
    )
    assert stored.config[key]["title"] == "dpdd test, protocol dpdnet-16bit, all of the split"
    assert any(line.startswith("Data ffffffffffffffff, 76 images") for line in stored.config[key]["facts"])


def test_parameters_of_published_rows_are_numbers_like_ours(tmp_path):
    save(tmp_path, "one", photographs(25.0, protocol="k3dn-1152x1792"))
    (board,) = leaderboards(collect(find_results([tmp_path]))[0])
    rows = [row for row in table_rows(board) if row["kind"] == "published"]
    expected = [row.printed.parameters_millions for row in board.published]
    assert [row["parameters"] for row in rows] == [float(one) * 1e6 if one else None for one in expected]
    assert any(expected)


def test_hostile_names_are_text_in_one_line(published):
    _, _, stored, _, _ = published
    (row,) = table(stored, "leaderboard/------evil-test/--script---31m------x")
    assert row["recipe"] == row["run"] == "</script>?[31m../../x"
    assert "PSNR, </script>?[31m../../x" in row
    assert all(stored.folder in one.resolve().parents for one in stored.folder.rglob("*"))


def test_the_files_are_an_artifact(published):
    _, _, stored, _, _ = published
    (artifact,) = [one for one in stored.artifacts if one["type"] == "leaderboard"]
    assert artifact["name"] == "leaderboard" and len(artifact["metadata"]["boards"]) == 3
    assert all(file.startswith(str(stored.path.parents[1] / "data")) for file in artifact["files"].values())
    assert set(artifact["files"]) == {"board.md", "board.html", "2-board.md"}


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DualPixelError, match="board.html: no such file to publish"):
        publish([], [tmp_path / "board.html"], "team/blur", "offline")
    with pytest.raises(DualPixelError, match="name it as ENTITY/PROJECT"):
        publish([], [], "blur", "offline")


def test_what_is_disabled_or_has_no_key_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("NETRC", raising=False)
    with pytest.raises(DualPixelError, match="W&B mode 'disabled': a leaderboard is published online or offline"):
        publish([], [], "team/blur")
    with pytest.raises(DualPixelError, match="no key for W&B: set WANDB_API_KEY"):
        publish([], [], "team/blur", "online")
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert why_offline() == "there is no key for http://127.0.0.1:9" and why_offline("dryrun") == "the mode is dryrun"
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert why_offline() is None
