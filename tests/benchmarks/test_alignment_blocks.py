"""Correlation and deformable convolution beside the straightforward ways, on one CPU thread at the sizes of DPANet's levels."""

from functools import partial

import pytest
import torch
from side_by_side import process_seconds
from straightforward import shifted_products

from dualpixel.blocks.correlation import correlation
from dualpixel.blocks.deformable import modulated_deformable_convolution

LEVELS = [(64, 256), (128, 128), (256, 64), (512, 32)]
TARGET = 2.0


def forward(function, *tensors):
    with torch.inference_mode():
        return function(*tensors)


def with_backward(function, *tensors):
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    return torch.autograd.grad(function(*leaves).sum(), leaves)


def compare(title, first, second, tensors):
    """Print a row and return by how much the first of two named functions is faster, forward and with backward."""
    ways = {"forward": forward, "with backward": with_backward}
    sides = {
        (name, way): partial(run, function, *tensors) for way, run in ways.items() for name, function in (first, second)
    }
    median = process_seconds(sides, passes=3)
    rows = []
    for way in ways:
        ours, theirs = (1000 * median[name, way] for name, _ in (first, second))
        print(f"| {title}, {way} | {first[0]} {ours:.0f} ms | {second[0]} {theirs:.0f} ms | {theirs / ours:.1f} x |")
        rows.append(theirs / ours)
    for one, other in zip(with_backward(first[1], *tensors), with_backward(second[1], *tensors), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    return rows


@pytest.mark.benchmark
@pytest.mark.parametrize(("channels", "size"), LEVELS)
def test_correlation_rate(channels, size):
    torch.manual_seed(0)
    maps = torch.randn(2, 1, channels, size, size).unbind()
    torch.testing.assert_close(correlation(*maps), shifted_products(*maps), rtol=0, atol=1e-5)
    print()
    ratios = compare(
        f"correlation, {channels} channels {size} x {size}",
        ("dualpixel", correlation),
        ("81 shifted products", shifted_products),
        maps,
    )
    assert min(ratios) >= TARGET


@pytest.mark.benchmark
@pytest.mark.parametrize(("channels", "size"), LEVELS)
def test_deformable_convolution_rate(channels, size):
    torch.manual_seed(0)
    tensors = (
        torch.randn(1, channels, size, size),
        torch.randn(1, 18, size, size),
        torch.rand(1, 9, size, size),
        torch.randn(channels, channels, 3, 3) / (9 * channels) ** 0.5,
        torch.randn(channels),
    )
    forms = {name: partial(modulated_deformable_convolution, implementation=name) for name in ("torch", "torchvision")}
    torch.testing.assert_close(forms["torch"](*tensors), forms["torchvision"](*tensors), rtol=0, atol=1e-4)
    print()
    ratios = compare(f"DCNv2, {channels} channels {size} x {size}", *forms.items(), tensors)
    assert min(ratios) > 0.9  # the reason for the choice on a CPU
    assert ratios[1] >= TARGET
