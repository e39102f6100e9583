"""The 48 measured kernel pairs of a Pixel 4: how near each model's points come, and a renderer made of them."""

from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
import torch
from benchmarks.real_pairs import Model
from torch import Tensor

from dualpixel.optics.layers import composite, quantise

ROWS, COLUMNS, TILE = 6, 8, 168
RADII = np.arange(0.5, 24.25, 0.5)
# Square in which kernels are compared, and how many places between two pixels a shift can have.
SIDE, FINENESS = 64, 2
# Measured kernels are resized in steps of so much disparity, pixels; around a tile there are so many pixels more.
STEP, MARGIN = 0.5, 32


def read_kernels(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the kernels of the tiles, row by row: left and right view's, each (48, 61, 61) with sum one."""
    with np.load(folder / "calibration" / "blur_kernels.npz") as stored:
        left, right = (stored[name].astype(np.float64) for name in ("left", "right"))
    return left, right


def centroids(kernels: np.ndarray) -> np.ndarray:
    """Return column and row of the centroids of kernels (n, s, s) from their middle, (n, 2)."""
    places = np.arange(kernels.shape[-1]) - kernels.shape[-1] // 2
    return np.stack([kernels.sum(1) @ places, kernels.sum(2) @ places], 1) / kernels.sum((1, 2))[:, None]


@dataclass(frozen=True)
class KernelFit:
    """How near a model comes to the measured pairs: for each tile the best radius, and how well it fits."""

    radius: np.ndarray  # signed, pixels
    error: np.ndarray  # |measured - model| / |measured|, both views together
    correlation: np.ndarray  # over the pixels of both views


def fit_kernels(model: Model, left: np.ndarray, right: np.ndarray) -> KernelFit:
    """Fit one signed radius a tile, and one shift of both views, by the least squared difference.

    The shift is a multiple of 1 / `FINENESS` pixels, along both axes; between pixels by Fourier interpolation.
    """
    measured = np.stack([_within(left), _within(right)], 1)
    energy = (measured**2).sum((1, 2, 3))
    spectra = torch.fft.rfft2(torch.from_numpy(measured))
    best = np.full((3, len(left)), -np.inf)  # explained energy, radius, correlation
    for radius in np.concatenate([-RADII[::-1], RADII]):
        points = torch.stack(model.points(radius))
        points = torch.from_numpy(_within(points.numpy()))
        product = (spectra * torch.fft.rfft2(points).conj()).sum(1)
        fine = torch.zeros(len(left), SIDE * FINENESS, SIDE * FINENESS // 2 + 1, dtype=product.dtype)
        half = SIDE // 2
        fine[:, :half, : half + 1], fine[:, -half:, : half + 1] = product[:, :half], product[:, half:]
        alike = torch.fft.irfft2(fine).flatten(1).amax(1).numpy() * FINENESS**2
        own = (points**2).sum().item()
        explained = 2 * alike - own
        count, sums = points.numel(), 2.0  # each of the two kernels has sum one
        covariance = alike - sums**2 / count
        spread = np.sqrt((energy - sums**2 / count) * (own - sums**2 / count))
        better = explained > best[0]
        best[:, better] = np.stack([explained, np.full_like(explained, radius), covariance / spread])[:, better]
    return KernelFit(best[1], np.sqrt((energy - best[0]) / energy), best[2])


def _within(kernels: np.ndarray) -> np.ndarray:
    """Put zeros around kernels, or cut them, so that they are SIDE x SIDE."""
    size = kernels.shape[-1]
    cut = max(size - SIDE + 1, 0) // 2
    kernels = kernels[..., cut : size - cut, cut : size - cut]
    before = SIDE // 2 - kernels.shape[-1] // 2
    after = SIDE - kernels.shape[-1] - before
    return np.pad(kernels, [(0, 0)] * (kernels.ndim - 2) + [(before, after)] * 2)


class MeasuredKernels:
    """A renderer made of the measured kernels, each in its own tile, resized for other depths than theirs.

    What is the radius of other models is the disparity of the resized kernels here. They are those of things behind the
    focus plane; before it the views exchange theirs. They are centred: a pair's mean has its centroid in the middle.
    """

    name = "measured kernels, resized"
    largest = 12.0

    def __init__(self, left: np.ndarray, right: np.ndarray) -> None:
        self.pairs = np.stack([left, right], 1)
        self.disparities = (centroids(left) - centroids(right))[:, 0]
        self.middles = (centroids(left) + centroids(right)) / 2
        self.kernels = cache(self._kernels)

    def render(self, image: Tensor, blur: Tensor) -> tuple[Tensor, Tensor]:
        """Render a whole frame, tile by tile."""
        height, width = image.shape[-2:]
        views = torch.empty(2, *image.shape, dtype=image.dtype)
        for tile in range(ROWS * COLUMNS):
            top, start = tile // COLUMNS * TILE, tile % COLUMNS * TILE
            rows = slice(max(top - MARGIN, 0), min(top + TILE + MARGIN, height))
            columns = slice(max(start - MARGIN, 0), min(start + TILE + MARGIN, width))
            drawn = torch.stack(self.render_tile(tile, image[..., rows, columns], blur[..., rows, columns]))
            inner = drawn[..., top - rows.start :, start - columns.start :][..., :TILE, :TILE]
            views[..., top : top + TILE, start : start + TILE] = inner
        return views[0], views[1]

    def render_tile(self, tile: int, image: Tensor, blur: Tensor) -> tuple[Tensor, Tensor]:
        """Render a part of the frame with the kernels of one tile."""
        layer = quantise(blur, STEP, 16.0)
        left, right = composite(image, blur, layer, partial(self.kernels, tile), "plain")
        return left, right

    def radius(self, disparity: float) -> float:
        """Return the disparity itself."""
        return disparity

    def disparity(self, radius: float) -> float:
        """Return the radius itself."""
        return radius

    def _kernels(self, tile: int, layer: int) -> Tensor:
        """Return the pair of a tile, resized to a disparity of STEP x layer, (2, n, n) with sum one."""
        scale = STEP * abs(layer / self.disparities[tile])
        size = self.pairs.shape[-1]
        fine, middle = 6, size // 2
        if scale < 0.05:
            return torch.ones(2, 1, 1, dtype=torch.float64)
        # a place of the fine grid, in pixels from the middle, divided by the scale, is a place of the measured kernel
        origin = self.middles[tile] + middle + (0.5 / fine - 0.5 - middle) / scale
        lookup = np.array([[1 / (fine * scale), 0, origin[0]], [0, 1 / (fine * scale), origin[1]]])
        resized = [
            cv2.warpAffine(kernel, lookup, (size * fine,) * 2, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
            .reshape(size, fine, size, fine)
            .mean((1, 3))
            for kernel in self.pairs[tile]
        ]
        pair = torch.stack([torch.from_numpy(kernel / kernel.sum()) for kernel in resized])
        return pair if layer < 0 else pair.flip(0)
