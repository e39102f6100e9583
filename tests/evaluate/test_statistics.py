import numpy as np
import pytest
from scipy import stats

from dualpixel import DualPixelError
from dualpixel.evaluate import statistics
from dualpixel.evaluate.statistics import compare, mean_interval, sign_flip_p_value


def psnrs(count, seed=1):
    return np.random.default_rng(seed).normal(25.0, 3.0, count)


def scipys_p_value(differences, **options):
    return stats.permutation_test(
        (differences,), lambda x, axis: x.mean(axis), permutation_type="samples", vectorized=True, **options
    ).pvalue


@pytest.mark.parametrize(("count", "confidence"), [(76, 0.95), (7, 0.9), (2, 0.95)])
def test_the_interval_is_scipys(count, confidence):
    scores = psnrs(count)
    theirs = stats.bootstrap(
        (scores,), np.mean, n_resamples=10_000, confidence_level=confidence, method="percentile",
        random_state=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    assert mean_interval(scores, confidence=confidence) == pytest.approx([theirs.low, theirs.high], abs=1e-9)


def test_the_interval_of_many_images_is_the_normal_one():
    scores = psnrs(2000)
    error = 1.96 * scores.std(ddof=1) / 2000**0.5
    assert mean_interval(scores) == pytest.approx([scores.mean() - error, scores.mean() + error], abs=0.05 * error)


def test_ninety_five_of_a_hundred_intervals_hold_the_true_mean():
    bounds = mean_interval(np.random.default_rng(5).normal(25.0, 3.0, (1000, 76)), resamples=2000)
    held = ((bounds[:, 0] <= 25) & (bounds[:, 1] >= 25)).mean()
    assert 0.92 < held < 0.965  # the percentile interval is a little narrow: 0.94 is expected of 76 images


def test_rows_have_the_intervals_that_each_has_alone_whatever_fits_into_memory(monkeypatch):
    rows = np.stack([psnrs(31, seed) for seed in range(5)])
    together = mean_interval(rows)
    assert together.shape == (5, 2)
    p_values = sign_flip_p_value(rows - rows[0])
    monkeypatch.setattr(statistics, "VALUES_AT_ONCE", 20_000)  # two rows, and 645 resamples, at a time
    for row, bounds, p_value in zip(rows, together, p_values, strict=True):
        assert mean_interval(row) == pytest.approx(bounds, abs=1e-9)
        assert sign_flip_p_value(row - rows[0]) == p_value
    assert mean_interval(rows) == pytest.approx(together, abs=1e-9)


def test_constant_scores_have_no_width():
    assert mean_interval(np.full(9, 3.5)) == pytest.approx([3.5, 3.5], abs=1e-12)


@pytest.mark.parametrize("count", [2, 3, 5, 12])
@pytest.mark.parametrize("shift", [0.0, 0.4, -2.0])
def test_few_images_have_the_exact_p_value(count, shift):
    differences = np.random.default_rng(count).normal(shift, 1.0, count)
    expected = scipys_p_value(differences, n_resamples=np.inf)
    assert sign_flip_p_value(differences) == pytest.approx(expected, abs=1e-12)


def test_twelve_gains_out_of_twelve_have_the_smallest_p_value():
    assert sign_flip_p_value(np.arange(1.0, 13.0)) == 2 / 4096
    assert sign_flip_p_value(np.array([0.1, 0.2, 0.3, -0.1, -0.2, -0.3])) == 1.0  # a sum of 0 but for rounding


def test_more_images_have_scipys_p_value_but_for_the_draws():
    differences = np.random.default_rng(3).normal(0.35, 1.0, 76)
    expected = scipys_p_value(differences, n_resamples=100_000, random_state=np.random.default_rng(9))
    found = float(sign_flip_p_value(differences))
    assert 0.005 < expected < 0.2
    assert found == pytest.approx(expected, abs=4 * (expected / 10_000) ** 0.5)
    assert sign_flip_p_value(differences + 100) == 1 / 10_001  # never 0


def test_p_values_of_results_that_are_alike_are_even():
    p_values = sign_flip_p_value(np.random.default_rng(8).normal(0, 1, (2000, 20)), resamples=999)
    assert [(p_values <= level).mean() for level in (0.05, 0.5)] == pytest.approx([0.05, 0.5], abs=0.035)


def test_a_comparison_is_of_the_differences_per_image():
    other = psnrs(40)
    better = other + np.random.default_rng(2).normal(0.3, 0.2, 40)
    gain, same = compare(np.stack([better, other]), other)
    assert gain.difference == pytest.approx((better - other).mean())
    assert [gain.low, gain.high] == pytest.approx(list(mean_interval(better - other)))
    assert 0.2 < gain.low < gain.difference < gain.high < 0.4  # the scores themselves vary by 3 dB
    assert gain.p_value == 1 / 10_001
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_what_has_no_statistics_is_refused():
    for scores in (np.empty(0), np.array([1.0, np.nan]), np.array([[1.0, np.inf]])):
        with pytest.raises(DualPixelError, match="finite scores of at least one image"):
            mean_interval(scores)
    with pytest.raises(DualPixelError, match="cannot be paired"):
        compare(np.zeros((2, 3)), np.zeros(4))
