import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from dualpixel.blocks.tiling import cut_tiles, run_tiled
from dualpixel.nets.mdp import MDP


@pytest.fixture(scope="module")
def mdp():
    """A narrow network whose views depend on all that they can see."""
    torch.manual_seed(0)
    network = MDP(width=0.05, residual=True)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network.double().eval()  # float32 rounds differently in convolutions of another size


def test_a_networks_tiles_give_what_the_whole_image_gives(mdp):
    image = torch.rand(1, 3, 384, 432, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        whole = mdp(image)
        tiles = cut_tiles(384, 432, 96, mdp.halo, mdp.multiple)
        found = run_tiled(mdp, image, tiles)
        less = run_tiled(mdp, image, cut_tiles(384, 432, 96, mdp.halo - 16, mdp.multiple))
    assert len(tiles) == 20 and set(found) == {"left", "right", "sharp"}
    scale = whole["left"].std()
    for name, one in whole.items():
        assert (found[name] - one).abs().max() < 1e-12 * scale
    assert max((less[name] - one).abs().max() for name, one in whole.items()) > 1e-9 * scale


@pytest.mark.parametrize("stitching", ["middle", "late", "none"])
def test_mdp_looks_as_far_as_it_says(stitching):
    network = MDP(width=0.02, residual=True, stitching=stitching).double()
    for parameter in network.parameters():  # no ReLU is ever off, nothing cancels
        torch.nn.init.constant_(parameter, 0.1 if parameter.ndim > 1 else 0.0)
    seen = torch.zeros(320, 320)
    for seed in range(2):  # which pixel of four the pooling takes depends on the image
        image = torch.rand(1, 3, 320, 320, dtype=torch.double, generator=torch.Generator().manual_seed(seed))
        image.requires_grad_()
        square = sum(one[..., 144:160, 144:160].sum() for one in network(image).values())
        seen += torch.autograd.grad(square, image)[0].abs().sum((0, 1))
    for dimension in (0, 1):
        (reached,) = seen.sum(dimension).nonzero(as_tuple=True)
        assert 144 - int(reached[0]) == 70 and int(reached[-1]) - 159 == 86
    assert network.halo == 96


def neighbourhood(window):
    """The mean of 5x5 pixels, of those that are there; looks 2 pixels far."""
    return {"mean": functional.avg_pool2d(window.double(), 5, 1, 2, count_include_pad=False)}


@settings(deadline=None, max_examples=50)
@given(*[st.integers(1, 12)] * 3, st.integers(2, 9), st.integers(1, 4))
def test_every_pixel_is_computed_once_and_from_enough(rows, columns, core, halo, multiple):
    height, width = rows * multiple, columns * multiple
    tiles = cut_tiles(height, width, core, halo, multiple)
    counts = torch.zeros(height, width)
    for tile in tiles:
        counts[tile.core] += 1
        assert all(one.start % multiple == one.stop % multiple == 0 for one in (*tile.core, *tile.window))
    assert (counts == 1).all()
    image = torch.rand(2, 3, height, width)
    found = run_tiled(neighbourhood, image, tiles)["mean"]
    assert torch.allclose(found, neighbourhood(image)["mean"], rtol=0, atol=1e-12)


def test_windows_are_no_larger_than_core_and_halo_and_an_image_of_that_size_is_not_cut():
    assert len(cut_tiles(64 + 32, 64 + 32, 64, 16, 16)) == 1
    tiles = cut_tiles(64 + 48, 400, 64, 16, 16)
    assert len(tiles) == 2 * 7
    assert max(one.stop - one.start for tile in tiles for one in tile.window) == 96


def test_tiles_that_are_left_out_stay_zero_and_types_are_kept():
    image = torch.full((3, 32, 32), 7, dtype=torch.uint8)
    tiles = cut_tiles(32, 32, 8, 0, 8)
    found = run_tiled(lambda window: {"same": window}, image, tiles[5:])["same"]
    assert found.dtype == torch.uint8
    assert int((found == 7).sum()) == 3 * 64 * 11 and int((found == 0).sum()) == 3 * 64 * 5


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="not divisible by 16"):
        cut_tiles(40, 32, 16, 16, 16)
    with pytest.raises(ValueError, match="too small"):
        cut_tiles(32, 32, 0, 16, 16)
    with pytest.raises(ValueError, match="for a window of"):
        run_tiled(lambda window: {"half": window[..., ::2]}, torch.zeros(3, 8, 8), cut_tiles(8, 8, 8, 0, 8))
    with pytest.raises(ValueError, match="no tiles"):
        run_tiled(neighbourhood, torch.zeros(3, 8, 8), [])
