import math

import pytest
import torch
from dpanet_parts import stored
from torch import nn

from dualpixel.blocks.residual import ConvolutionResidualBlock, ResidualBlock, SameConvolution
from dualpixel.blocks.unet import UpConvolution


@pytest.mark.parametrize("kernel", [2, 3])
def test_same_convolution_gives_what_the_authors_convolution_gives(kernel, reference):
    arrays = stored(reference, "dpanet-ops")
    layer = SameConvolution(4, 3, kernel)
    layer.load_state_dict({name: arrays[f"conv{kernel}_{name}"] for name in ("weight", "bias")})
    with torch.no_grad():
        assert (layer(arrays["conv_in"]) - arrays[f"conv{kernel}_out"]).abs().max() < 1e-5


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
def test_same_convolution_keeps_the_size_and_adds_the_odd_zero_at_the_end(kernel):
    layer = SameConvolution(1, 1, kernel)
    nn.init.ones_(layer.weight)
    nn.init.zeros_(layer.bias)
    dot = torch.zeros(1, 1, 9, 9)
    dot[..., 4, 4] = 1
    spread = layer(dot)
    assert spread.shape == dot.shape
    before, after = kernel // 2, (kernel - 1) // 2  # a pixel is seen by outputs before it where the kernel reaches on
    assert spread[0, 0, 4].nonzero().flatten().tolist() == list(range(4 - before, 4 + after + 1))
    assert spread[0, 0, :, 4].nonzero().flatten().tolist() == list(range(4 - before, 4 + after + 1))


def test_same_convolution_begins_with_he_over_the_outputs():
    torch.manual_seed(0)
    layer = SameConvolution(32, 128, 3)
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / (128 * 9)), rel=0.02)
    bound = 1 / math.sqrt(32 * 9)
    assert 0.9 * bound < layer.bias.abs().max().item() <= bound
    assert UpConvolution(32, 128).weight.std().item() == pytest.approx(math.sqrt(2 / (128 * 4)), rel=0.02)


def test_residual_block_adds_to_its_input():
    block = ResidualBlock(2)
    features = torch.randn(1, 2, 5, 4)
    nn.init.constant_(block.conv1.bias, -100.0)  # the ReLU between the convolutions is closed
    nn.init.constant_(block.conv2.bias, 0.25)
    assert torch.allclose(block(features), features + 0.25)


def test_residual_block_begins_near_the_identity():
    torch.manual_seed(0)
    block = ResidualBlock(64)
    for convolution in (block.conv1, block.conv2):
        assert convolution.weight.std().item() == pytest.approx(0.1 * math.sqrt(2 / (64 * 9)), rel=0.02)
        assert not convolution.bias.any()
    features = torch.randn(1, 64, 8, 8)
    assert 0 < (block(features) - features).std() < 0.02


def test_convolution_residual_block_rectifies_once():
    block = ConvolutionResidualBlock(3, 4)
    assert sum(one.numel() for one in block.parameters()) == 3 * 4 * 9 + 4 + 4 * (4 * 4 * 9 + 4)
    for residual in (block.residual1, block.residual2):
        nn.init.zeros_(residual.conv2.weight)
    nn.init.constant_(block.residual2.conv2.bias, -1.0)
    image = torch.randn(1, 3, 6, 7)
    assert torch.equal(block(image), block.conv(image).relu() - 1)
