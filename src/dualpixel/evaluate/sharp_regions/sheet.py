"""Pictures of what a network does to what is in focus: one sheet an image, and the curves of several networks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dualpixel.files import atomic

COLUMNS = 3
CELL, GAP, BAR, BAR_LABELS, TITLE, HEADING = 3.4, 0.12, 0.1, 0.52, 0.25, 0.33
"""Inches: width of a picture, between two of them, of a colour bar and its numbers, of a title, on top."""

LARGEST_ERROR = 0.05
"""Error at the end of its colour bar, in units of full scale: the same for all pictures, so that networks can be compared."""

DIMMED = 0.3
"""Brightness of what is out of focus where the regions are shown."""

OUTLIERS = 1.0
"""Percent of a similarity map that may lie beyond either end of its colour bar."""

COLOURS = ("tab:red", "tab:blue", "tab:green", "tab:orange", "tab:purple", "tab:brown", "tab:pink", "tab:cyan")
STYLES = ("-", "--", "-.", ":")
"""Every curve has a style of its own, so that they are told apart in print."""


def draw_sharp_region_sheet(
    path: Path,
    title: str,
    images: Mapping[str, np.ndarray],
    in_focus: np.ndarray,
    errors: np.ndarray,
    similarities: Mapping[str, np.ndarray],
) -> None:
    """Draw one image: input, region in focus and output; target, error of the output there and everywhere; similarities.

    Source: after figures 4 and 8 of Yang et al., "K3DN: Disparity-aware Kernel Estimation for Dual-Pixel Defocus Deblurring".

    Args:
        path: the PNG to be written.
        title: name of the image.
        images: "input", "output" and "target", (H, W, 3) in [0, 1].
        in_focus: (H, W) of bool.
        errors: (H, W), how far the output is from the input; brighter is more.
        similarities: name of the block -> (H, W); brighter is more similar. May be empty.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = 2 + -(-len(similarities) // COLUMNS)
    height = CELL * in_focus.shape[0] / in_focus.shape[1]
    width = GAP + COLUMNS * (CELL + BAR + BAR_LABELS)
    total = HEADING + rows * (TITLE + height + GAP)
    figure = Figure(figsize=(width, total), dpi=150)
    FigureCanvasAgg(figure)
    figure.text(GAP / width, 1 - 0.1 / total, title, fontsize=11, va="top", weight="bold")

    def place(position: int, x: float = 0.0, wide: float = CELL) -> Any:
        """Make axes in a cell; inches."""
        row, column = divmod(position, COLUMNS)
        left = GAP + column * (CELL + BAR + BAR_LABELS) + x
        top = HEADING + row * (TITLE + height + GAP) + TITLE
        return figure.add_axes((left / width, 1 - (top + height) / total, wide / width, height / total))

    def show(position: int, name: str, picture: np.ndarray, **options: Any) -> Any:
        axis = place(position)
        axis.set_title(name, fontsize=8.5, pad=4)
        axis.set_xticks([]), axis.set_yticks([])
        return axis.imshow(picture, **options)

    def bar(position: int, drawn: Any, **options: Any) -> None:
        bar = figure.colorbar(drawn, cax=place(position, CELL + 0.04, BAR), **options)
        bar.ax.locator_params(nbins=6)
        bar.ax.tick_params(labelsize=7, pad=1, length=2)

    show(0, "input", images["input"])
    dimmed = np.where(in_focus[..., None], images["input"], DIMMED * images["input"])
    region = show(1, f"in focus: {100 * in_focus.mean():.1f} % of the pixels", dimmed)
    if in_focus.any() and not in_focus.all():
        region.axes.contour(in_focus, levels=[0.5], colors="yellow", linewidths=0.6)
    show(2, "output", images["output"])

    show(3, "target", images["target"])
    scale = {"cmap": "inferno", "vmin": 0, "vmax": LARGEST_ERROR}
    said = f"mean {errors[in_focus].mean():.4f}" if in_focus.any() else "nothing is"
    drawn = show(4, f"|output - input| in focus, {said}", np.ma.masked_array(errors, ~in_focus), **scale)
    drawn.axes.set_facecolor("0.35")  # neither end of the scale
    bar(4, drawn, extend="max")
    bar(5, show(5, f"|output - input|, mean {errors.mean():.4f}", errors, **scale), extend="max")
    for position, (name, one) in enumerate(similarities.items(), start=2 * COLUMNS):
        means = [f"{one[places].mean():.2g}" if places.any() else "-" for places in (in_focus, ~in_focus)]
        lowest, highest = np.percentile(one, (OUTLIERS, 100 - OUTLIERS))
        named = f"similarity, {name}: {means[0]} in focus, {means[1]} elsewhere"
        drawn = show(position, named, one, cmap="viridis", vmin=lowest, vmax=highest)
        bar(position, drawn, extend="both", format="%.2g")
    with atomic(path) as beside:
        figure.savefig(beside)


def draw_curves(path: Path, title: str, thresholds: Sequence[float], curves: Mapping[str, Sequence[float]]) -> None:
    """Draw how many of the pixels in focus have at most a given error; the higher a curve, the better.

    Source: after figure 8 of Yang et al., "K3DN".

    Args:
        path: the PNG to be written.
        title: what is compared.
        thresholds: errors, in units of full scale.
        curves: name of the network -> percentage at each threshold.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for number, (name, percentage) in enumerate(curves.items()):
        colour, style = COLOURS[number % len(COLOURS)], STYLES[number % len(STYLES)]
        axis.plot(thresholds, percentage, style, color=colour, linewidth=1.6, label=name)
    axis.set_xlim(thresholds[0], thresholds[-1])
    axis.set_ylim(0, 101)
    axis.set_xlabel("threshold of the error |output - input| (RMS over RGB, full scale = 1)", fontsize=9)
    axis.set_ylabel("pixels in focus with at most this error, %", fontsize=9)
    axis.tick_params(labelsize=8)
    axis.grid(color="0.88", linewidth=0.6)
    figure.legend(fontsize=8, loc="outside lower center", ncols=2, frameon=False)
    axis.set_title(title, fontsize=8, loc="left")
    with atomic(path) as beside:
        figure.savefig(beside)
