"""The sheet of an adaptation: how the error fell, and what the network made of some photographs before and after."""

from pathlib import Path

from dualpixel.files import atomic
from dualpixel.running.adaptation import Adapted
from dualpixel.running.map_picture import colour_range, map_colours

COLUMNS = ("left", "sharp before", "sharp after", "blur before", "blur after")


def draw_adaptation(path: Path, adapted: Adapted) -> None:
    """Draw the curve of the reblur error, and below it a row for each photograph of which there is a prediction.

    All maps of the signed blur radius have one colour bar: red nearer than the focus plane, blue beyond it, white in focus.

    Args:
        path: the PNG to be written.
        adapted: what `dualpixel.running.adaptation.adapt_weights` returned.
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(adapted.after.shown)
    shapes = [adapted.after.shown[name]["radius"].shape for name in names]
    ratios = [0.8, *(height / width for height, width in shapes)]
    figure = Figure(figsize=(2.6 * len(COLUMNS), 2.6 * sum(ratios) + 0.35 * len(ratios)), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(ratios), len(COLUMNS), height_ratios=ratios)

    curve = figure.add_subplot(grid[0, :])
    curve.plot(*zip(*adapted.curve, strict=True), marker="o", markersize=3)
    curve.axvline(adapted.best_step, color="black", linewidth=0.8, linestyle=":")
    curve.set(xlabel="step", ylabel="reblur error")
    curve.set_title(
        f"{adapted.before.error:.4g} before, {adapted.after.error:.4g} after (step {adapted.best_step})", fontsize=10
    )

    stages = {"before": adapted.before.shown, "after": adapted.after.shown}
    radii = [stage[name]["radius"].numpy().ravel() for stage in stages.values() for name in names]
    limit = max(1e-3, *map(abs, colour_range(np.concatenate(radii)))) if radii else 1.0
    maps, drawn = [], None
    for row, name in enumerate(names, start=1):
        for column, title in enumerate(COLUMNS):
            axis = figure.add_subplot(grid[row, column])
            axis.set_axis_off()
            axis.set_title(f"{name}: {title}" if column == 0 else title, fontsize=9)
            what, _, stage = title.partition(" ")
            if what == "blur":
                radius = stages[stage][name]["radius"].numpy()
                drawn = axis.imshow(radius, cmap=map_colours(-limit, limit), vmin=-limit, vmax=limit)
                maps.append(axis)
            else:
                image = stages[stage or "before"][name][what].clamp(0, 1)
                axis.imshow(image.permute(1, 2, 0).numpy())
    if drawn is not None:
        figure.colorbar(drawn, ax=maps, label="signed blur radius, pixels", extend="both")
    with atomic(path) as beside:
        figure.savefig(beside)
