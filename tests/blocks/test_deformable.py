import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from torch import nn

from dualpixel.blocks.deformable import ModulatedDeformableConvolution, modulated_deformable_convolution

FORMS = ["torchvision", "torch"]


def inputs(images=1, channels=3, height=6, width=7, result=2, kernel=3, padding=1, reach=2.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = height + 2 * padding - kernel + 1, width + 2 * padding - kernel + 1
    shapes = {
        "features": (images, channels, height, width),
        "offsets": (images, 2 * kernel**2, *sizes),
        "modulation": (images, kernel**2, *sizes),
        "weight": (result, channels, kernel, kernel),
        "bias": (result,),
    }
    made = {name: torch.randn(shape, dtype=torch.float64, generator=generator) for name, shape in shapes.items()}
    return made | {"offsets": reach * made["offsets"], "modulation": made["modulation"].sigmoid()}


def gradients(given, weights=None, **options):
    leaves = {name: value.detach().clone().requires_grad_() for name, value in given.items()}
    result = modulated_deformable_convolution(**leaves, **options)
    loss = (result * (result.detach().cos() if weights is None else weights)).sum()
    return result, dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def by_definition(features, offsets, modulation, weight, bias, padding):
    """One tap after the other, sampled by SciPy."""
    images, (rows, columns) = len(features), offsets.shape[2:]
    result = np.broadcast_to(bias[:, None, None], (images, len(bias), rows, columns)).copy()
    y, x = np.mgrid[:rows, :columns].astype(float)
    for tap in range(weight.shape[2] * weight.shape[3]):
        row, column = divmod(tap, weight.shape[3])
        for image, channel in np.ndindex(features.shape[:2]):
            places = (
                y + row - padding + offsets[image, 2 * tap],
                x + column - padding + offsets[image, 2 * tap + 1],
            )
            sampled = map_coordinates(features[image, channel], places, order=1, mode="grid-constant", cval=0.0)
            result[image] += weight[:, channel, row, column, None, None] * sampled * modulation[image, tap]
    return result


@pytest.mark.parametrize("implementation", ["auto", *FORMS])
def test_the_result_is_that_of_the_authors_network(reference, implementation):
    stored = np.load(reference / "dpanet-ops.npz")
    block = ModulatedDeformableConvolution(6, 5, implementation=implementation)
    block.load_state_dict({name: torch.from_numpy(stored[f"dcn_{name}"]) for name in ("weight", "bias")})
    result = block(torch.from_numpy(stored["dcn_in"]), torch.from_numpy(stored["dcn_side"]))
    np.testing.assert_allclose(result.detach().numpy(), stored["dcn_out"], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("implementation", FORMS)
@pytest.mark.parametrize(
    "sizes", [{}, {"images": 2, "height": 1, "width": 5}, {"kernel": 2, "padding": 0}, {"kernel": 1, "padding": 2}]
)
def test_each_tap_reads_the_displaced_place(sizes, implementation):
    tensors = inputs(**sizes)
    padding = sizes.get("padding", 1)
    expected = by_definition(*(value.numpy() for value in tensors.values()), padding)
    result = modulated_deformable_convolution(**tensors, padding=padding, implementation=implementation)
    np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(0, 2), st.integers(0, 99)
)
def test_both_forms_agree_in_values_and_all_gradients(images, height, width, kernel, padding, seed):
    if min(height, width) + 2 * padding < kernel:
        return
    tensors = inputs(images, 3, height, width, 4, kernel, padding, seed=seed)
    one, slopes = gradients(tensors, padding=padding, implementation="torch")
    other, expected = gradients(tensors, padding=padding, implementation="torchvision")
    torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    torch.testing.assert_close(slopes, expected, rtol=0, atol=1e-12)


def test_the_form_is_chosen_by_the_device():
    tensors = inputs(1, 64, 12, 12, 8)
    chosen = modulated_deformable_convolution(**tensors)
    assert torch.equal(chosen, modulated_deformable_convolution(**tensors, implementation="torch"))
    assert not torch.equal(chosen, modulated_deformable_convolution(**tensors, implementation="torchvision"))


def test_both_forms_agree_on_whole_pixels_and_at_the_border():
    tensors = inputs(2, height=5, width=4, reach=4)
    tensors["offsets"] = tensors["offsets"].round()  # where the derivative jumps, and on -1 and the size
    one, slopes = gradients(tensors, implementation="torch")
    other, expected = gradients(tensors, implementation="torchvision")
    torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    torch.testing.assert_close(slopes, expected, rtol=0, atol=1e-12)


def test_gradients_are_those_of_finite_differences():
    tensors = inputs(2, 2, 2, 3, 2, kernel=2)
    leaves = [value.requires_grad_() for value in tensors.values()]
    assert torch.autograd.gradcheck(
        lambda *given: modulated_deformable_convolution(*given, implementation="torch"), leaves
    )


@pytest.mark.parametrize("implementation", FORMS)
def test_without_offsets_it_is_a_convolution(implementation):
    torch.manual_seed(0)
    block = ModulatedDeformableConvolution(4, 3, kernel_size=5, implementation=implementation).double()
    features = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    side = torch.zeros(2, block.side_channels, 9, 8, dtype=torch.float64)
    plain = nn.functional.conv2d(features, block.weight, padding=2) / 2 + block.bias[:, None, None]  # sigmoid(0) = 1/2
    torch.testing.assert_close(block(features, side), plain, rtol=0, atol=1e-12)
    tensors = inputs()
    without = modulated_deformable_convolution(**tensors | {"bias": None}, implementation=implementation)
    result = modulated_deformable_convolution(**tensors, implementation=implementation)
    torch.testing.assert_close(result - without, tensors["bias"][:, None, None].expand_as(result), rtol=0, atol=1e-14)


@pytest.mark.parametrize("implementation", FORMS)
def test_the_side_branch_gives_offsets_in_turns_and_then_the_modulation(implementation):
    block = ModulatedDeformableConvolution(1, 1, implementation=implementation)
    nn.init.zeros_(block.weight)
    with torch.no_grad():
        block.weight[0, 0, 1, 2] = 1  # tap 5 reads one pixel to the right
    features = torch.zeros(1, 1, 8, 8)
    features[0, 0, 5, 6] = 1
    side = torch.zeros(1, 27, 8, 8)
    side[:, 10], side[:, 11], side[:, 18 + 5] = 2, 3, 100
    result = block(features, side)
    assert result.nonzero().tolist() == [[0, 0, 3, 2]]
    assert result.max() == 1


@pytest.mark.parametrize("implementation", FORMS)
def test_places_far_outside_read_zero_and_pass_no_gradient(implementation):
    tensors = inputs(1, 2, 4, 5)
    for far in (1e9, -1e9, -20.5, *([float("inf"), -float("inf")] if implementation == "torch" else [])):
        tensors["offsets"] = torch.full_like(tensors["offsets"], far)
        result, slopes = gradients(tensors, 1.0, implementation=implementation)
        assert torch.equal(result, tensors["bias"][:, None, None].expand_as(result))
        assert not any(slopes[name].any() for name in ("features", "offsets", "modulation", "weight"))


def test_an_undefined_offset_spoils_its_own_pixel_only():
    tensors = inputs(1, 2, 4, 5)
    tensors["offsets"][0, 3, 1, 2] = float("nan")
    result = modulated_deformable_convolution(**tensors, implementation="torch")
    assert result.isnan().nonzero()[:, 2:].tolist() == [[1, 2]] * 2


@pytest.mark.parametrize("implementation", FORMS)
def test_positions_are_single_precision_at_least(implementation):
    tensors = inputs(1, 4, 5, 300)
    half = {name: value.bfloat16() for name, value in tensors.items()}
    exact = modulated_deformable_convolution(**{name: value.double() for name, value in half.items()})
    result = modulated_deformable_convolution(**half, implementation=implementation)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.double(), exact, rtol=4e-3, atol=1e-4)
    single = {name: value.float() for name, value in tensors.items()}
    with torch.autocast("cpu", torch.bfloat16):
        inside = modulated_deformable_convolution(**single, implementation=implementation)
    assert torch.equal(inside, modulated_deformable_convolution(**single, implementation=implementation))


