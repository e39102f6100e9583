"""What the maps of the data set DPD-disp go through before they are scored.

Source: the demonstration that comes with Punnappurath, Abuolaim, Afifi and Brown, "Modeling Defocus-Disparity in Dual-Pixel
Sensors", ICCP 2020 (https://github.com/abhijithpunnappurath/dual-pixel-defocus-disparity). Its estimator looks at windows of 111 pixels,
33 pixels apart, of views of half the size, and fills 33 x 33 pixels around the centre of each.

The truth goes through `prepare_dpd_disp_truth`. An estimate that covers the same windows goes through `cut_border`; one of every
pixel of the halved views goes through `cut_to_windows` before. Both maps are then divided by their largest integer, 255 for 8 bits,
for `dualpixel.metrics.affine_invariant`. All pixels count there, those of value 0 too.
"""

from typing import TypeVar

import numpy as np
from torch import Tensor

from dualpixel.data.resizing import bicubic_weights
from dualpixel.errors import DualPixelError

WINDOW = 111
STRIDE = 33
BORDER = 100

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
