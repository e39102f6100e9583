"""Cost volume by concatenation: beside each pixel of the left view, the pixels of the right view it may belong to."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


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
    if left.shape != right.shape or left.ndim != 4:
        raise ValueError(
            f"left {tuple(left.shape)} and right {tuple(right.shape)}: two maps of one shape (B, C, H, W) are needed"
        )
    if not len(shifts):
        raise ValueError("no shifts: a cost volume needs at least one")
    return torch.stack([_paired(left, right, shift) for shift in shifts], dim=2)


def _paired(left: Tensor, right: Tensor, shift: int) -> Tensor:
    width = left.shape[-1]
    before, after = min(max(shift, 0), width), min(max(-shift, 0), width)  # columns without a partner
    pairs = torch.cat((left[..., before : width - after], right[..., after : width - before]), dim=1)
    return functional.pad(pairs, (before, after))
