"""Fit a model's blur to the real pairs of a Pixel 4, draw the pairs from their sharp images, and compare."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from benchmarks.pixel_kernels import COLUMNS, TILE, MeasuredKernels
from benchmarks.pixel_scenes import Scene, defocus_ends, measured_disparity, register
from benchmarks.real_pairs import Displacement, Model, NoBlur

# Radii that are tried, from 0 to a model's largest and on both sides of the focus plane.
RADII = 18
# Tiles that the radius is fitted on, and the pixels around one that are drawn with it.
TILES, AROUND = 6, 24
# Sums of squares of a blank tile are taken for this one.
SMALLEST = 1e-30
Drawable = Model | Displacement | NoBlur | MeasuredKernels


@dataclass(frozen=True)
class SceneFit:
    """What was fitted, and the score: r = slope * defocus + offset."""

    slope: float
    offset: float
    radii: tuple[float, float]  # at the 5 % and the 95 % of smallest defocus
    disparities: tuple[float, float]  # of the model at these radii
    psnr: float  # mean of the two views, peak 1 = the sensor's range
    displacement: float  # root mean square of the registration, pixels


def draw(model: Drawable, scene: Scene, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw the pair of a scene with a map of radii."""
    image, blur = (torch.from_numpy(plane)[None, None] for plane in (scene.sharp, radius))
    left, right = (view[0, 0].numpy() for view in model.render(image, blur))
    return left, right


