"""Parts of the U-Net that dual-pixel papers start from: E-Block, bottleneck, D-Block, Up-conv and the output layers.

Source: Abuolaim and Brown, "Defocus deblurring using dual-pixel data", ECCV 2020, section 4 and figure 5, after
Ronneberger et al., "U-Net", MICCAI 2015. All convolutions have stride 1, a bias, and keep height and width.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from dualpixel.blocks.residual import SameConvolution

KERAS_TRUNCATION = 0.87962566103423978
"""Standard deviation of a unit normal that is cut at two standard deviations; Keras divides by it."""


class ConvolutionBlock(nn.Module):
    """One or two 3x3 convolutions, each followed by a ReLU, then dropout: the bottleneck, and what all blocks share.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the result.
        convolutions: 1 or 2; the papers' blocks have two, some of MDP's have one.
        dropout: probability that an element (not a whole channel) of the result is set to zero in training.

    Raises:
        ValueError: `convolutions` is neither 1 nor 2.
    """

    def __init__(self, in_channels: int, out_channels: int, convolutions: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        if convolutions not in (1, 2):
            raise ValueError(f"convolutions={convolutions}: a U-Net block has 1 or 2 convolutions")
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1) if convolutions == 2 else None
        self.dropout = nn.Dropout(dropout)

    def convolve(self, features: Tensor) -> Tensor:
        """Apply the convolutions and the dropout: (B, in_channels, H, W) -> (B, out_channels, H, W)."""
        features = functional.relu(self.conv1(features), inplace=True)
        if self.conv2 is not None:
            features = functional.relu(self.conv2(features), inplace=True)
        return self.dropout(features)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H, W)."""
        return self.convolve(features)


class EncoderBlock(ConvolutionBlock):
    """E-Block: convolutions, dropout, then 2x2 max pooling; the skip connection leaves after the dropout."""

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, in_channels, H, W) to the skip (B, out_channels, H, W) and the pooled (B, out_channels, H/2, W/2)."""
        skip = self.convolve(features)
        return skip, functional.max_pool2d(skip, 2)


class UpConvolution(SameConvolution):
    """Up-conv: nearest-neighbour enlargement by two, then a 2x2 convolution that keeps the size.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the result.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=2)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, 2 H, 2 W), without activation."""
        return super().forward(functional.interpolate(features, scale_factor=2, mode="nearest"))


class DecoderBlock(ConvolutionBlock):
    """D-Block: Up-conv with a ReLU, concatenation after the encoder's skip, convolutions.

    The two halves can be called apart, so that decoders can exchange their enlarged features before they are merged
    ("stitching").

    Args:
        in_channels: channels of the coarse input.
        out_channels: channels of the enlarged features and of the result.
        skip_channels: channels of the skip; None means `out_channels`.
        sources: how many enlarged feature maps are concatenated behind the skip (more than one where decoders are
            stitched).
        convolutions: 1 or 2.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        skip_channels: int | None = None,
        sources: int = 1,
        convolutions: int = 2,
    ) -> None:
        skip_channels = out_channels if skip_channels is None else skip_channels
        super().__init__(skip_channels + sources * out_channels, out_channels, convolutions)
        self.up = UpConvolution(in_channels, out_channels)

    def enlarge(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, 2 H, 2 W)."""
        return functional.relu(self.up(features), inplace=True)

    def merge(self, skip: Tensor, *enlarged: Tensor) -> Tensor:
        """Map skip (B, skip_channels, H, W) and `sources` maps (B, out_channels, H, W) to (B, out_channels, H, W)."""
        return self.convolve(torch.cat((skip, *enlarged), dim=1))

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) and the skip (B, skip_channels, 2 H, 2 W) to (B, out_channels, 2 H, 2 W)."""
        return self.merge(skip, self.enlarge(features))


class ImageOutput(nn.Module):
    """3x3 convolution to three channels, ReLU, 1x1 convolution; sigmoid or residual is the network's choice.

    Args:
        in_channels: channels of the input.
        rectify: whether the ReLU between the two is kept. It is part of the published networks, although a channel
            whose ReLU never opens is lost to the image.
    """

    def __init__(self, in_channels: int, rectify: bool = True) -> None:
        super().__init__()
        self.rectify = rectify
        self.conv3 = nn.Conv2d(in_channels, 3, 3, padding=1)
        self.conv1x1 = nn.Conv2d(3, 3, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, 3, H, W), unbounded."""
        features = self.conv3(features)
        if self.rectify:
            features = functional.relu(features, inplace=True)
        return self.conv1x1(features)


@torch.no_grad()
def he_normal_(weight: Tensor) -> Tensor:
    r"""Fill a convolution's weights as Keras' `he_normal` does, in place.

    The values follow a normal distribution of mean 0 cut at two standard deviations,

    .. math:: w \sim \mathcal{N}_{|w| < 2s}(0, s^2), \qquad s = \sqrt{2 / n_{in}} \, / \, 0.87962566,

    with :math:`n_{in}` = input channels times kernel area; the divisor makes the standard deviation after the cut
    :math:`\sqrt{2 / n_{in}}` (He et al., ICCV 2015).

    Args:
        weight: (out, in, kernel height, kernel width).

    Returns:
        The same tensor.
    """
    deviation = math.sqrt(2 / weight[0].numel()) / KERAS_TRUNCATION
    return nn.init.trunc_normal_(weight, 0.0, deviation, -2 * deviation, 2 * deviation)


def initialise_as_keras(network: nn.Module) -> None:
    """Initialise every convolution of `network`: He normal, but Glorot uniform where the kernel is 1x1; biases zero."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            if layer.kernel_size == (1, 1):
                nn.init.xavier_uniform_(layer.weight)
            else:
                he_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
