"""One Weights & Biases run from real processes: killed, resumed, tested and sent; two processes of a job that is requeued."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import wandb
import yaml
from command_line import TOP, refused
from tiny_shards import make_tiny_set
from wandb_files import stored_runs
from wandb_intake import WandbIntake

from dualpixel.cli import main
from dualpixel.data.reading import PreparedSplit
from dualpixel.evaluate.result import load_result
from dualpixel.running.provenance import code_state
from dualpixel.weights.files import load_weights, weights_hash

STEPS_AN_EPOCH, SAVED_EVERY, KILLED_AT = 12, 5, 18
SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The folder of a tiny set, and of the overlays that make a recipe small and kill it."""
    top = tmp_path_factory.mktemp("tiny")
    card, shards = make_tiny_set(top, shards=2, fields=("left", "right", "combined", "sharp"), size=(24, 32))
    network = {"net": {"init_args": {"width": 0.05}}, "optimizer": {"init_args": {"lr": 1e-3}}}
    data = {"dataset": str(card), "root": str(shards), "crop_size": 16, "crops": "random", "crops_per_scene": 6}
    content = {
        "model": {"init_args": network},
        "data": {"init_args": data | {"batch_size": 2, "num_workers": 0}},
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "devices": 1, "log_every_n_steps": 1},
        "panels": {"keys": ["val-001", "test-002"], "every_n_validations": 1},
        "best": {"monitor": "val/psnr", "mode": "max"},
        "last": {"every_n_steps": SAVED_EVERY},
        "scores": {"lpips": False},
    }
    (top / "small.yaml").write_text(yaml.safe_dump(content))
    for name, callback in (
        ("kill", {"class_path": "killing.KillAt", "init_args": {"step": KILLED_AT, "after": 1.5}}),
        ("slow", {"class_path": "killing.Slowly", "init_args": {"seconds": 0.2}}),
    ):
        (top / f"{name}.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": [callback]}}))
    return top


