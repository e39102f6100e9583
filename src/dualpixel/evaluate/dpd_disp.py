"""What the maps of the data set DPD-disp go through before they are scored.

Source: the demonstration that comes with Punnappurath, Abuolaim, Afifi and Brown, "Modeling Defocus-Disparity in Dual-Pixel
Sensors", ICCP 2020 (https://github.com/abhijithpunnappurath/dual-pixel-defocus-disparity). Its estimator looks at windows of 111 pixels,
33 pixels apart, of views of half the size, and fills 33 x 33 pixels around the centre of each.

The truth goes through `prepare_dpd_disp_truth`. An estimate that covers the same windows goes through `cut_border`; one of every
pixel of the halved views goes through `cut_to_windows` before. Both maps are then divided by their largest integer, 255 for 8 bits,
for `dualpixel.metrics.affine_invariant`. All pixels count there, those of value 0 too. `prepare_truth` and `prepare_estimate` do all
of this to batches.
"""

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from dualpixel.data.resizing import bicubic_weights
from dualpixel.errors import DualPixelError

WINDOW = 111
STRIDE = 33
BORDER = 100
SMALLEST_SIDE = 2 * (WINDOW + 6 * STRIDE)
"""Of a scene, pixels: half of it has room for 7 windows, 231 pixels; of 6 the border would leave nothing."""
STEPS = 255

Map = TypeVar("Map", np.ndarray, Tensor)


def prepare_dpd_disp_truth(truth: np.ndarray) -> np.ndarray:
    """Halve a truth, cut it to the windows of the estimator, and cut its border off.

    Args:
        truth: (H, W) uint8, at the size of the camera's images; H and W even, at least 618.

    Returns:
        (h, w) uint8; 1186 x 2308 of 2940 x 5180.

    Raises:
        DualPixelError: another type or shape, or too small.
    """
    return cut_border(cut_to_windows(halve_in_8_bits(truth)))


def check_dpd_disp_size(height: int, width: int, what: str) -> None:
    """Refuse a scene of which nothing would be left.

    Args:
        height: of the scene as stored, pixels.
        width: of the same.
        what: its name, for the message.

    Raises:
        DualPixelError: a side below 618.
    """
    if min(height, width) < SMALLEST_SIDE:
        raise DualPixelError(
            f"{what} of {height} x {width} pixels is too small to be scored as DPD-disp is: halved and cut, {SMALLEST_SIDE} pixels a side "
            "are the least that leave something; choose another --protocol"
        )


def prepare_truth(disparity: Tensor) -> Tensor:
    """Do to a batch of truths what `prepare_dpd_disp_truth` does to one.

    Args:
        disparity: (B, 1, H, W) in [0, 1], value / 255 of 8 bits; other values go to the nearest of these.

    Returns:
        (B, 1, h, w) of the same type, on the same device, in [0, 1].

    Raises:
        DualPixelError: values outside of [0, 1] or NaN, or a size that cannot be prepared.
    """
    if not ((disparity >= 0) & (disparity <= 1)).all():
        raise DualPixelError("disparity must lie in [0, 1], and be known at every pixel, to be scored as DPD-disp is")
    stored = (disparity[:, 0] * STEPS).round().to("cpu", torch.uint8).numpy()
    prepared = np.stack([prepare_dpd_disp_truth(one) for one in stored])[:, None]
    return torch.from_numpy(prepared).to(disparity) / STEPS


def prepare_estimate(blur: Tensor) -> Tensor:
    """Cut predicted blur to where the prepared truth is, and write it to 8 bits.

    Each map is scaled to go from 0 at its smallest to 1 at its largest value, and rounded to multiples of 1 / 255. That changes no
    score but for the rounding, which 1 - |rho_s| of dense ranks depends on.

    Args:
        blur: (B, 1, H, W) predicted from views of half the size of the scene, any unit.

    Returns:
        (B, 1, h, w) of the same type, in [0, 1]; a constant map becomes 0, one with NaN or infinities NaN.

    Raises:
        DualPixelError: smaller than a window or its border.

    Differences: how DDDNet's authors wrote their estimates is not published.
    """
    inside = cut_border(cut_to_windows(blur))
    smallest, largest = inside.aminmax(dim=-1, keepdim=True)
    smallest, largest = smallest.amin(-2, keepdim=True), largest.amax(-2, keepdim=True)
    span = largest - smallest
    scaled = (inside - smallest) / torch.where(span == 0, 1, span)
    return torch.where(span.isfinite(), (scaled * STEPS).round() / STEPS, torch.nan)


def halve_in_8_bits(image: np.ndarray) -> np.ndarray:
    """Resize by 0.5 as MATLAB's `imresize` resizes 8 bits: bicubic with averaging, rounded after each axis, rows first.

    Halves are rounded up. The weights are multiples of 1 / 256, so the sums are exact and a half is a half.

    Args:
        image: (H, W) uint8, H and W even.

    Returns:
        (H / 2, W / 2) uint8.

    Raises:
        DualPixelError: another type or shape, or an odd side.
    """
    if image.dtype != np.uint8 or image.ndim != 2 or any(side % 2 for side in image.shape):
        raise DualPixelError(
            f"a map of DPD-disp is (H, W) uint8 with even sides, found {tuple(image.shape)} {image.dtype}: give the file as it is stored"
        )
    height, width = image.shape
    rows = _round_to_8_bits(bicubic_weights(height, height // 2) @ image.astype(np.float64))
    return _round_to_8_bits(rows @ bicubic_weights(width, width // 2).T).astype(np.uint8)


def cut_to_windows(whole: Map) -> Map:
    """Cut a map of the halved views to what the windows of the estimator fill.

    Args:
        whole: (..., H, W), H and W at least 111.

    Returns:
        (..., h, w): multiples of 33.

    Raises:
        DualPixelError: smaller than a window.
    """
    sides = []
    for side in whole.shape[-2:]:
        if side < WINDOW:
            raise DualPixelError(
                f"a map of {' x '.join(map(str, whole.shape[-2:]))} pixels is smaller than the window of {WINDOW} x {WINDOW}"
            )
        first = (WINDOW - STRIDE) // 2
        sides.append(slice(first, first + ((side - WINDOW) // STRIDE + 1) * STRIDE))
    return whole[..., sides[0], sides[1]]


def cut_border(whole: Map) -> Map:
    """Cut 100 pixels off every side.

    Args:
        whole: (..., H, W), H and W above 200.

    Returns:
        (..., H - 200, W - 200).

    Raises:
        DualPixelError: nothing would be left.
    """
    if min(whole.shape[-2:]) <= 2 * BORDER:
        raise DualPixelError(
            f"a map of {' x '.join(map(str, whole.shape[-2:]))} pixels is no larger than its border of {BORDER} pixels a side"
        )
    return whole[..., BORDER:-BORDER, BORDER:-BORDER]


def _round_to_8_bits(values: np.ndarray) -> np.ndarray:
    return np.floor(values + 0.5).clip(0, 255)
