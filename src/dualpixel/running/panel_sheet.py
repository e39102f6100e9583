"""Sheets of one scene: what a network was given, what it made of it, what it should have made, and the errors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dualpixel.files import atomic
from dualpixel.metrics.functional import psnr
from dualpixel.recipes.outputs import VIEWS
from dualpixel.running.map_picture import colour_range, map_colours

DETAIL = 160
ERROR = {"cmap": "inferno", "vmin": 0, "vmax": 1}
SIGNED = {"cmap": "RdBu_r", "vmin": -1, "vmax": 1}
LEGEND = "red: left view brighter\nblue: right view brighter\n\n(the input as both views\nhas no difference)"


def draw_panel(
    path: Path,
    title: str,
    images: Mapping[str, Tensor],
    output: Tensor,
    target: Tensor,
    gain: float = 5.0,
    maps: Mapping[str, Tensor] | None = None,
) -> None:
    """Draw one scene: the whole images above, below them the detail in which the output improves most on the input.

    Maps stand at the right, all in one scale of colours, whose ends are written above them.

    Args:
        path: the PNG to be written.
        title: name of the scene.
        images: the inputs there are, name -> (3, H, W) in [0, 1]; ``combined``, else the first, is compared with the output.
        output: (3, H, W), the prediction.
        target: (3, H, W), the sharp image.
        gain: what absolute errors are multiplied with.
        maps: predicted and true maps of one quantity, name -> (1, H, W); the last one sets the scale.
    """
    images = {name: _prepared(image) for name, image in images.items()}
    output, target = _prepared(output), _prepared(target)
    unprocessed = images.get("combined", next(iter(images.values())))
    errors = {"input": _error(unprocessed, target), "output": _error(output, target)}
    cells = {name + _score(image, target): (_shown(image), {}) for name, image in {**images, "output": output}.items()}
    cells["target\n"] = (_shown(target), {})
    cells |= {
        f"error of {name} x{gain:g}\n": ((error * gain).clamp(0, 1).numpy(), ERROR) for name, error in errors.items()
    }
    cells |= _map_cells(maps or {})
    _draw(path, title, [(cells, True)], _detail(errors["input"] - errors["output"]))


def draw_views_panel(
    path: Path,
    title: str,
    unprocessed: Tensor,
    outputs: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    gain: float = 5.0,
) -> None:
    """Draw one scene of a network that predicts views: a row for each output, and one for the difference of the views.

    Columns are the input, which stands for both views, the output, the target, and the errors of the first two. Whole images
    are drawn of the first row and of the difference; of every row the detail in which the sharp output improves most on the
    input, or the views do where there is no sharp one. In left - right, red is where the left view is brighter, blue where the
    right one is, white where they are equal: an edge that is out of focus is a rim of one colour, and of the other colour on
    the other side of the focus plane.

    Args:
        path: the PNG to be written.
        title: name of the scene.
        unprocessed: (3, H, W) in [0, 1], the blurry input.
        outputs: "left" and "right", and "sharp" where it is to be drawn -> (3, H, W).
        targets: the same names -> the same shape.
        gain: what errors and differences are multiplied with; the mean over the channels is shown.
    """
    unprocessed = _prepared(unprocessed)
    outputs = {name: _prepared(image) for name, image in outputs.items()}
    targets = {name: _prepared(targets[name]) for name in outputs}
    order = [name for name in ("sharp", *VIEWS) if name in outputs]
    improvement = sum(
        _error(unprocessed, targets[name]) - _error(outputs[name], targets[name])
        for name in (["sharp"] if "sharp" in outputs else VIEWS)
    )
    blocks = []
    for name in order:
        three = {"input": unprocessed, "output": outputs[name], "target": targets[name]}
        cells = {
            f"{name}: {what}" + (_score(image, targets[name]) if what != "target" else "\n"): (_shown(image), {})
            for what, image in three.items()
        }
        for what in ("input", "output"):
            error = _error(three[what], targets[name]) * gain
            cells[f"{name}: error of {what} x{gain:g}\n"] = (error.clamp(0, 1).numpy(), ERROR)
        blocks.append((cells, name == order[0]))
    of_views = {"input": [unprocessed] * 2, "output": [outputs[view] for view in VIEWS]}
    of_views["target"] = [targets[view] for view in VIEWS]
    differences = {what: (left - right).mean(0) for what, (left, right) in of_views.items()}
    cells = {"left - right": (LEGEND, {})}
    for what in ("output", "target"):
        signed = (differences[what] * gain).clamp(-1, 1)
        cells[f"left - right: {what} x{gain:g}"] = (signed.numpy(), SIGNED)
    for what in ("input", "output"):
        error = (differences[what] - differences["target"]).abs() * gain
        cells[f"left - right: error of {what} x{gain:g}"] = (error.clamp(0, 1).numpy(), ERROR)
    _draw(path, title, [*blocks, (cells, True)], _detail(improvement))


# title -> a picture, or words in its place, and how it is shown
_Cells = dict[str, tuple[np.ndarray | str, dict[str, Any]]]


def _draw(path: Path, title: str, blocks: list[tuple[_Cells, bool]], detail: tuple[int, int, int]) -> None:
    """Draw blocks of cells below each other: details, and above them the whole images where a block says so."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    top, left, side = detail
    height, width = next(iter(blocks[0][0].values()))[0].shape[:2]
    rows = [(cells, part) for cells, whole in blocks for part in (("whole", "detail") if whole else ("detail",))]
    ratios = [height / width if part == "whole" else 1.0 for _, part in rows]
    columns = len(blocks[0][0])
    size = (2.6 * columns, 2.6 * sum(ratios) + 0.35 * (1 + len(blocks)))
    figure = Figure(figsize=size, layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), columns, squeeze=False, gridspec_kw={"height_ratios": ratios})
    titled: set[int] = set()
    for row, (cells, part) in enumerate(rows):
        for axis, (name, (cell, options)) in zip(axes[row], cells.items(), strict=True):
            axis.set_axis_off()
            if id(cells) not in titled:
                axis.set_title(name, fontsize=9)
            if isinstance(cell, str):
                axis.text(0.5, 0.5, cell if part == "whole" else "", ha="center", va="center", fontsize=9)
            elif part == "whole":
                axis.imshow(cell, **options)
                axis.add_patch(_frame(left, top, side, "black" if options is SIGNED else "white"))
            else:
                axis.imshow(cell[top : top + side, left : left + side], interpolation="nearest", **options)
        titled.add(id(cells))
    figure.suptitle(f"{title}   detail {side}x{side} at row {top}, column {left}", fontsize=10)
    with atomic(path) as beside:
        figure.savefig(beside)


