"""A real pair of a Canon 5D Mark IV without a sharp image: a model is right where each view, blurred, is the other."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from benchmarks.real_pairs import Displacement, Model
from scipy.stats import spearmanr
from torch import Tensor

SCENE = "005"
# The images are made smaller by this factor first; then patches of so many pixels are taken, so many apart.
SMALLER, PATCH, STRIDE = 2, 111, 74
# Pixels around a patch that its blur reaches; with them, a size whose Fourier transform is fast.
AROUND = 12
DISPARITIES = np.arange(-12, 17) / 4
# A patch lies at about one depth if its disparities, in the units of the map, deviate by no more than this.
DEVIATION = 15


@dataclass(frozen=True)
class Patches:
    """Patches with texture, each at about one depth; n of them."""

    left: Tensor  # (n, s, s), with what lies around
    right: Tensor
    disparity: np.ndarray  # (n,) the ground truth, up to an affine map


@dataclass(frozen=True)
class CanonFit:
    """How well a model explains the patches."""

    gain: float  # dB, by how much the best radii lower the mean residual of the patches as they are
    rank_correlation: float  # of the fitted disparity with the ground truth
    rank_correlation_before: float  # the same, only of patches before the background, where the truth is not constant
    disparity: np.ndarray  # (n,) fitted, pixels


def read_patches(folder: Path) -> Patches:
    """Read the pair, linear in light, and keep the half of the patches that has the most texture."""

    def light(side: str) -> np.ndarray:
        shown = cv2.imread(str(folder / f"{SCENE}_{side}.jpg")).astype(np.float64) / 255
        linear = np.where(shown <= 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4)
        return smaller(linear @ np.array([0.0722, 0.7152, 0.2126]))

    def smaller(plane: np.ndarray) -> np.ndarray:
        return cv2.resize(plane, None, fx=1 / SMALLER, fy=1 / SMALLER, interpolation=cv2.INTER_AREA)

    left, right = light("L"), light("R")
    stored = cv2.imread(str(folder / f"{SCENE}_D.TIF"), cv2.IMREAD_UNCHANGED).astype(np.float64)
    disparity, known = smaller(stored), smaller((stored > 0).astype(np.float64))
    found = []
    for row in range(AROUND, left.shape[0] - PATCH - AROUND, STRIDE):
        for column in range(AROUND, left.shape[1] - PATCH - AROUND, STRIDE):
            at = slice(row, row + PATCH), slice(column, column + PATCH)
            if known[at].min() == 1 and disparity[at].std() < DEVIATION:
                found.append((np.abs(np.diff(left[at])).mean() / left[at].mean(), row, column))
    found = sorted(found, reverse=True)[: len(found) // 2]

    def cut(plane: np.ndarray, around: int) -> np.ndarray:
        return np.stack([plane[y - around : y + PATCH + around, x - around : x + PATCH + around] for _, y, x in found])

    pair = [torch.from_numpy(cut(view, AROUND)) for view in (left, right)]
    return Patches(pair[0], pair[1], cut(disparity, 0).mean((1, 2)))


def residual(left: Tensor, right: Tensor) -> np.ndarray:
    """Return half the mean squared difference of patches (n, s, s), both brought to zero mean and unit variance.

    That is 1 - correlation. Without it blur alone would lower the residual, which has no contrast left to differ in;
    and vignetting, which makes one view darker, would count.
    """
    left, right = (view[:, AROUND:-AROUND, AROUND:-AROUND].flatten(1) for view in (left, right))
    left, right = (view - view.mean(1, keepdim=True) for view in (left, right))
    return (1 - (left * right).sum(1) / (left.norm(dim=1) * right.norm(dim=1))).numpy()


def fit_patches(model: Model | Displacement, patches: Patches) -> CanonFit:
    """Find for each patch the radius s with the least residual of left * K_right(s) and right * K_left(s).

    The radii are those with the disparities `DISPARITIES`. If left = sharp * K_left and right = sharp * K_right, both
    sides are the same, whatever the model and the sharp image.
    """
    size = patches.left.shape[-1]
    spectra = [torch.fft.rfft2(view) for view in (patches.left, patches.right)]
    residuals = []
    for disparity in DISPARITIES:
        points = model.points(model.radius(disparity))
        blurred = [
            torch.fft.irfft2(spectrum * _transform(point, size), s=(size, size))
            for spectrum, point in zip(spectra, points[::-1], strict=True)
        ]
        residuals.append(residual(*blurred))
    best = np.argmin(residuals, axis=0)
    ratio = np.min(residuals, axis=0).mean() / residual(patches.left, patches.right).mean()
    fitted = DISPARITIES[best]
    before = patches.disparity > patches.disparity.min() + 0.5
    correlations = (float(spearmanr(fitted[some], patches.disparity[some])[0]) for some in (slice(None), before))
    return CanonFit(float(-10 * np.log10(ratio)), *correlations, fitted)


def _transform(point: Tensor, size: int) -> Tensor:
    """Return the Fourier transform of a point spread function whose middle lies at the origin."""
    placed = torch.zeros(size, size, dtype=torch.float64)
    placed[: len(point), : len(point)] = point
    return torch.fft.rfft2(placed.roll((-(len(point) // 2),) * 2, (0, 1)))
