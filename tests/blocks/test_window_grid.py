import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpixel.blocks.window_grid import WindowGrid

HEIGHTS = """256 264 272 280 288 304 320 336 352 368 384 400 416 432 456 480 504 528 552 576 608 640 672 704 720
760 800 840 864 912 960 1008 1064 1120 1152 1216 1280 1296 1368 1440 1520 1584 1672 1728"""
WIDTHS = """256 272 288 304 320 336 360 384 408 432 448 480 512 544 560 600 640 672 720 768 784 840 896 960 1008
1080 1120 1200 1232 1320 1344 1440 1456 1560 1568 1680 1792"""
HEIGHTS, WIDTHS = ([int(size) for size in sizes.split()] for sizes in (HEIGHTS, WIDTHS))

GRID = WindowGrid()


def test_heights_and_widths_that_fit_are_those_of_the_published_settings():
    assert [height for height in range(1801) if GRID.fits(height, 256)] == HEIGHTS
    assert [width for width in range(1801) if GRID.fits(256, width)] == WIDTHS


@pytest.mark.parametrize(
    ("size", "windows", "window"),
    [((1120, 1680), (7, 15), (20, 14)), ((1152, 1792), (8, 16), (18, 14)), ((288, 336), (2, 3), (18, 14))],
)
def test_windows_of_known_sizes(size, windows, window):
    assert GRID.shape(*size) == windows
    assert tuple(edge // 8 // count for edge, count in zip(size, windows, strict=True)) == window
    features = torch.empty(1, 1, size[0] // 8, size[1] // 8)
    assert GRID.split(features, *windows).shape == (windows[0] * windows[1], 1, *window)


def test_a_size_that_does_not_fit_is_refused_and_the_next_one_is_named():
    message = r"512 x 512 .* next size that can is 528 x 512"
    with pytest.raises(ValueError, match=message):
        GRID.require(512, 512)
    with pytest.raises(ValueError, match=message):
        GRID.shape(512, 512)
    with pytest.raises(ValueError, match=message):
        GRID.pool_styles(torch.zeros(1, 1, 16, 16), 512, 512)
    GRID.require(480, 512)


def test_next_sizes_are_the_smallest_of_each_axis():
    for size in range(1, 1729):
        assert GRID.next_size(size, 1)[0] == min(height for height in HEIGHTS if height >= size)
        assert GRID.next_size(1, size)[1] == min(width for width in WIDTHS if width >= size)
    assert GRID.next_size(1, 1) == (256, 256)
    assert GRID.next_size(4480, 6720) == (4608, 6720)
    assert GRID.fits(4608, 6720)
    assert not any(GRID.fits(height, 6720) for height in range(4480, 4608))


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_all_multiples_of_a_window_fit_whatever_the_settings(data):
    axes = []
    for _ in range(2):
        pad_scale = data.draw(st.integers(1, 400))
        possible = [window for window in range(1, 65) if window * (pad_scale + 32) % (4 * pad_scale) == 0]
        if not possible:
            return
        window = data.draw(st.sampled_from(possible))
        axes.append((window, window * (pad_scale + 32) // (4 * pad_scale), pad_scale))
    grid = WindowGrid(*zip(*axes, strict=True))
    for times in range(1, 40):
        size = [8 * window * times for window, _, _ in axes]
        if min(size) >= 256:
            assert grid.fits(*size)
            assert grid.shape(*size) == (times, times)
            assert grid.next_size(*size) == tuple(size)


@pytest.mark.parametrize("wrong", [{"window": (18, 13)}, {"pool": (4, 4)}, {"pad_scale": (288, 0)}, {"pool": (0, 4)}])
def test_settings_that_do_not_belong_together_are_refused(wrong):
    with pytest.raises(ValueError, match="must be pool, as in 18, 5 and 288"):
        WindowGrid(**wrong)


def test_a_grid_cannot_be_altered():
    with pytest.raises(dataclasses.FrozenInstanceError):
        GRID.window = (1, 1)


def test_windows_are_cut_image_by_image_and_row_by_row():
    features = torch.arange(2 * 3 * 8 * 6).view(2, 3, 8, 6)
    windows = WindowGrid.split(features, 4, 3)
    assert windows.shape == (24, 3, 2, 2)
    for image, row, column in np.ndindex(2, 4, 3):
        expected = features[image, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert torch.equal(windows[image * 12 + row * 3 + column], expected)


@pytest.mark.parametrize("grid", [(1, 1), (4, 3), (2, 6), (8, 1)])
def test_windows_are_put_back_where_they_were(grid):
    features = torch.randn(2, 3, 8, 6)
    assert torch.equal(WindowGrid.merge(WindowGrid.split(features, *grid), *grid), features)
    windows = torch.randn(2 * grid[0] * grid[1], 3, 5, 2)
    assert torch.equal(WindowGrid.split(WindowGrid.merge(windows, *grid), *grid), windows)


def test_windows_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="features of 8 x 6 cannot be cut in 3 x 3"):
        WindowGrid.split(torch.zeros(1, 1, 8, 6), 3, 3)
    with pytest.raises(ValueError, match="features of 8 x 6 cannot be cut in 4 x 4"):
        WindowGrid.split(torch.zeros(1, 1, 8, 6), 4, 4)
    with pytest.raises(ValueError, match="7 windows do not fill images of 2 x 3"):
        WindowGrid.merge(torch.zeros(7, 1, 2, 2), 2, 3)


def shares(height, width):
    """How much of each style, (B p1 p2), comes from each window, (B, p1, p2); for two images."""
    rows, columns = GRID.shape(height, width)
    windows = 2 * rows * columns
    features = torch.zeros(windows, windows, height // 8 // rows, width // 8 // columns)
    features[range(windows), range(windows)] = 1  # channel k is 1 in window k alone
    disparity = WindowGrid.merge(features, rows, columns)[..., ::4, ::4]
    return GRID.pool_styles(disparity, height, width).unflatten(1, (2, rows, columns))


@pytest.mark.parametrize("size", [(288, 336), (432, 1680), (1152, 448)])
def test_each_style_belongs_to_the_window_of_the_same_place(size):
    found = shares(*size).flatten(1)
    assert torch.equal(found.argmax(1), torch.arange(len(found)))
    assert found.diagonal().min().item() == pytest.approx(0.8 * 0.75)
    torch.testing.assert_close(found.sum(1), torch.ones(len(found)))


@pytest.mark.parametrize("size", [(1120, 1680), (256, 304), (264, 1560), (1672, 256), (480, 512)])
def test_at_other_sizes_a_style_may_be_of_the_window_next_to_it(size):
    found = shares(*size)
    assert (found.flatten(1).argmax(1) - torch.arange(len(found))).any()
    for style, (image, row, column) in zip(found, np.ndindex(*found.shape[1:]), strict=True):
        for other_image, other_row, other_column in style.nonzero().tolist():
            assert other_image == image
            assert row - other_row in (0, 1)
            assert column - other_column in (0, 1)


@pytest.mark.parametrize("size", [(288, 336), (480, 512), (1152, 1792)])
def test_styles_are_averages_of_the_nearest_places(size):
    disparity = np.random.default_rng(0).random((2, 3, -(-size[0] // 32), -(-size[1] // 32)))
    high, wide = disparity.shape[2] + size[0] // 288, disparity.shape[3] + size[1] // 224
    rows = [row * disparity.shape[2] // high for row in range(high)]
    columns = [column * disparity.shape[3] // wide for column in range(wide)]
    resized = disparity[:, :, rows][..., columns]
    expected = [
        resized[image, :, 5 * row : 5 * row + 5, 4 * column : 4 * column + 4].mean((1, 2))
        for image, row, column in np.ndindex(2, high // 5, wide // 4)
    ]
    np.testing.assert_allclose(GRID.pool_styles(torch.from_numpy(disparity), *size).numpy(), expected, atol=1e-12)


def test_a_map_of_another_image_is_refused():
    with pytest.raises(ValueError, match="disparity map of 36 x 42 .* 9 x 11 is needed"):
        GRID.pool_styles(torch.zeros(1, 1, 36, 42), 288, 336)
