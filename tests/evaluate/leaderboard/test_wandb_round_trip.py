import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from types import SimpleNamespace

import pytest
from made_results import photographs, save
from wandb_server import KEY
from wandb_uploads import UploadServer

from dualpixel.errors import DualPixelError
from dualpixel.evaluate.leaderboard import wandb_leaderboard
from dualpixel.evaluate.leaderboard.reading import collect
from dualpixel.evaluate.leaderboard.tables import leaderboards
from dualpixel.evaluate.leaderboard.wandb_leaderboard import publish
from dualpixel.evaluate.leaderboard.wandb_runs import runs_from_wandb
from dualpixel.evaluate.wandb_results import log_result
from dualpixel.running.loggers import WandbOptions, how_to_sync, make_loggers


@pytest.fixture
def server(tmp_path, monkeypatch):
    import wandb

    wandb.teardown()  # another test may have left its settings
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with UploadServer() as one:
        yield one
        wandb.teardown()


def test_results_of_an_offline_run_are_synced_and_read_back(server, tmp_path, monkeypatch):
    import wandb

    results = [photographs(25.0, seconds=0.5), photographs(24.0, protocol="k3dn-1152x1792")]
    loggers = make_loggers(tmp_path / "run", {}, WandbOptions(project="blur", entity="team"), "test")
    trainer = SimpleNamespace(is_global_zero=True, loggers=loggers, global_step=5)
    for result in results:
        log_result(trainer, result, save(tmp_path, "run", result))
    wandb.finish()
    wandb.teardown()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    command = how_to_sync(tmp_path / "run").split()
    assert command[:2] == ["wandb", "sync"]
    sent = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, timeout=100)
    assert sent.returncode == 0, sent.stderr
    entries, left_out = runs_from_wandb("team/blur", tmp_path / "fetched")
    assert not left_out
    assert [one.run for one in entries] == ["run"] * 2 and server.committed == 2
    assert [asdict(one.result) for one in entries] == [asdict(result) for result in results]
    (identity,) = server.runs
    assert {one.link for one in entries} == {f"{server.url}/team/blur/runs/{identity}"}


def test_a_leaderboard_is_published_online(server, tmp_path, monkeypatch):
    boards = leaderboards(collect([save(tmp_path, "one", photographs(25.0))])[0])
    (tmp_path / "board.md").write_text("# Leaderboard")
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    address = publish(boards, [tmp_path / "board.md"], "team/blur")
    ((identity, about),) = server.runs.items()
    assert address == f"{server.url}/team/blur/runs/{identity}"
    assert (about["jobType"], about["entity"], about["project"]) == ("leaderboard", "team", "blur")
    names = [one["artifactCollectionName"] for one in server.artifacts]
    assert "leaderboard" in names and server.committed == 2  # the table is one as well
    assert server.files["artifact/board.md"] == b"# Leaderboard"
    table = json.loads(server.files["artifact/leaderboard/dpdd-test/dpdnet-16bit.table.json"])
    assert table["data"][0][table["columns"].index("PSNR")] == boards[0].rows[0].entry.scores("psnr")
    assert runs_from_wandb("team/blur", tmp_path) == ([], [])  # the leaderboard itself is no result


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (("stall", 100.0), "not within 3 s"),
        (("status", 401, '{"errors": [{"message": "unknown key"}]}'), "unknown key"),
    ],
)
def test_a_server_that_does_not_take_the_leaderboard_is_an_error_and_soon(server, tmp_path, monkeypatch, fault, said):
    monkeypatch.setattr(wandb_leaderboard, "SYNC_SECONDS", 3.0)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    server.faults["PUT" if fault[0] == "stall" else "UpsertBucket"] = fault
    boards = leaderboards(collect([save(tmp_path, "one", photographs(25.0))])[0])
    before, started = {*threading.enumerate()}, time.monotonic()
    with pytest.raises(DualPixelError) as error:
        publish(boards, [], "team/blur", "online")
    assert time.monotonic() - started < 15
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    assert str(error.value).startswith(f"W&B at {server.url}: the leaderboard could not be sent (")
    assert said in str(error.value) and str(error.value).endswith(f"; send it by `wandb sync {folder}`")
    assert not {one for one in threading.enumerate() if "process_request" not in one.name} - before
    assert not subprocess.run(["pgrep", "-f", str(folder)], capture_output=True).stdout


def test_what_the_server_does_not_take_is_a_warning_in_a_test(server, tmp_path, monkeypatch, capsys):
    import wandb

    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    server.faults["ArtifactType"] = ("status", 200, '{"data": {"project\\u001b[31m": 1}}')
    loggers = make_loggers(tmp_path / "run", {}, WandbOptions(project="blur", entity="team"), "test")
    trainer = SimpleNamespace(is_global_zero=True, loggers=loggers, global_step=5)
    result = photographs(25.0)
    log_result(trainer, result, save(tmp_path, "run", result))
    wandb.finish()
    said = capsys.readouterr().err
    assert (
        "warning: the result could not be logged to W&B: ValidationError: 1 validation error for ArtifactType" in said
    )
    assert said.count("\n") == 1 and "\x1b" not in said
    ((_, summary),) = server.summaries.items()
    assert summary["result/dpdd-test/dpdnet-16bit/psnr"] == result.means["overall"]["psnr"]
    assert json.loads(server.files["results/dpdd-test/dpdnet-16bit/result.json"]) == asdict(result)
