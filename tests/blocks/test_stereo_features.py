import math

import pytest
import torch
from k3dn_parts import drawn, fill_part, published_shapes, stored
from torch import nn
from torch.nn import functional

from dualpixel.blocks.normalised_convolution import ConvolutionNormReLU, scaled_channels
from dualpixel.blocks.stereo_features import StereoFeatures

SMALL = {"stride": 2, "pools": (8, 4), "width": 0.125}


def small():
    torch.manual_seed(0)
    return StereoFeatures(**SMALL)


def norms(module):
    return [one for one in module.modules() if isinstance(one, nn.BatchNorm2d)]


def test_features_are_those_of_the_authors(reference, fill):
    prefix = "disp."
    shapes = published_shapes(reference)
    features = {name.removeprefix(prefix): shape for name, shape in shapes.items() if "disp.feature." in name}
    extractor = fill_part(StereoFeatures(), fill, features, prefix, "estimator.features.")
    left, _ = drawn((2, 3, 288, 336), (2, 3, 288, 336))
    with torch.no_grad():
        found = extractor(functional.avg_pool2d(left, 4))
    assert found.shape == (2, 32, 36, 42)
    assert (found[0, :4] - stored(reference)["disp/feature_left_c0"]).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("options", "shape"),
    [({"stride": 1, "pools": (64, 16)}, (32, 64, 72)), ({"width": 0.25}, (8, 32, 36)), ({"width": 1e-3}, (1, 32, 36))],
)
def test_stride_and_width_set_the_size_of_the_result(options, shape):
    extractor = StereoFeatures(**options)
    assert extractor.out_channels == shape[0]
    with torch.no_grad():
        assert extractor(torch.rand(2, 3, 64, 72)).shape == (2, *shape)


def test_parameters_do_not_depend_on_stride_and_pools():
    for options in ({}, {"stride": 1, "pools": (64, 16)}):
        with torch.device("meta"):
            extractor = StereoFeatures(**options)
        assert sum(one.numel() for one in extractor.parameters()) == 418_656


def test_convolutions_begin_with_he_over_the_outputs():
    torch.manual_seed(0)
    extractor = StereoFeatures()
    for convolution in (extractor.wide[0].conv, extractor.fuse.conv, extractor.out):
        outputs = convolution.out_channels * convolution.kernel_size[0] ** 2
        assert convolution.weight.std().item() == pytest.approx(math.sqrt(2 / outputs), rel=0.05)


def test_an_average_is_ringed_by_zeros_before_it_is_stretched():
    extractor = small().eval()
    nn.init.constant_(extractor.coarse.conv.weight, 1.0)
    pooled = extractor.coarse(torch.rand(1, 16, 2, 3) + 1)
    assert pooled.shape == (1, 4, 4, 5)
    assert not pooled[..., [0, -1], :].any()
    assert not pooled[..., [0, -1]].any()
    assert (pooled[..., 1:-1, 1:-1] > 0).all()


def test_in_eval_mode_one_batch_gives_what_two_calls_give():
    extractor = small()
    left, right = torch.rand(2, 2, 3, 20, 24).unbind()
    extractor.both(left, right)  # running statistics of its own
    extractor.eval()
    calls = []
    extractor.start.register_forward_hook(lambda *call: calls.append(len(call[2])))
    found = extractor.both(left, right)
    assert calls == [4]
    for view, features in zip((left, right), found, strict=True):
        assert torch.allclose(features, extractor(view), rtol=0, atol=1e-6)
    assert (found[0] - found[1]).abs().max() > 1e-2
    assert {int(norm.num_batches_tracked) for norm in norms(extractor)} == {2}


def test_in_train_mode_the_views_are_two_batches_the_left_one_first():
    extractor = small()
    left, right = torch.rand(2, 2, 3, 20, 24).unbind()
    right = 3 * right
    found, _ = extractor.both(left, right)
    assert {int(norm.num_batches_tracked) for norm in norms(extractor)} == {2}
    assert torch.equal(small().both(left, -right)[0], found)
    first = extractor.start[0]
    means = [first.conv(view).mean((0, 2, 3)) for view in (left, right)]
    assert torch.allclose(first.norm.running_mean, 0.9 * 0.1 * means[0] + 0.1 * means[1], atol=1e-6)


def test_gradients_reach_every_parameter():
    extractor = small()
    left, right = torch.rand(2, 2, 3, 40, 40).unbind()
    sum((features**2).mean() for features in extractor.both(left, right)).backward()
    assert all(one.grad.any() for one in extractor.parameters())


def test_features_smaller_than_a_square_are_refused():
    with pytest.raises(ValueError, match="squares of 32 x 32 .* found 31 x 40"):
        StereoFeatures(width=0.1)(torch.rand(1, 3, 62, 80))


def test_convolution_norm_relu_keeps_the_size_and_rectifies():
    for dilation in (1, 3):
        layer = ConvolutionNormReLU(2, 4, dilation=dilation)
        result = layer(torch.randn(2, 2, 9, 8))
        assert result.shape == (2, 4, 9, 8)
        assert result.min() == 0
        assert (result > 0).float().mean().item() == pytest.approx(0.5, abs=0.15)
    layer = ConvolutionNormReLU(2, 4, stride=2, dimensions=3)
    assert layer(torch.randn(1, 2, 4, 9, 8)).shape == (1, 4, 2, 5, 4)
    assert ConvolutionNormReLU(2, 4, kernel_size=1, padding=1)(torch.randn(1, 2, 3, 3)).shape == (1, 4, 5, 5)
    assert list(dict(layer.named_parameters())) == ["conv.weight", "norm.weight", "norm.bias"]


def test_three_dimensional_convolutions_begin_as_torch_begins_them():
    torch.manual_seed(0)
    bound = 1 / math.sqrt(32 * 27)
    largest = ConvolutionNormReLU(32, 64, dimensions=3).conv.weight.abs().max().item()
    assert 0.99 * bound < largest <= bound


def test_wrong_dimensions_and_widths_are_refused():
    with pytest.raises(ValueError, match="dimensions=1: must be 2 or 3"):
        ConvolutionNormReLU(1, 1, dimensions=1)
    for width in (0, -1.0, math.nan):
        with pytest.raises(ValueError, match="must be positive"):
            StereoFeatures(width=width)


def test_channels_are_rounded_and_never_none():
    assert [scaled_channels(channels, 0.3) for channels in (32, 48, 1)] == [10, 14, 1]