@contextlib.contextmanager
def started(root, folder, *arguments, **variables):
    """A command of its own process group, which is killed at last; WANDB_MODE is offline."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "SLURM_"))}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(TOP / "tests"), "WANDB_MODE": "offline", **variables}
    configurations = ["--config", TOP / "recipes" / "dpdnet.yaml", "--config", root / "small.yaml"]
    process = subprocess.Popen(
        [sys.executable, TOP / "src" / "__main__.py", arguments[0], *configurations, *map(str, arguments[1:])],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def run(root, folder, *arguments, **variables):
    with started(root, folder, *arguments, **variables) as process:
        said, _ = process.communicate(timeout=200)
    return process.returncode, said


@pytest.fixture(scope="module")
def logged(root, tmp_path_factory):
    """The folder of a run that was killed, resumed and tested, and what the resumed training and the test said."""
    folder = tmp_path_factory.mktemp("logged")
    code, said = run(
        root, folder, "fit", "--config", root / "kill.yaml", "--run.name", "tiny", "--wandb.group", "a group"
    )
    assert code == -signal.SIGKILL, said
    code, resumed = run(root, folder, "fit", "--ckpt_path", "runs/tiny", "--wandb.log_best", "true")
    assert code == 0, resumed
    code, said = run(root, folder, "test", "--ckpt_path", "runs/tiny/checkpoints/best.ckpt")
    assert code == 0, said
    return folder / "runs" / "tiny", (resumed, said)


def test_a_killed_resumed_and_tested_run_is_one_with_one_history(logged):
    folder, both = logged
    starts = stored_runs(folder)
    identity = (folder / "wandb-id.txt").read_text()
    assert [start.id for start in starts] == [identity] * 3
    steps = [row["_step"] for start in starts for row in start.history]
    assert len(steps) > 2 * STEPS_AN_EPOCH and steps == sorted(set(steps))
    killed, resumed, tested = starts
    assert killed.exit_code is None and resumed.exit_code == tested.exit_code == 0
    trained = [[step for step, _ in start.values("train/loss")] for start in (killed, resumed)]
    saved = KILLED_AT // SAVED_EVERY * SAVED_EVERY
    assert trained[0] == list(range(KILLED_AT - 1))  # the last one is logged after the callback that kills
    assert trained[1] == list(range(saved, 2 * STEPS_AN_EPOCH))
    losses = [dict(start.values("train/loss")) for start in (killed, resumed)]
    assert all(losses[0][step] == losses[1][step] for step in range(saved, KILLED_AT - 1))  # logged twice, and the same
    validated = [step for start in starts for step, _ in start.values("val/psnr")]
    assert validated == [STEPS_AN_EPOCH - 1, 2 * STEPS_AN_EPOCH - 1]
    assert (killed.job_type, killed.group, killed.name) == (
        "fit",
        "a group",
        "tiny",
    ) and not resumed.job_type + tested.job_type
    assert all(said.endswith("send all of this run by: wandb sync runs/tiny/wandb\n") for said in both)
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["callbacks"]["LoggedRun"]["id"] == identity


def test_a_command_that_is_refused_leaves_nothing_in_the_run(root, logged, tmp_path, monkeypatch, capsys):
    """Whether its settings are wrong, or what it finds in the data."""
    folder = tmp_path / "tiny"
    shutil.copytree(logged[0], folder, symlinks=True)

    def left():
        files = [*folder.glob("wandb-*"), *(folder / "wandb").rglob("*")]
        return {path: path.lstat().st_mtime_ns for path in files}

    before = left()
    for name, value in {"MODE": "offline", "DATA_DIR": str(tmp_path), "CACHE_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    recipes = [str(TOP / "recipes" / "dpdnet.yaml"), str(root / "small.yaml")]
    options = ["--config", recipes[0], "--config", recipes[1], "--ckpt_path", str(folder)]
    assert "8 bits" in refused(capsys, "fit", *options, "--protocol", "whole-8bit")
    assert "8 bits" in refused(capsys, "test", *options, "--protocol", "whole-8bit")
    assert "without distortion" in refused(capsys, "test", *options, "--protocol", "k3dn-1152x1792")
    assert len(before) > 20 and left() == before


def test_a_tag_that_is_no_list_is_told_how_to_be_one(root, capsys):
    options = ["--config", str(TOP / "recipes" / "dpdnet.yaml"), "--config", str(root / "small.yaml")]
    said = refused(capsys, "fit", *options, "--wandb.tags", "night")
    assert said == "error: --wandb.tags: a list is expected; write it as '[night]'"


def test_the_run_says_what_it_is_made_of(logged, root):
    killed, resumed, tested = stored_runs(logged[0])
    splits = {name: PreparedSplit(root / "set" / name).index for name in SPLITS}
    for config in (killed.config, resumed.config, tested.config["test"]):
        described = config["dataset"]["splits"]
        assert described == {name: {"scenes": 4, "fingerprint": index.fingerprint} for name, index in splits.items()}
        assert config["batch"] == {
            "effective": 2, "per_process": 2, "processes": 1, "nodes": 1, "devices": 1, "accumulated": 1,
        }  # fmt: skip
        assert config["recipe"] == "dpdnet" and config["precision"] == "32-true"
        assert config["code"]["commit"] == code_state()["commit"] and config["packages"]["torch"].startswith(
            torch.__version__[:4]
        )
        assert config["parameters"]["all"] == config["parameters"]["trained"] > 10_000
        assert config["model"]["init_args"]["net"]["init_args"]["width"] == 0.05
    assert "model" not in tested.config and "ckpt_path" in resumed.config  # the training's own stays what it was


def test_nothing_of_the_terminal_or_the_working_folder_is_kept(logged):
    for start in stored_runs(logged[0]):
        kept = {path.name for path in start.path.parent.rglob("*") if path.is_file()}
        assert start.output == "" and not {"output.log", "diff.patch"} & kept
        assert set(start.files) >= {"requirements.txt"} and not any(
            name.endswith((".py", ".patch")) for name in start.files
        )


def test_panels_follow_a_scene_and_say_its_score(logged):
    starts = stored_runs(logged[0])
    panels = [(step, panel) for start in starts for step, panel in start.values("val/panels/val-001.captions")]
    assert [step for step, _ in panels] == [STEPS_AN_EPOCH - 1, 2 * STEPS_AN_EPOCH - 1]
    assert all(" dB (input " in caption for _, (caption,) in panels)
    kept = [name for start in starts for name in start.files if name.startswith("media/images/val/panels/val-001_")]
    assert len(kept) == 2 and not any("val-000" in name for start in starts for name in start.files)
    assert all((start.folder / name).is_file() for start in starts for name in start.files if name in kept)
    ((_, (caption,)),) = starts[2].values("test/panels/test-002.captions")
    result = load_result(next(logged[0].rglob("result.json")))
    assert f"sharp {result.rows[2]['psnr']:.2f} dB (input {result.rows[2]['input_psnr']:.2f})" in caption


def test_the_best_checkpoint_is_an_artifact(logged):
    folder, _ = logged
    starts = stored_runs(folder)
    models = [artifact for start in starts for artifact in start.artifacts if artifact["type"] == "model"]
    (model,) = models
    path = folder / "checkpoints" / "best.ckpt"
    step = torch.load(path, weights_only=True)["global_step"]
    assert model["name"] == f"model-{starts[0].id}" and {"best", f"step-{step}"} <= set(model["aliases"])
    assert model["metadata"]["weights_sha256"] == weights_hash(load_weights(path)[0])
    assert (
        model["metadata"]["step"] == step
        and model["metadata"]["monitor"] == "val/psnr"
        and model["metadata"]["recipe"] == "dpdnet"
    )
    assert model["metadata"]["fingerprint"] == starts[0].config["dataset"]["splits"]["train"]["fingerprint"]
    scores = [value for start in starts for _, value in start.values("val/psnr")]
    assert model["metadata"]["score"] == pytest.approx(max(scores), abs=1e-4)
    copy = Path(model["files"]["best.ckpt"])
    assert copy.read_bytes() == path.read_bytes() and folder in copy.parents  # not in the user's home


def test_a_test_leaves_its_result_in_the_run(logged):
    folder, _ = logged
    tested = stored_runs(folder)[2]
    result = load_result(next(folder.rglob("results/**/result.json")))
    prefix = "result/tiny-test/dpdnet-16bit/"
    assert tested.summary[prefix + "psnr"] == pytest.approx(result.means["overall"]["psnr"], abs=1e-9)
    assert tested.summary[prefix + "fingerprint"] == result.fingerprint
    (rows,) = [row for row in tested.history if prefix + "images.nrows" in row]
    assert rows[prefix + "images.nrows"] == 4 and "results/tiny-test/dpdnet-16bit/result.json" in tested.files
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["global_step"]
    assert [step for step, _ in tested.values("test/psnr")] == [best]  # at the step of the weights, not at 0


def test_one_command_sends_all_starts_as_one_run(logged, monkeypatch):
    folder, _ = logged
    rows = [row["_step"] for start in stored_runs(folder) for row in start.history]
    with WandbIntake() as server:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        command = [str(Path(sys.executable).parent / "wandb"), "sync", str(folder / "wandb")]
        environment |= server.environment
        sent = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
        (run,) = server.runs.values()
    assert sent.returncode == 0, sent.stderr
    assert run.id == (folder / "wandb-id.txt").read_text() and [row["_step"] for row in run.rows] == rows
    assert run.config["model"]["value"]["init_args"]["net"]["init_args"]["width"] == 0.05
    assert run.config["test"]["value"]["recipe"] == "dpdnet" and run.fields["jobType"] == "fit"
    assert {"val/psnr", "test/psnr", "train/loss"} <= set(run.summary)
    assert "best" in run.artifacts[f"model-{run.id}"]
    assert sum(name.startswith("media/images/val/panels/val-001") for name in run.files) == 2


def test_the_best_checkpoint_is_kept_when_training_is_ended_by_hand(root, tmp_path, monkeypatch):
    stop = tmp_path / "stop.yaml"
    told = {"class_path": "killing.TellAt", "init_args": {"step": STEPS_AN_EPOCH + 2, "signal_name": "SIGINT"}}
    stop.write_text(yaml.safe_dump({"trainer": {"callbacks": [told]}}))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    # what a shell starts in the background is deaf to it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(TOP / "recipes" / "dpdnet.yaml"), "--config", str(root / "small.yaml"), "--config", str(stop),
              "--run.root", str(tmp_path), "--run.name", "stopped", "--wandb.log_best", "true", "--panels.count", "0"])  # fmt: skip
    signal.signal(signal.SIGINT, before)
    wandb.teardown()
    (start,) = stored_runs(tmp_path / "stopped")
    (model,) = [artifact for artifact in start.artifacts if artifact["type"] == "model"]
    assert model["metadata"]["step"] == STEPS_AN_EPOCH and "best" in model["aliases"]


SCONTROL = '#!/bin/sh\necho "$@" >> "$SCONTROL_LOG"\n'


@pytest.fixture
def scheduler(tmp_path):
    """Variables of a SLURM job, and a ``scontrol`` that notes what it is told; the signal is nobody's afterwards."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "scontrol").write_text(SCONTROL)
    (tmp_path / "bin" / "scontrol").chmod(0o755)
    yield {
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "SCONTROL_LOG": str(tmp_path / "scontrol.log"),
        "SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "training", "SLURM_NODELIST": "localhost", "SLURM_NODEID": "0",
        "SLURM_NNODES": "1", "SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
    }  # fmt: skip
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)


