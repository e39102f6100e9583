import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from dualpixel.nets.dpdnet import DPDNet

BLOCK_PARAMETERS = {
    "enc1": 40_448,
    "enc2": 221_440,
    "enc3": 885_248,
    "enc4": 3_539_968,
    "mid": 14_157_824,
    "dec4": 9_176_576,
    "dec3": 2_294_528,
    "dec2": 573_824,
    "dec1": 143_552,
    "out": 1_743,
}


def small(**options):
    torch.manual_seed(3)
    return DPDNet(**{"width": 0.125, **options})


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_of_the_published_networks():
    with torch.device("meta"):
        dual, combined = DPDNet(), DPDNet(views="combined")
    assert {name: count(block) for name, block in dual.named_children()} == BLOCK_PARAMETERS
    assert count(dual) == 31_035_151
    assert count(combined) == 31_033_423


def test_multiply_accumulates_of_the_published_network():
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        DPDNet()(torch.empty(1, 6, 256, 256))
    assert counter.get_total_flops() / 2 == pytest.approx(54.833e9, rel=1e-5)


@pytest.mark.parametrize("views", ["dual", "combined"])
@pytest.mark.parametrize("residual", [False, True])
def test_gradients_reach_every_parameter(views, residual):
    network = small(views=views, residual=residual).train()
    if residual:
        torch.nn.init.normal_(network.out.conv1x1.weight)
    torch.nn.init.ones_(network.out.conv3.bias)  # opens the three channels of the ReLU
    network(torch.rand(2, network.in_channels, 32, 16)).square().sum().backward()
    silent = [name for name, one in network.named_parameters() if one.grad is None or not one.grad.any()]
    assert silent == []


def test_output_is_an_image_of_the_same_size_and_fixed_in_evaluation():
    network = small().eval()
    views = torch.rand(2, 6, 48, 32)
    image = network(views)
    assert image.shape == (2, 3, 48, 32)
    assert image.min() > 0
    assert image.max() < 1
    assert torch.equal(image, network(views))
    network.train()
    assert not torch.equal(network(views), network(views))


def test_dropout_stands_at_level_four_and_the_bottleneck():
    network = small(dropout=0.25)
    rates = {name: module.p for name, module in network.named_modules() if isinstance(module, torch.nn.Dropout)}
    assert {name: rate for name, rate in rates.items() if rate} == {"enc4.dropout": 0.25, "mid.dropout": 0.25}


def test_residual_network_starts_from_the_blurry_image():
    network = small(residual=True).train()
    views, combined = torch.rand(1, 6, 32, 32), torch.rand(1, 3, 32, 32)
    assert torch.equal(network(views, combined), combined)
    assert torch.equal(network(views), (views[:, :3] + views[:, 3:]) / 2)
    single = small(residual=True, views="combined")
    assert torch.equal(single(combined), combined)


def test_residual_network_corrects_where_the_relu_would_be_closed():
    network = small(residual=True)
    torch.nn.init.constant_(network.out.conv3.bias, -100.0)
    torch.nn.init.ones_(network.out.conv1x1.weight)
    combined = torch.rand(1, 3, 16, 16)
    assert (network(torch.rand(1, 6, 16, 16), combined) < combined - 100).all()


def test_residual_network_learns_from_its_first_steps():
    network = small(residual=True, dropout=0.0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    views, sharp = torch.rand(1, 6, 16, 16), torch.rand(1, 3, 16, 16)
    losses = []
    for _ in range(3):
        loss = (network(views) - sharp).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[2] < losses[1] < losses[0]


@pytest.mark.parametrize(("width", "first"), [(0.5, 32), (0.001, 1), (2.0, 128)])
def test_width_scales_all_but_the_output_channels(width, first):
    with torch.device("meta"):
        network = DPDNet(width=width)
    assert network.enc1.conv1.out_channels == first
    assert network.out.conv3.out_channels == network.out.conv1x1.in_channels == 3


def test_options_rebuild_the_network():
    network = small(views="combined", residual=True)
    again = DPDNet(**json.loads(json.dumps(network.options)))
    assert {name: one.shape for name, one in again.state_dict().items()} == {
        name: one.shape for name, one in network.state_dict().items()
    }
    assert again.residual


def test_channels_last_gives_the_same_image_in_that_format():
    network, views = small().eval(), torch.rand(1, 6, 32, 32)
    plain = network(views)
    turned = network.to(memory_format=torch.channels_last)(views.to(memory_format=torch.channels_last))
    assert turned.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(plain, turned, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, 3, 32, 32), r"\(B, 6, H, W\)"), ((1, 6, 32, 40), "multiples of 16, found 32 x 40"), ((6, 32, 32), "found")],
)
def test_wrong_inputs_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        small()(torch.rand(shape))


@pytest.mark.parametrize("options", [{"views": "both"}, {"width": 0.0}, {"dropout": 1.0}, {"dropout": -0.1}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        DPDNet(**options)
