"""Residual blocks, and the convolution that keeps the size for even kernels, too.

The weights begin as in the networks that use them: He et al., "Delving deep into rectifiers", ICCV 2015, made ten times
smaller inside residual blocks, so that each of those begins close to the identity.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

RESIDUAL_SCALE = 0.1
"""Factor on the He weights inside a residual block."""


class SameConvolution(nn.Conv2d):
    """Convolution of stride 1, with a bias, that keeps height and width.

    k - 1 zeros are added to each axis. An even kernel has no centre: the odd zero goes to the bottom and the right, as
    in Keras' "same" padding.

    The weights begin with a standard deviation of sqrt(2 / (out_channels k^2)) (He normal over the outputs), the
    biases uniformly within 1 / sqrt(in_channels k^2).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the result.
        kernel_size: k, at least 1.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=(kernel_size - 1) // 2)
        self.even = kernel_size % 2 == 0

    def reset_parameters(self) -> None:
        """Draw weights and biases anew."""
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        bound = 1 / math.sqrt(self.weight[0].numel())
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H, W), without activation."""
        return super().forward(functional.pad(features, (0, 1, 0, 1)) if self.even else features)


class ResidualBlock(nn.Module):
    """x + convolution(activation(convolution(x))), 3x3, without normalisation.

    Args:
        channels: channels of input and result.
        negative_slope: of the leaky ReLU between the two; 0 makes it a ReLU.
        bias: whether the convolutions have biases.
        near_identity: whether the weights begin as He normal over the inputs, times 0.1, and the biases at zero; otherwise
            as torch begins any convolution.
    """

    def __init__(
        self, channels: int, negative_slope: float = 0.0, bias: bool = True, near_identity: bool = True
    ) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        if not near_identity:
            return
        for convolution in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            with torch.no_grad():
                convolution.weight.mul_(RESIDUAL_SCALE)
            if bias:
                nn.init.zeros_(convolution.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, channels, H, W) to (B, channels, H, W)."""
        hidden = functional.leaky_relu(self.conv1(features), self.negative_slope, inplace=True)
        return features + self.conv2(hidden)


class ConvolutionResidualBlock(nn.Module):
    """A 3x3 convolution with a ReLU, then two residual blocks: what extracts features at each scale of DPANet.

    Source: Li et al., "Learning Dual-Pixel Alignment for Defocus Deblurring", section III-C (F_E and F_D).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the result.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = SameConvolution(in_channels, out_channels, 3)
        self.residual1 = ResidualBlock(out_channels)
        self.residual2 = ResidualBlock(out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H, W)."""
        return self.residual2(self.residual1(functional.relu(self.conv(features), inplace=True)))
