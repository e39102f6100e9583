"""How sure a mean over images is: bootstrap intervals, and the comparison of two results on the same images.

What varies here are the images alone. How much a network's scores change when it is trained again is another question.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dualpixel.errors import DualPixelError

RESAMPLES = 10_000
CONFIDENCE = 0.95
SEED = 0
EXACT_UP_TO = 12
"""Images up to which all signs are tried: 2^12 = 4096 are fewer than `RESAMPLES`."""
VALUES_AT_ONCE = 1 << 22
"""The most numbers of an array that is made on the way, 32 MiB of float64."""
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """One result against another on the same images.

    Args:
        difference: mean over images of its scores minus the other's.
        low, high: bootstrap interval of that mean.
        p_value: two-sided, of the sign-flip permutation test.
    """

    difference: float
    low: float
    high: float
    p_value: float


def mean_interval(
    scores: Scores, resamples: int = RESAMPLES, confidence: float = CONFIDENCE, seed: int = SEED
) -> Scores:
    """Return the percentile bootstrap interval of the mean over images (Efron and Tibshirani, An Introduction to the Bootstrap, 13.3).

    All rows are resampled by the same draws of images, so that their intervals vary alike. For few images it is too narrow: by the
    factor sqrt((n - 1) / n) of the standard error at least.

    Args:
        scores: (images,) or (rows, images).
        resamples: how often as many images are drawn with replacement.
        confidence: share of the resampled means within the interval.
        seed: of the draws.

    Returns:
        (2,) or (rows, 2): low, high.

    Raises:
        DualPixelError: no image, or a score that is not a number.
    """
    table = _table(scores)
    bounds = np.empty((len(table), 2))
    shares = [(1 - confidence) / 2, (1 + confidence) / 2]
    rows_at_once = max(1, VALUES_AT_ONCE // resamples)
    for start in range(0, len(table), rows_at_once):
        rows = table[start : start + rows_at_once]
        means = np.concatenate([draws @ rows.T for draws in _draws(table.shape[1], resamples, seed)])
        bounds[start : start + rows_at_once] = np.quantile(means, shares, axis=0, overwrite_input=True).T
    return bounds.reshape(*np.shape(scores)[:-1], 2)


def sign_flip_p_value(differences: Scores, resamples: int = RESAMPLES, seed: int = SEED) -> Scores:
    """Return the two-sided p-value of the paired permutation test (Fisher, The Design of Experiments, section 21).

    If two results were alike, each image's difference could as well have the other sign: how often is the mean then at least as far
    from 0 as it is? All signs are tried for up to `EXACT_UP_TO` images. For more they are drawn, and the observed ones count as one
    draw, so that no p-value is 0 (Phipson and Smyth, 2010).

    Args:
        differences: (images,) or (rows, images).
        resamples: how many signs are drawn, where not all are tried.
        seed: of the draws.

    Returns:
        () or (rows,), in (0, 1].

    Raises:
        DualPixelError: no image, or a difference that is not a number.
    """
    table = _table(differences)
    images = table.shape[1]
    exact = images <= EXACT_UP_TO
    # sums of the same numbers in another order differ in their last digits
    observed = np.abs(table.sum(1)) - 1e-12 * np.abs(table).sum(1)
    as_far = np.zeros(len(table))
    rows_at_once = max(1, VALUES_AT_ONCE // resamples)
    for start in range(0, len(table), rows_at_once):
        rows = slice(start, start + rows_at_once)
        for signs in [_all_signs(images)] if exact else _drawn_signs(images, resamples, seed):
            as_far[rows] += (np.abs(signs @ table[rows].T) >= observed[rows]).sum(0)
    p_values = as_far / 2**images if exact else (as_far + 1) / (resamples + 1)
    return p_values.reshape(np.shape(differences)[:-1])


def compare(scores: Scores, other: Scores, resamples: int = RESAMPLES, seed: int = SEED) -> list[Comparison]:
    """Compare results with another one on the same images.

    Args:
        scores: (rows, images).
        other: (images,), in the same order.
        resamples: of the interval, and of the test.
        seed: of both.

    Raises:
        DualPixelError: other numbers of images, none, or a score that is not a number.
    """
    if scores.ndim != 2 or other.shape != scores.shape[1:]:
        raise DualPixelError(f"scores of shape {scores.shape} cannot be paired with scores of shape {other.shape}")
    differences = scores - other
    bounds = mean_interval(differences, resamples, seed=seed)
    p_values = sign_flip_p_value(differences, resamples, seed)
    return [
        Comparison(float(mean), float(low), float(high), float(p_value))
        for mean, (low, high), p_value in zip(differences.mean(1), bounds, p_values, strict=True)
    ]


def _table(scores: Scores) -> Scores:
    table = np.atleast_2d(np.asarray(scores, np.float64))
    if table.ndim != 2 or not table.shape[1] or not np.isfinite(table).all():
        raise DualPixelError(
            f"statistics need (rows, images) finite scores of at least one image, found {np.shape(scores)}"
        )
    return table


def _draws(images: int, resamples: int, seed: int) -> Iterator[Scores]:
    """Yield (some, images) weights, `resamples` rows in all: how often each image was drawn, divided by their number."""
    random = np.random.default_rng(seed)
    for count in _portions(images, resamples):
        drawn = random.integers(0, images, (count, images)) + images * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * images).reshape(count, images) / images


def _drawn_signs(images: int, resamples: int, seed: int) -> Iterator[Scores]:
    random = np.random.default_rng(seed)
    for count in _portions(images, resamples):
        yield random.integers(0, 2, (count, images)) * 2.0 - 1.0


def _all_signs(images: int) -> Scores:
    return (np.arange(2**images)[:, None] >> np.arange(images) & 1) * 2.0 - 1.0


def _portions(images: int, resamples: int) -> Iterator[int]:
    at_once = max(1, VALUES_AT_ONCE // images)
    for start in range(0, resamples, at_once):
        yield min(at_once, resamples - start)
