"""A sheet that shows what the alignment of two views does: offsets, modulation, and where the views match best."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dualpixel.files import atomic

CELL, GAP, BAR, BAR_LABELS, LABELS, TITLE, HEADING = 1.9, 0.07, 0.09, 0.5, 1.75, 0.2, 0.75
"""Inches: width of a map, between two of them, of a colour bar and its numbers, of a row's name, of a title, on top."""

OUTLIERS = 1.0
"""Percent of the offsets that may be larger than the end of the colour bar."""


@dataclass(frozen=True)
class ViewOffsets:
    """What a modulated deformable convolution does to one view, as means over its taps.

    Attributes:
        dx: (H, W), pixels of this level; positive: what stands here is read from further right.
        dy: (H, W), the same; positive: from further down.
        modulation: (H, W) in [0, 1].
    """

    dx: np.ndarray
    dy: np.ndarray
    modulation: np.ndarray


@dataclass(frozen=True)
class BestMatches:
    """Where a cost volume is largest.

    Attributes:
        dx: (H, W), pixels of this level; positive: the right view's match lies further right than the left view's pixel.
        dy: (H, W), the same; positive: further down.
        correlation: (H, W), the largest value.
        displacement: d, the largest displacement on either axis that is looked at.
    """

    dx: np.ndarray
    dy: np.ndarray
    correlation: np.ndarray
    displacement: int


@dataclass
class AlignmentLevel:
    """One alignment module.

    Attributes:
        name: the module's name in the network.
        views: view -> what is done to it; may be empty.
        matches: of its cost volume, if there is one.
    """

    name: str
    views: dict[str, ViewOffsets] = field(default_factory=dict)
    matches: BestMatches | None = None


@dataclass(frozen=True)
class _Group:
    """Maps side by side that share one colour bar."""

    maps: Mapping[str, np.ndarray]
    colours: str
    lowest: float
    highest: float
    unit: str = ""


