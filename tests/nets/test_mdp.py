import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from dualpixel.nets.dpdnet import DPDNet
from dualpixel.nets.mdp import MDP

VIEWS = ("left", "right")
ALL = (*VIEWS, "sharp")
ENCODER_PARAMETERS = {"enc1": 38_720, "enc2": 221_440, "enc3": 885_248, "enc4": 1_180_160}
DECODER_PARAMETERS = {
    "mid": 4_719_616,
    "dec4": 6_816_768,
    "dec3": 2_294_528,
    "dec2": 868_736,
    "dec1": 143_552,
    "out": 1_743,
}


def small(**options):
    torch.manual_seed(3)
    return MDP(**{"width": 0.125, **options})


def published(**options):
    with torch.device("meta"):
        return MDP(**options)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def open_outputs(network):
    """Let no ReLU of a three-channel layer be closed, and no last layer be zero."""
    for branch in network.decoders.branches.values():
        torch.nn.init.ones_(branch.out.conv3.bias)
        torch.nn.init.normal_(branch.out.conv1x1.weight)


def test_parameters_of_the_published_network():
    network = published()
    assert {name: count(network.get_submodule(name)) for name in ENCODER_PARAMETERS} == ENCODER_PARAMETERS
    assert list(network.decoders.branches) == list(ALL)
    for branch in network.decoders.branches.values():
        assert {name: count(block) for name, block in branch.named_children()} == DECODER_PARAMETERS
    assert count(network) == 46_860_397
    assert count(network) - count(network.decoders.branches["sharp"]) == 32_015_454


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ({"stitching": "none"}, 45_975_661),
        ({"stitching": "late"}, 46_196_845),
        ({"outputs": "sharp"}, 16_875_599),
        ({"outputs": "views"}, 31_720_542),
    ],
)
def test_parameters_of_the_variants(options, parameters):
    assert count(published(**options)) == parameters


@pytest.mark.parametrize(
    ("size", "giga"), [((256, 256), 134.941), ((512, 512), 539.764), ((1120, 1680), 3874.280)]
)  # fmt: skip
def test_multiply_accumulates_of_the_published_network(size, giga):
    counts = []
    for kind in (MDP, lambda: DPDNet(views="combined")):
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            kind()(torch.empty(1, 3, *size))
        counts.append(counter.get_total_flops() / 2e9)
    assert counts[0] == pytest.approx(giga, abs=6e-4)
    assert counts[0] / counts[1] == pytest.approx(2.46, abs=0.01)


@pytest.mark.parametrize("stitching", ["middle", "late", "none"])
@pytest.mark.parametrize("outputs", ["all", "sharp", "views"])
@pytest.mark.parametrize("residual", [False, True])
def test_gradients_reach_every_parameter(stitching, outputs, residual):
    network = small(stitching=stitching, outputs=outputs, residual=residual).train()
    open_outputs(network)
    images = network(torch.rand(2, 3, 32, 48))
    assert list(images) == {"all": [*ALL], "sharp": ["sharp"], "views": [*VIEWS]}[outputs]
    sum(image.square().sum() for image in images.values()).backward()
    silent = [name for name, one in network.named_parameters() if one.grad is None or not one.grad.any()]
    assert silent == []


def test_a_frozen_sharp_decoder_still_feeds_the_views():
    network = small()
    open_outputs(network)
    sharp = network.decoders.branches["sharp"].requires_grad_(False)
    enlarged = []
    # a clone, since what follows rectifies it in place
    sharp.dec2.up.register_forward_hook(lambda _, __, result: enlarged.append(result) or result.clone())
    images = network(torch.rand(1, 3, 32, 32))
    for name in VIEWS:
        (gradient,) = torch.autograd.grad(images[name].sum(), enlarged, retain_graph=True)
        assert gradient.any()
    (images["left"] + images["right"]).sum().backward()
    assert all(one.grad is None for one in sharp.parameters())
    assert network.enc1.conv1.weight.grad.any()


def test_images_have_the_size_of_the_input_and_lie_in_the_range():
    network = small().eval()
    image = torch.rand(2, 3, 48, 32)
    images = network(image)
    for name in ALL:
        assert images[name].shape == (2, 3, 48, 32)
        assert 0 < images[name].min() < images[name].max() < 1
        assert torch.equal(images[name], network.train()(image)[name])  # no dropout anywhere
    assert not torch.equal(images["left"], images["right"])


