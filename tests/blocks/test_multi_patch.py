import math

import pytest
import torch
from torch import nn

from dualpixel.blocks.multi_patch import PatchDecoder, PatchEncoder, halves, joined


def count(module):
    return sum(one.numel() for one in module.parameters())


def by_hand(images):
    """Quarters and strips cut out by their corners."""
    height, width = (size // 2 for size in images.shape[-2:])
    return {
        "top": images[..., :height, :],
        "bottom": images[..., height:, :],
        "top left": images[..., :height, :width],
        "bottom left": images[..., height:, :width],
        "top right": images[..., :height, width:],
        "bottom right": images[..., height:, width:],
    }


def test_parameters_of_the_published_size():
    assert [count(PatchEncoder(7)), count(PatchDecoder(7)), count(PatchDecoder(3)), count(PatchDecoder(1))] == [
        869_440,
        940_999,
        939_843,
        939_265,
    ]


def test_three_sizes_and_back():
    encoder, decoder = PatchEncoder(7, 0.25), PatchDecoder(5, 0.25)
    features = encoder(torch.rand(2, 7, 36, 20))
    assert features.shape == (2, 32, 9, 5) and encoder.out_channels == 32
    assert decoder(features).shape == (2, 5, 36, 20)


def test_no_activation_bounds_what_leaves_either():
    torch.manual_seed(0)
    encoder, decoder = PatchEncoder(3, 0.25), PatchDecoder(3, 0.25)
    features = encoder(torch.randn(2, 3, 16, 16))
    assert features.min() < 0 < features.max()
    image = decoder(features)
    assert image.min() < 0 < image.max()


def test_weights_begin_with_half_of_hes_deviation_and_biases_at_zero():
    torch.manual_seed(0)
    for module in (PatchEncoder(7), PatchDecoder(7)):
        layers = [one for one in module.modules() if isinstance(one, (nn.Conv2d, nn.ConvTranspose2d))]
        assert len(layers) == 15
        for layer in layers:
            wanted = 0.5 * math.sqrt(2 / (layer.kernel_size[0] ** 2 * layer.out_channels))
            assert layer.weight.std().item() == pytest.approx(wanted, rel=0.08)
            assert not layer.bias.any()


def test_halves_are_the_parts_of_the_image_one_batch_after_the_other():
    images = torch.rand(2, 3, 6, 10)
    parts = by_hand(images)
    assert torch.equal(halves(images, -2), torch.cat((parts["top"], parts["bottom"])))
    quarters = halves(halves(images, -2), -1)
    order = ("top left", "bottom left", "top right", "bottom right")
    assert torch.equal(quarters, torch.cat([parts[name] for name in order]))


@pytest.mark.parametrize("axis", [-2, -1])
def test_joined_halves_are_the_image_again(axis):
    images = torch.rand(3, 2, 6, 10)
    assert torch.equal(joined(halves(images, axis), axis), images)


def test_an_odd_side_has_no_halves():
    with pytest.raises(ValueError, match="9 rows or columns cannot be cut"):
        halves(torch.zeros(1, 1, 4, 9), -1)


@pytest.mark.parametrize("make", [PatchEncoder, PatchDecoder])
def test_a_width_of_nothing_is_refused(make):
    with pytest.raises(ValueError, match="width=0: must be positive"):
        make(3, width=0)
