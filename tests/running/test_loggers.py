"""What is logged where; runs of Weights & Biases are real ones, offline or sent to a server on this machine."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import wandb
from wandb_files import stored_runs
from wandb_intake import KEY, WandbIntake

from dualpixel.errors import DualPixelError
from dualpixel.running import logged_run
from dualpixel.running.checkpoints import BestCheckpoint
from dualpixel.running.folder import CHOSEN, choose_folder
from dualpixel.running.logged_run import LoggedRun
from dualpixel.running.loggers import WandbOptions, how_to_sync, make_loggers
from dualpixel.running.wandb_identity import STATE, choose_identity

OFFLINE = WandbOptions(mode="offline")


@pytest.fixture(autouse=True)
def no_key(monkeypatch, tmp_path):
    """A machine on which nobody has logged in to Weights & Biases."""
    wandb.teardown()  # or the address of a process that other tests began would be put back in the end
    for name in [one for one in os.environ if one.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    yield
    wandb.teardown()


def end(logger):
    """What the end of its process does to a run; only then the file is whole."""
    logger.finalize("success")
    logger.experiment.finish()
    wandb.teardown()


def logged(folder, rows=1, start=0, config=None, options=OFFLINE, command="fit", resumed=None):
    """One start of a run that logs some rows; return the run's logger, finished."""
    logger = make_loggers(folder, config or {}, options, command, resumed)[1]
    for row in range(start, start + rows):
        logger.log_metrics({"train/loss": 1.0 / (row + 1)}, step=row)
    end(logger)
    return logger