def test_residual_network_starts_from_the_blurry_image():
    network = small(residual=True).train()
    image, combined = torch.rand(2, 1, 3, 32, 32).unbind()
    for name in ALL:
        assert torch.equal(network(image)[name], image)
        assert torch.equal(network(image, combined)[name], combined)


def test_residual_network_corrects_where_the_relu_would_be_closed():
    network = small(residual=True)
    for branch in network.decoders.branches.values():
        torch.nn.init.constant_(branch.out.conv3.bias, -100.0)
        torch.nn.init.ones_(branch.out.conv1x1.weight)
    images = network(torch.rand(1, 3, 16, 16))
    assert all((image < -200).all() for image in images.values())


def test_residual_network_learns_from_its_first_steps():
    network = small(residual=True)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    image, *targets = torch.rand(4, 1, 3, 16, 16).unbind()
    losses = []
    for _ in range(3):
        images = network(image)
        loss = sum((images[name] - target).square().mean() for name, target in zip(ALL, targets, strict=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[2] < losses[1] < losses[0]


@pytest.mark.parametrize("residual", [False, True])
def test_recomputed_activations_give_the_same_gradients_to_the_last_bit(residual):
    image = torch.rand(2, 3, 32, 32)
    gradients = []
    for checkpointing in (False, True):
        network = small(checkpointing=checkpointing, residual=residual)
        open_outputs(network)
        calls = []
        network.enc1.conv2.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        sum(one.square().sum() for one in network(image).values()).backward()
        assert len(calls) == 1 + checkpointing
        gradients.append([one.grad for one in network.parameters()])
    assert all(one.any() for one in gradients[0])
    assert all(torch.equal(kept, again) for kept, again in zip(*gradients, strict=True))


def test_recomputed_activations_are_those_of_autocast():
    image = torch.rand(1, 3, 32, 32)
    gradients = []
    for checkpointing in (False, True):
        network = small(checkpointing=checkpointing)
        with torch.autocast("cpu", torch.bfloat16):
            images = network(image)
        assert images["sharp"].dtype == torch.bfloat16
        sum(one.float().square().sum() for one in images.values()).backward()
        gradients.append(network.enc1.conv1.weight.grad)
    assert gradients[0].any()
    assert torch.equal(*gradients)


@pytest.mark.parametrize(("width", "first"), [(0.5, 32), (0.001, 1), (2.0, 128)])
def test_width_scales_all_but_the_output_channels(width, first):
    network = published(width=width)
    assert network.enc1.conv1.out_channels == first
    for branch in network.decoders.branches.values():
        assert branch.dec1.conv2.out_channels == first
        assert branch.out.conv3.out_channels == branch.out.conv1x1.in_channels == 3


def test_options_rebuild_the_network():
    options = {"width": 0.25, "residual": True, "outputs": "views", "stitching": "late", "checkpointing": True}
    network = small(**options)
    assert network.options == options
    again = MDP(**json.loads(json.dumps(network.options)))
    assert {name: one.shape for name, one in again.state_dict().items()} == {
        name: one.shape for name, one in network.state_dict().items()
    }
    assert again.residual
    assert again.decoders.checkpointing


def test_channels_last_gives_the_same_images_in_that_format():
    network, image = small().eval(), torch.rand(1, 3, 32, 32)
    plain = network(image)
    turned = network.to(memory_format=torch.channels_last)(image.to(memory_format=torch.channels_last))
    for name in ALL:
        assert turned[name].is_contiguous(memory_format=torch.channels_last)
        assert torch.allclose(plain[name], turned[name], atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 6, 16, 16), r"takes one image \(B, 3, H, W\), found \(1, 6, 16, 16\)"),
        ((3, 16, 16), r"found \(3, 16, 16\)"),
        ((1, 3, 24, 16), "multiples of 16, found 24 x 16: pad with"),
        ((1, 3, 16, 20), "found 16 x 20"),
    ],
)
def test_images_that_do_not_fit_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        small()(torch.rand(shape))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0.0}, "width=0.0: must be positive"),
        ({"outputs": "both"}, "outputs='both': allowed are 'all', 'sharp', 'views'"),
        ({"stitching": "early"}, "stitching='early': allowed are 'middle', 'late', 'none'"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MDP(**options)
