import numpy as np
import pytest
import torch

from dualpixel.data.resizing import bicubic_weights, resize_bicubic
from dualpixel.errors import DualPixelError
from dualpixel.evaluate.dpd_disp import (
    check_dpd_disp_size,
    cut_border,
    cut_to_windows,
    halve_in_8_bits,
    prepare_dpd_disp_truth,
    prepare_estimate,
    prepare_truth,
)


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


@pytest.mark.parametrize("side", [618, 617, 616, 2940])
def test_a_size_is_refused_where_nothing_would_be_left(side):
    if side >= 618:
        check_dpd_disp_size(side, 5180, "a scene")
    else:
        with pytest.raises(DualPixelError, match=f"a scene of 5180 x {side} pixels is too small"):
            check_dpd_disp_size(5180, side, "a scene")


def test_values_of_8_bits_come_through_floating_point():
    stored = np.random.default_rng(3).integers(0, 256, (2, 620, 640), dtype=np.uint8)
    prepared = prepare_truth(torch.from_numpy((stored / 255).astype(np.float32))[:, None])
    for mine, one in zip(prepared, stored, strict=True):
        assert np.array_equal(mine[0].numpy(), (prepare_dpd_disp_truth(one) / 255).astype(np.float32))


@pytest.mark.parametrize("wrong", [1.01, -0.01, torch.nan])
def test_disparity_has_to_be_known_and_in_range(wrong):
    disparity = torch.zeros(1, 1, 620, 640)
    disparity[0, 0, 3, 4] = wrong
    with pytest.raises(DualPixelError, match="must lie in"):
        prepare_truth(disparity)


def test_an_estimate_goes_from_0_to_1_whatever_lies_outside_and_whatever_its_sign():
    blur = torch.linspace(-4, 4, 330).expand(2, 1, 320, 330).clone()
    blur[0, 0, 0, 0], blur[1] = 1e6, -blur[1]
    first, second = prepare_estimate(blur)
    assert (first.min(), first.max()) == (0, 1) and torch.allclose(first, 1 - second, rtol=0, atol=1.01 / 255)
    assert torch.equal(first, first[:, :1].expand_as(first)) and (first.diff(dim=-1) >= 0).all()


def test_an_estimate_without_a_range():
    blur = torch.full((3, 1, 320, 330), 2.5)
    blur[1, 0, 160, 160], blur[2, 0, 160, 160] = torch.nan, torch.inf
    constant, unknown, infinite = prepare_estimate(blur)
    assert (constant == 0).all() and unknown.isnan().all() and infinite.isnan().all()
