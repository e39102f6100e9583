"""A callback that kills its own process, as a power cut would."""

import os
import signal

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