def wait_for(condition, process, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.05)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


def test_two_processes_of_a_job_whose_time_is_up_save_requeue_and_go_on_as_one_run(root, tmp_path, scheduler):
    """Only the second process is told; both save at the same step, the first one alone asks for another turn and logs."""
    scheduler |= {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "GLOO_SOCKET_IFNAME": "lo"}
    arguments = [
        "fit",
        "--trainer.devices",
        "2",
        "--data.batch_size",
        "1",
        "--config",
        root / "slow.yaml",
        "--last.every_n_steps",
        "1000",
    ]
    folder = tmp_path / "runs" / "dpdnet-tiny-4711"

    def both(act, **more):
        shared = scheduler | more | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
        with contextlib.ExitStack() as stack:
            processes = [
                stack.enter_context(
                    started(root, tmp_path, *arguments, **shared | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank})
                )
                for rank in "01"
            ]
            act(processes)
            return [(one.communicate(timeout=200)[0], one.returncode) for one in processes]

    def tell(processes):
        wait_for(lambda: (folder / "wandb-step.txt").is_file(), processes[0])
        processes[1].send_signal(signal.SIGUSR1)

    for said, code in both(tell):
        assert code == 0, said
    assert Path(scheduler["SCONTROL_LOG"]).read_text() == "requeue 4711\n"
    step = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert 0 < step < 2 * STEPS_AN_EPOCH and not list(folder.glob("hpc_ckpt*"))
    for said, code in both(lambda processes: None, SLURM_RESTART_COUNT="1"):
        assert code == 0, said
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2 * STEPS_AN_EPOCH
    starts = stored_runs(folder)
    assert len(starts) == 2 and len({start.id for start in starts}) == 1
    trained = [step for start in starts for step, _ in start.values("train/loss")]
    assert trained == list(range(2 * STEPS_AN_EPOCH))  # nothing is lost, and nothing made twice
    steps = [row["_step"] for start in starts for row in start.history]
    assert steps == list(range(len(steps)))
    assert [start.config["batch"]["effective"] for start in starts] == [2, 2] and starts[0].config["batch"][
        "processes"
    ] == 2
    assert all(
        len(start.values("val/panels/val-001.captions")) >= 1 for start in starts[1:]
    )  # a scene of the second process


