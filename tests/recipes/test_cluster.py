"""The batch script for SLURM: a shell runs it, and what it starts is a command of ours."""

import os
import re
import shlex
import subprocess

import pytest
from command_line import TOP

from dualpixel.commands.configurations import check_settings, resolve_names

SCRIPT = TOP / "recipes" / "slurm.sbatch"
OPTIONS = {
    "job-name",
    "nodes",
    "ntasks-per-node",
    "gpus-per-node",
    "cpus-per-task",
    "time",
    "requeue",
    "signal",
    "open-mode",
    "output",
}
"""Of sbatch's manual."""
GIVEN = ["--config", "recipes/dpdnet.yaml", "--config", "recipes/overlays/slurm.yaml", "--data.batch_size", "1"]


@pytest.fixture
def started(tmp_path):
    """What the script hands to ``srun``, and the variables that it sets."""
    srun = tmp_path / "srun"
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$WANDB_MODE" "$OMP_NUM_THREADS" "$@"\n')
    srun.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "SLURM_NNODES": "2",
        "SLURM_NTASKS_PER_NODE": "4",
        "SLURM_CPUS_PER_TASK": "7",
    }

    def start(without=(), code=0, **variables):
        command = ["bash", str(SCRIPT), *GIVEN]
        given = {name: value for name, value in (environment | variables).items() if name not in without}
        done = subprocess.run(command, env=given, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == code, done.stderr
        return (done.stderr if code else done.stdout).splitlines()

    return start


def test_the_script_asks_slurm_for_what_a_run_that_goes_on_needs():
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", SCRIPT.read_text(), re.MULTILINE))
    assert set(options) == OPTIONS
    assert options["requeue"] == "" and options["signal"] == "USR1@90" and options["open-mode"] == "append"
    assert options["ntasks-per-node"] == options["gpus-per-node"]  # a process for each GPU


def test_the_script_starts_a_command_of_ours_on_all_that_the_job_has(started, monkeypatch):
    mode, threads, *words = started()
    assert (mode, threads) == ("offline", "1") and started(WANDB_MODE="online")[0] == "online"
    assert words[:6] == ["--kill-on-bad-exit=1", "--cpus-per-task=7", "python", "-m", "src", "fit"]
    monkeypatch.chdir(TOP)
    settings = check_settings(resolve_names(words[5:]))
    assert settings["trainer"]["num_nodes"] == 2 and settings["trainer"]["devices"] == 4
    assert settings["trainer"]["strategy"] == "ddp" and settings["data"]["init_args"]["batch_size"] == 1


def test_a_job_without_tasks_per_node_is_told_what_to_give(started):
    (said,) = started(without=("SLURM_NTASKS_PER_NODE",), code=1)
    assert "give sbatch --ntasks-per-node (a process for each GPU of a node) in place of --ntasks" in said


def test_the_commands_that_files_for_clusters_say_are_ones_that_run():
    files = [SCRIPT, *sorted((TOP / "recipes" / "overlays").glob("*.yaml"))]
    lines = [line.lstrip("# ") for path in files for line in path.read_text().splitlines() if line.startswith("#")]
    tried = 0
    for line in lines:
        start = {"sbatch": "recipes/slurm.sbatch ", "python": "python -m src fit "}.get(
            line.split(" ")[0], "no command"
        )
        if start in line:
            words = ["fit", *shlex.split(line.partition(start)[2])]
            check_settings(resolve_names([str(TOP / word) if word.startswith("recipes/") else word for word in words]))
            tried += 1
    assert tried >= 10
