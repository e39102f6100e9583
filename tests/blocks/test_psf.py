import copy
import io

import pytest
import torch
from k3dn_parts import drawn, fill_part, published_shapes, stored

from dualpixel.blocks.psf import PSFBlock

PUBLISHED = {
    "conv1.weight": (1, 16, 1, 10, 6, 2),
    "conv2.lower": (16, 16),
    "conv2.log_s": (16,),
    "conv2.upper": (16, 16),
    "conv2.p": (16, 16),
    "conv2.sign_s": (16,),
    "conv2.modulation.weight": (16, 256),
    "conv2.modulation.bias": (16,),
    "inter.to_w": (1, 16, 1, 9, 5),
    "inter.to_r.weight": (16, 256),
    "inter.to_r.bias": (16,),
    "inter.out.weight": (256, 16),
    "inter.out.bias": (256,),
}


def made(channels=6, style_channels=8, truncate=100.0, size=9, seed=0, **options):
    """A block in which nothing is without effect."""
    torch.manual_seed(seed)
    block = PSFBlock(channels, style_channels, truncate, size, **options)
    for one in block.query.parameters():
        torch.nn.init.normal_(one, std=0.5)
    return block


def inputs(channels=6, style_channels=8, count=3, dtype=torch.float32):
    return torch.randn(count, channels, 7, 5, dtype=dtype), torch.randn(count, style_channels, dtype=dtype)


@pytest.mark.parametrize("truncate", [100, 12])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_the_block_gives_what_the_authors_block_gives(direction, truncate, fill, reference):
    block = fill_part(PSFBlock(16, truncate=truncate), fill, PUBLISHED, "deblur.0.", "psf.0.")
    features, style = drawn((3, 16, 18, 14), (3, 256))
    expected = stored(reference)[f"psf/out_truncate{truncate}_{direction}"]
    with torch.no_grad():
        assert (block(features, style, direction == "reverse") - expected).abs().max() < 1e-5
    if direction == "forward":
        block.cache()
        assert (block(features, style) - expected).abs().max() < 1e-5


def test_weights_have_names_and_number_of_the_published_network(reference):
    block = PSFBlock(192)
    published = {key: shape for key, shape in published_shapes(reference).items() if key.startswith("deblur.0.")}
    state = block.state_dict()
    assert len(state) == len(published)
    assert sum(one.numel() for one in state.values()) == sum(torch.Size(one).numel() for one in published.values())
    assert 8 * sum(one.numel() for one in block.parameters()) == 2_029_568
    block.cache()
    assert 8 * sum(one.numel() for one in block.parameters()) == 2_029_568 - 184_320


def test_deblurring_convolves_before_it_mixes_and_reblurring_after():
    block = made()
    order = []
    for name in ("kernels", "mixing"):
        getattr(block, name).register_forward_hook(lambda *_, name=name: order.append(name))
    features, style = inputs()
    block(features, style)
    block(features, style, reverse=True)
    assert order == ["kernels", "mixing", "mixing", "kernels"]


def test_both_directions_are_put_together_from_the_parts():
    block = made()
    features, style = inputs()
    refined = block.query(style, block.kernels.kernels())
    act = torch.nn.LeakyReLU(0.2)
    deblurred = act(block.mixing(act(block.kernels(features)), refined)) + features
    reblurred = act(block.kernels(act(block.mixing(features, refined, True)), True)) + features
    assert torch.equal(block(features, style), deblurred)
    assert torch.equal(block(features, style, reverse=True), reblurred)


def test_inference_form_changes_nothing_and_does_not_reblur():
    block = made()
    features, style = inputs()
    before = block(features, style)
    assert not block.cached
    block.cache()
    block.cache()
    assert block.cached
    assert block.mixing.cached
    assert block.query.cached
    assert torch.equal(block(features, style), before)
    with pytest.raises(ValueError, match="cached for deblurring only"):
        block(features, style, reverse=True)
    with pytest.raises(ValueError, match="cached for deblurring only"):
        block.reverse_error(features, style)
    names = set(block.state_dict())
    assert names ^ set(made().state_dict()) == {"kernels.left", "kernels.spectrum"}


def test_a_block_that_begins_in_inference_form_is_consistent():
    block = PSFBlock(6, 8, cached=True)
    assert block.cached
    assert block.mixing.cached
    assert block.query.cached
    features, style = inputs()
    before = block(features, style)
    block.load_state_dict(block.state_dict())
    assert torch.equal(block(features, style), before)


