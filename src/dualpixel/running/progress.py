"""Progress: a bar on a terminal, plain lines where the output goes to a file."""

import sys
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme
from lightning.pytorch.trainer.states import TrainerFn


def progress_callback() -> Callback:
    """Return the progress callback that fits where the output goes."""
    if sys.stderr.isatty() and sys.stdout.isatty():
        return RichProgressBar(leave=True, theme=RichProgressBarTheme(metrics_format=".4g"))
    return ProgressLines()


class ProgressLines(ProgressBar):
    """One line every so many seconds, with the step, the rate and the newest values.

    Args:
        seconds: the least time between two lines.
    """

    def __init__(self, seconds: float = 10.0) -> None:
        super().__init__()
        self.seconds = seconds
        self._enabled = True
        self._since: tuple[float, int] | None = None

    def disable(self) -> None:
        """Say nothing: on all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Speak again."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count."""
        self._since = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print a line when it is time."""
        now, step = time.monotonic(), trainer.fit_loop.epoch_loop.total_batch_idx + 1
        if self._since is None:
            self._since = (now, step)
        elif now - self._since[0] >= self.seconds:
            rate = (step - self._since[1]) / (now - self._since[0])
            self._since = (now, step)
            self._say(
                f"epoch {trainer.current_epoch} step {batch_idx + 1}/{trainer.num_training_batches}  {rate:.2f} steps/s",
                trainer,
            )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the scores of a validation."""
        if not trainer.sanity_checking:
            training = trainer.state.fn == TrainerFn.FITTING
            self._say(f"epoch {trainer.current_epoch} validated" if training else "validated", trainer)

    def _say(self, text: str, trainer: Trainer) -> None:
        if self._enabled:
            values = {name: float(value) for name, value in trainer.progress_bar_metrics.items() if name != "v_num"}
            values |= {
                name: float(trainer.callback_metrics[name])
                for name in ("val/psnr", "val/input_psnr", "val/views_psnr", "val/input_views_psnr")
                if name in trainer.callback_metrics
            }
            print(text, *(f"{name} {value:.4g}" for name, value in values.items()), sep="  ", flush=True)
