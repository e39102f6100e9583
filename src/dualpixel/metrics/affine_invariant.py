"""Errors of an inverse depth or disparity map up to scale and offset: AI(1), AI(2), 1 - |rho_s|, and their geometric mean.

Source: the evaluation of Punnappurath, Abuolaim, Afifi and Brown, "Modeling Defocus-Disparity in Dual-Pixel Sensors", ICCP 2020
(https://github.com/abhijithpunnappurath/dual-pixel-defocus-disparity), which DDDNet (Pan et al., CVPR 2021) takes over; the errors
are those of Garg et al., "Learning Single Camera Depth Estimation using Dual-Pixels", ICCV 2019, without weights.

Every function takes an estimate e and a truth g of (B, 1, H, W), both scaled to [0, 1] by the largest integer of their files (8 bits:
divided by 255), and works in float64. Where the truth is NaN it is unknown, and the pixel is left out; an image without a known pixel
scores NaN, and so does an estimate of NaN at a known pixel. All scores are 0 at best and blind to the sign of the estimate.
"""

import torch
from torch import Tensor

from dualpixel.metrics.depth import MapScores, score_each

REWEIGHTINGS = 5
SMALLEST_RESIDUAL = 0.001
NAMES = ("ai1", "ai2", "one_minus_abs_rho", "one_minus_abs_rho_average_ranks", "geometric_mean")


def fit_l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Fit g = a e + b in the mean absolute error, nearly.

    Least squares first, then exactly five rounds of weighted least squares with the weights 1 / max(|a e + b - g|, 0.001).

    Args:
        prediction: (B, 1, H, W) in [0, 1]. Of a constant map, a = 0.
        target: the same shape and range; NaN where unknown.

    Returns:
        (B, 2) float64, a and b of each image.

    Raises:
        ValueError: the shapes differ or are not (B, 1, H, W), or a tensor holds no floating-point numbers.
    """
    return score_each(_fit_l1, prediction, target)


def fit_l2(prediction: Tensor, target: Tensor) -> Tensor:
    """Fit g = a e + b by least squares; see `fit_l1` for arguments, result and errors."""
    return score_each(_fit, prediction, target)


def ai1(prediction: Tensor, target: Tensor) -> Tensor:
    """AI(1): mean of |a e + b - g| after `fit_l1`; (B,) float64, arguments and errors as there."""
    return score_each(lambda e, g: _residual(_fit_l1(e, g), e, g).abs().mean(), prediction, target)


def ai2(prediction: Tensor, target: Tensor) -> Tensor:
    """AI(2): root of the mean of (a e + b - g)^2 after `fit_l2`; (B,) float64, arguments and errors as of `fit_l1`."""
    return score_each(lambda e, g: _residual(_fit(e, g), e, g).square().mean().sqrt(), prediction, target)


def one_minus_abs_rho(prediction: Tensor, target: Tensor, average_ranks: bool = False) -> Tensor:
    """1 - |rho_s|, rho_s the correlation of the ranks of both maps.

    The published evaluation takes dense ranks: equal values share a rank, and the next larger value has the next whole number. It
    is the default here. Spearman's coefficient gives equal values the average of the ranks that they cover. The two are not
    comparable, 0.060 and 0.292 for the authors' example: dense ranks depend on how finely the maps are quantised, and of a
    floating-point map without equal values they are the usual ranks.

    Args:
        prediction: (B, 1, H, W).
        target: the same shape; NaN where unknown.
        average_ranks: take Spearman's coefficient.

    Returns:
        (B,) float64 in [0, 1]; NaN where one of the maps is constant.

    Raises:
        ValueError: as `fit_l1`.
    """
    return score_each(_rank_errors, prediction, target)[:, int(average_ranks)]


def affine_invariant_scores(prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Return all scores of this file.

    Args:
        prediction: (B, 1, H, W) in [0, 1].
        target: the same shape and range; NaN where unknown.

    Returns:
        ai1, ai2, one_minus_abs_rho (dense ranks), one_minus_abs_rho_average_ranks, and geometric_mean, the cube root of the product
        of the first three; (B,) float64 each.

    Raises:
        ValueError: as `fit_l1`.
    """
    dense, average = score_each(_rank_errors, prediction, target).unbind(1)
    first, second = ai1(prediction, target), ai2(prediction, target)
    return dict(zip(NAMES, (first, second, dense, average, (first * second * dense).pow(1 / 3)), strict=True))


class AffineInvariantScores(MapScores):
    """The table of `affine_invariant_scores`: both maps in [0, 1]."""

    columns = NAMES
    score = staticmethod(affine_invariant_scores)


def _fit(estimate: Tensor, truth: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return a and b of the (weighted) least-squares line, (2,)."""
    weights = torch.ones_like(truth) if weights is None else weights
    # From its first pixel a constant estimate is exactly zero, whatever the rounding of means.
    first, total = estimate[0], weights.sum()
    estimate = estimate - first
    mean, truth_mean = weights @ estimate / total, weights @ truth / total
    weighted = weights * (estimate - mean)
    variance = weighted @ (estimate - mean)
    scale = torch.where(variance == 0, 0.0, weighted @ (truth - truth_mean) / variance)
    return torch.stack((scale, truth_mean - scale * (mean + first)))


def _fit_l1(estimate: Tensor, truth: Tensor) -> Tensor:
    line = _fit(estimate, truth)
    for _ in range(REWEIGHTINGS):
        line = _fit(estimate, truth, 1 / _residual(line, estimate, truth).abs().clamp(min=SMALLEST_RESIDUAL))
    return line


def _residual(line: Tensor, estimate: Tensor, truth: Tensor) -> Tensor:
    return line[0] * estimate + line[1] - truth


def _rank_errors(estimate: Tensor, truth: Tensor) -> Tensor:
    """Return 1 - |rho_s| of dense and of average ranks, (2,)."""
    if estimate.isnan().any() or truth.isnan().any():
        return estimate.new_full((2,), torch.nan)  # NaN has no rank
    pairs = zip(_ranks(estimate), _ranks(truth), strict=True)
    return torch.stack([1 - _correlation(first, second).abs() for first, second in pairs])


def _ranks(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return dense ranks and average ranks, float64, beginning with 1."""
    _, place, counts = values.unique(return_inverse=True, return_counts=True)
    average = counts.cumsum(0) - (counts - 1) / 2.0
    return (place + 1).double(), average.double()[place]


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    first, second = first - first.mean(), second - second.mean()
    return (first @ second / (first.norm() * second.norm())).clamp(-1, 1)
