import json

import pytest
import torch
from dpanet_parts import fill_part, stored
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dualpixel.blocks.alignment import DecoderAlignment, EncoderAlignment, SideBranch
from dualpixel.blocks.correlation import correlation
from dualpixel.blocks.deformable import ModulatedDeformableConvolution
from dualpixel.blocks.padding import pad_to_multiple, run_padded
from dualpixel.nets.dpanet import DecoderLevel, DPANet, EncoderLevel

BLOCK_PARAMETERS = {
    "extractor": 666_496,
    "enc1": 324_342,
    "enc2": 1_025_462,
    "enc3": 3_705_654,
    "enc4": 14_030_390,
    "enc5": 11_799_040,
    "dec4": 24_081_462,
    "dec3": 6_208_054,
    "dec2": 1_645_878,
    "dec1": 458_422,
    "out": 38_659,
}
BASELINE = {"eam": False, "dam": False}
VARIANTS = [
    ({}, 63_983_859),
    (BASELINE, 60_756_227),
    ({"share_encoder": False, "share_extractor": False}, 93_707_507),
    ({"share_encoder": False}, 93_041_011),
    ({"initial_extractor": False}, 63_282_227),
    ({"side_convolutions": 3}, 68_660_723),
    ({"side_convolutions": 3, "side_channels": 27}, 64_194_675),
    ({"eam": False}, 62_156_123),
    ({"offsets_from": "features"}, 63_089_459),
    ({"offsets_from": "volume"}, 63_050_739),
    ({"dam": False}, 62_583_963),
    ({"volume_source": "current"}, 63_983_859),
    ({"dam_sequential": False}, 63_983_859),
    ({"bottleneck_resize": "none"}, 63_983_859),
    ({"zero_init_offsets": True}, 63_983_859),
]
SWITCHES = [options for options, _ in VARIANTS]


def small(**options):
    torch.manual_seed(3)
    return DPANet(**{"width": 0.0625, "side_channels": 32, **options})


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def views(height=32, width=48, batch=1, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.rand(2, batch, 3, height, width, generator=random).unbind()


def seeing(module):
    """What a module is called with, one entry for each call."""
    seen = []
    module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    return seen


@pytest.mark.parametrize(("options", "parameters"), VARIANTS)
def test_parameters_of_the_published_network_and_of_its_variants(options, parameters):
    with torch.device("meta"):
        network = DPANet(**options)
    assert count(network) == parameters
    if not options:
        assert {name: count(block) for name, block in network.named_children()} == BLOCK_PARAMETERS
        assert len(network.state_dict()) == 212


@pytest.mark.parametrize(("options", "billions"), [({}, 278.889234432), (BASELINE, 292.900831232)])
def test_multiply_accumulates_of_the_plain_convolutions(options, billions):
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        DPANet(**options)(torch.empty(1, 3, 256, 256), torch.empty(1, 3, 256, 256))
    assert counter.get_flop_counts()["Global"][torch.ops.aten.convolution] == round(2e9 * billions)


def test_an_encoder_level_gives_what_the_authors_gives(reference, fill):
    level = EncoderLevel(8, 16, EncoderAlignment(16), share=True, pool=True, volume_first=True)
    fill_part(level, reference, fill, "encoder.encoder2.")
    arrays = stored(reference, "dpanet-ops")

    class Stored(nn.Module):
        def forward(self, left, right):
            return arrays["enc_volume"]

    level.alignment.correlation = Stored()
    with torch.no_grad():
        left, right = level(arrays["enc_left"], arrays["enc_right"])
    assert (left - arrays["enc_out_left"]).abs().max() < 1e-5
    assert (right - arrays["enc_out_right"]).abs().max() < 1e-5


@pytest.mark.parametrize("case", ["crop", "pad"])
def test_a_decoder_level_gives_what_the_authors_gives(case, reference, fill):
    level = fill_part(DecoderLevel(32, 16, DecoderAlignment(16)), reference, fill, "up4.")
    arrays = stored(reference, "dpanet-ops")
    with torch.no_grad():
        result = level(*(arrays[f"up_{case}_{name}"] for name in ("deep", "left", "right")))
    assert (result - arrays[f"up_{case}_out"]).abs().max() < 1e-5


@pytest.mark.parametrize("options", [*SWITCHES, {"residual": True}])
def test_a_training_step_reaches_every_parameter(options):
    network = small(**options).train()
    if options.get("residual"):
        nn.init.normal_(network.out[-1].weight)
    if options.get("zero_init_offsets"):
        for branch in network.modules():
            if isinstance(branch, SideBranch):
                nn.init.normal_(branch[-1].weight, std=0.1)
    network(*views(64, 64, batch=2)).square().sum().backward()
    silent = [name for name, one in network.named_parameters() if one.grad is None or not one.grad.any()]
    assert silent == []


def test_the_output_is_an_image_of_the_same_size_and_repeats_exactly():
    network = small().eval()
    left, right = views(40, 24, batch=2)
    image = network(left, right)
    assert image.shape == (2, 3, 40, 24)
    assert image.min() > 0
    assert image.max() < 1
    assert torch.equal(image, network(left, right))
    assert not torch.allclose(image, network(right, left), atol=1e-5)
    one = network(left[1:], right[1:])
    assert torch.allclose(image[1:], one, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (68, 76), (36, 8)])