@pytest.mark.parametrize("implementation", ["auto", *FORMS])
def test_shapes_are_known_without_values(implementation):
    block = ModulatedDeformableConvolution(3, 5, implementation=implementation).to("meta")
    result = block(torch.empty(2, 3, 9, 7, device="meta"), torch.empty(2, 27, 9, 7, device="meta"))
    assert result.shape == (2, 5, 9, 7)


@pytest.mark.parametrize("implementation", FORMS)
def test_every_run_and_every_layout_in_memory_gives_the_same(implementation):
    tensors = {name: value.float() for name, value in inputs(2, 8, 17, 19, 8).items()}
    first, slopes = gradients(tensors, implementation=implementation)
    again, repeated = gradients(tensors, implementation=implementation)
    assert torch.equal(first, again)
    assert all(torch.equal(slopes[name], repeated[name]) for name in slopes)
    last = {"features": tensors["features"].to(memory_format=torch.channels_last)}
    assert torch.equal(modulated_deformable_convolution(**tensors | last, implementation=implementation), first)
    assert first.is_contiguous()


@pytest.mark.parametrize("implementation", FORMS)
def test_compiling_it_leaves_one_whole_graph(implementation):
    torch.manual_seed(0)
    block = ModulatedDeformableConvolution(2, 2, kernel_size=1, implementation=implementation)
    features, side = torch.randn(2, 2, 5, 6), torch.randn(2, 3, 5, 6)
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(features, side), block(features, side), rtol=0, atol=1e-6)


