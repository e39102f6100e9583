"""Fewer bits, and half the size: what some authors' programs do to images before they look at them and score them.

Images are floating, (..., H, W), in [0, 1]; full scale is 2^bits - 1 steps. A 16-bit value v is v / 65535 here.
"""

import torch
from torch import Tensor
from torch.nn import functional

from dualpixel.errors import DualPixelError

STORED_BITS = 16


def drop_low_bits(image: Tensor, bits: int = 8) -> Tensor:
    """Keep the upper bits of 16-bit values: v becomes floor(v / 2^(16 - bits)) of 2^bits - 1.

    That is what reading a 16-bit PNG as 8 bits does. An image of 8 bits stays as it is: k of 255 is 257 k of 65535, whose
    upper byte is k. Values between the steps or outside [0, 1], as of a rendered image, go to the nearest of 16 bits first.

    Args:
        image: (..., H, W), float32 or float64.
        bits: how many are kept, 1 to 16.

    Returns:
        The same shape and type.
    """
    values = (image.clamp(0, 1) * (2**STORED_BITS - 1)).round()
    return torch.floor(values / 2 ** (STORED_BITS - bits)) / (2**bits - 1)


def truncate(image: Tensor, bits: int = 8) -> Tensor:
    """Turn an output into whole steps, floor(x (2^bits - 1)), as a cast to integers does; values outside [0, 1] are clamped.

    Args:
        image: (..., H, W), float32 or float64.
        bits: of the result, 1 to 16.

    Returns:
        The same shape and type.
    """
    steps = 2**bits - 1
    return torch.floor(image.clamp(0, 1) * steps) / steps


def halve(image: Tensor, bits: int = 8) -> Tensor:
    """Halve height and width: the mean of each 2x2 square, halves rounded up to whole steps.

    That is OpenCV's bilinear resize of integers at exactly half the size.

    Args:
        image: (B, C, H, W), float32 or float64, in whole steps; H and W even.
        bits: of image and result, 1 to 16.

    Returns:
        (B, C, H / 2, W / 2), the same type.

    Raises:
        DualPixelError: H or W is odd.
    """
    check_even(*image.shape[-2:], "an image")
    steps = 2**bits - 1
    means = functional.avg_pool2d((image * steps).round(), 2)  # quarters, exact in floating point
    return torch.floor(means + 0.5) / steps


def check_even(height: int, width: int, what: str) -> None:
    """Refuse a size that cannot be halved exactly.

    Raises:
        DualPixelError: a side is odd.
    """
    if height % 2 or width % 2:
        raise DualPixelError(
            f"{what} of {height} x {width} pixels cannot be halved exactly: a half-size protocol takes even heights and widths; "
            "choose another --protocol"
        )