def test_csv_is_logged_whether_or_not_wandb_is(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    loggers = make_loggers(tmp_path, {}, WandbOptions("online"))
    assert [type(logger).__name__ for logger in loggers] == ["CSVLogger"]
    assert how_to_sync(tmp_path) is None
    monkeypatch.delenv("WANDB_MODE")
    assert len(make_loggers(tmp_path, {}, OFFLINE, "predict")) == 1


def test_without_a_key_a_run_is_offline_whatever_was_asked(tmp_path):
    for mode in ("auto", "online"):
        assert make_loggers(tmp_path, {}, WandbOptions(mode))[1]._wandb_init["mode"] == "offline"


def test_a_key_in_the_environment_or_in_netrc_makes_it_online(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert make_loggers(tmp_path, {}, WandbOptions())[1]._wandb_init["mode"] == "online"
    monkeypatch.delenv("WANDB_API_KEY")
    wandb.teardown()  # the client keeps the key as long as its process lives
    (tmp_path / "netrc").write_text(f"machine wandb.here:8080 login user password {KEY}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert make_loggers(tmp_path, {}, WandbOptions())[1]._wandb_init["mode"] == "offline"  # of another server
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.here:8080")
    assert make_loggers(tmp_path, {}, WandbOptions())[1]._wandb_init["mode"] == "online"


def test_every_start_of_a_run_appends_to_one_history(tmp_path):
    """Three starts; the second one was resumed two rows earlier than the first had come."""
    folder = tmp_path / "a run"
    options = WandbOptions("offline", project="p", group="g", job_type="j", tags=["x", "y"])
    first = logged(folder, rows=5, config={"model": {"width": 0.5}, "trainer": {"devices": 2}}, options=options)
    logged(folder, rows=4, start=3, config={"model": {"width": 0.5}})
    logged(folder, rows=1, start=6, config={"trainer": {"devices": 1}}, command="test")
    runs = stored_runs(folder)
    assert [run.id for run in runs] == [first.identity.id] * 3 and len({run.path for run in runs}) == 3
    assert [run.resume for run in runs] == [True] * 3  # what `wandb sync` goes by
    rows = [row for run in runs for row in run.history]
    assert [row["_step"] for row in rows] == list(range(10))
    assert [row["trainer/global_step"] for row in rows] == [0, 1, 2, 3, 4, 3, 4, 5, 6, 6]
    assert all(run.metrics == {"trainer/global_step": "", "*": "trainer/global_step"} for run in runs)
    assert (runs[0].project, runs[0].group, runs[0].job_type, runs[0].tags) == ("p", "g", "j", ["x", "y"])
    assert [run.job_type for run in runs[1:]] == ["", ""]  # stays what the run began as
    assert runs[0].config["model"] == {"width": 0.5}
    assert runs[2].config["test"] == {"trainer": {"devices": 1}} and "trainer" not in runs[2].config
    assert how_to_sync(folder) == f"wandb sync {shlex.quote(str(folder / 'wandb'))}" and "'" in how_to_sync(folder)
    for run in runs:
        run.path.with_suffix(".wandb.synced").touch()
    assert how_to_sync(folder) is None


def test_what_others_log_to_the_run_is_counted(tmp_path):
    logger = make_loggers(tmp_path / "run", {}, OFFLINE)[1]
    logger.experiment.log({"result/images": 1})
    logger.experiment.log({"result/more": 2})
    end(logger)
    logged(tmp_path / "run")
    assert [row["_step"] for run in stored_runs(tmp_path / "run") for row in run.history] == [0, 1, 2]


def checkpoint(path, state):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"callbacks": {STATE: state}, "global_step": 7}, path)
    return str(path)


def test_a_checkpoint_takes_its_run_to_another_folder(tmp_path):
    """Resumed from a copy, the run goes on behind what the copy knows; from where it was saved, behind what was logged since."""
    old = logged(tmp_path / "old", rows=3).identity
    assert old.state() == {"id": old.id, "step": 3}
    copied = choose_identity(tmp_path / "new", checkpoint(tmp_path / "copy" / "x.ckpt", {"id": old.id, "step": 2}))
    assert (copied.id, copied.next_step, copied.continues) == (old.id, 2, True)
    beside = checkpoint(tmp_path / "old" / "checkpoints" / "last.ckpt", {"id": old.id, "step": 2})
    assert choose_identity(tmp_path / "new", beside).next_step == 3
    assert choose_identity(tmp_path / "new", None).id != old.id  # scored there, or its weights begin a new training
    assert choose_identity(tmp_path / "old", None).id == old.id


@pytest.mark.parametrize(
    "state", [{"id": "../../x", "step": 1}, {"id": ["a"], "step": 1}, {"id": "a" * 65, "step": 0}, "id", None]
)
def test_an_id_that_is_none_is_not_taken(tmp_path, state):
    chosen = choose_identity(tmp_path / "new", checkpoint(tmp_path / "x.ckpt", state))
    assert len(chosen.id) == 8 and not chosen.continues


def test_a_checkpoint_of_a_training_without_wandb_keeps_the_id_it_had():
    callback = LoggedRun(None, "fit", False)
    assert callback.state_dict() == {}
    callback.load_state_dict({"id": "abc", "step": 3})
    assert callback.state_dict() == {"id": "abc", "step": 3} and callback.state_key == STATE


def test_variables_win_over_options(tmp_path, monkeypatch):
    for name, value in {
        "PROJECT": "q",
        "RUN_GROUP": "h",
        "JOB_TYPE": "k",
        "TAGS": "z",
        "NAME": "n",
        "RUN_ID": "mine",
    }.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    logged(tmp_path / "run", options=WandbOptions("offline", "p", None, "g", "j", ["x"]))
    (run,) = stored_runs(tmp_path / "run")
    assert (run.project, run.group, run.job_type, run.tags, run.name, run.id) == ("q", "h", "k", ["z"], "n", "mine")


def test_a_run_of_a_sweep_has_the_agents_id_and_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")  # an agent makes many runs in one job
    folders = []
    for run in ("run1", "run2"):
        monkeypatch.setenv("WANDB_RUN_ID", run)
        monkeypatch.delenv(CHOSEN, raising=False)
        folders.append(choose_folder(tmp_path, None, "dpdnet-dpdd", None))
        logged(folders[-1])
    monkeypatch.delenv(CHOSEN)
    assert [folder.name for folder in folders] == ["dpdnet-dpdd-run1", "dpdnet-dpdd-run2"]
    runs = [stored_runs(folder)[0] for folder in folders]
    assert [(run.id, run.group, run.sweep) for run in runs] == [
        ("run1", "sweep1", "sweep1"),
        ("run2", "sweep1", "sweep1"),
    ]


def test_an_online_run_has_one_history_on_the_server(tmp_path, monkeypatch):
    with WandbIntake() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        online = WandbOptions("auto", project="p", job_type="fit")
        logged(tmp_path / "run", rows=3, config={"a": 1}, options=online)
        logged(tmp_path / "run", rows=2, start=2, options=online)
        (run,) = server.runs.values()
    assert [row["_step"] for row in run.rows] == list(range(5)) and run.summary["trainer/global_step"] == 3
    assert run.config["a"] == {"value": 1} and run.fields["jobType"] == "fit" and run.project == "p"
    assert how_to_sync(tmp_path / "run") is None


@pytest.mark.parametrize("broken", ["refuses", "key", "nobody"])
def test_a_server_that_cannot_be_used_makes_the_run_offline_with_a_warning(tmp_path, monkeypatch, capsys, broken):
    monkeypatch.setenv("WANDB_API_KEY", "short" if broken == "key" else KEY)
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "2")
    with WandbIntake(status=401) as server:
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9" if broken == "nobody" else server.url)
        logged(tmp_path / "run", rows=2)
        logger = logged(tmp_path / "run", rows=2, start=2, options=WandbOptions("auto"))
    said = capsys.readouterr().err
    wanted = "the key for W&B" if broken == "key" else "Weights & Biases"
    assert len(said.splitlines()) == 1 and said.startswith(f"warning: {wanted} cannot be used")
    assert logger.experiment.offline
    runs = [run for run in stored_runs(tmp_path / "run") if run.path.parent.name.startswith("offline")]
    assert [row["_step"] for run in runs for row in run.history] == [0, 1, 2, 3]
    assert how_to_sync(tmp_path / "run")


