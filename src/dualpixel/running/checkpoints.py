"""Which checkpoints a run keeps: the best by a score, and the last one every so many steps, from which a killed run goes on."""

import zipfile
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn

from dualpixel.errors import DualPixelError
from dualpixel.files import atomic
from dualpixel.hints import near
from dualpixel.running.folder import CHECKPOINTS, LAST, InRunFolder, find_checkpoint
from dualpixel.weights.files import load_weights


def check_checkpoint(given: str | None) -> None:
    """Check that what was given is a whole Lightning checkpoint, before a trainer meets it.

    Args:
        given: a file, a run's folder, one of Lightning's own words ("best", "last", "hpc"), or None.

    Raises:
        DualPixelError: no such file, damaged, no weights at all, or weights without the rest of a checkpoint.
    """
    if given is None or given in ("best", "last", "hpc"):
        return
    path = Path(find_checkpoint(given) or given)
    if not path.is_file():
        raise DualPixelError(f"--ckpt_path {given}: no such file, nor a run's folder with checkpoints/last.ckpt")
    load_weights(path)
    if not zipfile.is_zipfile(path) or "pytorch-lightning_version" not in torch.load(
        path, map_location="cpu", weights_only=True, mmap=True
    ):
        raise DualPixelError(
            f"--ckpt_path {path}: holds weights, not a checkpoint; give it by --model.init_from {path}"
        )


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

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the checkpoint where it is the best so far.

        Raises:
            DualPixelError: nothing of the monitor's name is logged.
        """
        logged = {name: value for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        # `validate` keeps no checkpoint
        training = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if training and self.monitor.startswith("val/") and self.monitor not in logged:
            raise DualPixelError(f"--best.monitor {self.monitor}: not measured here; {near(self.monitor, logged)}")
        super().on_validation_end(trainer, pl_module)


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

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time, and when training stops here, in mid-epoch: at its end Lightning counts the epoch as whole."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if trainer.should_stop or trainer.global_step == trainer.max_steps:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end of the last epoch."""
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if not trainer.fast_dev_run:
            trainer.save_checkpoint(self.folder / CHECKPOINTS / LAST)


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it, so that a kill leaves the old one or the new one, never half of one.

    Differences: Lightning writes to the system's temporary folder and moves the file, which is a copy where that folder lies on
    another disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Save a checkpoint; see `TorchCheckpointIO`."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with atomic(Path(path)) as beside:
            torch.save(checkpoint, beside)
