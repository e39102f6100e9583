"""DPANet, MDP, a correlation and a cost volume, as one would port them line by line: to compare ours with, and for nothing else."""

import copy
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from dualpixel.blocks.correlation import Correlation
from dualpixel.blocks.cost_volume import ConcatenationConvolution
from dualpixel.blocks.deformable import ModulatedDeformableConvolution
from dualpixel.blocks.normalised_convolution import ConvolutionNormReLU
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


def filled_volume(left: Tensor, right: Tensor, shifts: Sequence[int]) -> Tensor:
    """The cost volume of two maps: zeros, in which one shift after the other is assigned."""
    images, channels, height, width = left.shape
    volume = left.new_zeros(images, 2 * channels, len(shifts), height, width)
    for place, shift in enumerate(shifts):
        columns, partners = slice(max(shift, 0), width + min(shift, 0)), slice(max(-shift, 0), width - max(shift, 0))
        volume[:, :channels, place, :, columns] = left[..., columns]
        volume[:, channels:, place, :, columns] = right[..., partners]
    return volume


def convolve_volume(module: ConcatenationConvolution, left: Tensor, right: Tensor, shifts: Sequence[int]) -> Tensor:
    """The module's layer on a volume that is made first."""
    return ConvolutionNormReLU.forward(module, filled_volume(left, right, shifts))


def straightforward(net: nn.Module) -> nn.Module:
    """A copy of a network as one would write it first.

    It correlates by shifts, makes its cost volume, calls each view by itself, and deforms by torchvision.
    """
    net = copy.deepcopy(net)
    for module in net.modules():
        if isinstance(module, BothViews) and module.share:
            module.forward = partial(view_by_view, module)
        elif isinstance(module, Correlation):
            module.forward = partial(correlate, module)
        elif isinstance(module, ConcatenationConvolution):
            module.forward = partial(convolve_volume, module)
        elif isinstance(module, ModulatedDeformableConvolution):
            module.implementation = "torchvision"
    return net


def plain_block(block: nn.Module) -> nn.Sequential:
    """The convolutions of a U-Net block, each followed by a ReLU."""
    layers = [block.conv1, nn.ReLU()]
    return nn.Sequential(*layers, block.conv2, nn.ReLU()) if block.conv2 is not None else nn.Sequential(*layers)


def plain_convolution(layer: nn.Conv2d) -> nn.Conv2d:
    """A convolution without padding that shares the layer's weights."""
    plain = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, device="meta")
    plain.weight, plain.bias = layer.weight, layer.bias
    return plain


class PlainDecoder(nn.Module):
    """One of MDP's decoders as its graph is drawn: every activation a layer of its own, every decoder with its own concatenation."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.mid = plain_block(branch.mid)
        self.blocks = nn.ModuleList(plain_block(one) for one in (branch.dec4, branch.dec3, branch.dec2, branch.dec1))
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Upsample(scale_factor=2), nn.ZeroPad2d((0, 1, 0, 1)), plain_convolution(one.up), nn.ReLU())
            for one in (branch.dec4, branch.dec3, branch.dec2, branch.dec1)
        )
        self.out = nn.Sequential(branch.out.conv3, nn.ReLU(), branch.out.conv1x1, nn.Sigmoid())

    def early(self, deep: Tensor, skip4: Tensor, skip3: Tensor) -> Tensor:
        features = self.mid(deep)
        for up, block, skip in zip(self.ups, self.blocks, (skip4, skip3), strict=False):
            features = block(torch.cat((skip, up(features)), dim=1))
        return self.ups[2](features)

    def late(self, skip2: Tensor, enlarged: list[Tensor], skip1: Tensor) -> Tensor:
        features = self.blocks[2](torch.cat((skip2, *enlarged), dim=1))
        return self.out(self.blocks[3](torch.cat((skip1, self.ups[3](features)), dim=1)))


class PlainMDP(nn.Module):
    """MDP with the middle stitching, line by line, around the convolutions of one of ours."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(plain_block(one) for one in (net.enc1, net.enc2, net.enc3, net.enc4))
        self.pool = nn.MaxPool2d(2)
        self.decoders = nn.ModuleDict({name: PlainDecoder(one) for name, one in net.decoders.branches.items()})

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        skips = []
        for block in self.encoder:
            skips.append(block(image))
            image = self.pool(skips[-1])
        enlarged = [decoder.early(image, skips[3], skips[2]) for decoder in self.decoders.values()]
        return {name: decoder.late(skips[1], enlarged, skips[0]) for name, decoder in self.decoders.items()}
