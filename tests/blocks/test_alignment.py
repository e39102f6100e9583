import pytest
import torch
from torch import nn

from dualpixel.blocks.alignment import DecoderAlignment, EncoderAlignment, NoAlignment, SideBranch
from dualpixel.blocks.correlation import correlation

C, H, W = 5, 8, 12


def views(count=2, seed=0):
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(2, C, H, W, generator=random) for _ in range(count)]


def seeing(module):
    """What a module is called with, one entry for each call."""
    seen = []
    module.register_forward_pre_hook(lambda _, inputs: seen.append([one.detach().clone() for one in inputs]))
    return seen


def plainly(deform, features):
    """A deformable convolution without offsets whose modulation is one half."""
    return 0.5 * nn.functional.conv2d(features, deform.weight, padding=1) + deform.bias[:, None, None]


def moving(branch, rows, columns):
    """Make a side branch say: all taps that far away, and modulation (nearly) one."""
    nn.init.zeros_(branch[-1].weight)
    offsets = torch.tensor([rows, columns]).repeat(9).float()
    branch[-1].bias.data = torch.cat((offsets, torch.full((9,), 20.0)))


def test_encoder_begins_with_half_a_convolution_where_the_side_branches_begin_at_zero():
    module = EncoderAlignment(C, make_side=lambda channels: SideBranch(channels, zero_init=True))
    left, right = views()
    results = module(left, right)
    for features, result in zip((left, right), results, strict=True):
        assert torch.allclose(result, plainly(module.deform.both, features), atol=1e-5)


def test_encoder_moves_each_view_by_its_own_offsets():
    module = EncoderAlignment(C)
    left, right = views()
    moving(module.side_left, 0, 2)
    moving(module.side_right, 1, -2)
    with torch.no_grad():
        moved_left, moved_right = module(left, right)
        plain = nn.functional.conv2d(torch.cat((left, right)), module.deform.both.weight, padding=1)
    plain = plain + module.deform.both.bias[:, None, None]
    assert torch.allclose(moved_left[..., 1:-1, 1:-3], plain[:2, ..., 1:-1, 3:-1], atol=1e-5)
    assert torch.allclose(moved_right[..., 1:-2, 3:-1], plain[2:, ..., 2:-1, 1:-3], atol=1e-5)


@pytest.mark.parametrize(
    ("offsets_from", "channels"), [("features_and_volume", 3 * C), ("features", 2 * C), ("volume", C)]
)
def test_encoder_estimates_from_what_it_is_told_to(offsets_from, channels):
    module = EncoderAlignment(C, displacement=2, offsets_from=offsets_from)
    seen = seeing(module.side_right)
    left, right = views()
    module(left, right)
    ((hint,),) = seen
    assert hint.shape[1] == channels
    if offsets_from == "features":
        assert not any("embedding" in name for name, _ in module.named_parameters())
    else:
        volume = nn.functional.leaky_relu(correlation(left, right, 2), 0.1)
        assert torch.allclose(hint[:, -C:], module.embedding(volume), atol=1e-5)
    if offsets_from != "volume":
        assert torch.equal(hint[:, : 2 * C], torch.cat((left, right), dim=1))


def test_encoder_takes_a_volume_from_elsewhere():
    module = EncoderAlignment(C)
    left, right, *_ = views()
    seen = seeing(module.embedding)
    volume = torch.randn(2, 81, H, W)
    module(left, right, volume)
    assert torch.equal(seen[0][0], volume)


def test_negative_correlation_keeps_a_tenth():
    module = EncoderAlignment(C)
    left, _ = views()
    seen = seeing(module.embedding)
    module(left, -left)
    centre = seen[0][0][:, 40]
    assert torch.allclose(centre, -0.1 * left.square().mean(1), atol=1e-5)


