"""Draw the points of the models at their radii fitted to measured kernels, and how well they fit; no measured pixels.

From the folder `tests`: ``python -m benchmarks.draw_kernel_fits SHARED OUT.png``, SHARED being the folder of real data.
"""

import sys
from pathlib import Path

import matplotlib
import numpy as np
from benchmarks.pixel_kernels import fit_kernels, read_kernels
from benchmarks.real_pairs import MODELS
from matplotlib import pyplot

HALF = 26


def main(shared: str, out: str) -> None:
    """Fit all models and write the figure."""
    matplotlib.use("Agg")
    measured = read_kernels(Path(shared) / "data" / "pixel4_dp")
    fits = [fit_kernels(model, *measured) for model in MODELS]
    figure = pyplot.figure(figsize=(14, 6.5), layout="constrained")
    grid = figure.add_gridspec(2, len(MODELS), height_ratios=(1, 1.3))
    for number, (model, fit) in enumerate(zip(MODELS, fits, strict=True)):
        axes = figure.add_subplot(grid[0, number])
        radius = float(np.median(fit.radius))
        shown = np.zeros((2 * HALF + 1,) * 2)
        point = model.points(radius)[0].numpy()
        reach = len(point) // 2
        cut = max(reach - HALF, 0)
        point = point[cut : len(point) - cut, cut : len(point) - cut]
        start = HALF - len(point) // 2
        shown[start : start + len(point), start : start + len(point)] = point
        axes.imshow(shown, cmap="magma", extent=(-HALF - 0.5, HALF + 0.5, HALF + 0.5, -HALF - 0.5))
        axes.set_title(f"{model.name.replace(' (', chr(10) + '(')}\nr = {radius:.1f}", fontsize=7)
        axes.tick_params(labelsize=7)
    names = [model.name.replace(" (", "\n(") for model in MODELS]
    for columns, field, label in (
        (slice(0, 4), "correlation", "correlation with the measured pair"),
        (slice(4, None), "error", "relative error"),
    ):
        axes = figure.add_subplot(grid[1, columns])
        axes.boxplot([getattr(fit, field) for fit in fits], whis=(0, 100), orientation="horizontal")
        axes.set_yticks(range(1, len(MODELS) + 1), names if columns.start == 0 else [""] * len(MODELS), fontsize=8)
        axes.invert_yaxis()
        axes.set_xlabel(f"{label}, 48 tiles (box: quartiles, whiskers: all)", fontsize=9)
        axes.grid(axis="x", alpha=0.4)
    figure.savefig(out, dpi=80)


if __name__ == "__main__":
    main(*sys.argv[1:])
