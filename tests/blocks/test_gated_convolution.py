import copy

import pytest
import torch
from k3dn_parts import drawn, fill_part, stored
from torch.utils.flop_counter import FlopCounterMode

from dualpixel.blocks.gated_convolution import GatedInvertibleConvolution

PUBLISHED = {
    "lower": (16, 16),
    "log_s": (16,),
    "upper": (16, 16),
    "p": (16, 16),
    "sign_s": (16,),
    "modulation.weight": (16, 256),
    "modulation.bias": (16,),
}


def made(channels=6, style_channels=8, truncate=1e6, seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    return GatedInvertibleConvolution(channels, style_channels, truncate).to(dtype)


def inputs(channels=6, style_channels=8, count=3, dtype=torch.float64):
    return torch.randn(count, channels, 5, 4, dtype=dtype), torch.randn(count, style_channels, dtype=dtype)


@pytest.mark.parametrize("truncate", [100, 12])
@pytest.mark.parametrize("reverse", [False, True])
def test_weights_matrix_and_result_are_those_of_the_authors(reverse, truncate, fill, reference):
    part = GatedInvertibleConvolution(16, truncate=truncate)
    fill_part(part, fill, PUBLISHED, "deblur.0.conv2.", "psf.0.mixing.")
    arrays = stored(reference)
    features, style = drawn((3, 16, 18, 14), (3, 256))
    with torch.no_grad():
        weights, matrix, result = part.weights_of(style), part.weight(reverse), part(features, style, reverse)
    rev = f"rev{int(reverse)}"
    assert (weights - arrays[f"ipc/style_{rev}"][..., 0, 0]).abs().max() < 1e-5
    assert (matrix - arrays[f"ipc/weight_{rev}"][..., 0, 0]).abs().max() < 1e-5
    assert (result[:1] - arrays[f"ipc/out_truncate{truncate}_{rev}"]).abs().max() < 1e-5


def test_the_convolution_begins_as_a_rotation():
    part = made(32)
    matrix = part.weight()
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(32, dtype=torch.float64), rtol=0, atol=1e-5)
    assert 0.1 < matrix.abs().mean() < 0.2
    assert part.gate.bias.eq(1).all()
    assert made(200, 200).gate.weight.std().item() == pytest.approx(1, abs=0.02)


def test_only_the_triangles_count():
    part = made()
    torch.nn.init.normal_(part.upper)
    torch.nn.init.normal_(part.lower)
    before = part.weight(), part.weight(reverse=True)
    with torch.no_grad():
        part.lower += torch.ones_like(part.lower).triu()
        part.upper += torch.ones_like(part.upper).tril()
    assert torch.equal(part.weight(), before[0])
    assert torch.equal(part.weight(reverse=True), before[1])


def test_the_matrix_costs_two_products():
    with FlopCounterMode(display=False) as counter:
        made(7).weight()
    assert counter.get_total_flops() == 2 * 2 * 7**3


def test_the_matrix_in_reverse_is_the_inverse():
    part = made()
    for one in (part.lower, part.upper, part.log_scale):
        torch.nn.init.normal_(one, std=0.5)
    torch.testing.assert_close(part.weight(True), torch.linalg.inv(part.weight()), rtol=0, atol=1e-12)


def test_in_reverse_the_features_come_back_up_to_the_norm_of_the_gate():
    part = made()
    features, style = inputs()
    back = part(part(features, style), style, reverse=True)
    norm = part.weights_of(style).reciprocal().square().sum(1).sqrt()
    torch.testing.assert_close(back * norm[:, None, None, None], features, rtol=0, atol=1e-5)


def test_weights_of_the_channels_follow_the_style():
    part = made(4, 9)
    weights = part.weights_of(3 * torch.eye(9, dtype=torch.float64))
    expected = (part.gate.weight.T + 1).softmax(1)  # 3 / sqrt(9) = 1
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(weights.sum(1), torch.ones(9, dtype=torch.float64), rtol=0, atol=1e-12)
    features, style = inputs(4, 9)
    expected = torch.einsum("dc,bc,bchw->bdhw", part.weight(), part.weights_of(style), features)
    torch.testing.assert_close(part(features, style), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("truncate", "heard"), [(100.0, False), (1e4, True)])
