"""Training windows and their sharpness filter.

Source: Abuolaim and Brown, ECCV 2020, section 5 (patches of 512 x 512 with 60 % overlap, the 30 % of lowest sharpness
energy dropped), in the form of the authors' patch extraction program. OpenCV and NumPy only.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from dualpixel.errors import DualPixelError

Window = tuple[int, int]

SOBEL_APERTURES = (3, 7, 11, 15)


def windows(height: int, width: int, window: int, overlap: float) -> list[Window]:
    """List the top-left corners of square windows that cover an image, in the order of the authors' scan.

    The stride is int((1 - overlap) * window). Windows that would leave the image are moved flush to its far edge,
    each of these once. The flush corner window also comes once, in the first row whose flush window is already taken
    when another column overflows. A flush window that equals one of the regular grid is listed again, as the authors'
    program does; at 1120 x 1680 with window 512 there is none.

    Args:
        height: image height, pixels.
        width: image width, pixels.
        window: side of the windows, pixels.
        overlap: share of a window that its neighbour covers too, from 0 to less than 1.

    Returns:
        (row, column) pairs: 28 at 1120 x 1680 with window 512 and overlap 0.6 (training), 12 with overlap 0.01
        (validation).

    Raises:
        DualPixelError: the image is smaller than the window, or the overlap leaves no stride.

    Differences: the paper's stride would be 204.8 pixels and its patches end where the image does not; the program
    has 204 and flush windows.
    """
    if window < 1 or min(height, width) < window:
        raise DualPixelError(
            f"an image of {height} x {width} pixels (height x width) holds no window of {window} x {window}; "
            "use a smaller window"
        )
    stride = int((1 - overlap) * window)
    if not 0 <= overlap < 1 or stride < 1:
        raise DualPixelError(
            f"overlap {overlap} with window {window}: it must lie from 0 to below 1 "
            "and leave a stride of at least one pixel"
        )
    last_row, last_column = height - window, width - window
    found: list[Window] = []
    flush: set[Window] = set()
    for row in range(0, height, stride):
        for column in range(0, width, stride):
            if row <= last_row and column <= last_column:
                found.append((row, column))
                continue
            edge = (min(row, last_row), min(column, last_column))
            # The authors' chain of conditions falls through to the corner when the edge window was taken before.
            for candidate in (edge, (last_row, last_column)):
                if candidate not in flush:
                    flush.add(candidate)
                    found.append(candidate)
                    break
    return found


def sobel_energy(grey: NDArray[np.generic], aperture: int) -> float:
    """Sum the gradient magnitude of a patch.

    Args:
        grey: (H, W), stored values; the border is reflected (OpenCV's default), so the patch must stand alone.
        aperture: side of the Sobel kernel, odd, 3 to 31.

    Returns:
        Sum over the patch of sqrt(gx^2 + gy^2), in the units of OpenCV's kernels.
    """
    grey = np.ascontiguousarray(grey)
    along_x = cv2.Sobel(grey, cv2.CV_64F, 1, 0, ksize=aperture)
    along_y = cv2.Sobel(grey, cv2.CV_64F, 0, 1, ksize=aperture)
    return float(np.sqrt(along_x * along_x + along_y * along_y).sum())


def sharpness(target: NDArray[np.generic], positions: Sequence[Window], window: int) -> NDArray[np.float64]:
    """Score windows of one image by their Sobel energy.

    For each aperture of 3, 7, 11 and 15 the energies are scaled to [0, 1] over the windows of this image; the score
    is the product of the four.

    Args:
        target: (H, W, 3) uint16 or uint8, RGB, the all-in-focus image.
        positions: (row, column) of the windows.
        window: side of the windows, pixels.

    Returns:
        (len(positions),) float64 in [0, 1]. Where all windows have the same energy, the factor of that aperture is 1.

    Raises:
        DualPixelError: the target is no RGB image of 8 or 16 bits, or a window leaves it.

    Differences: the paper names one Sobel energy and no scope; the authors' program multiplies four, image by image.
    It divides 0 by 0 where all energies are equal.
    """
    if target.ndim != 3 or target.shape[2] != 3 or target.dtype not in (np.uint8, np.uint16):
        raise DualPixelError(
            f"the sharpness filter takes (H, W, 3) RGB in uint8 or uint16, found {target.shape} {target.dtype}"
        )
    height, width = target.shape[:2]
    outside = [
        (row, column)
        for row, column in positions
        if not (0 <= row <= height - window and 0 <= column <= width - window)
    ]
    if outside:
        raise DualPixelError(
            f"the window of {window} pixels at (row, column) = {outside[0]} "
            f"leaves the image of {height} x {width} pixels"
        )
    grey = cv2.cvtColor(np.ascontiguousarray(target), cv2.COLOR_RGB2GRAY)
    score = np.ones(len(positions))
    for aperture in SOBEL_APERTURES:
        energy = np.array(
            [sobel_energy(grey[row : row + window, column : column + window], aperture) for row, column in positions]
        )
        if len(energy) and energy.max() > energy.min():
            score *= (energy - energy.min()) / (energy.max() - energy.min())
    return score


def sharpness_rank(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the place of each score from the lowest, 0, to the highest; of equal scores the earlier comes first."""
    rank = np.empty(len(scores), dtype=np.int64)
    rank[np.argsort(scores, kind="stable")] = np.arange(len(scores))
    return rank


def select_windows(target: NDArray[np.generic], window: int, overlap: float, discard: float) -> list[Window]:
    """List the training windows of one image, without the least sharp ones.

    Args:
        target: (H, W, 3) uint16 or uint8, RGB, the all-in-focus image.
        window: side of the windows, pixels; 512 in the paper.
        overlap: as in `windows`; 0.6 in the paper.
        discard: share of the windows to drop, 0 to 1; the lowest int(discard * n) go. 0.3 in the paper.

    Returns:
        (row, column) of the windows kept, in the order of the scan: 20 of 28 for the images of the paper.

    Raises:
        DualPixelError: as `windows` and `sharpness`, or `discard` lies outside [0, 1].
    """
    if not 0 <= discard <= 1:
        raise DualPixelError(f"discard {discard}: the share of windows to drop lies from 0 to 1")
    positions = windows(target.shape[0], target.shape[1], window, overlap)
    dropped = int(discard * len(positions))
    if dropped == 0:
        return positions
    rank = sharpness_rank(sharpness(target, positions, window))
    return [position for position, place in zip(positions, rank, strict=True) if place >= dropped]