def test_initial_weights_are_uniform_and_the_bias_is_zero():
    torch.manual_seed(0)
    block = ModulatedDeformableConvolution(64, 64)
    bound = 1 / (64 * 9) ** 0.5
    assert block.weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
    assert block.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert not block.bias.any()
    assert {name: tuple(value.shape) for name, value in block.state_dict().items()} == {
        "weight": (64, 64, 3, 3),
        "bias": (64,),
    }


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"offsets": torch.zeros(1, 18, 6, 6)}, r"offsets \(1, 18, 6, 6\): must be \(1, 18, 6, 7\)"),
        ({"modulation": torch.zeros(1, 18, 6, 7)}, r"modulation \(1, 18, 6, 7\): must be \(1, 9, 6, 7\)"),
        ({"bias": torch.zeros(3)}, r"bias \(3,\): must be \(2,\)"),
        ({"weight": torch.zeros(2, 4, 3, 3)}, r"features \(1, 3, 6, 7\) and weight \(2, 4, 3, 3\)"),
        ({"features": torch.zeros(3, 6, 7)}, r"features \(3, 6, 7\)"),
        ({"features": torch.zeros(1, 3, 6, 7, dtype=torch.int32)}, "features is torch.int32"),
        ({"weight": torch.zeros(2, 3, 9, 3)}, "smaller than the kernel"),
        ({"padding": -1}, "padding=-1"),
        ({"implementation": "cuda"}, "implementation='cuda': must be one of auto, torchvision, torch"),
    ],
)
def test_mistakes_are_named(changed, words):
    with pytest.raises(ValueError, match=words):
        modulated_deformable_convolution(**inputs() | changed)


def test_mistakes_of_the_block_are_named():
    with pytest.raises(ValueError, match="kernel_size=4"):
        ModulatedDeformableConvolution(2, 2, kernel_size=4)
    with pytest.raises(ValueError, match="implementation='cpu'"):
        ModulatedDeformableConvolution(2, 2, implementation="cpu")
    with pytest.raises(ValueError, match=r"side \(1, 18, 4, 4\): \(B, 27, H, W\) is needed"):
        ModulatedDeformableConvolution(2, 2)(torch.zeros(1, 2, 4, 4), torch.zeros(1, 18, 4, 4))
