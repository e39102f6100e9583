"""A SLURM job whose time is up: it saves where it stands and asks for another turn."""

import os
import signal
import subprocess
import sys
import threading
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from dualpixel.running.folder import CHECKPOINTS, LAST, InRunFolder

TOGETHER = 5
"""Steps after which several processes ask each other whether one was told; a single one looks at every step."""


class Requeue(InRunFolder):
    """On SIGUSR1 (``#SBATCH --signal=SIGUSR1@90``) saves ``checkpoints/last.ckpt`` after a step, requeues the job, and ends.

    The job finds its checkpoint by itself when it starts again: see `dualpixel.running.folder.restarted_checkpoint`. In a validation
    nothing is saved; training then goes on from the last checkpoint, and the validation is made again.

    Differences: Lightning's own handler saves ``hpc_ckpt_N.ckpt`` at whatever line the signal finds the program, in the middle of a
    step, from where no run goes on bit for bit, and trains on until it is killed. It stands back where a handler is there already.
    """

    def __init__(self) -> None:
        super().__init__()
        self._listens = self._told = self._requeued = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listen, in a training under SLURM; to the end of the process, which would be killed by the signal otherwise."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and SLURMEnvironment.detect() and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGUSR1, self._note)
            self._listens = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and requeue, when a process was told; all in the same step, not the last one of an epoch: its validation follows."""
        due = trainer.world_size == 1 or trainer.global_step % TOGETHER == 0
        if self._listens and due and not trainer.is_last_batch and self._was_told(trainer):
            trainer.save_checkpoint(self.folder / CHECKPOINTS / LAST)
            self._requeue(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """End, now that the step before is logged."""
        self._end_if_requeued()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End, in the same way."""
        self._end_if_requeued()

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *position: int
    ) -> None:
        """Requeue and end, without a checkpoint."""
        if self._listens and trainer.state.fn == TrainerFn.FITTING and self._was_told(trainer):
            self._requeue(trainer)
            self._end_if_requeued()

    def _note(self, signum: int, frame: Any) -> None:
        self._told = True

    def _was_told(self, trainer: Trainer) -> bool:
        return trainer.strategy.reduce_boolean_decision(self._told, all=False)

    def _requeue(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            _requeue()
        self._requeued = True

    def _end_if_requeued(self) -> None:
        if self._requeued:
            raise SIGTERMException


def _requeue() -> None:
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}") for name in ("JOB_ID", "TASK_ID"))
    job = f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, timeout=60)
        print(f"the time of SLURM job {job} is up: it was requeued and goes on from its last checkpoint", flush=True)
    except (OSError, subprocess.SubprocessError) as error:
        print(
            f"warning: SLURM job {job} could not be requeued ({error}); submit it again with --ckpt_path",
            file=sys.stderr,
            flush=True,
        )
