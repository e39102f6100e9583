import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from dualpixel.blocks import correlation as module
from dualpixel.blocks.correlation import Correlation, correlation


def by_definition(left, right, displacement):
    """Equation 7, one product of two pixels after the other."""
    images, channels, height, width = left.shape
    side = 2 * displacement + 1
    result = np.zeros((images, side**2, height, width))
    for image, y, x in np.ndindex(images, height, width):
        for down, aside in np.ndindex(side, side):
            row, column = y + down - displacement, x + aside - displacement
            if 0 <= row < height and 0 <= column < width:
                dot = sum(left[image, c, y, x] * right[image, c, row, column] for c in range(channels))
                result[image, side * down + aside, y, x] = dot / channels
    return result


def by_shifts(left, right, displacement=4):
    height, width = left.shape[-2:]
    framed = functional.pad(right, (displacement,) * 4)
    window = range(2 * displacement + 1)
    return torch.stack([(left * framed[..., y : y + height, x : x + width]).mean(1) for y in window for x in window], 1)


def pair(*shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, dtype=torch.float64, generator=generator).to(dtype) for _ in range(2)]


def gradients(function, left, right, weights):
    leaves = [view.clone().requires_grad_() for view in (left, right)]
    return torch.autograd.grad((function(*leaves) * weights).sum(), leaves)


def test_the_volume_is_that_of_the_authors_kernel(reference):
    stored = np.load(reference / "dpanet-ops.npz")
    left, right = (torch.from_numpy(stored[f"corr_{name}"]) for name in ("first", "second"))
    np.testing.assert_allclose(correlation(left, right).numpy(), stored["corr_out"], atol=1e-5)
    np.testing.assert_allclose(Correlation(4, 0.1)(left, right).numpy(), stored["corr_lrelu"], atol=1e-5)
    assert (stored["corr_out"] < 0).any()
    np.testing.assert_array_equal(Correlation()(left, right).numpy(), correlation(left, right).numpy())


@pytest.mark.parametrize("displacement", [0, 1, 3])
def test_each_channel_is_the_mean_product_at_its_displacement(displacement):
    left, right = pair(2, 3, 5, 9)
    expected = by_definition(left.numpy(), right.numpy(), displacement)
    np.testing.assert_allclose(correlation(left, right, displacement).numpy(), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("displacement", range(5))
def test_a_shifted_map_fits_best_where_it_was_shifted_to(displacement):
    left = functional.normalize(pair(1, 40, 20, 20)[0], dim=1)
    down, right_by = displacement, -displacement  # the left view's point lies there in the right view
    volume = correlation(left, left.roll((down, right_by), (2, 3)))
    middle = volume[0, :, 5:-5, 5:-5]
    assert (middle.argmax(0) == 9 * (down + 4) + right_by + 4).all()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 4), st.integers(1, 35), st.integers(1, 35), st.integers(0, 10), st.integers(0, 16)
)
def test_any_size_in_steps_of_any_length(images, channels, height, width, displacement, tiles):
    left, right = pair(images, channels, height, width)
    weights = torch.linspace(-1, 1, images * (2 * displacement + 1) ** 2 * height * width, dtype=torch.float64)
    weights = weights.view(images, -1, height, width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "STEP", tiles * (8 + 2 * displacement) ** 2 * (64 + channels))
        volume = correlation(left, right, displacement)
        found = gradients(lambda *views: correlation(*views, displacement), left, right, weights)
    torch.testing.assert_close(volume, by_shifts(left, right, displacement), rtol=0, atol=1e-13)
    expected = gradients(lambda *views: by_shifts(*views, displacement), left, right, weights)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(8, 64, 64, 64), (3, 64, 256, 256), (2, 3, 9, 2000), (1, 512, 40, 24)])
