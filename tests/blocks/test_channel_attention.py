import pytest
import torch

from dualpixel.blocks.channel_attention import ChannelAttention


def attention(gamma):
    block = ChannelAttention()
    torch.nn.init.constant_(block.gamma, gamma)
    return block


def by_hand(features, gamma):
    """The published form, one image after the other: what is softmaxed is the largest product of a row minus the product."""
    results = []
    for image in features:
        rows = image.flatten(1)
        energy = rows @ rows.T
        weights = torch.softmax(energy.amax(1, keepdim=True) - energy, dim=1)
        results.append(gamma * (weights @ rows).view_as(image) + image)
    return torch.stack(results)


def test_the_block_begins_as_the_identity():
    features = torch.rand(2, 5, 3, 4)
    assert torch.equal(ChannelAttention()(features), features)


def test_channels_are_mixed_as_published():
    features = torch.rand(2, 5, 3, 4, dtype=torch.float64)
    assert (attention(0.75).double()(features) - by_hand(features, 0.75)).abs().max() < 1e-12


def test_a_channel_is_given_most_of_the_one_that_resembles_it_least():
    features = torch.zeros(1, 3, 1, 3)
    features[0, 0, 0] = features[0, 1, 0] = torch.tensor([4.0, 0.0, 4.0])
    features[0, 2, 0] = torch.tensor([0.0, 4.0, 0.0])
    added = attention(1.0)(features) - features
    assert (added[0, 0] - features[0, 2]).abs().max() < 1e-5
    assert (added[0, 2] - features[0, 0]).abs().max() < 1e-5


def test_the_order_of_pixels_does_not_matter():
    features = torch.rand(1, 4, 6, 6)
    block = attention(0.5)
    assert (block(features.transpose(2, 3)) - block(features).transpose(2, 3)).abs().max() < 1e-6


def test_products_that_half_precision_cannot_hold_are_computed_in_single_precision():
    features = torch.rand(1, 4, 300, 300) + 0.5  # products of about 1e5
    wanted = attention(1.0)(features)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(attention(1.0)(features), wanted)
    halved = attention(1.0).half()(features.half())
    assert halved.dtype == torch.float16
    assert (halved.float() - by_hand(features.half().float(), 1.0)).abs().max() < 2e-3


@pytest.mark.parametrize("gamma", [0.0, 0.3])
def test_gradients_are_right(gamma):
    block = attention(gamma).double()
    features = torch.rand(1, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given, _: block(given), (features, block.gamma))
