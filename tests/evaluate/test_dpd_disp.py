import numpy as np
import pytest
import torch

from dualpixel.data.resizing import bicubic_weights, resize_bicubic
from dualpixel.errors import DualPixelError
from dualpixel.evaluate.dpd_disp import cut_border, cut_to_windows, halve_in_8_bits, prepare_dpd_disp_truth


def test_the_size_of_the_published_example():
    rows, columns = (torch.arange(size).float() for size in (1470, 2590))
    for maps, cut in ((rows[:, None].expand(1470, 2590), "rows"), (columns.expand(1470, 2590), "columns")):
        windows = cut_to_windows(maps)
        assert windows.shape == (1386, 2508)
        # beginning with 1, the centres are 56, 89 ... up to 1409 (of 1470 - 55) and 2531 (of 2590 - 55); 16 pixels around
        first, last = (56 - 16, 1409 + 16) if cut == "rows" else (56 - 16, 2531 + 16)
        assert (windows[0, 0] + 1, windows[-1, -1] + 1) == (first, last)
        inside = cut_border(windows)
        assert inside.shape == (1186, 2308)
        assert (inside[0, 0] - windows[0, 0], windows[-1, -1] - inside[-1, -1]) == (100, 100)


@pytest.mark.parametrize(("side", "windows"), [(111, 1), (143, 1), (144, 2), (1470, 42), (2590, 76)])
def test_a_window_fits_or_it_does_not(side, windows):
    assert cut_to_windows(np.zeros((2, side, 111))).shape == (2, 33 * windows, 33)


def test_halving_rounds_after_each_axis():
    image = np.random.default_rng(1).integers(0, 256, (40, 60), dtype=np.uint8)
    rows = np.floor(resize_bicubic(image, 20, 60) + 0.5).clip(0, 255)
    twice = np.floor(resize_bicubic(rows, 20, 30) + 0.5).clip(0, 255)
    assert np.array_equal(halve_in_8_bits(image), twice)
    once = np.floor(resize_bicubic(image, 20, 30) + 0.5).clip(0, 255)
    assert 0 < np.mean(once != twice) < 0.5


def test_the_sums_are_exact():
    weights = bicubic_weights(64, 32) * 256
    assert np.array_equal(weights, weights.round())
    rows, line = bicubic_weights(2, 1) @ np.array([[0, 10], [1, 10]]), np.array([[0, 1], [0, 1]], np.uint8)
    assert rows.tolist() == [[0.5, 10]]
    assert halve_in_8_bits(line).tolist() == [[1]]  # one half, rounded up


def test_the_truth_is_halved_before_it_is_cut():
    truth = np.random.default_rng(2).integers(0, 256, (900, 700), dtype=np.uint8)
    prepared = prepare_dpd_disp_truth(truth)
    half = halve_in_8_bits(truth)
    # 450: 11 windows; 350: 8 windows
    assert np.array_equal(prepared, half[39 + 100 : 39 + 363 - 100, 39 + 100 : 39 + 264 - 100])
    assert prepared.dtype == np.uint8


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((700, 701), np.uint8), r"even sides, found \(700, 701\) uint8"),
        (np.zeros((700, 700), np.uint16), "uint16"),
        (np.zeros((700, 700, 3), np.uint8), r"\(700, 700, 3\)"),
        (np.zeros((700, 220), np.uint8), "350 x 110 pixels is smaller than the window of 111 x 111"),
        (np.zeros((700, 616), np.uint8), "264 x 198 pixels is no larger than its border of 100"),
    ],
)
def test_refused_truths(image, message):
    with pytest.raises(DualPixelError, match=message):
        prepare_dpd_disp_truth(image)


def test_the_smallest_truth():
    assert prepare_dpd_disp_truth(np.zeros((618, 618), np.uint8)).shape == (31, 31)
