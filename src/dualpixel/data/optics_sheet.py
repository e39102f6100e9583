"""A sheet that shows what our optics do: point spread functions, a detail swept through focus, and a rendered scene."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dualpixel.data.preview import DIFFERENCE_GAIN
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.simulated import SimulatedViews, camera_of, ends
from dualpixel.data.stream import EvaluationSamples, collate, to_floats
from dualpixel.files import atomic
from dualpixel.optics import MODES, Camera, point_spread_functions, render

RADII = (-8.0, -4.0, -2.0, 2.0, 4.0, 8.0)
DEPTHS = 7
DETAIL = 96
LEFT_COLOUR, RIGHT_COLOUR = (1.0, 0.45, 0.1), (0.1, 0.55, 1.0)


def draw_optics_sheet(split: PreparedSplit, path: Path, views: SimulatedViews | None = None, position: int = 0) -> None:
    """Draw how a scene with depth is rendered.

    From above: the point spread functions of all modes at several blur radii, that of the left view in orange and that
    of the right view in blue; the signed blur radius over depth, and a detail of the scene at depths from before to
    behind the focus plane; the whole scene. The camera is the one of the ranges that blurs most, focused in the midst.

    Args:
        split: prepared, with sharp images and depth.
        path: the PNG to be written.
        views: ranges of cameras and mode of the renderer; None for the defaults.
        position: which scene.

    Raises:
        DualPixelError: the split has no sharp images or no depth.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    views = views or SimulatedViews()
    views.provided(split.index.fields(), f"{split.index.dataset} {split.index.split}")
    views = blurring_most(views, *split.depth_range(position))
    sample = EvaluationSamples(split, optics=views)[position]
    scene = {name: value[0] for name, value in views(to_floats(collate([sample]))).items() if isinstance(value, Tensor)}
    camera = camera_of(sample["camera"])

    figure = Figure(figsize=(13, 18), layout="constrained", dpi=90)
    FigureCanvasAgg(figure)
    upper, middle, lower = figure.subfigures(3, 1, height_ratios=(8.2, 3.9, 5.9))
    _draw_point_spread_functions(upper)
    _draw_sweep(middle, scene, camera, views)
    _draw_scene(lower, scene, sample["key"])
    with atomic(path) as beside:
        figure.savefig(beside)


def blurring_most(views: SimulatedViews, nearest_m: float, farthest_m: float) -> SimulatedViews:
    """Return the one camera of the ranges that blurs most, focused between the ends of a scene's depth, in metres."""
    fastest = {name: ends(getattr(views, name))[0] for name in ("f_number", "pixel_pitch_m", "depth_scale")}
    # as many pixels of blur before the focus plane as behind it
    focus = 2 / (1 / nearest_m + 1 / farthest_m) / fastest["depth_scale"]
    return replace(views, **fastest, focal_length_m=ends(views.focal_length_m)[1], focus=focus)


def _draw_point_spread_functions(figure: Any) -> None:
    figure.suptitle("point spread functions: left view orange, right view blue (each scaled to its peak)", fontsize=11)
    axes = figure.subplots(len(MODES), len(RADII))
    for row, mode in zip(axes, MODES, strict=True):
        for axis, radius in zip(row, RADII, strict=True):
            left, right = (psf.numpy() / psf.max().item() for psf in point_spread_functions(radius, mode, size=35))
            picture = left[..., None] * LEFT_COLOUR + right[..., None] * RIGHT_COLOUR
            axis.imshow(picture.clip(0, 1), interpolation="nearest")
            axis.set_xticks([]), axis.set_yticks([])
            axis.set_title(
                f"r = {radius:+g} px ({'nearer' if radius > 0 else 'farther'})" if mode == next(iter(MODES)) else "",
                fontsize=9,
            )
        row[0].set_ylabel(mode, fontsize=10)


def _draw_sweep(figure: Any, scene: dict[str, Tensor], camera: Camera, views: SimulatedViews) -> None:
    scale, limit = camera.depth_scale, views.maximum_radius
    nearest, farthest = (float(value) for value in scene["depth"].aminmax())
    depths = 1 / np.linspace(1 / nearest, 1 / farthest, DEPTHS)
    radii = np.clip(camera.blur_radius(depths), -limit, limit)
    detail = scene["sharp"][None, :, slice(*busiest(scene["sharp"], 1)), slice(*busiest(scene["sharp"], 2))].double()
    pictures = [
        render(detail, torch.full_like(detail[:, :1], radius), views.mode, **views.renderer_options) for radius in radii
    ]

    figure.suptitle(
        f"a detail swept through focus by {views.mode}: focal length {camera.focal_length_m * 1000:.0f} mm, "
        f"f/{camera.f_number:.1f}, focused at {camera.focus_distance_m * scale:.2f} m",
        fontsize=11,
    )
    curve, grid = figure.subfigures(1, 2, width_ratios=(1, 2.6))
    axis = curve.subplots()
    line = np.linspace(nearest, farthest, 300)
    axis.plot(line, np.clip(camera.blur_radius(line), -limit, limit), color="black")
    axis.plot(depths, radii, "o", color="black")
    axis.axhline(0, linewidth=0.5, color="grey")
    axis.set_xlabel("depth, m")
    axis.set_ylabel("signed blur radius, px")
    axes = grid.subplots(2, DEPTHS)
    for column, (depth, radius, pair) in enumerate(zip(depths, radii, pictures, strict=True)):
        for axis, view in zip(axes[:, column], pair, strict=True):
            axis.imshow(_shown(view[0]))
            axis.set_xticks([]), axis.set_yticks([])
        axes[0, column].set_title(f"{depth:.2f} m\nr = {radius:+.1f} px", fontsize=9)
    axes[0, 0].set_ylabel("left")
    axes[1, 0].set_ylabel("right")


def _draw_scene(figure: Any, scene: dict[str, Tensor], key: str) -> None:
    difference = (scene["left"] - scene["right"]) * DIFFERENCE_GAIN / 2 + 0.5
    cells = {name: _shown(scene[name]) for name in ("sharp", "left", "right")}
    cells[f"(left - right) x{DIFFERENCE_GAIN}"] = _shown(difference)
    limit = float(scene["blur"].abs().max()) or 1.0
    maps = {"depth, m": {"cmap": "viridis"}, "blur radius, px": {"cmap": "coolwarm", "vmin": -limit, "vmax": limit}}
    figure.suptitle(f"the scene {key}", fontsize=11)
    axes = figure.subplots(2, 3).flat
    for axis, (name, options) in zip(axes, maps.items(), strict=False):
        figure.colorbar(axis.imshow(scene[name.split()[0].strip(",")][0], **options), ax=axis, fraction=0.04)
        axis.set_title(name, fontsize=9)
    for axis, (name, cell) in zip(axes[2:], cells.items(), strict=True):
        axis.imshow(cell)
        axis.set_title(name, fontsize=9)
    for axis in axes:
        axis.set_axis_off()


def busiest(image: Tensor, dimension: int) -> tuple[int, int]:
    """Return start and stop of the stretch along one dimension in which the image changes most."""
    change = image.diff(dim=dimension).abs().sum([other for other in range(3) if other != dimension])
    length = min(DETAIL, image.shape[dimension])
    sums = torch.nn.functional.pad(change, (1, 1)).unfold(0, length, 1).sum(1)
    start = int(sums.argmax())
    start = min(start, image.shape[dimension] - length)
    return start, start + length


def _shown(image: Tensor) -> np.ndarray:
    return image.float().clamp(0, 1).permute(1, 2, 0).numpy()
