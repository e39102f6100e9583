"""Processes that are killed, as by a power cut."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from command_line import TOP
from lightning.pytorch import Callback


class KillAt(Callback):
    """SIGKILL after the batch of a global step.

    Args:
        step: optimizer steps taken when the process dies.
    """

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def kill_when(condition: Callable[[], object], *arguments: object) -> None:
    """Run a command, SIGKILL its process as soon as the condition holds, and see that its workers end too."""
    command = [sys.executable, "-m", "src", *map(str, arguments)]
    process = subprocess.Popen(
        command, cwd=TOP, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not condition():
        assert process.poll() is None, f"{command} ended before it could be killed"
        time.sleep(0.002)
    process.kill()
    process.wait()
    until = time.monotonic() + 20
    while _group_lives(process.pid):
        assert time.monotonic() < until, "workers outlive the process that was killed"
        time.sleep(0.05)


def _group_lives(group: int) -> bool:
    """Say whether a process group has a process that is not a zombie (where there is no /proc: no)."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, found = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(found) == group and state not in "ZX":
            return True
    return False
