"""Pictures of what a network does: left, right, input, output, target and errors, drawn during validation and test."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from dualpixel.files import atomic
from dualpixel.metrics.functional import psnr
from dualpixel.running.folder import DuringEvaluation

DETAIL = 160


class Panels(DuringEvaluation):
    """Draws a panel of chosen scenes into ``panels/`` of the run, and hands it to the loggers that take images.

    Args:
        count: how many scenes of each evaluation, the first ones; 0 draws none.
        keys: draw the scenes of these keys in their place.
        every_n_validations: draw at every n-th validation; `test` always draws.
        error_gain: what errors are multiplied with to be seen.
    """

    def __init__(
        self, count: int = 2, keys: list[str] | None = None, every_n_validations: int = 1, error_gain: float = 5.0
    ) -> None:
        super().__init__()
        self.count, self.keys, self.every_n_validations, self.error_gain = count, keys, every_n_validations, error_gain
        self.drawn: dict[str, list[Path]] = {}
        """Evaluation (``val-step00000270``, ``test-NAME``) -> the panels this process drew."""
        self._validations = 0

    def batch(self, trainer: Trainer, recipe: LightningModule, stage: str, outputs: Any, batch: Any) -> None:
        """Draw the chosen scenes of a batch."""
        if stage == "test" or self._validations % self.every_n_validations == 0:
            self._draw(_stem(trainer, stage), outputs, batch)

    def end(self, trainer: Trainer, recipe: LightningModule, stage: str) -> None:
        """Hand the panels to the loggers."""
        self._validations += stage == "val"
        self._log(trainer, _stem(trainer, stage), stage)

    def _draw(self, stem: str, outputs: Mapping[str, Any], batch: Mapping[str, Any]) -> None:
        for row, key in enumerate(batch["key"]):
            index = int(batch["index"][row])
            if key in self.keys if self.keys else 0 <= index < self.count:
                images = {name: batch[name][row] for name in ("left", "right", "combined") if name in batch}
                path = self.folder / "panels" / f"{stem}-{key}.png"
                draw_panel(path, key, images, outputs["prediction"]["sharp"][row], batch["sharp"][row], self.error_gain)
                self.drawn.setdefault(stem, []).append(path)

    def _log(self, trainer: Trainer, stem: str, stage: str) -> None:
        trainer.strategy.barrier()  # other processes draw their own scenes; the first one hands all of them on
        if not trainer.is_global_zero:
            return
        paths = sorted((self.folder / "panels").glob(f"{stem}-*.png"))
        for logger in trainer.loggers:
            if paths and hasattr(logger, "log_image"):
                logger.log_image(
                    f"{stage}/panels", [str(path) for path in paths], caption=[path.stem for path in paths]
                )


def _stem(trainer: Trainer, stage: str) -> str:
    return f"val-step{trainer.global_step:08d}" if stage == "val" else f"test-{trainer.datamodule.card.name}"


def draw_panel(
    path: Path, title: str, images: Mapping[str, Tensor], output: Tensor, target: Tensor, gain: float = 5.0
) -> None:
    """Draw one scene: the whole images above, below them the detail in which the output improves most on the input.

    Args:
        path: the PNG to be written.
        title: name of the scene.
        images: the inputs there are, name -> (3, H, W) in [0, 1]; ``combined``, else the first, is compared with the output.
        output: (3, H, W), the prediction.
        target: (3, H, W), the sharp image.
        gain: what absolute errors are multiplied with.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    output = output.detach().float().clamp(0, 1)
    unprocessed = images.get("combined", next(iter(images.values())))
    cells = {name: _shown(image) for name, image in images.items()}
    cells["output"], cells["target"] = _shown(output), _shown(target)
    errors = {"input": (unprocessed - target).abs().mean(0).cpu(), "output": (output - target).abs().mean(0).cpu()}
    for name, error in errors.items():
        cells[f"error of {name} x{gain:g}"] = (error * gain).clamp(0, 1).numpy()
    top, left, side = _detail(errors["input"] - errors["output"])
    scores = {
        name: float(psnr(image[None].float(), target[None].float())[0])
        for name, image in {**images, "output": output}.items()
    }

    height, width = output.shape[-2:]
    figure = Figure(figsize=(2.6 * len(cells), 2.6 * (height / width + 1) + 0.7), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(cells), squeeze=False, gridspec_kw={"height_ratios": [height / width, 1]})
    for column, (name, cell) in enumerate(cells.items()):
        options = {"cmap": "inferno", "vmin": 0, "vmax": 1} if cell.ndim == 2 else {}
        said = f"\n{scores[name]:.2f} dB" if name in scores else "\n"
        axes[0, column].set_title(name + said, fontsize=9)
        axes[0, column].imshow(cell, **options)
        axes[0, column].add_patch(_frame(left, top, side))
        axes[1, column].imshow(cell[top : top + side, left : left + side], interpolation="nearest", **options)
        for axis in axes[:, column]:
            axis.set_axis_off()
    figure.suptitle(f"{title}   detail {side}x{side} at row {top}, column {left}", fontsize=10)
    with atomic(path) as beside:
        figure.savefig(beside)


def _shown(image: Tensor) -> np.ndarray:
    return image.detach().float().clamp(0, 1).permute(1, 2, 0).cpu().numpy()


def _detail(improvement: Tensor) -> tuple[int, int, int]:
    """Find the square with the largest mean improvement."""
    side = min(DETAIL, max(1, min(improvement.shape) // 2))
    means = torch.nn.functional.avg_pool2d(improvement[None, None], side, stride=max(1, side // 8))[0, 0]
    row, column = divmod(int(means.argmax()), means.shape[1])
    return row * max(1, side // 8), column * max(1, side // 8), side


def _frame(left: int, top: int, side: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((left, top), side, side, fill=False, edgecolor="white", linewidth=1)
