"""A contact sheet of a prepared split: one row a scene."""

from pathlib import Path

import numpy as np

from dualpixel.data.fields import MAPS
from dualpixel.data.reading import PreparedSplit
from dualpixel.files import atomic

DIFFERENCE_GAIN = 4


def draw_contact_sheet(split: PreparedSplit, path: Path, count: int = 6) -> None:
    """Draw left, right, their difference, sharp, depth, blur and disparity of some scenes: what there is of them.

    Args:
        split: the prepared split.
        path: the PNG to be written.
        count: how many scenes, evenly spread.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    positions = np.unique(np.linspace(0, len(split) - 1, max(1, min(count, len(split)))).round().astype(int))
    rows = [_cells(split, int(position)) for position in positions]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    height, width = split.size(int(positions[0]))
    figure = Figure(figsize=(3 * len(columns), (3 * height / width + 0.35) * len(rows)), layout="constrained", dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for line, (position, row) in enumerate(zip(positions, rows, strict=True)):
        sample = split.index.samples[position]
        for place, name in enumerate(columns):
            axis = axes[line, place]
            axis.set_axis_off()
            if name not in row:
                continue
            image = row[name]
            if image.ndim == 2:
                limit = float(np.abs(image).max()) or 1.0
                options = (
                    {"cmap": "coolwarm", "vmin": -limit, "vmax": limit}
                    if name.startswith("blur")
                    else {"cmap": "viridis"}
                )
                figure.colorbar(axis.imshow(image, **options), ax=axis, fraction=0.04)
            else:
                axis.imshow(image)
            axis.set_title(f"{sample.key} {sample.group}  {name}" if place == 0 else name, fontsize=8)
    with atomic(path) as beside:
        figure.savefig(beside)


def _cells(split: PreparedSplit, position: int) -> dict[str, np.ndarray]:
    members = split.index.samples[position].members
    images = {}
    for name in members:
        array = np.asarray(split.array(position, name))
        images[name] = array.astype(np.float32) / np.iinfo(array.dtype).max if array.dtype.kind == "u" else array
    cells = {name: images[name] for name in ("left", "right") if name in images}
    if len(cells) == 2:
        difference = (images["left"] - images["right"]) * DIFFERENCE_GAIN / 2 + 0.5
        cells[f"(left - right) x{DIFFERENCE_GAIN}"] = difference.clip(0, 1)
    units = {"depth": "depth, m", "blur": "blur radius, px", "disparity": "disparity, factor and offset unknown"}
    cells |= {units.get(name, name): images[name] for name in ("combined", "sharp", *MAPS) if name in images}
    return cells
