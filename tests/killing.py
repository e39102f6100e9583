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
        after: seconds for which it hangs before that.
    """

    def __init__(self, step: int, after: float = 0.0) -> None:
        self.step, self.after = step, after

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            time.sleep(self.after)
            os.kill(os.getpid(), signal.SIGKILL)


class TellAt(Callback):
    """A signal in the middle of a step.

    Args:
        step: the optimizer step that is under way.
        signal_name: by default the one by which a scheduler says that time is up.
    """

    def __init__(self, step: int, signal_name: str = "SIGUSR1") -> None:
        self.step, self.signal = step, signal.Signals[signal_name]

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step == self.step - 1:
            os.kill(os.getpid(), self.signal)


class Slowly(Callback):
    """Waits after each training step, so that it can be interrupted.

    Args:
        seconds: how long.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        time.sleep(self.seconds)


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
