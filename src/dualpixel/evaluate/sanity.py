"""Checks of scores against each other: what no test can have measured, whatever the network and the images.

A leaderboard refuses such rows of ours (`check_result`); in published ones they are marked (`dualpixel.evaluate.published`). Scores
are means over images, exact ones of ours, or printed ones, which are known up to rounding only: a check fails where no numbers that
round to the printed digits could pass.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations, pairwise

from dualpixel.errors import DualPixelError
from dualpixel.evaluate.columns import IMAGE_METRICS, MAP_METRICS
from dualpixel.evaluate.result import Result
from dualpixel.metrics.per_image import OVERALL

EXACT = 1e-9
"""How far apart, relatively, two sums of the same double-precision scores may be."""
METRICS = sorted({*IMAGE_METRICS, *(name for names in MAP_METRICS.values() for name in names)}, key=len, reverse=True)
RANGES = {
    "psnr": (0.0, 120.0),
    "ssim": (-1.0, 1.0),
    "mae": (0.0, 1.0),
    "lpips": (0.0, 2.0),
    "rmse_relative": (0.0, 100.0),
    **{f"delta{power}": (0.0, 1.0) for power in (1, 2, 3)},
    **{name: (0.0, 1.0) for name in MAP_METRICS["disparity"]},
}
"""Metric -> its least and largest value; others are errors, from 0 on. 120 dB is a sixteenth of a step of 16 bits: a mean above it is
that of images compared with themselves. LPIPS has no bound in theory."""


@dataclass(frozen=True)
class Printed:
    """A number as it stands in a paper.

    Args:
        text: its digits, such as ``0.090``.
        unit: what it is printed in, as a factor to ours: ``0.1`` for a column "MAE (10^-1)".
    """

    text: str
    unit: str = "1"

    @property
    def value(self) -> float:
        """The number in our unit."""
        return float(Decimal(self.text) * Decimal(self.unit))

    @property
    def rounding(self) -> float:
        """Half a unit of the last digit, in our unit."""
        return float(Decimal(5).scaleb(Decimal(self.text).as_tuple().exponent - 1) * Decimal(self.unit))


Score = float | Printed | None
Scores = Mapping[str, Mapping[str, Score]]
"""Group, or "overall" -> column of `dualpixel.evaluate.columns` -> its mean."""
Interval = tuple[float, float]


def faults(scores: Scores, counts: Mapping[str, int] | None = None) -> list[str]:
    """Return all that is wrong with the scores of one test, in words.

    Args:
        scores: of every group.
        counts: number of images of every group, and of "overall" where some images are in no group; None where unknown.
    """
    found = [*out_of_range(scores), *identical_groups(scores), *overall_apart_from_groups(scores, counts)]
    for where, metrics in _image_sets(scores):
        for check in (
            ssim_equals_lpips,
            rmse_below_psnr,
            mae_above_rmse,
            deltas_out_of_order,
            geometric_mean_too_large,
        ):
            found += [f"{where}: {said}" for said in check(metrics)]
    return found


def check_result(result: Result) -> None:
    """Refuse a result of ours whose means cannot be.

    Raises:
        DualPixelError: they contradict each other; the message says how.
    """
    found = result_faults(result)
    if found:
        raise DualPixelError(
            f"{result.recipe} on {result.dataset} {result.split}, protocol {result.protocol}: no test can have measured "
            f"{'; '.join(found)}; run `test` again"
        )


def result_faults(result: Result) -> list[str]:
    """Return all that is wrong with the means of a result of ours, in words."""
    counts = {**Counter(row["group"] for row in result.rows), OVERALL: len(result.rows)}
    means = {
        group: {name: float(value) if value == "inf" else value for name, value in values.items()}
        for group, values in result.means.items()
    }
    return faults(means, counts)


def out_of_range(scores: Scores) -> Iterator[str]:
    """Yield scores that are no numbers, or outside of `RANGES`."""
    for group, columns in scores.items():
        for column, score in columns.items():
            low, high = RANGES.get(_split(column)[1], (0.0, math.inf))
            if score is not None and not low <= _value(score) <= high:
                yield f"{group} {column} is {_value(score):g}, outside of {low:g} to {high:g}"


def identical_groups(scores: Scores) -> Iterator[str]:
    """Yield pairs of groups that have the same digits in every column."""
    for one, other in combinations([group for group in scores if group != OVERALL], 2):
        pairs = [(scores[one][name], scores[other].get(name)) for name in scores[one]]
        shared = [pair for pair in pairs if None not in pair]
        if shared and all(first == second for first, second in shared):
            yield f"{one} and {other} have identical scores"


def overall_apart_from_groups(scores: Scores, counts: Mapping[str, int] | None = None) -> Iterator[str]:
    """Yield overall scores that are not the mean of the groups, weighted by their numbers of images.

    Without the numbers an overall score must lie between those of the groups. Where images are in no group nothing is known.
    """
    groups = [group for group in scores if group != OVERALL]
    if not groups or OVERALL not in scores:
        return
    if counts is not None:
        numbers = [counts.get(group, 0) for group in groups]
        if not all(numbers) or sum(numbers) != counts.get(OVERALL, sum(numbers)):
            return
    for column, overall in scores[OVERALL].items():
        of_groups = [scores[group].get(column) for group in groups]
        if overall is None or None in of_groups:
            continue
        lows, highs = zip(*map(_interval, of_groups), strict=True)
        if counts is None:
            (least, most), what = (min(lows), max(highs)), "between the groups'"
        else:
            (least, most), what = (_mean(lows, numbers), _mean(highs, numbers)), "the mean of the groups',"
        low, high = _interval(overall)
        if high < least or low > most:
            yield f"overall {column} is {_value(overall):g} and not {what} {least:.4f} to {most:.4f}"


def ssim_equals_lpips(metrics: Mapping[str, Score]) -> Iterator[str]:
    """Yield an SSIM that is LPIPS to the digit: one column was copied into the other."""
    if metrics.get("ssim") is not None and metrics["ssim"] == metrics.get("lpips"):
        yield f"SSIM and LPIPS are both {_value(metrics['ssim']):g}"


def rmse_below_psnr(metrics: Mapping[str, Score]) -> Iterator[str]:
    """Yield a relative RMSE that is too small for the PSNR.

    Of one image RMSE_rel = 100 * 10^(-PSNR / 20), which is convex in PSNR: by Jensen's inequality the mean of the first is not below
    this function of the mean of the second. How far it is above depends on the images. PSNR of batches instead of images escapes
    the inequality, and is no score of ours.
    """
    if {"psnr", "rmse_relative"} <= _given(metrics):
        least = 100 * 10 ** (-_interval(metrics["psnr"])[1] / 20)
        if _interval(metrics["rmse_relative"])[1] < least:
            yield (
                f"RMSE_rel is {_value(metrics['rmse_relative']):g}, and at least {least:.3f} with a PSNR of {_value(metrics['psnr']):g}"
            )


def mae_above_rmse(metrics: Mapping[str, Score]) -> Iterator[str]:
    """Yield a mean absolute error above the RMSE: in no image it is."""
    if {"mae", "rmse_relative"} <= _given(metrics) and 100 * _interval(metrics["mae"])[0] > _interval(
        metrics["rmse_relative"]
    )[1]:
        yield f"MAE is {_value(metrics['mae']):g}, above the RMSE of {_value(metrics['rmse_relative']):g} %"


def deltas_out_of_order(metrics: Mapping[str, Score]) -> Iterator[str]:
    """Yield shares of pixels within 1.25^i that shrink as i grows."""
    for one, next_one in pairwise(("delta1", "delta2", "delta3")):
        if {one, next_one} <= _given(metrics) and _interval(metrics[one])[0] > _interval(metrics[next_one])[1]:
            yield f"{one} is {_value(metrics[one]):g}, above the {next_one} of {_value(metrics[next_one]):g}"


def geometric_mean_too_large(metrics: Mapping[str, Score]) -> Iterator[str]:
    """Yield a geometric mean of AI(1), AI(2) and 1-|rho| above that of their means.

    The geometric mean is concave: by Jensen's inequality its mean over images is not above the geometric mean of the means.
    """
    parts = ("ai1", "ai2", "one_minus_abs_rho")
    if {*parts, "geometric_mean"} <= _given(metrics):
        most = math.prod(_interval(metrics[name])[1] for name in parts) ** (1 / 3)
        if _interval(metrics["geometric_mean"])[0] > most * (1 + EXACT):
            yield f"the geometric mean is {_value(metrics['geometric_mean']):g}, and at most {most:.4f} with these columns"


def _image_sets(scores: Scores) -> Iterator[tuple[str, dict[str, Score]]]:
    """Yield the metrics of each group's sharp images, of its left views and so on."""
    for group, columns in scores.items():
        sets: dict[str, dict[str, Score]] = {}
        for column, score in columns.items():
            prefix, metric = _split(column)
            sets.setdefault(prefix, {})[metric] = score
        for prefix, metrics in sets.items():
            yield " ".join([group, *prefix.split("_")]).strip(), metrics


def _split(column: str) -> tuple[str, str]:
    """Split ``input_views_psnr`` into ``input_views`` and ``psnr``; a column of something else is its own metric."""
    metric = next((name for name in METRICS if column == name or column.endswith(f"_{name}")), column)
    return column.removesuffix(metric).removesuffix("_"), metric


def _given(metrics: Mapping[str, Score]) -> set[str]:
    return {name for name, score in metrics.items() if score is not None}


def _value(score: float | Printed) -> float:
    return score.value if isinstance(score, Printed) else score


def _interval(score: float | Printed) -> Interval:
    value = _value(score)
    about = EXACT * abs(value) if math.isfinite(value) else 0.0
    if isinstance(score, Printed):
        about += score.rounding
    return value - about, value + about


def _mean(values: tuple[float, ...], counts: list[int]) -> float:
    return sum(count * value for count, value in zip(counts, values, strict=True)) / sum(counts)
