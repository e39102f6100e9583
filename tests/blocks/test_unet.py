import math

import pytest
import torch
from torch import nn

from dualpixel.blocks.unet import (
    ConvolutionBlock,
    DecoderBlock,
    EncoderBlock,
    ImageOutput,
    UpConvolution,
    he_normal_,
    initialise_as_keras,
)


def test_up_convolution_adds_zeros_at_the_bottom_and_the_right():
    layer = UpConvolution(1, 1)
    nn.init.ones_(layer.weight)
    nn.init.zeros_(layer.bias)
    result = layer(torch.tensor([[[[1.0, 10.0]]]]))
    assert result.tolist() == [[[[4.0, 22.0, 40.0, 20.0], [2.0, 11.0, 20.0, 10.0]]]]


def test_encoder_skip_is_taken_after_the_dropout():
    torch.manual_seed(0)
    block = EncoderBlock(3, 8, dropout=0.5).train()
    nn.init.ones_(block.conv2.bias)
    nn.init.zeros_(block.conv2.weight)
    skip, pooled = block(torch.rand(2, 3, 8, 6))
    assert set(skip.unique().tolist()) == {
        0.0,
        2.0,
    }  # inverted dropout: kept elements are divided by the rate of keeping
    assert len(skip.flatten(2).std(dim=2).nonzero()) == 16  # single elements, not whole channels
    assert torch.equal(pooled, nn.functional.max_pool2d(skip, 2))


def test_encoder_and_bottleneck_rectify_after_each_convolution():
    block = ConvolutionBlock(1, 1)
    nn.init.constant_(block.conv1.bias, -5.0)
    nn.init.zeros_(block.conv1.weight)
    nn.init.ones_(block.conv2.weight)
    nn.init.constant_(block.conv2.bias, 0.5)
    assert torch.equal(block(torch.rand(1, 1, 4, 4)), torch.full((1, 1, 4, 4), 0.5))
    nn.init.constant_(block.conv2.bias, -0.5)
    assert not block(torch.rand(1, 1, 4, 4)).any()


def test_blocks_of_one_convolution():
    assert sum(p.numel() for p in EncoderBlock(256, 512, convolutions=1).parameters()) == 1_180_160
    with pytest.raises(ValueError, match="convolutions=3"):
        ConvolutionBlock(3, 4, convolutions=3)


def test_decoder_concatenates_the_skip_first():
    block = DecoderBlock(4, 2)
    seen = []
    block.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    skip = torch.rand(1, 2, 6, 4)
    result = block(torch.rand(1, 4, 3, 2), skip)
    assert result.shape == (1, 2, 6, 4)
    assert torch.equal(seen[0][:, :2], skip)
    assert (seen[0][:, 2:] >= 0).all()


def test_stitched_decoders_merge_their_enlarged_features():
    first, second = DecoderBlock(4, 2, skip_channels=3, sources=2), DecoderBlock(4, 2, skip_channels=3, sources=2)
    coarse, skip = torch.rand(1, 4, 3, 2), torch.rand(1, 3, 6, 4)
    enlarged = [block.enlarge(coarse) for block in (first, second)]
    assert first.merge(skip, *enlarged).shape == (1, 2, 6, 4)
    assert sum(p.numel() for p in DecoderBlock(256, 128, 128, sources=3).parameters()) == 868_736


@pytest.mark.parametrize("rectify", [True, False])
def test_image_output_rectifies_by_choice(rectify):
    output = ImageOutput(4, rectify=rectify)
    nn.init.constant_(output.conv3.bias, -100.0)
    nn.init.zeros_(output.conv1x1.bias)
    assert bool(output(torch.rand(1, 4, 5, 5)).any()) is not rectify


def test_he_normal_has_the_variance_of_he_and_the_cut_of_keras():
    torch.manual_seed(0)
    weight = he_normal_(torch.empty(256, 64, 2, 2))
    deviation = math.sqrt(2 / (64 * 4))
    assert weight.std().item() == pytest.approx(deviation, rel=0.01)
    assert weight.abs().max().item() == pytest.approx(2 * deviation / 0.8796, rel=0.01)


def test_initialisation_by_kernel_size():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(64, 64, 3), nn.Conv2d(64, 64, 1))
    initialise_as_keras(network)
    bound = math.sqrt(6 / (64 + 64))
    assert network[1].weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    assert network[1].weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)
    assert network[0].weight.std().item() == pytest.approx(math.sqrt(2 / 576), rel=0.03)
    assert not any(layer.bias.any() for layer in network)