def test_a_requeued_job_ends_bit_for_bit_like_an_uninterrupted_one(root, tmp_path, scheduler, monkeypatch):
    for name, value in scheduler.items():
        monkeypatch.setenv(name, value)
    told = tmp_path / "told.yaml"
    told.write_text(
        yaml.safe_dump({"trainer": {"callbacks": [{"class_path": "killing.TellAt", "init_args": {"step": 7}}]}})
    )
    options = ["fit", "--config", str(TOP / "recipes" / "dpdnet.yaml"), "--config", str(root / "small.yaml"), "--panels.count", "0",
               "--run.root", str(tmp_path), "--last.every_n_steps", "1000"]  # fmt: skip
    main([*options, "--run.name", "whole"])
    monkeypatch.delenv("DUALPIXEL_RUN_FOLDER")
    with pytest.raises(SystemExit):
        main([*options, "--config", str(told)])
    monkeypatch.delenv("DUALPIXEL_RUN_FOLDER")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    folders = [tmp_path / name / "checkpoints" / "last.ckpt" for name in ("whole", "dpdnet-tiny-4711")]
    assert torch.load(folders[1], weights_only=True)["global_step"] == 7
    main(options)
    whole, again = (torch.load(path, weights_only=True) for path in folders)
    assert whole["global_step"] == again["global_step"] == 2 * STEPS_AN_EPOCH
    assert all(torch.equal(value, again["state_dict"][name]) for name, value in whole["state_dict"].items())
    assert Path(scheduler["SCONTROL_LOG"]).read_text() == "requeue 4711\n"