def test_multiples_of_four_are_taken_as_they_are(size):
    assert small().eval()(*views(*size)).shape == (1, 3, *size)


@pytest.mark.parametrize("size", [(1, 1), (7, 61), (45, 33)])
def test_any_size_goes_through_padding(size):
    network = small().eval()
    left, right = views(*size)
    with torch.no_grad():
        image = run_padded(network, network.multiple, left, right)
        mirrored = network(pad_to_multiple(left, 8), pad_to_multiple(right, 8))
    assert image.shape == (1, 3, *size)
    assert torch.equal(image, mirrored[..., : size[0], : size[1]])


def test_the_volume_of_a_level_is_that_of_what_comes_in_pooled_with_it():
    network = small()
    levels = {name: seeing(network.get_submodule(name)) for name in ("enc1", "enc3")}
    volumes = {name: seeing(network.get_submodule(f"{name}.alignment")) for name in levels}
    network(*views())
    for name, ((left, right),) in levels.items():
        whole = nn.functional.leaky_relu(correlation(left, right, 4), 0.1)
        wanted = whole if name == "enc1" else nn.functional.max_pool2d(whole, 2)
        assert torch.allclose(volumes[name][0][2], wanted, atol=1e-5)


def test_the_volume_of_the_paper_is_that_of_the_features_to_be_aligned():
    network = small(volume_source="current")
    aligned, correlated = seeing(network.enc3.alignment), seeing(network.enc3.alignment.correlation)
    network(*views())
    assert aligned[0][2] is None
    assert all(torch.equal(one, other) for one, other in zip(correlated[0], aligned[0][:2], strict=True))
    assert correlated[0][0].shape[-2:] == (8, 12)


def test_the_published_bottleneck_is_seen_enlarged():
    deep = torch.rand(1, 128, 8, 8, requires_grad=True)
    skip = torch.rand(1, 64, 8, 8)
    seen = {}
    for resize in ("crop", "none"):
        level = small(width=0.125, bottleneck_resize=resize).dec4
        gradient = torch.autograd.grad(level.up(deep).sum(), deep)[0][0].abs().sum(0)
        assert gradient.all()
        gradient = torch.autograd.grad(level(deep, skip, skip).sum(), deep)[0][0].abs().sum(0)
        seen[resize] = (gradient > 0).nonzero()
    assert (seen["crop"].min().item(), seen["crop"].max().item()) == (2, 6)
    assert (seen["none"].min().item(), seen["none"].max().item()) == (0, 7)


def test_two_encoders_of_equal_weights_are_one_shared_encoder():
    shared, own = small().eval(), small(share_encoder=False, share_extractor=False).eval()
    weights = shared.state_dict()
    own.load_state_dict(
        {name: weights[name if name in weights else _shared(name)] for name in own.state_dict()}, strict=True
    )
    left, right = views()
    with torch.no_grad():
        assert torch.allclose(shared(left, right), own(left, right), atol=1e-5)
        for one in (own.enc4.block.right, own.enc4.alignment.deform.right, own.enc5.right, own.extractor.right):
            next(one.parameters()).add_(1.0)
            assert not torch.allclose(shared(left, right), own(left, right), atol=1e-5)
            next(one.parameters()).sub_(1.0)


def _shared(name):
    return name.replace(".right.", ".both.").replace(".left.", ".both.")


def test_without_the_extractor_the_images_are_correlated():
    network = small(initial_extractor=False)
    seen = seeing(network.enc1.alignment.correlation)
    left, right = views()
    network(left, right)
    assert torch.equal(seen[0][0], left) and torch.equal(seen[0][1], right)


