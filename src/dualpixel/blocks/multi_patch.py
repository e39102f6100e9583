"""Encoder and decoder of multi-patch networks, and how such networks cut images and join features.

Source: Zhang, Dai, Li and Koniusz, "Deep Stacked Hierarchical Multi-patch Network for Image Deblurring" (DMPHN), CVPR
2019; Pan et al., "Dual Pixel Exploration: Simultaneous Depth Estimation and Image Restoration" (DDDNet), CVPR 2021,
build on it (section 4.1).

The weights of all convolutions begin normally distributed with a standard deviation of half of He's over the outputs,
the biases at zero, as in the authors' code.
"""

import math

import torch
from torch import Tensor, nn

from dualpixel.blocks.normalised_convolution import scaled_channels
from dualpixel.blocks.residual import ResidualBlock

CHANNELS = (32, 64, 128)
"""Channels at the full size, at a half and at a quarter of it."""

START = 0.5
"""Factor on He's standard deviation when weights are drawn."""


class PatchEncoder(nn.Sequential):
    """At each of three sizes a convolution and two residual blocks; the second and the third convolution halve the size.

    No activation follows a convolution or a residual block.

    Args:
        in_channels: channels of the input.
        width: factor on all other channel counts, rounded, at least one each; 1.0 is the published size.

    Raises:
        ValueError: `width` is not positive.
    """

    def __init__(self, in_channels: int, width: float = 1.0) -> None:
        full, half, quarter = (scaled_channels(channels, width) for channels in CHANNELS)
        super().__init__(
            nn.Conv2d(in_channels, full, 3, padding=1),
            *_residual_blocks(full),
            nn.Conv2d(full, half, 3, stride=2, padding=1),
            *_residual_blocks(half),
            nn.Conv2d(half, quarter, 3, stride=2, padding=1),
            *_residual_blocks(quarter),
        )
        _draw(self)

    @property
    def out_channels(self) -> int:
        """Channels of the result."""
        return self[6].out_channels

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, in_channels, H, W), H and W multiples of 4, to (B, out_channels, H / 4, W / 4)."""
        return super().forward(images)


class PatchDecoder(nn.Sequential):
    """The encoder backwards: two residual blocks at each size, 4x4 transposed convolutions between, a convolution at the end.

    Args:
        out_channels: channels of the result.
        width: as for the encoder.

    Raises:
        ValueError: `width` is not positive.
    """

    def __init__(self, out_channels: int, width: float = 1.0) -> None:
        full, half, quarter = (scaled_channels(channels, width) for channels in CHANNELS)
        super().__init__(
            *_residual_blocks(quarter),
            nn.ConvTranspose2d(quarter, half, 4, stride=2, padding=1),
            *_residual_blocks(half),
            nn.ConvTranspose2d(half, full, 4, stride=2, padding=1),
            *_residual_blocks(full),
            nn.Conv2d(full, out_channels, 3, padding=1),
        )
        _draw(self)

    def forward(self, features: Tensor) -> Tensor:
        """Map an encoder's features (B, C, H / 4, W / 4) to (B, out_channels, H, W), of either sign."""
        return super().forward(features)


def halves(images: Tensor, axis: int) -> Tensor:
    """Cut each image in two; the second halves follow the first ones of the whole batch.

    Args:
        images: (B, C, H, W).
        axis: -2 cuts into top and bottom, -1 into left and right.

    Returns:
        (2 B, C, H / 2, W) or (2 B, C, H, W / 2).

    Raises:
        ValueError: that many rows or columns have no middle.
    """
    if images.shape[axis] % 2:
        raise ValueError(f"{images.shape[axis]} rows or columns cannot be cut into halves")
    return torch.cat(images.chunk(2, dim=axis))


def joined(parts: Tensor, axis: int) -> Tensor:
    """Put together what `halves` cut: (2 B, C, h, w) becomes (B, C, 2 h, w) or (B, C, h, 2 w)."""
    return torch.cat(parts.chunk(2), dim=axis)


def _residual_blocks(channels: int) -> list[ResidualBlock]:
    return [ResidualBlock(channels, near_identity=False) for _ in range(2)]


def _draw(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(
                layer.weight, std=START * math.sqrt(2 / (math.prod(layer.kernel_size) * layer.out_channels))
            )
            nn.init.zeros_(layer.bias)