def _prepared(image: Tensor) -> Tensor:
    return image.detach().float().clamp(0, 1).cpu()


def _shown(image: Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).numpy()


def _map_cells(maps: Mapping[str, Tensor]) -> _Cells:
    values = {name: one[0].detach().float().cpu().numpy() for name, one in maps.items()}
    if not values:
        return {}
    lowest, highest = colour_range(list(values.values())[-1])
    shown = {"cmap": map_colours(lowest, highest), "vmin": lowest, "vmax": highest}
    return {f"{name}\n{lowest:.3g} to {highest:.3g}": (one, shown) for name, one in values.items()}


def _error(image: Tensor, target: Tensor) -> Tensor:
    return (image - target).abs().mean(0)


def _score(image: Tensor, target: Tensor) -> str:
    return f"\n{float(psnr(image[None], target[None])[0]):.2f} dB"


def _detail(improvement: Tensor) -> tuple[int, int, int]:
    """Find the square with the largest mean improvement."""
    side = min(DETAIL, max(1, min(improvement.shape) // 2))
    means = torch.nn.functional.avg_pool2d(improvement[None, None], side, stride=max(1, side // 8))[0, 0]
    row, column = divmod(int(means.argmax()), means.shape[1])
    return row * max(1, side // 8), column * max(1, side // 8), side


def _frame(left: int, top: int, side: int, colour: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((left, top), side, side, fill=False, edgecolor=colour, linewidth=1)