def test_the_inference_form_follows_what_is_loaded():
    source = made(seed=1)
    features, style = inputs()
    expected = source(features, style)
    source.cache()
    block = made(seed=2, cached=True)
    file = io.BytesIO()
    torch.save(block, file)
    file.seek(0)
    for one in (block, copy.deepcopy(block), copy.deepcopy(block).to("meta").to_empty(device="cpu")):
        one.load_state_dict(source.state_dict())
        assert torch.equal(one(features, style), expected)
    unpickled = torch.load(file, weights_only=False)
    unpickled.load_state_dict(source.state_dict())
    assert torch.equal(unpickled(features, style), expected)
    whole = torch.nn.ModuleDict({"psf": torch.nn.ModuleList([made(seed=3, cached=True)])})
    whole.load_state_dict({f"psf.0.{name}": value for name, value in source.state_dict().items()})
    assert torch.equal(whole["psf"][0](features, style), expected)
    with torch.device("meta"):
        empty = PSFBlock(6, 8, cached=True)
    empty.load_state_dict(source.state_dict(), assign=True)
    assert torch.equal(empty(features, style), expected)


def test_the_inference_form_moves_as_a_whole():
    block = made(cached=True)
    features, style = inputs()
    before = block(features, style)
    moved = copy.deepcopy(block).double()
    result = moved(features.double(), style.double())
    assert result.dtype == torch.float64
    torch.testing.assert_close(result, before.double(), rtol=0, atol=1e-6)
    on_meta = copy.deepcopy(block).to("meta")
    assert on_meta(features.to("meta"), style.to("meta")).shape == features.shape
    assert torch.equal(block(features, style), before)


def test_reverse_error_is_the_distance_from_what_went_in():
    block = made()
    features, style = inputs()
    errors = block.reverse_error(features, style)
    assert errors.shape == (3,)
    assert not errors.requires_grad
    back = block(block(features, style), style, reverse=True)
    for error, one, other in zip(errors, back, features, strict=True):
        assert error.item() == pytest.approx(((one - other).norm() / other.norm()).item(), rel=1e-5)


def test_reblurring_is_not_the_inverse_of_deblurring():
    torch.manual_seed(0)
    block = PSFBlock(192)
    features = torch.randn(2, 192, 18, 14)
    style = 0.1 * torch.randn(2, 256)
    errors = block.reverse_error(features, style)
    change = (block(features, style, reverse=True) - features).flatten(1).norm(dim=1) / features.flatten(1).norm(dim=1)
    assert errors.min() > 0.03
    torch.testing.assert_close(errors, change, rtol=0.05, atol=0)


@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_are_those_of_finite_differences(reverse):
    block = made(3, 2, truncate=1e6, size=3).double()
    names, values = zip(*block.named_parameters(), strict=True)

    def result(features, style, *values):
        return torch.func.functional_call(block, dict(zip(names, values, strict=True)), (features, style, reverse))

    leaves = (torch.randn(2, 3, 4, 3).double().requires_grad_(), torch.randn(2, 2).double().requires_grad_())
    assert torch.autograd.gradcheck(result, (*leaves, *values))


@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_reach_every_parameter_and_the_style(reverse):
    block = made()
    features, style = inputs()
    style.requires_grad_()
    block(features, style, reverse).square().sum().backward()
    silent = [name for name, one in block.named_parameters() if one.grad is None or not one.grad.any()]
    assert silent == []
    assert style.grad.any()


@pytest.mark.parametrize("reverse", [False, True])
def test_autocast_stays_near_single_precision(reverse):
    block = made()
    features, style = inputs()
    expected = block(features, style, reverse)
    with torch.autocast("cpu", torch.bfloat16):
        result = block(features, style, reverse)
    assert 0 < (result - expected).abs().max() < 0.02


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="size=2"):
        PSFBlock(4, size=2)
    with pytest.raises(ValueError, match="truncate=0"):
        PSFBlock(4, truncate=0)
    features, style = inputs()
    with pytest.raises(ValueError, match=r"style \(2, 8\) and features \(3, 6, 7, 5\)"):
        made()(features, style[:2])


@pytest.mark.gpu
def test_gpu_gives_what_the_cpu_gives():
    block = made()
    features, style = inputs()
    with torch.no_grad():
        on_cpu = [block(features, style, reverse) for reverse in (False, True)]
        block.cuda()
        on_gpu = [block(features.cuda(), style.cuda(), reverse).cpu() for reverse in (False, True)]
    for one, other in zip(on_gpu, on_cpu, strict=True):
        assert (one - other).abs().max() < 1e-3  # convolutions of a GPU may round to TF32
