"""Several processes, kills and resumed runs: real processes, started as a user starts them.

What one process does to its end is done in that of the tests, which need not start first.
"""

import contextlib
import os
import signal
import subprocess
import sys

import pytest
import torch
import yaml
from command_line import TOP
from scenes import TEST_KEYS, make_dpdd_folder, write_card

from dualpixel.cli import main
from dualpixel.data.prepare import prepare
from dualpixel.data.registry import get_card
from dualpixel.evaluate.result import load_result

STEPS_AN_EPOCH = 25
KILLED_AT, SAVED_AT = 38, 35


def run(arguments, folder, limit=240):
    """Run a command in a process group of its own; a process that waits in a collective is killed with its group."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TOP / "tests"), "WANDB_MODE": "disabled"}
    process = subprocess.Popen(
        [sys.executable, str(TOP / "src" / "__main__.py"), *map(str, arguments)],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=limit)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, said


@pytest.fixture(scope="module")
def overlay(tmp_path_factory, small_card, small_shards):
    path = tmp_path_factory.mktemp("overlay") / "small.yaml"
    model = {
        "net": {"init_args": {"width": 0.05, "dropout": 0.4}},
        "optimizer": {"init_args": {"lr": 1e-3}},
        "scheduler": {"init_args": {"step_size": 1}},
    }
    content = {
        "model": {"init_args": model},
        "data": {"init_args": {"dataset": str(small_card), "root": str(small_shards), "crop_size": 48, "mirror": 0.5, "flip": 0.5}},
        "trainer": {"max_epochs": 3, "accelerator": "cpu", "log_every_n_steps": 1},
        "panels": {"count": 0},
        "last": {"every_n_steps": 5},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """So that this process and one of its own give the same bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run_here(arguments, folder):
    """Run a command that ends in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main([*map(str, arguments)])


def arguments_of_fit(overlay, name, processes, workers, *more):
    given = ["fit", "--config", TOP / "recipes/dpdnet.yaml", "--config", overlay, "--run.name", name]
    given += ["--trainer.devices", processes, "--data.batch_size", 4 // processes, "--data.num_workers", workers]
    return [*given, *more]


def fit(folder, overlay, name, processes, workers, *more):
    """Train to the end, or as far as a limit says; one process is this one."""
    arguments = arguments_of_fit(overlay, name, processes, workers, *more)
    if processes == 1:
        return run_here(arguments, folder)
    code, said = run(arguments, folder)
    assert code == 0, said


def fit_until_killed(folder, overlay, name, processes, workers, step, *more):
    kill = folder / "kill.yaml"
    callback = {"class_path": "killing.KillAt", "init_args": {"step": step}}
    kill.write_text(yaml.safe_dump({"trainer": {"callbacks": [callback]}}))
    code, said = run(arguments_of_fit(overlay, name, processes, workers, "--config", kill, *more), folder)
    assert code == -signal.SIGKILL, said


@pytest.fixture(scope="module")
def whole(overlay, tmp_path_factory):
    """Gives the folder of an uninterrupted and tested run of so many processes, which is called ``whole``."""
    folders = {}

    def folder_of(processes):
        if processes not in folders:
            folders[processes] = tmp_path_factory.mktemp(f"whole{processes}")
            tested = ["--run.test_after_fit", "true", "--scores.lpips", "false"]
            fit(folders[processes], overlay, "whole", processes, 0, *tested)
        return folders[processes]

    return folder_of


def final(folder, name):
    checkpoint = torch.load(folder / "runs" / name / "checkpoints" / "last.ckpt", weights_only=True)
    return checkpoint["state_dict"], checkpoint["optimizer_states"], checkpoint["global_step"]


def best(folder, name):
    return torch.load(folder / "runs" / name / "checkpoints" / "best.ckpt", weights_only=True)["global_step"]


@pytest.mark.parametrize(("processes", "workers"), [(1, 0), (1, 2), pytest.param(2, 0, marks=pytest.mark.slow), (2, 2)])
def test_a_killed_and_resumed_run_ends_bit_for_bit_like_an_uninterrupted_one(
    tmp_path, overlay, whole, processes, workers
):
    weights, optimizer, steps = final(whole(processes), "whole")
    assert steps == 3 * STEPS_AN_EPOCH

    fit_until_killed(tmp_path, overlay, "killed", processes, workers, KILLED_AT)
    assert final(tmp_path, "killed")[2] == SAVED_AT  # in the middle of the second epoch
    fit(tmp_path, overlay, "killed", processes, workers, "--ckpt_path", "runs/killed")
    again, optimizer_again, steps_again = final(tmp_path, "killed")
    assert steps_again == steps
    assert all(torch.equal(weights[key], again[key]) for key in weights)
    for parameter, state in optimizer[0]["state"].items():
        assert torch.equal(state["exp_avg_sq"], optimizer_again[0]["state"][parameter]["exp_avg_sq"])
    assert best(tmp_path, "killed") == best(whole(processes), "whole")  # chosen by the mean loss of whole epochs


def test_resuming_from_the_end_of_an_epoch_continues_with_the_next(tmp_path, overlay, whole):
    short = ["--last.every_n_steps", STEPS_AN_EPOCH]
    fit_until_killed(tmp_path, overlay, "killed", 1, 0, STEPS_AN_EPOCH + 4, *short)
    assert final(tmp_path, "killed")[2] == STEPS_AN_EPOCH
    fit(tmp_path, overlay, "killed", 1, 0, *short, "--ckpt_path", "runs/killed")
    weights, _, steps = final(whole(1), "whole")
    again, _, steps_again = final(tmp_path, "killed")
    assert steps == steps_again and all(torch.equal(weights[key], again[key]) for key in weights)


def test_two_processes_take_equal_steps_and_score_every_image_once(tmp_path, overlay, whole):
    assert final(whole(1), "whole")[2] == final(whole(2), "whole")[2] == 3 * STEPS_AN_EPOCH
    run_here(
        ["test", "--config", TOP / "recipes/dpdnet.yaml", "--config", overlay, "--run.name", "one", "--run.root", tmp_path,
         "--ckpt_path", whole(2) / "runs" / "whole" / "checkpoints" / "best.ckpt", "--trainer.devices", 1,
         "--scores.lpips", "false", "--data.num_workers", 0], tmp_path,
    )  # fmt: skip
    one, two = (load_result(next(run.rglob("result.json"))) for run in (tmp_path / "one", whole(2) / "runs" / "whole"))
    assert [row["key"] for row in two.rows] == [row["key"] for row in one.rows] and len(two.rows) == 5
    assert one.weights_sha256 == two.weights_sha256
    assert one.rows == two.rows and one.means == two.means and two.complete


def test_a_process_without_any_scene_keeps_the_others_going(tmp_path, overlay):
    """One scene to validate, one to test, two processes."""
    counts = {"train": 4, "val": 1, "test": 1}
    card = write_card(tmp_path / "few.yaml", counts)
    source = make_dpdd_folder(tmp_path / "source", counts)
    shards = prepare(get_card(card), source, tmp_path / "shards", processes=1)
    data = ["--data.dataset", card, "--data.root", shards, "--scores.lpips", "false", "--run.test_after_fit", "true"]
    short = ["--trainer.max_epochs", "1", "--best.monitor", "val/psnr", "--best.mode", "max"]
    fit(tmp_path, overlay, "few", 2, 0, *short, *data)
    result = load_result(next((tmp_path / "runs" / "few").rglob("result.json")))
    assert [row["key"] for row in result.rows] == [TEST_KEYS[0]] and result.complete
    code, said = run(
        ["predict", "--config", TOP / "recipes/dpdnet.yaml", "--config", overlay, "--ckpt_path", "runs/few",
         "--trainer.devices", 2, "--data.num_workers", 0, *data[:4]], tmp_path,
    )  # fmt: skip
    assert code == 0 and "1 images written" in said, said
    assert [path.name for path in (tmp_path / "runs" / "few" / "predictions").iterdir()] == [f"{TEST_KEYS[0]}.png"]


def test_a_run_stopped_in_mid_epoch_by_a_limit_is_continued_like_a_killed_one(tmp_path, overlay, whole):
    fit(tmp_path, overlay, "stopped", 1, 0, "--trainer.max_steps", KILLED_AT)
    assert final(tmp_path, "stopped")[2] == KILLED_AT
    fit(tmp_path, overlay, "stopped", 1, 0, "--ckpt_path", "runs/stopped")
    weights, _, steps = final(whole(1), "whole")
    again, _, steps_again = final(tmp_path, "stopped")
    assert steps == steps_again and all(torch.equal(weights[key], again[key]) for key in weights)
