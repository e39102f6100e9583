"""Convolution, batch normalisation and ReLU: the layer that stereo networks are made of."""

from torch import Tensor, nn
from torch.nn import functional

_LAYERS = {2: (nn.Conv2d, nn.BatchNorm2d), 3: (nn.Conv3d, nn.BatchNorm3d)}


class ConvolutionNormReLU(nn.Module):
    """ReLU(batch normalisation(convolution(x))), on maps or on volumes.

    The weights of a 2-D convolution begin as He normal over the outputs, those of a 3-D one as torch begins any
    convolution.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the result.
        kernel_size: k, on every axis.
        stride: on every axis.
        dilation: distance of the kernel's taps, on every axis.
        padding: zeros added at both ends of every axis; None adds what keeps the size at stride 1, for odd k.
        dimensions: 2 for maps (B, C, H, W), 3 for volumes (B, C, D, H, W).

    Attributes:
        conv: the convolution, without a bias.
        norm: the batch normalisation.

    Raises:
        ValueError: `dimensions` is neither 2 nor 3.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        dilation: int = 1,
        padding: int | None = None,
        dimensions: int = 2,
    ) -> None:
        super().__init__()
        if dimensions not in _LAYERS:
            raise ValueError(f"dimensions={dimensions}: must be 2 or 3")
        convolution, normalisation = _LAYERS[dimensions]
        if padding is None:
            padding = dilation * (kernel_size - 1) // 2
        self.conv = convolution(in_channels, out_channels, kernel_size, stride, padding, dilation, bias=False)
        self.norm = normalisation(out_channels)
        if dimensions == 2:
            nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, ...) to (B, out_channels, ...), at least 0."""
        return functional.relu(self.norm(self.conv(features)), inplace=True)


def scaled_channels(channels: int, width: float) -> int:
    """Return `channels` times `width`, rounded, at least one.

    Raises:
        ValueError: `width` is not positive.
    """
    if not width > 0:
        raise ValueError(f"width={width}: must be positive; 1.0 is the published size")
    return max(1, round(channels * width))
