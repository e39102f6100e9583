"""The usual errors of an inverse depth map, per image, as the tables of DDDNet report them.

Source: Pan et al., "Dual Pixel Exploration" (DDDNet), CVPR 2021, tables of depth; the numbers are those of Eigen et al., NIPS
2014, taken of inverse depth in pixels of blur size instead of depth in metres. All pixels count, without scaling.

Every function takes a prediction and a truth of (B, 1, H, W) and gives (B,) float64. Where the truth is NaN it is unknown, and
the pixel is left out; an image without a known pixel scores NaN, and so does a prediction of NaN at a known pixel.

Differences: the authors' program averages over the pixels of a batch; here each image has its own score. Predictions below 1e-3
count as 1e-3 in all of the scores; the authors leave them, which makes the logarithm NaN and counts two values of opposite sign
as equal in delta.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from dualpixel.metrics.functional import comparable
from dualpixel.metrics.per_image import PerImageScores

SMALLEST = 1e-3
RATIO = 1.25


def abs_rel(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean of |g - p| / g.

    Args:
        prediction: (B, 1, H, W) inverse depth in pixels.
        target: the same shape and unit, positive; NaN where unknown.

    Returns:
        (B,) float64.

    Raises:
        ValueError: the shapes differ or are not (B, 1, H, W), a tensor holds no floating-point numbers, or a known truth is not
            positive.
    """
    return _score_positive(lambda p, g: ((g - p).abs() / g).mean(), prediction, target)


def sq_rel(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean of (g - p)^2 / g, in pixels; see `abs_rel` for arguments and errors."""
    return _score_positive(lambda p, g: ((g - p).square() / g).mean(), prediction, target)


def rmse(prediction: Tensor, target: Tensor) -> Tensor:
    """Root of the mean of (g - p)^2, in pixels; see `abs_rel` for arguments and errors."""
    return _score_positive(lambda p, g: (g - p).square().mean().sqrt(), prediction, target)


def rmse_log(prediction: Tensor, target: Tensor) -> Tensor:
    """Root of the mean of (ln g - ln p)^2; see `abs_rel` for arguments and errors."""
    return _score_positive(lambda p, g: (g.log() - p.log()).square().mean().sqrt(), prediction, target)


def delta(prediction: Tensor, target: Tensor, power: int = 1) -> Tensor:
    """Share of the pixels with max(g / p, p / g) < 1.25^power.

    Args:
        prediction: as of `abs_rel`.
        target: the same.
        power: 1, 2 or 3 in the tables.

    Returns:
        (B,) float64 in [0, 1], 1 is best.

    Raises:
        ValueError: as `abs_rel`.
    """

    def share(p: Tensor, g: Tensor) -> Tensor:
        ratio = torch.maximum(g / p, p / g)
        return torch.where(ratio.isnan(), ratio, (ratio < RATIO**power).double()).mean()

    return _score_positive(share, prediction, target)


STANDARD: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "abs_rel": abs_rel,
    "sq_rel": sq_rel,
    "rmse": rmse,
    "rmse_log": rmse_log,
    "delta1": delta,
    "delta2": partial(delta, power=2),
    "delta3": partial(delta, power=3),
}


def depth_scores(prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Return abs_rel, sq_rel, rmse, rmse_log, delta1, delta2 and delta3, (B,) float64 each; see `abs_rel` for the rest."""
    return {name: score(prediction, target) for name, score in STANDARD.items()}


class MapScores(PerImageScores):
    """A table of scores of maps, of `count` images, gathered exactly over processes; a subclass says which scores.

    Args:
        count: number of images in the whole data set, over all processes.
        partial: accept that some images are never scored.
        **kwargs: passed to `torchmetrics.Metric`.

    Attributes:
        columns: the names of the scores.
        score: the function that gives them for a batch.

    Raises:
        DualPixelError: a count below 1.
    """

    columns: ClassVar[tuple[str, ...]]
    score: ClassVar[Callable[[Tensor, Tensor], dict[str, Tensor]]]

    def __init__(self, count: int, partial: bool = False, **kwargs: Any) -> None:
        super().__init__(self.columns, count, partial, **kwargs)

    def update(self, index: Tensor, prediction: Tensor, target: Tensor) -> None:
        """Score one batch.

        Args:
            index: (B,) integers, position of each image in the data set.
            prediction: (B, 1, H, W), as the function takes it.
            target: the same; NaN where unknown.

        Raises:
            ValueError: as the function, or as `PerImageScores.update`.
        """
        super().update(index, type(self).score(prediction, target))


class DepthScores(MapScores):
    """The table of `depth_scores`: inverse depth in pixels, a positive truth."""

    columns = tuple(STANDARD)
    score = staticmethod(depth_scores)


def score_each(score: Callable[[Tensor, Tensor], Tensor], prediction: Tensor, target: Tensor) -> Tensor:
    """Apply a score to the known pixels of each image of a batch.

    Args:
        score: takes prediction and truth as (N,) float64, N at least 1, and gives a tensor of the same shape for each image.
        prediction: (B, 1, H, W).
        target: the same shape; NaN where unknown.

    Returns:
        (B, ...) float64; NaN for an image without a known pixel.

    Raises:
        ValueError: the shapes differ or are not (B, 1, H, W), or a tensor holds no floating-point numbers.
    """
    prediction, target = comparable(prediction, target)
    if prediction.shape[1] != 1:
        raise ValueError(f"maps must have the shape (B, 1, H, W), not {tuple(prediction.shape)}")
    scores = []
    for estimate, truth in zip(prediction.double().flatten(1), target.double().flatten(1), strict=True):
        known = ~truth.isnan()
        if known.all():
            scores.append(score(estimate, truth))
        elif known.any():
            scores.append(score(estimate[known], truth[known]))
        else:
            scores.append(score(truth[:1], truth[:1]))  # of NaN, NaN
    return torch.stack(scores)


def _score_positive(score: Callable[[Tensor, Tensor], Tensor], prediction: Tensor, target: Tensor) -> Tensor:
    if (target <= 0).any():
        raise ValueError(
            f"the smallest truth is {target.nan_to_num(torch.inf).min().item():g}; relative errors need positive inverse depth: "
            "put NaN where it is unknown"
        )
    return score_each(lambda p, g: score(p.clamp(min=SMALLEST), g), prediction, target)