def draw_alignment_sheet(
    path: Path, title: str, images: Mapping[str, np.ndarray], levels: Sequence[AlignmentLevel]
) -> None:
    """Draw one image: views and output on top, below them one row for each level.

    Each row has from the left: offsets dx and dy of each view, all on one scale; modulation of each view; displacement
    of the largest correlation, and its value. Above each map stands its mean.

    Source: after Fig. 6 of Li et al., "Learning Dual-Pixel Alignment for Defocus Deblurring" (DPANet).
    Differences: the figure shows features and one offset field; here are numbers of all levels.

    Args:
        path: the PNG to be written.
        title: name of the image.
        images: name -> (H, W, 3) in [0, 1], all of one size.
        levels: in the order of the rows. What they have in common with the images is the field of view, but for rows and
            columns that a network's padding adds at the bottom and the right.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [_groups(level) for level in levels]
    # where a row lacks what others have, its place stays free
    most: dict[str, dict[str, None]] = {}
    for row in rows:
        for kind, group in row.items():
            most.setdefault(kind, {}).update(dict.fromkeys(group.maps))
    kinds = [kind for kind in ("offsets", "modulation", "match", "correlation") if kind in most]

    finest = max(maps.dx.shape[1] for level in levels for maps in _sized(level).values())
    image_height, image_width = next(iter(images.values())).shape[:2]
    height = CELL * image_height / image_width
    cells = sum(len(most[kind]) for kind in kinds)
    width = LABELS + cells * (CELL + GAP) + len(kinds) * (BAR + BAR_LABELS)
    width = max(width, LABELS + len(images) * (2 * CELL + GAP))
    total = HEADING + TITLE + 2 * height + (TITLE + GAP) + len(rows) * (height + TITLE + GAP)
    figure = Figure(figsize=(width, total), dpi=100)
    FigureCanvasAgg(figure)

    def place(x: float, y: float, wide: float, high: float) -> Any:
        """Make axes; inches from the left and from the top."""
        return figure.add_axes((x / width, 1 - (y + high) / total, wide / width, high / total))

    figure.text(0.1 / width, 1 - 0.1 / total, title, fontsize=13, va="top", weight="bold")
    said = (
        "offsets: where each view is read, mean over the taps, in pixels of the level (dx > 0: further right, dy > 0: further "
        "down)     match: where the right view correlates best with the left view's pixel, in pixels of the level"
    )
    figure.text(0.1 / width, 1 - 0.42 / total, said, fontsize=8, va="top")
    for position, (name, image) in enumerate(images.items()):
        axis = place(LABELS + position * (2 * CELL + GAP), HEADING + TITLE, 2 * CELL, 2 * height)
        axis.imshow(image.clip(0, 1))
        axis.set_title(name, fontsize=9, pad=3)
        axis.set_axis_off()

    top = HEADING + TITLE + 2 * height + GAP + 2 * TITLE
    for level, row in zip(levels, rows, strict=True):
        figure.text(0.1 / width, 1 - top / total, "\n".join(_labels(level, finest)), fontsize=8, va="top")
        x = LABELS
        for kind in kinds:
            drawn = None
            for name in most[kind]:
                if kind in row and name in row[kind].maps:
                    drawn = _draw(place(x, top, CELL, height), name, row[kind])
                x += CELL + GAP
            if drawn is not None:
                bar = figure.colorbar(drawn, cax=place(x, top, BAR, height), format="%.3g")
                bar.ax.locator_params(nbins=6)
                bar.ax.tick_params(labelsize=7, pad=1, length=2)
            x += BAR + BAR_LABELS
        top += height + TITLE + GAP
    with atomic(path) as beside:
        figure.savefig(beside)


def _groups(level: AlignmentLevel) -> dict[str, _Group]:
    groups = {}
    if level.views:
        offsets = {f"{view} {name}": one for view, both in level.views.items() for name, one in _axes(both)}
        limit = max(float(np.percentile(np.abs(one), 100 - OUTLIERS)) for one in offsets.values()) or 1.0
        groups["offsets"] = _Group(offsets, "coolwarm", -limit, limit, " px")
        modulation = {f"{view} modulation": both.modulation for view, both in level.views.items()}
        groups["modulation"] = _Group(modulation, "viridis", 0, 1)
    if level.matches is not None:
        limit = level.matches.displacement or 1
        groups["match"] = _Group(
            {f"match {name}": one for name, one in _axes(level.matches)}, "coolwarm", -limit, limit, " px"
        )
        largest = level.matches.correlation
        lowest, highest = np.percentile(largest, (OUTLIERS, 100 - OUTLIERS))
        groups["correlation"] = _Group({"correlation": largest}, "inferno", float(lowest), float(highest))
    return groups


def _axes(both: ViewOffsets | BestMatches) -> Iterator[tuple[str, np.ndarray]]:
    yield "dx", both.dx
    yield "dy", both.dy


def _sized(level: AlignmentLevel) -> dict[str, ViewOffsets | BestMatches]:
    """Return one of the views, which have one size, and the matches, which may have another."""
    found = {"offsets": next(iter(level.views.values()), None), "match": level.matches}
    return {name: maps for name, maps in found.items() if maps is not None}


def _labels(level: AlignmentLevel, finest: int) -> Iterator[str]:
    yield level.name
    for name, maps in _sized(level).items():
        rows, columns = maps.dx.shape
        yield f"{name} {columns} x {rows}"
        yield f"   1 px = {finest / columns:.3g} px of the finest"


def _draw(axis: Any, name: str, group: _Group) -> Any:
    values = group.maps[name]
    sign = "+" if group.lowest < 0 else ""
    axis.set_title(f"{name}, mean {values.mean():{sign}.3g}{group.unit}", fontsize=8, pad=3)
    axis.set_xticks([]), axis.set_yticks([])
    # "auto": a map fills the place of the image, also where padding made it a little larger
    return axis.imshow(
        values, cmap=group.colours, vmin=group.lowest, vmax=group.highest, interpolation="nearest", aspect="auto"
    )