def test_no_step_holds_more_than_its_share_and_none_is_needlessly_small(shape):
    tiles = [
        math.prod(part.stop - part.start for part in step)
        for step in module._Tiling(torch.empty(shape, device="meta"), 4).steps(shape[0])
    ]
    numbers = 16 * 16 * (64 + shape[1]) * max(tiles)
    limit = module.STEP_ELSEWHERE
    assert sum(tiles) == shape[0] * -(-shape[2] // 8) * -(-shape[3] // 8)
    assert numbers <= limit
    assert len(tiles) == 1 or numbers > limit / 2


@pytest.mark.parametrize("shape", [(1, 2, 3, 10), (2, 1, 9, 2)])
def test_gradients_are_those_of_finite_differences(shape):
    leaves = [view.requires_grad_() for view in pair(*shape)]
    assert torch.autograd.gradcheck(lambda *views: correlation(*views, 2), leaves)
    assert torch.autograd.gradcheck(lambda left: Correlation(1, 0.1)(left, leaves[1].detach()), leaves[:1])


def test_torch_finds_the_operator_well_made():
    leaves = [view.requires_grad_() for view in pair(2, 3, 9, 11)]
    outcome = torch.library.opcheck(torch.ops.dualpixel.correlation.default, (*leaves, 2))
    assert set(outcome.values()) == {"SUCCESS"}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 8e-3), (torch.float16, 1e-3)])
def test_sums_are_made_in_single_precision_at_least(dtype, tolerance):
    left, right = pair(1, 512, 10, 10, dtype=dtype)
    left = left * 200  # 512 products would not fit half precision
    volume = correlation(left, right)
    assert volume.dtype == dtype
    exact = by_shifts(left.double(), right.double())
    torch.testing.assert_close(volume.double(), exact, rtol=tolerance, atol=200 * 1e-7)
    found = gradients(correlation, left, right, 1 / left.new_tensor(64))
    expected = gradients(by_shifts, left.double(), right.double(), 1 / 64)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one.double(), other, rtol=2 * tolerance, atol=200 * 1e-7)


def test_autocast_changes_nothing():
    left, right = pair(1, 64, 9, 9, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = correlation(left, right)
        slopes = gradients(correlation, left, right, 1.0)
        mixed = correlation(left.bfloat16(), right)
    assert torch.equal(inside, correlation(left, right))
    assert all(map(torch.equal, slopes, gradients(correlation, left, right, 1.0)))
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, correlation(left.bfloat16().float(), right))


def test_every_run_and_every_layout_in_memory_gives_the_same():
    left, right = pair(2, 16, 33, 40, dtype=torch.float32)
    volume, slopes = correlation(left, right), gradients(correlation, left, right, 1.0)
    last = [view.to(memory_format=torch.channels_last) for view in (left, right)]
    assert torch.equal(correlation(*last), volume)
    assert all(map(torch.equal, gradients(correlation, *last, 1.0), slopes))
    turned = [view.mT.contiguous().mT for view in (left, right)]
    assert torch.equal(correlation(*turned), volume)
    assert torch.equal(correlation(left, right), volume)
    assert volume.is_contiguous()


def test_shapes_are_known_without_values():
    left, right = (torch.empty(2, 4, 9, 70, device="meta", requires_grad=True) for _ in range(2))
    volume = correlation(left, right, 3)
    assert volume.shape == (2, 49, 9, 70)
    volume.sum().backward()
    assert left.grad.shape == right.grad.shape == (2, 4, 9, 70)


def test_compiling_it_leaves_one_whole_graph():
    left, right = pair(1, 4, 9, 10)
    compiled = torch.compile(Correlation(2, 0.1), fullgraph=True, backend="aot_eager")
    weights = torch.rand(1, 25, 9, 10, dtype=torch.float64)
    torch.testing.assert_close(compiled(left, right), Correlation(2, 0.1)(left, right), rtol=0, atol=0)
    for one, other in zip(
        gradients(compiled, left, right, weights), gradients(Correlation(2, 0.1), left, right, weights), strict=True
    ):
        assert torch.equal(one, other)


def test_the_module_says_how_many_channels_it_gives():
    block = Correlation(3)
    assert block.channels == block(*pair(1, 2, 4, 4)).shape[1] == 49
    assert "displacement=3" in repr(block)


def test_mistakes_are_named():
    left, right = pair(1, 2, 4, 4)
    with pytest.raises(ValueError, match=r"left \(1, 2, 4, 4\) and right \(1, 2, 4, 3\)"):
        correlation(left, right[..., :3])
    with pytest.raises(ValueError, match=r"\(2, 4, 4\)"):
        correlation(left[0], right[0])
    with pytest.raises(ValueError, match=r"\(1, 2, 0, 4\)"):
        correlation(left[:, :, :0], right[:, :, :0])
    with pytest.raises(ValueError, match="torch.int64"):
        correlation(left, right.long())
    with pytest.raises(ValueError, match="displacement=-1"):
        correlation(left, right, -1)
    with pytest.raises(ValueError, match="displacement=-1"):
        Correlation(-1)