def test_without_any_working_wandb_the_training_goes_on(tmp_path, monkeypatch, capsys):
    begin = wandb.init

    def broken(**arguments):
        if arguments["mode"] != "disabled":
            raise OSError("no room\x1b[2J left\non the disk")
        return begin(**arguments)

    monkeypatch.setattr(wandb, "init", broken)
    logger = logged(tmp_path / "run", rows=2, options=WandbOptions("offline"))
    assert logger.experiment.disabled and not stored_runs(tmp_path / "run")
    said = capsys.readouterr().err
    assert said == "warning: Weights & Biases cannot be used offline: OSError: no room?[2J left on the disk\n"


def test_wandb_says_nothing_beside_what_we_say(tmp_path):
    """In a process of its own, whose end it reports."""
    script = f"""
from pathlib import Path
from dualpixel.running.loggers import WandbOptions, make_loggers

logger = make_loggers(Path({str(tmp_path / "run")!r}), {{}}, WandbOptions())[1]
logger.log_metrics({{"x": 1.0}}, step=0)
logger.finalize("success")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout + done.stderr == ""
    assert [row["x"] for run in stored_runs(tmp_path / "run") for row in run.history] == [1.0]


def test_nothing_lies_in_the_users_home(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_DATA_DIR")
    monkeypatch.chdir(tmp_path)
    make_loggers(Path("run"), {}, OFFLINE)
    assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / "run" / "wandb" / "data")
    assert os.environ["WANDB_CACHE_DIR"] == str(tmp_path / "run" / "wandb" / "cache")


@pytest.mark.parametrize(
    "option, value, named",
    [
        ("project", "a/b", "--wandb.project 'a/b'"),
        ("project", "p" * 200, "--wandb.project 'ppp"),
        ("project", "", "--wandb.project ''"),
        ("entity", "a b\n", "--wandb.entity 'a b"),
        ("group", "g" * 129, "--wandb.group 'ggg"),
        ("job_type", "", "--wandb.job_type ''"),
        ("tags", [""], "--wandb.tags ['']"),
        ("tags", ["a", "t" * 65], "--wandb.tags ['a', 'ttt"),
        ("WANDB_PROJECT", "a#b", "WANDB_PROJECT='a#b'"),
        ("WANDB_TAGS", "a,,b", "WANDB_TAGS='a,,b'"),
        ("WANDB_RUN_ID", "a/b", "WANDB_RUN_ID='a/b'"),
        ("WANDB_MODE", "of", "WANDB_MODE='of': no mode of W&B; Allowed: online"),
        ("WANDB_MODE", "shared", "WANDB_MODE='shared': no mode of W&B; Allowed: online"),
    ],
)
def test_a_name_that_wandb_refuses_is_refused_before_anything_begins(tmp_path, monkeypatch, option, value, named):
    options = WandbOptions(**{option: value}) if option.islower() else WandbOptions()
    if option.isupper():
        monkeypatch.setenv(option, value)
    with pytest.raises(DualPixelError) as refused:
        make_loggers(tmp_path / "run", {}, options)
    said = str(refused.value)
    assert said.startswith(named) and len(said) < 200 and len(said.splitlines()) == 1
    assert not (tmp_path / "run").exists() and "WANDB_SILENT" not in os.environ
    assert len(make_loggers(tmp_path / "run", {}, options, "predict")) == 1  # is no run of W&B


def test_names_at_their_limits_are_taken_and_empty_variables_are_none(tmp_path, monkeypatch):
    for name in ("MODE", "PROJECT", "TAGS", "RUN_ID", "ENTITY"):
        monkeypatch.setenv(f"WANDB_{name}", "")
    logged(tmp_path / "run", options=WandbOptions("offline", "p" * 128, None, "g" * 128, "a job", ["t" * 64]))
    (run,) = stored_runs(tmp_path / "run")
    assert (run.project, run.group, run.job_type, run.tags) == ("p" * 128, "g" * 128, "a job", ["t" * 64])


def test_a_variable_that_ends_every_run_of_wandb_ends_no_training(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_CONSOLE", "sideways")
    logger = make_loggers(tmp_path / "run", {}, WandbOptions())[1]
    logger.log_metrics({"x": 1.0}, step=0)
    assert logger.experiment.disabled and os.environ["WANDB_CONSOLE"] == "sideways"
    said = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in said] == ["warning"] * 2 and "logged offline" in said[0]


def test_only_the_first_process_looks_for_a_key(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("dualpixel.running.loggers.has_key", lambda: asked.append(1) or True)
    monkeypatch.setattr("lightning.pytorch.utilities.rank_zero_only.rank", 1)
    make_loggers(tmp_path / "run", {}, WandbOptions())
    assert not asked
    monkeypatch.setattr("lightning.pytorch.utilities.rank_zero_only.rank", 0)
    assert make_loggers(tmp_path / "run", {}, WandbOptions())[1]._wandb_init["mode"] == "online" and asked == [1]


def test_a_start_that_logs_nothing_leaves_no_row(tmp_path):
    logged(tmp_path / "run", rows=2)
    logged(tmp_path / "run", rows=0)
    logged(tmp_path / "run", rows=2, start=2)
    histories = [[row["_step"] for row in run.history] for run in stored_runs(tmp_path / "run")]
    assert histories == [[0, 1], [], [2, 3]]


def test_a_run_of_a_command_that_is_refused_does_not_begin(tmp_path):
    """Lightning asks for it before any settings are checked."""
    logger = make_loggers(tmp_path / "run", {}, OFFLINE)[1]
    LoggedRun(logger, "fit", False)
    _ = logger.experiment
    logger.describe({"batch": 1})
    logger.finalize("failed")
    assert not (tmp_path / "run").exists()
    logger.waits = False
    logger.log_metrics({"x": 1.0})
    logger.describe({"more": 2})
    end(logger)
    (run,) = stored_runs(tmp_path / "run")
    assert run.config["batch"] == 1 and run.config["more"] == 2 and len(run.history) == 1


def test_what_cannot_be_logged_of_a_run_ends_nothing(tmp_path, monkeypatch, capsys):
    """Neither what it is made of, nor its best checkpoint."""

    def full(*_):
        raise OSError("no room left")

    (tmp_path / "best.ckpt").touch()
    best = BestCheckpoint()
    best.best_model_path = str(tmp_path / "best.ckpt")
    monkeypatch.setattr(logged_run, "describe_run", full)
    monkeypatch.setattr(logged_run, "load_weights", full)
    callback = LoggedRun(make_loggers(tmp_path / "run", {}, OFFLINE)[1], "fit", True)
    trainer = SimpleNamespace(is_global_zero=True, checkpoint_callbacks=[best])
    callback.on_fit_start(trainer, None)
    callback.on_fit_end(trainer, None)
    assert capsys.readouterr().err.splitlines() == [
        f"warning: {what} could not be logged to W&B: OSError: no room left"
        for what in ("what the run is made of", "the best checkpoint")
    ]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the process in /proc")
def test_a_training_survives_the_process_that_writes_for_wandb(tmp_path):
    """In a process of its own: what is left of W&B complains at its end."""
    script = f"""
