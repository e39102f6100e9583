import pytest
import torch
from scipy.signal import convolve2d

from dualpixel.optics import tiles
from dualpixel.optics.tiles import TileFilter, Tiling, fast_size, presence

NOWHERE = 99


def fields(batch=2, channels=3, height=50, width=70):
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("taps", [0, 10**6])
@pytest.mark.parametrize("reach", [0, 1, 4])
def test_tiles_apart_are_the_convolution(monkeypatch, taps, reach):
    monkeypatch.setattr(tiles, "DIRECT_TAPS", taps)
    field, kernels = fields(), torch.rand(2, 2 * reach + 1, 2 * reach + 1, dtype=torch.float64)
    tiling = Tiling(2, 50, 70, reach=5)
    tile_filter = TileFilter(kernels, tiling.side, field.device)
    every = torch.arange(tiling.count)
    windows = tiling.windows(tiling.canvas(field), every, tile_filter.reach, tile_filter.size)
    whole = tiling.join(tile_filter.apart(windows).flatten(1, 2)).unflatten(1, (2, 3))
    for image in range(2):
        for view in range(2):
            for channel in range(3):
                expected = convolve2d(field[image, channel], kernels[view], mode="same")
                assert abs(whole[image, view, channel].numpy() - expected).max() < 1e-12


@pytest.mark.parametrize("taps", [0, 10**6])
def test_tiles_together_are_the_sum_over_the_views(monkeypatch, taps):
    monkeypatch.setattr(tiles, "DIRECT_TAPS", taps)
    kernels = torch.rand(2, 5, 5, dtype=torch.float64)
    tile_filter = TileFilter(kernels, 32, kernels.device)
    windows = torch.rand(4, 2, 3, tile_filter.size, tile_filter.size, dtype=torch.float64)
    expected = sum(tile_filter.apart(windows[:, view])[:, view] for view in range(2))
    assert torch.allclose(tile_filter.together(windows), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("height", "width", "reach"), [(1, 1, 0), (64, 64, 3), (65, 200, 9), (130, 40, 20)])
def test_a_field_cut_and_joined_is_itself(height, width, reach):
    field = fields(height=height, width=width)
    tiling = Tiling(2, height, width, reach)
    cut = tiling.windows(tiling.canvas(field), torch.arange(tiling.count), 0, tiling.side)
    assert torch.equal(tiling.join(cut), field)
    canvas = tiling.canvas(torch.zeros_like(field))
    tiling.write(canvas, torch.arange(tiling.count), cut)
    assert torch.equal(tiling.windows(canvas, torch.arange(tiling.count), 0, tiling.side), cut)


def test_presence_knows_the_blocks_of_each_layer():
    layer = torch.full((2, 40, 50), NOWHERE)
    layer[0, 3, 20], layer[1, 39, 49], layer[1, 0, 0] = -2, 1, -2
    lowest, held = presence(layer, NOWHERE)
    assert lowest == -2
    assert held.shape == (4, 2, 3, 4)
    assert held.nonzero().tolist() == [[0, 0, 0, 1], [0, 1, 0, 0], [3, 1, 2, 3]]


@pytest.mark.parametrize("reach", [0, 1, 17])
def test_every_tile_that_a_kernel_reaches_is_named(reach):
    tiling = Tiling(2, 150, 200, reach=16)
    for y, x in [(0, 0), (70, 63), (149, 199), (64, 128)]:
        layer = torch.full((2, 150, 200), NOWHERE)
        layer[1, y, x] = 0
        _, held = presence(layer, NOWHERE)
        around = torch.zeros(2, 1, 150, 200)
        around[1, 0, max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1] = 1
        cut = tiling.windows(tiling.canvas(around), torch.arange(tiling.count), 0, tiling.side)
        touched = set(cut.flatten(1).any(1).nonzero().flatten().tolist())
        named = set(tiling.reached(held[0], reach).tolist())
        assert touched <= named
        assert all(tile >= tiling.count // 2 for tile in named)


def test_fast_sizes_are_even_and_have_small_factors_only():
    assert [fast_size(least) for least in (1, 7, 22, 64, 121, 202)] == [2, 8, 24, 64, 128, 216]
