"""A map of one number a pixel as a picture in colours, with a scale bar."""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from dualpixel.data.images import write_png

DIVERGING, SEQUENTIAL, UNKNOWN = "coolwarm", "viridis", "0.5"
"""Colours of maps with both signs, red above zero; of all others; and of pixels where nothing is known."""

OUTLIERS = 1.0
"""Percent of the pixels that may lie beyond each end of the scale bar, which then ends in a point."""

BAR, LEAST_HEIGHT, DPI = 0.95, 160, 100
"""Width of what is added at the right, inches for a text of normal size; smallest height of a picture, pixels; pixels an inch."""


def write_map_picture(path: Path, values: np.ndarray, label: str) -> None:
    """Write what `draw_map` returns as PNG, atomically."""
    write_png(path, draw_map(values, label))


def draw_map(values: np.ndarray, label: str) -> np.ndarray:
    """Draw a map pixel for pixel, and a scale bar at its right.

    Args:
        values: (H, W) float; NaN where nothing is known, which becomes grey.
        label: what the map shows, with its unit; stands along the bar.

    Returns:
        (H', W', 3) uint8 RGB with H' = max(H, 160). The map fills the rows [0, H) and the columns [0, W), one pixel for one;
        below it and around the bar is white. A map with both signs has diverging colours, with zero in their middle.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    lowest, highest = colour_range(values)
    mapped = ScalarMappable(Normalize(lowest, highest), map_colours(lowest, highest))
    image = mapped.to_rgba(np.ma.masked_invalid(values), bytes=True)[..., :3]
    low, high = bool((values < lowest).any()), bool((values > highest).any())
    extend = "both" if low and high else "min" if low else "max" if high else "neither"
    height = max(len(image), LEAST_HEIGHT)
    picture = np.full((height, image.shape[1], 3), 255, np.uint8)
    picture[: len(image)] = image
    return np.hstack([picture, _bar(mapped, height, label, extend)])


def colour_range(values: np.ndarray) -> tuple[float, float]:
    """Return the ends of the scale: the range of all values but the outliers, made symmetric where it has both signs.

    Args:
        values: any shape; what is not finite is left out.
    """
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0, 1.0
    lowest, highest = (float(one) for one in np.percentile(known, (OUTLIERS, 100 - OUTLIERS)))
    if lowest < 0 < highest:
        highest = max(-lowest, highest)
        return -highest, highest
    return (lowest, highest) if lowest < highest else (lowest - 0.5, highest + 0.5)  # one value only


def map_colours(lowest: float, highest: float) -> Any:
    """Return the matplotlib colours for a scale between these ends."""
    from matplotlib import colormaps

    return colormaps[DIVERGING if lowest < 0 < highest else SEQUENTIAL].with_extremes(bad=UNKNOWN)


def _bar(mapped: object, height: int, label: str, extend: Literal["neither", "min", "max", "both"]) -> np.ndarray:
    """Draw the bar alone: (height, W, 3) uint8, with text that grows with the picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    larger = max(1.0, height / 600)
    figure = Figure(figsize=(round(BAR * DPI * larger) / DPI, height / DPI), dpi=DPI)
    canvas = FigureCanvasAgg(figure)
    bar = figure.colorbar(mapped, cax=figure.add_axes((0.12, 0.06, 0.16, 0.88)), extend=extend, format="%.3g")
    bar.ax.tick_params(labelsize=8 * larger, length=3 * larger)
    bar.set_label(label, fontsize=8 * larger)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
