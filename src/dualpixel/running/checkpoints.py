"""Which checkpoints a run keeps: the best by a score, and the last one every so many steps, from which a killed run goes on."""

from typing import Literal

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from dualpixel.running.folder import CHECKPOINTS, LAST, InRunFolder


class RunCheckpoint(InRunFolder, ModelCheckpoint):
    """Lightning's ModelCheckpoint with the run's folder for its own; see there for the arguments."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Put the checkpoints into the run's folder."""
        InRunFolder.setup(self, trainer, pl_module, stage)
        self.dirpath = str(self.folder / CHECKPOINTS)
        ModelCheckpoint.setup(self, trainer, pl_module, stage)


class BestCheckpoint(RunCheckpoint):
    """Keeps ``checkpoints/best.ckpt``.

    Args:
        monitor: the logged value that decides: ``val/psnr``, ``val/loss``, ``train/epoch_loss`` ...
        mode: whether larger ("max") or smaller ("min") is better.
    """

    def __init__(self, monitor: str = "val/psnr", mode: Literal["min", "max"] = "max") -> None:
        super().__init__(
            filename="best",
            monitor=monitor,
            mode=mode,
            auto_insert_metric_name=False,
            enable_version_counter=False,
            save_on_train_epoch_end=monitor.startswith("train/"),
        )


class LastCheckpoint(RunCheckpoint):
    """Keeps ``checkpoints/last.ckpt``: every so many steps, and when training ends.

    Args:
        every_n_steps: how many steps a kill may cost.
    """

    def __init__(self, every_n_steps: int = 500) -> None:
        super().__init__(
            filename="last",
            save_top_k=1,
            every_n_train_steps=every_n_steps,
            enable_version_counter=False,
            save_on_train_epoch_end=False,
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end of training."""
        trainer.save_checkpoint(self.folder / CHECKPOINTS / LAST)