def test_weights_of_the_views_are_one_or_two():
    left, right = views()
    single, double = EncoderAlignment(C), EncoderAlignment(C, share=False)
    assert sum(one.numel() for one in double.parameters()) - sum(one.numel() for one in single.parameters()) == (
        C * C * 9 + C
    )
    state = single.state_dict()
    for name in ("weight", "bias"):
        value = state.pop(f"deform.both.{name}")
        state[f"deform.left.{name}"] = state[f"deform.right.{name}"] = value
    double.load_state_dict(state)
    with torch.no_grad():
        for one, two in zip(single(left, right), double(left, right), strict=True):
            assert torch.allclose(one, two, atol=1e-5)


@pytest.mark.parametrize("sequential", [True, False])
def test_decoder_estimates_the_right_offsets_after_or_beside_the_left(sequential):
    module = DecoderAlignment(C, sequential=sequential)
    left_hint, right_hint = seeing(module.side_left), seeing(module.side_right)
    left, right, deep = views(3)
    aligned, _ = module(left, right, deep)
    assert torch.equal(left_hint[0][0], torch.cat((left, right, deep), dim=1))
    first = aligned if sequential else left
    assert torch.equal(right_hint[0][0], torch.cat((first, right, deep), dim=1))
    assert not torch.equal(aligned, left)


def test_decoder_moves_each_view_by_its_own_offsets_and_weights():
    module = DecoderAlignment(C)
    left, right, deep = views(3)
    moving(module.side_left, -1, 0)
    moving(module.side_right, 0, 1)
    with torch.no_grad():
        moved_left, moved_right = module(left, right, deep)
        plain_left = nn.functional.conv2d(left, module.deform_left.weight, module.deform_left.bias, padding=1)
        plain_right = nn.functional.conv2d(right, module.deform_right.weight, module.deform_right.bias, padding=1)
    assert torch.allclose(moved_left[..., 2:-1, 1:-1], plain_left[..., 1:-2, 1:-1], atol=1e-5)
    assert torch.allclose(moved_right[..., 1:-1, 1:-2], plain_right[..., 1:-1, 2:-1], atol=1e-5)


def test_side_branches_of_several_convolutions():
    branch = SideBranch(12, convolutions=3, hidden_channels=7, zero_init=True)
    shapes = [tuple(one.weight.shape[:2]) for one in branch if isinstance(one, nn.Conv2d)]
    assert shapes == [(7, 12), (7, 7), (27, 7)]
    assert [one.negative_slope for one in branch if isinstance(one, nn.LeakyReLU)] == [0.1, 0.1]
    assert not branch(torch.rand(1, 12, 4, 4)).any()
    assert SideBranch(12)(torch.rand(1, 12, 4, 4)).any()


@pytest.mark.parametrize(("share", "kernels"), [(True, 1), (False, 2)])
def test_without_alignment_the_views_are_convolved_and_the_hint_is_not_looked_at(share, kernels):
    module = NoAlignment(C, share)
    left, right, deep = views(3)
    results = module(left, right, deep)
    assert all(torch.equal(one, other) for one, other in zip(results, module(left, right), strict=True))
    convolutions = [one for one in module.modules() if isinstance(one, nn.Conv2d)]
    assert len(convolutions) == kernels
    assert torch.allclose(results[0], convolutions[0](left), atol=1e-5)
    assert torch.allclose(results[1], convolutions[-1](right), atol=1e-5)


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match="offsets_from='flow': allowed are 'features_and_volume'"):
        EncoderAlignment(C, offsets_from="flow")
    with pytest.raises(ValueError, match="convolutions=0"):
        SideBranch(C, convolutions=0)


@pytest.mark.parametrize("module", [EncoderAlignment(C), DecoderAlignment(C)])
def test_gradients_reach_every_parameter(module):
    sum(one.square().sum() for one in module(*views(2 if isinstance(module, EncoderAlignment) else 3))).backward()
    silent = [name for name, one in module.named_parameters() if one.grad is None or not one.grad.any()]
    assert silent == []
