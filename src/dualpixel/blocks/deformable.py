"""Modulated deformable convolution (DCNv2): each tap of the kernel reads beside its place, as far as an offset map says."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import deform_conv2d

Implementation = Literal["auto", "torchvision", "torch"]


def modulated_deformable_convolution(
    features: Tensor,
    offsets: Tensor,
    modulation: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    padding: int = 1,
    implementation: Implementation = "auto",
) -> Tensor:
    r"""Convolve with taps that read at displaced places, each with its own factor.

    .. math:: Y(p_0) = b + \sum_k w_k \, X(p_0 + p_k + \Delta p_k(p_0)) \, \Delta m_k(p_0),

    with X read bilinearly and zero outside of the image: a corner that lies outside counts as zero, so that all is zero
    at a position of -1 or less, or of the size or more. Tap k = kernel width * row + column.

    Both implementations give the same values and gradients to rounding. torchvision's needs less memory for the
    backward pass; "torch" keeps the features as sampled by every tap, and is several times as fast on a CPU. "auto"
    takes "torch" on a CPU and torchvision's elsewhere. Computed in float32 or float64, also for half precision and
    under autocast: a position in half precision would be wrong by whole pixels.

    Source: Zhu et al., "Deformable ConvNets v2", CVPR 2019; Li et al., "Learning Dual-Pixel Alignment for Defocus
    Deblurring" (DPANet), equations 9 and 11. Stride and dilation are 1, all channels share the offsets.

    Args:
        features: (B, C, H, W), floating.
        offsets: (B, 2 K, H', W') for K taps, pixels; channel 2 k is the vertical offset of tap k (positive: down) and
            2 k + 1 the horizontal one (positive: to the right).
        modulation: (B, K, H', W'), the factors.
        weight: (D, C, kernel height, kernel width).
        bias: (D,), or None.
        padding: of zeros on all four sides, pixels; H' = H + 2 padding - kernel height + 1, W' likewise.
        implementation: "auto", "torchvision" or "torch".

    Returns:
        (B, D, H', W') in the dtype of `features`, with gradients with respect to all tensors.

    Raises:
        ValueError: shapes that do not fit one another, a dtype that is not floating, or an unknown `implementation`.
    """
    _check_implementation(implementation)
    _check_shapes(features, offsets, modulation, weight, bias, padding)
    dtype = torch.promote_types(torch.promote_types(features.dtype, weight.dtype), torch.float32)
    if implementation == "auto":
        implementation = "torch" if features.device.type == "cpu" else "torchvision"
    convolve = _convolve if implementation == "torch" else _convolve_torchvision
    tensors = (None if tensor is None else tensor.to(dtype) for tensor in (features, offsets, modulation, weight, bias))
    if features.is_meta:  # autocast does not know this device
        return convolve(*tensors, padding).to(features.dtype)
    with torch.autocast(features.device.type, enabled=False):
        return convolve(*tensors, padding).to(features.dtype)


class ModulatedDeformableConvolution(nn.Module):
    """A modulated deformable convolution that keeps height and width; offsets and modulation come from a side branch.

    The weights start uniform within +-1 / sqrt(in_channels * kernel_size^2), the bias at zero.

    Source: Li et al., "Learning Dual-Pixel Alignment for Defocus Deblurring" (DPANet), section III-D.

    Args:
        in_channels: channels of the features.
        out_channels: channels of the result.
        kernel_size: rows and columns of the kernel, odd.
        implementation: see :func:`modulated_deformable_convolution`.

    Raises:
        ValueError: an even or non-positive `kernel_size`, or an unknown `implementation`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, implementation: Implementation = "auto"
    ) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size}: must be odd and positive, so that the size is kept")
        _check_implementation(implementation)
        self.kernel_size = kernel_size
        self.implementation = implementation
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.reset_parameters()

    @property
    def side_channels(self) -> int:
        """Channels that the side branch has to give: three for each tap."""
        return 3 * self.kernel_size**2

    def reset_parameters(self) -> None:
        """Draw the weights anew and set the bias to zero."""
        bound = 1 / math.sqrt(self.weight[0].numel())
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.zeros_(self.bias)

    def forward(self, features: Tensor, side: Tensor) -> Tensor:
        """Convolve as the side branch says.

        Args:
            features: (B, in_channels, H, W).
            side: (B, 3 K, H, W) for K = kernel_size^2 taps, raw: first the 2 K offsets, vertical and horizontal in
                turn, then K channels whose sigmoid is the modulation.

        Returns:
            (B, out_channels, H, W).

        Raises:
            ValueError: shapes that do not fit.
        """
        taps = self.kernel_size**2
        if side.ndim != 4 or side.shape[1] != 3 * taps:
            raise ValueError(f"side {tuple(side.shape)}: (B, {3 * taps}, H, W) is needed for {taps} taps")
        offsets, modulation = side.split((2 * taps, taps), dim=1)
        return modulated_deformable_convolution(
            features,
            offsets,
            modulation.sigmoid(),
            self.weight,
            self.bias,
            padding=self.kernel_size // 2,
            implementation=self.implementation,
        )

    def extra_repr(self) -> str:
        """Show the settings when printed."""
        out_channels, in_channels = self.weight.shape[:2]
        return f"{in_channels}, {out_channels}, kernel_size={self.kernel_size}, implementation={self.implementation!r}"