def test_alignment_is_dropped_where_it_is_asked_for():
    def deformable(part):
        return sum(isinstance(one, ModulatedDeformableConvolution) for one in part.modules())

    for options, encoder, decoder in ([{}, 1, 2], [{"eam": False}, 0, 2], [{"dam": False}, 1, 0], [BASELINE, 0, 0]):
        with torch.device("meta"):
            network = DPANet(**options)
        assert [deformable(level) for level in (network.enc1, network.enc4)] == [encoder] * 2
        assert [deformable(level) for level in (network.dec1, network.dec4)] == [decoder] * 2
        branches = sum(isinstance(one, SideBranch) for one in network.modules())
        assert branches == 8 * bool(encoder) + 8 * bool(decoder)


def test_order_of_the_decoders_alignment():
    for sequential in (True, False):
        assert {level.alignment.sequential for level in _decoder(small(dam_sequential=sequential))} == {sequential}


def _decoder(network):
    return [network.dec1, network.dec2, network.dec3, network.dec4]


def test_offsets_begin_at_zero_where_asked_for():
    for zero in (True, False):
        network = small(zero_init_offsets=zero, side_convolutions=2)
        branches = [one for one in network.modules() if isinstance(one, SideBranch)]
        assert len(branches) == 16
        for branch in branches:
            assert bool(branch[-1].weight.any() or branch[-1].bias.any()) is not zero
            assert branch[0].weight.any() and branch[0].out_channels == 2


def test_the_range_of_the_volume():
    with torch.device("meta"):
        network = DPANet(max_displacement=9)
    assert network.enc4.alignment.embedding[0].in_channels == 361


def test_width_scales_all_but_images_volumes_and_offsets():
    network = small(width=0.1)
    assert [network.get_submodule(f"dec{level}").block.conv.out_channels for level in (1, 2, 3, 4)] == [6, 13, 26, 51]
    assert network.dec4.up.in_channels == 102
    assert network.enc1.alignment.side_left[0].out_channels == 27
    assert network.enc1.alignment.embedding[0].in_channels == 81
    assert network(*views()).shape[1] == 3


def test_the_residual_network_starts_from_the_blurry_image():
    network = small(residual=True).train()
    left, right = views()
    combined = torch.rand(left.shape)
    assert torch.equal(network(left, right, combined), combined)
    assert torch.allclose(network(left, right), (left + right) / 2)
    assert not torch.allclose(small()(left, right), (left + right) / 2, atol=0.05)


def test_options_rebuild_the_network():
    network = small(eam=False, residual=True, volume_source="current")
    again = DPANet(**json.loads(json.dumps(network.options)))
    assert again.options == network.options
    assert {name: one.shape for name, one in again.state_dict().items()} == {
        name: one.shape for name, one in network.state_dict().items()
    }


def test_a_training_step_repeats_exactly():
    steps = []
    for _ in range(2):
        network = small()
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        network(*views()).square().mean().backward()
        optimizer.step()
        steps.append(network.state_dict())
    assert all(torch.equal(value, steps[1][name]) for name, value in steps[0].items())


def test_channels_last_and_half_precision_give_the_same_image():
    network, (left, right) = small().eval(), views()
    with torch.no_grad():
        plain = network(left, right)
        with torch.autocast("cpu", torch.bfloat16):
            half = network(left, right)
        turned = network.to(memory_format=torch.channels_last)(
            *(one.to(memory_format=torch.channels_last) for one in (left, right))
        )
    assert turned.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(plain, turned, atol=1e-5)
    assert torch.allclose(plain, half.float(), atol=0.03)


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        ((1, 6, 32, 32), (1, 6, 32, 32), r"two views \(B, 3, H, W\)"),
        ((1, 3, 32, 32), (1, 3, 32, 40), r"found \(1, 3, 32, 32\) and \(1, 3, 32, 40\)"),
        ((1, 3, 32, 42), (1, 3, 32, 42), "multiples of 4 and at least 8, found 32 x 42"),
        ((1, 3, 4, 32), (1, 3, 4, 32), "found 4 x 32"),
    ],
)
def test_wrong_inputs_are_refused(left, right, message):
    with pytest.raises(ValueError, match=message):
        small()(torch.rand(left), torch.rand(right))


@pytest.mark.parametrize(
    "options",
    [
        {"width": 0.0},
        {"side_convolutions": 0},
        {"side_channels": 0},
        {"max_displacement": -1},
        {"offsets_from": "flow"},
        {"volume_source": "next"},
        {"bottleneck_resize": "zoom"},
    ],
)
def test_wrong_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        DPANet(**options)
