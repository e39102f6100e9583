"""Figures of how a network's parts behave, taken at each validation and drawn over the steps of training."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from dualpixel.errors import DualPixelError
from dualpixel.files import atomic
from dualpixel.running.folder import DuringEvaluation

COLUMNS = 3
DECADES = 100
"""A plot whose values span this factor or more has a logarithmic axis."""
FEW = 50
"""Up to so many values are marked one by one."""

History = Mapping[int, Mapping[str, float]]


class Diagnostics(DuringEvaluation):
    """Asks the recipe for its diagnostics of the first batch of each validation, logs them, and draws ``diagnostics.png``.

    Logged is ``val/NAME`` for each figure of ``recipe.diagnostics(batch, prediction)``. The process that holds the first
    scene asks, without gradients and at the precision of training; the others are told. The values of all validations of a
    training are kept in its checkpoints, so that the curves of a resumed run go on. The command `validate` logs and does not draw.

    Args:
        enabled: whether it does.
        every_n_validations: ask at every n-th validation of a training.

    Raises:
        DualPixelError: `every_n_validations` is not positive.
    """

    def __init__(self, enabled: bool = True, every_n_validations: int = 1) -> None:
        super().__init__()
        if every_n_validations < 1:
            raise DualPixelError(f"--diagnostics.every_n_validations {every_n_validations}: must be at least 1")
        self.enabled, self.every_n_validations = enabled, every_n_validations
        self.history: dict[int, dict[str, float]] = {}
        """Step -> name -> value, the same on every process."""
        self._validations = 0
        self._found: dict[str, float] = {}

    def begin(self, trainer: Trainer, recipe: LightningModule, stage: str) -> None:
        """Forget what was found before."""
        self._found = {}

    def batch(self, trainer: Trainer, recipe: LightningModule, stage: str, outputs: Any, batch: Any) -> None:
        """Ask for the diagnostics of the batch that holds the first scene."""
        if self._due(trainer, stage) and 0 in batch["index"]:
            with trainer.precision_plugin.forward_context():
                found = recipe.diagnostics(batch, outputs["prediction"])
            self._found = {name: float(value) for name, value in found.items()}

    def end(self, trainer: Trainer, recipe: LightningModule, stage: str) -> None:
        """Log what was found, on every process; remember and draw it."""
        if self._due(trainer, stage):
            found = trainer.strategy.broadcast(self._found)  # the first process holds the first scene
            recipe.log_dict({f"{stage}/{name}": value for name, value in found.items()})
            if found and _training(trainer):
                self.history[trainer.global_step] = found
                self._show(trainer)
        self._validations += stage == "val" and _training(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        history = {step: dict(values) for step, values in self.history.items()}
        return {"history": history, "validations": self._validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
        self.history = {step: dict(values) for step, values in state_dict["history"].items()}
        self._validations = state_dict["validations"]

    def _due(self, trainer: Trainer, stage: str) -> bool:
        turn = not _training(trainer) or self._validations % self.every_n_validations == 0
        return self.enabled and stage == "val" and turn

    def _show(self, trainer: Trainer) -> None:
        if not trainer.is_global_zero:
            return
        path = self.folder / "diagnostics.png"
        draw_diagnostics(path, self.history)
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                logger.log_image("val/diagnostics", [str(path)], max(0, trainer.global_step - 1))  # as scores are


def _training(trainer: Trainer) -> bool:
    return trainer.state.fn == TrainerFn.FITTING


def draw_diagnostics(path: Path, history: History) -> None:
    """Draw a small plot for each name over the steps; the names of a group, ``GROUP/LINE``, share one, with a legend.

    The latest values stand in the title or the legend. Values that are not finite leave a gap.

    Args:
        path: the PNG to be written.
        history: step -> name -> value; not every step needs to have every name.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    plots = _plots(history)
    columns = min(COLUMNS, len(plots))
    rows = math.ceil(len(plots) / columns)
    figure = Figure(figsize=(4.2 * columns, 2.7 * rows), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (group, lines) in zip(axes, plots.items(), strict=False):
        _draw(axis, group, lines)
    for axis in axes[len(plots) :]:
        axis.remove()
    with atomic(path) as beside:
        figure.savefig(beside)


_Lines = dict[str, dict[int, float]]  # line -> step -> value


def _plots(history: History) -> dict[str, _Lines]:
    plots: dict[str, _Lines] = {}
    for step, values in sorted(history.items()):
        for name, value in values.items():
            group, _, line = name.partition("/")
            plots.setdefault(group, {}).setdefault(line, {})[step] = value if math.isfinite(value) else math.nan
    return plots


def _draw(axis: Any, group: str, lines: _Lines) -> None:
    from matplotlib import colormaps
    from matplotlib.ticker import MaxNLocator

    colours = colormaps["viridis"]
    latest = {line: f"{next(reversed(values.values())):.4g}" for line, values in lines.items()}
    for number, (line, values) in enumerate(lines.items()):
        axis.plot(
            list(values),
            list(values.values()),
            color=colours(0.9 * number / max(1, len(lines) - 1)),
            marker="o" if len(values) <= FEW else None,
            markersize=3,
            linewidth=1.2,
            label=f"{line} {latest[line]}",
        )
    known = [value for values in lines.values() for value in values.values() if not math.isnan(value)]
    if known and min(known) > 0 and max(known) >= DECADES * min(known):
        axis.set_yscale("log")
    title = group.replace("_", " ")
    axis.set_title(title if len(lines) > 1 else f"{title}: {''.join(latest.values())}", fontsize=10)
    axis.set_xlabel("training step", fontsize=8)
    axis.set_ylabel(f"val/{group}", fontsize=8)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3)
    if len(lines) > 1:
        beside = {"loc": "center left", "bbox_to_anchor": (1, 0.5), "frameon": False, "handlelength": 1}
        axis.legend(title="latest", fontsize=7, title_fontsize=7, alignment="left", **beside)
