"""Predictions as image files."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from dualpixel.data.images import write_png
from dualpixel.data.samplers import NOT_COUNTED
from dualpixel.data.stream import to_stored
from dualpixel.running.folder import InRunFolder


class WritePredictions(InRunFolder):
    """Writes ``predictions/NAME.png`` in the run's folder, 16 bits per channel, while `predict` runs.

    Args:
        output: another folder to write to.
    """

    def __init__(self, output: Path | None = None) -> None:
        super().__init__()
        self.output = output
        self.written = 0

    def target_folder(self) -> Path:
        """Return the folder written to."""
        return Path(self.output) if self.output else self.folder / "predictions"

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the images of one batch."""
        for row, key in enumerate(batch["key"]):
            if int(batch["index"][row]) == NOT_COUNTED:
                continue
            write_png(self.target_folder() / f"{key}.png", to_stored(outputs["sharp"][row]))
            self.written += 1

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add up what all processes wrote."""
        self.written = int(
            trainer.strategy.reduce(torch.tensor(float(self.written), device=pl_module.device), reduce_op="sum")
        )