def test_a_low_truncation_hides_the_style_from_the_reverse_gate_at_the_beginning(truncate, heard):
    part = made(192, 256, truncate)
    features, _ = inputs(192, count=2)
    style = (0.1 * torch.randn(2, 256, dtype=torch.float64)).requires_grad_()
    result = part(features, style, reverse=True)
    result.square().sum().backward()
    ungated = torch.einsum("dc,bchw->bdhw", part.weight(True), features)
    assert torch.allclose(result, ungated / 192**0.5, rtol=0, atol=1e-6) is not heard
    assert bool(style.grad.any()) is heard
    style.grad = None
    part(features, style).square().sum().backward()
    assert style.grad.any()


def test_truncation_is_at_its_bound():
    part = made(2, 1, truncate=3.0)
    with torch.no_grad():
        part.gate.weight.copy_(torch.tensor([[0.0], [1.0]]))
    style = torch.log(torch.tensor([[9.0]], dtype=torch.float64))  # weights 0.1 and 0.9: 10 is cut to 3
    features = torch.ones(1, 2, 1, 1, dtype=torch.float64)
    gate = part(features, style, reverse=True).flatten() / part.weight(True).sum(1)
    expected = torch.tensor([3, 10 / 9], dtype=torch.float64)
    torch.testing.assert_close(gate, expected / expected.norm(), rtol=0, atol=1e-7)


def test_caching_changes_nothing_and_is_not_written():
    part = made(dtype=torch.float32)
    features, style = inputs(dtype=torch.float32)
    before, back, names = part(features, style), part(features, style, True), list(part.state_dict())
    before_scale = part.log_scale.exp()
    part.cache()
    assert part.cached
    assert list(part.state_dict()) == names
    assert torch.equal(part(features, style), before)
    assert torch.equal(part(features, style, True), back)
    with torch.no_grad():
        part.lower.zero_()
        part.upper.zero_()
        part.log_scale += 1
    part.cache()
    expected = torch.e * part.permutation @ torch.diag(part.sign * before_scale)
    torch.testing.assert_close(part.weight(), expected, rtol=1e-5, atol=1e-6)


def test_a_cached_matrix_follows_what_is_loaded():
    part, other = made(seed=1), made(seed=2)
    other.cache()
    copied = copy.deepcopy(other)
    features, style = inputs()
    for one in (other, copied):
        assert (one.weight() - part.weight()).abs().max() > 0.1
        one.load_state_dict(part.state_dict())
        assert torch.equal(one(features, style), part(features, style))


def test_matrix_and_softmax_are_in_single_precision_at_least():
    part = made(dtype=torch.float32)
    features, style = inputs(dtype=torch.float32)
    expected = part.weight(), part.weight(reverse=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(part.weight(), expected[0])
        assert torch.equal(part.weight(reverse=True), expected[1])
        weights = part.weights_of(style)
    assert weights.dtype == torch.float32
    assert (weights.sum(1) - 1).abs().max() < 1e-6
    half = part.bfloat16()
    for reverse in (False, True):
        assert half(features.bfloat16(), style.bfloat16(), reverse).dtype == torch.bfloat16


@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_are_those_of_finite_differences(reverse):
    part = made(3, 2)
    names, values = zip(*part.named_parameters(), strict=True)

    def mixed(features, style, *values):
        return torch.func.functional_call(part, dict(zip(names, values, strict=True)), (features, style, reverse))

    leaves = [one.requires_grad_() for one in inputs(3, 2, count=2)]
    assert torch.autograd.gradcheck(mixed, (*leaves, *values))


def test_shapes_are_known_without_values():
    part = made().to("meta")
    part.cache()
    features, style = (one.to("meta") for one in inputs())
    assert part(features, style).shape == part(features, style, reverse=True).shape == features.shape


def test_mistakes_are_named():
    part = made()
    features, style = inputs()
    with pytest.raises(ValueError, match=r"features \(3, 5, 5, 4\): \(B, 6, H, W\)"):
        part(features[:, 1:], style)
    with pytest.raises(ValueError, match=r"style \(1, 8\) and features \(3, 6, 5, 4\)"):
        part(features, style[:1])
    for truncate in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=f"truncate={truncate}"):
            GatedInvertibleConvolution(4, truncate=truncate)