def _convolve_torchvision(
    features: Tensor, offsets: Tensor, modulation: Tensor, weight: Tensor, bias: Tensor | None, padding: int
) -> Tensor:
    return deform_conv2d(features, offsets, weight, bias, padding=padding, mask=modulation)


def _convolve(
    features: Tensor, offsets: Tensor, modulation: Tensor, weight: Tensor, bias: Tensor | None, padding: int
) -> Tensor:
    images, channels, height, width = features.shape
    rows, columns = (torch.arange(size, device=features.device) for size in offsets.shape[2:])
    images_before = torch.arange(images, device=features.device, dtype=torch.int32).view(-1, 1, 1, 1, 1)
    first_pixel = images_before * (height * width)
    pixels = features.permute(0, 2, 3, 1).reshape(-1, channels)
    result = features.new_zeros(()) if bias is None else bias[:, None]
    for tap, kernel in enumerate(weight.flatten(2).unbind(2)):
        down, right = divmod(tap, weight.shape[3])
        vertical = offsets[:, 2 * tap] + (rows + (down - padding))[:, None]
        horizontal = offsets[:, 2 * tap + 1] + (columns + (right - padding))
        y, share_y = _corners(vertical, height)
        x, share_x = _corners(horizontal, width)
        corners = (first_pixel + y[..., :, None] * width + x[..., None, :]).flatten(3)
        shares = (share_y[..., :, None] * share_x[..., None, :]).flatten(3) * modulation[:, tap, ..., None]
        # a weighted sum of four pixels, all channels at once; no grid_sample, for its scaled positions are not exact
        sampled = functional.embedding_bag(
            corners.flatten(0, 2), pixels, mode="sum", per_sample_weights=shares.flatten(0, 2)
        )
        result = result + kernel @ sampled.view(images, -1, channels).mT
    return result.unflatten(2, offsets.shape[2:])


def _corners(position: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the two neighbours of positions on one axis and their shares, both (..., 2); outside the share is zero."""
    # where neither neighbour lies inside, so that whole numbers stay in range; at -1 there is a slope, but no value
    position = position.masked_fill(position < -1, -2).masked_fill(position >= size, size)
    below = position.detach().floor()
    part = position - below
    neighbours = torch.stack((below, below + 1), dim=-1)
    inside = (neighbours >= 0) & (neighbours < size)
    shares = torch.stack((1 - part, part), dim=-1) * inside
    return neighbours.to(torch.int32).clamp(0, size - 1), shares  # clamped last: NaN has no whole number


def _check_implementation(implementation: str) -> None:
    if implementation not in get_args(Implementation):
        raise ValueError(f"implementation={implementation!r}: must be one of {', '.join(get_args(Implementation))}")


def _check_shapes(
    features: Tensor, offsets: Tensor, modulation: Tensor, weight: Tensor, bias: Tensor | None, padding: int
) -> None:
    if features.ndim != 4 or weight.ndim != 4 or 0 in features.shape[1:] or features.shape[1] != weight.shape[1]:
        raise ValueError(
            f"features {tuple(features.shape)} and weight {tuple(weight.shape)}: "
            "(B, C, H, W) and (D, C, kernel height, kernel width) with one C are needed"
        )
    if padding < 0:
        raise ValueError(f"padding={padding}: must be at least 0")
    taps = weight.shape[2] * weight.shape[3]
    sizes = [size + 2 * padding - kernel + 1 for size, kernel in zip(features.shape[2:], weight.shape[2:], strict=True)]
    if min(sizes) < 1:
        raise ValueError(f"features {tuple(features.shape)} are smaller than the kernel {tuple(weight.shape[2:])}")
    wanted = {
        "offsets": (offsets, (features.shape[0], 2 * taps, *sizes)),
        "modulation": (modulation, (features.shape[0], taps, *sizes)),
        "bias": (bias, (weight.shape[0],)),
    }
    for name, (tensor, shape) in wanted.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(f"{name} {tuple(tensor.shape)}: must be {shape}")
    for name, tensor in {"features": features, "offsets": offsets, "modulation": modulation, "weight": weight}.items():
        if not tensor.is_floating_point():
            raise ValueError(f"{name} is {tensor.dtype}: a floating dtype is needed")