import os, signal
from pathlib import Path
from dualpixel.running.loggers import WandbOptions, make_loggers

logger = make_loggers(Path({str(tmp_path / "run")!r}), {{}}, WandbOptions("offline"))[1]
logger.log_metrics({{"x": 1.0}}, step=0)
for stat in Path("/proc").glob("[0-9]*/stat"):
    parent = stat.read_text().rpartition(")")[2].split()[1] if stat.exists() else ""
    if parent == str(os.getpid()) and "wandb-core" in (stat.parent / "cmdline").read_text():
        os.kill(int(stat.parent.name), signal.SIGKILL)
        os.waitpid(int(stat.parent.name), 0)
for step in range(1, 20):
    logger.log_metrics({{"x": 1.0}}, step=step)
logger.experiment.log({{"y": 1}})
logger.finalize("success")
print("trained", logger.experiment.disabled)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.splitlines() == ["trained True"]
    (line,) = done.stderr.splitlines()  # nothing more at the end of the process
    assert line.startswith("warning: Weights & Biases cannot be used any more: ")


def test_a_later_start_brings_the_summary_of_those_before(tmp_path):
    """What is sent replaces the summary on the server, so it has to be whole."""
    first = make_loggers(tmp_path / "run", {}, OFFLINE)[1]
    first.log_metrics({"val/psnr": 30.0})
    first.experiment.summary["result/a/psnr"] = 31.0
    first.experiment.summary["result/a/images"] = {"_type": "table-file", "nrows": 4}
    end(first)
    logged(tmp_path / "run", rows=1)
    summary = stored_runs(tmp_path / "run")[1].summary
    assert (summary["val/psnr"], summary["result/a/psnr"], summary["train/loss"]) == (30.0, 31.0, 1.0)
    assert summary["result/a/images"] == {"_type": "table-file", "nrows": 4}
