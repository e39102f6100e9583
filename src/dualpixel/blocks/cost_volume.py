"""Cost volume by concatenation: beside each pixel of the left view, the pixels of the right view it may belong to.

And the convolution of such a volume, which can be had without it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from dualpixel.blocks.normalised_convolution import ConvolutionNormReLU

KERNEL = 3
"""Size on every axis of the kernel that is taken apart."""


def concatenation_volume(left: Tensor, right: Tensor, shifts: Sequence[int]) -> Tensor:
    r"""Pair the left features with the right ones moved by each shift.

    .. math:: V(d, y, x) = [L(y, x), R(y, x - d)]

    where the right view has column x - d; elsewhere, both halves are zeros. A point of disparity d, that is one that
    lies d pixels further to the right in the left view, meets itself at shift d.

    Source: the matching volume of Yang, Pan, Liu and Liu, "K3DN: Disparity-aware Kernel Estimation for Dual-Pixel
    Defocus Deblurring", CVPR 2023, section 3.2, as in the authors' code (https://github.com/cjsj166/k3dn).

    Differences: the authors' code leaves the columns without a partner uninitialised, so that its results vary from
    call to call.

    Args:
        left: (B, C, H, W).
        right: of the same shape.
        shifts: the disparities d, pixels, of either sign, in the order of the result; the authors' are 0, 1, 2, 3.

    Returns:
        (B, 2 C, number of shifts, H, W).

    Raises:
        ValueError: the shapes differ or are not four-dimensional, or there is no shift.
    """
    _require(left, right, shifts)
    return torch.stack([_paired(left, right, shift) for shift in shifts], dim=2)


def concatenation_convolution(left: Tensor, right: Tensor, shifts: Sequence[int], weight: Tensor) -> Tensor:
    r"""Convolve the cost volume of two maps with a 3 x 3 x 3 kernel and a frame of zeros, without making the volume.

    Where all columns under the kernel have a partner at every shift, the volume holds L itself and R moved by a shift.
    With the kernel cut in its left and its right half and in its slices k along the shifts, the convolution there is

    .. math:: \left(\sum_k W^L_k * L\right)(y, x) + \sum_k (W^R_k * R)(y, x - d_{i + k}), \qquad k \in \{-1, 0, 1\},

    for the shift :math:`d_i`, without the k that lead beyond the first or the last shift. So six 2-D convolutions serve
    all shifts, where the volume takes six for each. Near the left and the right border, where it holds zeros, and for
    maps hardly wider than the shifts, the volume is made and convolved.

    The result is that of ``conv3d(concatenation_volume(left, right, shifts), weight, padding=1)`` to rounding, and so are
    the gradients. The meta device, where only shapes matter and operations are counted, takes that form: counts are those
    of the network as its authors wrote it, not the lower ones of this way to run it.

    Args:
        left: (B, C, H, W).
        right: of the same shape.
        shifts: as for :func:`concatenation_volume`.
        weight: (O, 2 C, 3, 3, 3), axes as those of the volume.

    Returns:
        (B, O, number of shifts, H, W).

    Raises:
        ValueError: as :func:`concatenation_volume`, or the weight does not fit.
    """
    _require(left, right, shifts)
    channels, width = left.shape[1], left.shape[-1]
    if weight.ndim != 5 or weight.shape[1:] != (2 * channels, KERNEL, KERNEL, KERNEL):
        raise ValueError(
            f"weight {tuple(weight.shape)}: must be (O, {2 * channels}, {KERNEL}, {KERNEL}, {KERNEL}), both maps' channels in"
        )
    before, after = max(0, *shifts), max(0, *(-shift for shift in shifts))  # columns without a partner at some shift
    start, stop = before + 1, width - after - 1
    edge = before + after + 2  # columns of the maps that the result before `start`, or from `stop` on, depends on
    if left.is_meta or start >= stop:
        return functional.conv3d(concatenation_volume(left, right, shifts), weight, padding=1)

    of_left, of_right = weight.chunk(2, dim=1)
    slices = functional.conv2d(right, of_right.movedim(2, 0).flatten(0, 1), padding=(1, 0)).chunk(KERNEL, dim=1)
    result = slices[0].new_empty(len(left), len(weight), len(shifts), *left.shape[2:])
    used: slice | None = None
    for place in range(len(shifts)):
        last_used, used = used, slice(max(0, 1 - place), min(KERNEL, len(shifts) + 1 - place))
        if used != last_used:
            constant = functional.conv2d(left, of_left[:, :, used].sum(2), padding=(1, 0))[..., start - 1 : stop - 1]
        near = zip(slices[used], shifts[max(0, place - 1) : place + 2], strict=True)
        moved = [
            one[..., start - 1 - shift : stop - 1 - shift] for one, shift in near
        ]  # their first column is column 1
        total = constant + moved[0]
        for one in moved[1:]:
            total += one
        result[:, :, place, :, start:stop] = total
    for columns, part in ((slice(edge), slice(start)), (slice(width - edge, None), slice(stop - width, None))):
        volume = concatenation_volume(left[..., columns], right[..., columns], shifts)
        result[..., part] = functional.conv3d(volume, weight, padding=1)[..., part]
    return result


class ConcatenationConvolution(ConvolutionNormReLU):
    """Convolution, batch normalisation and ReLU of the cost volume of two maps: the first layer of a matching network.

    Args:
        in_channels: channels of one map; the kernel has twice as many.
        out_channels: channels of the result.

    Attributes:
        conv, norm: as in `ConvolutionNormReLU`, of which this has the weights and their names.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(2 * in_channels, out_channels, KERNEL, dimensions=3)

    def forward(self, left: Tensor, right: Tensor, shifts: Sequence[int]) -> Tensor:
        """Map two (B, in_channels, H, W) to (B, out_channels, number of shifts, H, W), at least 0."""
        found = concatenation_convolution(left, right, shifts, self.conv.weight)
        return functional.relu(self.norm(found), inplace=True)


def _require(left: Tensor, right: Tensor, shifts: Sequence[int]) -> None:
    if left.shape != right.shape or left.ndim != 4:
        raise ValueError(
            f"left {tuple(left.shape)} and right {tuple(right.shape)}: two maps of one shape (B, C, H, W) are needed"
        )
    if not len(shifts):
        raise ValueError("no shifts: a cost volume needs at least one")


def _paired(left: Tensor, right: Tensor, shift: int) -> Tensor:
    width = left.shape[-1]
    before, after = min(max(shift, 0), width), min(max(-shift, 0), width)  # columns without a partner
    pairs = torch.cat((left[..., before : width - after], right[..., after : width - before]), dim=1)
    return functional.pad(pairs, (before, after))