def tiled_error(scene: Scene, drawn: np.ndarray, view: np.ndarray) -> float:
    """Return the mean squared error of a drawn view, with a gain and an offset fitted in each tile of the frame.

    One gain for the frame will not do: in some scenes the light changed between the pair and the sharp image.
    """
    total = 0.0
    for tile in range(scene.sharp.size // TILE**2):
        at = tile_at(tile)
        inside = scene.reliable[at]
        if inside.any():
            x, y = drawn[at][inside], view[at][inside]
            x, y = x - x.mean(), y - y.mean()
            total += (y**2).sum() - (x @ y) ** 2 / max((x**2).sum(), SMALLEST)
    return total / scene.reliable.sum()


def tile_at(tile: int, more: int = 0) -> tuple[slice, slice]:
    """Return the rows and columns of a tile, `more` of both."""
    row, column = tile // COLUMNS * TILE, tile % COLUMNS * TILE
    return slice(row, row + TILE + more), slice(column, column + TILE + more)


def choose_tiles(scene: Scene) -> list[int]:
    """Choose tiles to fit on: of tiles in groups of similar defocus, the one with the most texture of each."""
    candidates = []
    for tile in range(scene.sharp.size // TILE**2):
        at = tile_at(tile)
        if scene.reliable[at].mean() > 0.5:
            texture = np.abs(np.diff(scene.sharp[at])).mean() / scene.sharp[at].mean()
            candidates.append((scene.defocus[at].mean(), texture, tile))
    groups = np.array_split(np.array(sorted(candidates)), TILES)
    return [int(group[group[:, 1].argmax(), 2]) for group in groups if len(group)]


def tile_sums(
    model: Drawable, scene: Scene, tile: int, views: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a tile with each radius, constant over the tile, and sum over the pixels of each value of the defocus.

    Before the focus plane the views behind it exchange, so that only half of the radii are drawn.

    Returns:
        Of drawn x, next radius' drawn z and real y the sums of x, z, xx, xz, zz, xy, zy by view, signed radius and
        defocus (2, 2 RADII + 1, 256, 7); of the real views count, sum and sum of squares (2, 3).
    """
    at, framed = tile_at(tile), tile_at(tile, 2 * AROUND)
    sharp = torch.from_numpy(cv2.copyMakeBorder(scene.sharp, *[AROUND] * 4, cv2.BORDER_REFLECT_101)[framed].copy())
    inside = scene.reliable[at]
    value = np.rint(scene.defocus[at][inside] * 255).astype(int)
    drawn = np.empty((2, 2 * RADII + 1, len(value)))
    for number in range(RADII + 1):
        blur = torch.full_like(sharp, -number * model.largest / RADII)[None, None]
        whole = isinstance(model, MeasuredKernels)
        pair = model.render_tile(tile, sharp[None, None], blur) if whole else model.render(sharp[None, None], blur)
        pair = np.stack([view[0, 0, AROUND:-AROUND, AROUND:-AROUND].numpy()[inside] for view in pair])
        drawn[:, RADII - number], drawn[:, RADII + number] = pair, pair[::-1]
    real = np.stack([view[at][inside] for view in views])
    sums = np.empty((2, 2 * RADII + 1, 256, 7))
    for view, y in enumerate(real):
        for number, x in enumerate(drawn[view]):
            z = drawn[view, min(number + 1, 2 * RADII)]
            terms = (x, z, x * x, x * z, z * z, x * y, z * y)
            sums[view, number] = np.stack([np.bincount(value, term, 256) for term in terms], 1)
    return sums, np.stack([np.full(2, len(value)), real.sum(1), (real**2).sum(1)], 1)


def search(model: Drawable, scene: Scene, views: tuple[np.ndarray, np.ndarray]) -> tuple[float, float]:
    """Find slope and offset of the radius over the defocus: the best of a coarse grid, then of a finer one around it.

    The grid is over the radii at the least and at the greatest defocus (5 % and 95 %), all pairs of them. Every pixel of
    some tiles is mixed from the drawings with the two radii nearest to its own, and each tile has a gain and an offset.
    """
    tiles = choose_tiles(scene)
    drawn, real = zip(*(tile_sums(model, scene, tile, views) for tile in tiles), strict=True)
    ends = defocus_ends(scene)
    place = (np.arange(256) / 255 - ends[0]) / (ends[1] - ends[0])

    def error(near: float, far: float) -> float:
        radius = np.clip(near + (far - near) * place, -RADII, RADII)
        first = np.minimum(np.floor(radius).astype(int), RADII - 1)
        w = radius - first
        v = 1 - w
        total = 0.0
        for sums, (count, y, yy) in zip(np.concatenate(drawn), np.concatenate(real), strict=True):
            x, z, xx, xz, zz, xy, zy = sums[first + RADII, np.arange(256)].T
            mixed, product = v @ x + w @ z, v @ xy + w @ zy
            square = v**2 @ xx + 2 * (v * w) @ xz + w**2 @ zz
            spread, common = square - mixed**2 / count, product - mixed * y / count
            total += yy - y**2 / count - common**2 / max(spread, SMALLEST)
        return total

    best = (0.0, 0.0)
    for step, reach in ((1.0, RADII), (0.25, 3)):
        around = step * np.arange(-reach, reach + 1)
        best = min(
            ((best[0] + near, best[1] + far) for near in around for far in around), key=lambda pair: error(*pair)
        )
    near, far = (model.largest / RADII * radius for radius in best)
    slope = (far - near) / (ends[1] - ends[0])
    return slope, near - slope * ends[0]


def fit_scene(model: Drawable, scene: Scene) -> SceneFit:
    """Fit a model to a scene and score it.

    In this order: the radius that has the measured disparity; with it, the registration; slope and offset of the radius
    on some tiles; with these, the registration again; gains and offsets, over all pixels that are scored.
    """
    offset, slope = measured_disparity(scene)
    span = np.linspace(0, 1, 17)
    guess = np.interp(scene.defocus, span, [model.radius(disparity) for disparity in offset + slope * span])
    left, right, _ = register(scene, draw(model, scene, guess))
    slope, offset = search(model, scene, (left, right)) if model.largest else (0.0, 0.0)
    drawn = draw(model, scene, slope * scene.defocus + offset)
    left, right, moved = register(scene, drawn)
    errors = [tiled_error(scene, *pair) for pair in zip(drawn, (left, right), strict=True)]
    radii = slope * defocus_ends(scene) + offset
    return SceneFit(
        slope=slope,
        offset=offset,
        radii=(radii[0], radii[1]),
        disparities=(model.disparity(radii[0]), model.disparity(radii[1])),
        psnr=float(np.mean([-10 * np.log10(error) for error in errors])),
        displacement=moved,
    )
