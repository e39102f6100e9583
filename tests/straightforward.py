"""DPANet, and a correlation, as one would port them line by line: for benchmarks, to compare ours with, and for nothing else."""

import copy
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from dualpixel.blocks.correlation import Correlation
from dualpixel.blocks.deformable import ModulatedDeformableConvolution
from dualpixel.blocks.views import BothViews


def shifted_products(left: Tensor, right: Tensor) -> Tensor:
    """The correlation in 81 passes over the maps, one for each displacement."""
    height, width = left.shape[-2:]
    framed = functional.pad(right, (4, 4, 4, 4))
    return torch.stack(
        [(left * framed[..., y : y + height, x : x + width]).mean(1) for y in range(9) for x in range(9)], 1
    )


def unfolded_products(left: Tensor, right: Tensor) -> Tensor:
    """The correlation as a product of each pixel of `left` with its unfolded window of `right`, all in one batched matmul."""
    channels, height, width = left.shape[1:]
    windows = functional.unfold(right, 9, padding=4).unflatten(1, (channels, 81))
    products = left.flatten(2).mT.unsqueeze(2) @ windows.permute(0, 3, 1, 2)
    return (products / channels).squeeze(2).mT.unflatten(2, (height, width))


def view_by_view(shared: BothViews, *arguments: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """One call for each view."""
    left, right = zip(*arguments, strict=True)
    return shared.both(*left), shared.both(*right)


def correlate(module: Correlation, left: Tensor, right: Tensor) -> Tensor:
    """The module's correlation by shifted products."""
    return functional.leaky_relu(shifted_products(left, right), module.negative_slope)


def straightforward(net: nn.Module) -> nn.Module:
    """A copy of a published-size network that correlates by shifts, calls each view by itself, and deforms by torchvision."""
    net = copy.deepcopy(net)
    for module in net.modules():
        if isinstance(module, BothViews) and module.share:
            module.forward = partial(view_by_view, module)
        elif isinstance(module, Correlation):
            module.forward = partial(correlate, module)
        elif isinstance(module, ModulatedDeformableConvolution):
            module.implementation = "torchvision"
    return net
