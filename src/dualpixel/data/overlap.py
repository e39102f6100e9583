"""Do two pictures show one scene? A perceptual hash finds candidates among all pairs, a correlation of thumbnails confirms them.

The hash holds the signs of 256 coefficients of the discrete cosine transform of the luminance, squeezed to 64x64: those of the
lowest spatial frequencies, but for the mean. Defocus blur, aperture, size, bit depth, JPEG and brightness change fine detail
or all coefficients alike, and leave these signs nearly alone. Mirroring left to right turns the signs of the odd horizontal
frequencies, so mirrored copies are found from the same hash.

Measured on 60 photographs (scikit-image, RGB-D scenes, previews of Canon and Pixel photographs, Pixel 4 scenes; 172 to 1411
pixels high): bits of 256 that differ, median and maximum, and the least correlation.

===============================================  ======  =======  =================
one photograph, changed                          median  maximum  least correlation
===============================================  ======  =======  =================
blur of radius 2, 4, 8 pixels (our optics)          0-1       13  0.74
blur of radius 12 pixels                              2       39  0.34, others 0.78
blur from -12 to 12 pixels down the picture           3       20  0.98
half the size                                         0       11  1.00
gamma 0.6 or 1.6                                   9-12       26  0.97
brighter by half, clipped                            17       63  0.55, others 0.86
JPEG quality 50 or 20                                 1       21  1.00
cropped by 1 %, 2 % at a corner                   19-36       53  0.93
cropped by 4 % round the centre                      36       70  0.83
blur of 12 pixels, darker and cropped by 2 %         35       64  0.55
mirrored (against the mirrored hash)                  0        0  1.00
===============================================  ======  =======  =================

Different photographs differ in 104 bits or more (1769 pairs; median 128, deviation 8), mirrored against each other in 96 or more,
and correlate by 0.47 at most. The 0.34 is of a page of text 191 pixels high, whose lines that blur wipes out.

Two views of a stereo pair differ in 61 bits and correlate by 0.88: they count as one scene. Views of a room from places farther
apart (117 bits), rotated photographs, and crops by much more than 4 % are not found.
"""

import cv2
import numpy as np

BITS = 256
CANDIDATE = 80
"""Most bits that may differ. Those of different photographs fall like coins: by chance less than one in 100 million pairs is so near."""
CONFIRMED = 0.5
"""Least correlation of one scene."""

_SIDE = 64
_FINE, _COARSE = 1.0, 8.0  # the correlation looks at details between these sizes: no defocus, no shading
_FARTHEST = 4  # pixels of the thumbnail, 6 % of the picture
_LUMINANCE = np.float32([0.299, 0.587, 0.114])
_ROW, _COLUMN = (axis.ravel() for axis in np.mgrid[:_SIDE, :_SIDE])
_LOWEST = np.lexsort((_ROW, _ROW + _COLUMN))[1 : BITS + 1]
_TURNED = np.where(_COLUMN[_LOWEST] % 2, -1, 1).astype(np.int8)


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Return the luminance of a picture, squeezed to a square.

    Args:
        image: (H, W, 3) uint8 or uint16, RGB.

    Returns:
        (64, 64) float32 in [0, 1].
    """
    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) @ _LUMINANCE / np.float32(np.iinfo(image.dtype).max)


def perceptual_hash(small: np.ndarray) -> np.ndarray:
    """Return the hash of a thumbnail: (256,) int8, each -1 or 1."""
    return np.where(cv2.dct(small).ravel()[_LOWEST] > 0, 1, -1).astype(np.int8)


def mirrored(hashes: np.ndarray) -> np.ndarray:
    """Return the hashes (..., 256) of the pictures mirrored left to right."""
    return hashes * _TURNED


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Count the bits that differ, for all pairs.

    Args:
        first: (N, 256) hashes.
        second: (M, 256) hashes.

    Returns:
        (N, M) integers from 0 to 256.
    """
    agreement = first.astype(np.float32) @ second.astype(np.float32).T  # exact: whole numbers up to 256
    return ((BITS - agreement) / 2).astype(np.int16)


def candidates(first: np.ndarray, second: np.ndarray, rows: int = 1024) -> list[tuple[int, int, int, bool]]:
    """Find the pairs that may show one scene, comparing so many rows of `first` at once.

    Returns:
        (position in first, position in second, bits that differ, whether they are mirrored against each other), by position.
    """
    found = []
    for start in range(0, len(first), rows):
        some = first[start : start + rows]
        plain, turned = distances(some, second), distances(mirrored(some), second)
        for row, column in np.argwhere(np.minimum(plain, turned) <= CANDIDATE):
            distance, other = int(plain[row, column]), int(turned[row, column])
            found.append((start + int(row), int(column), min(distance, other), other < distance))
    return found


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Correlate two thumbnails after they were shifted onto each other, by at most 6 % of their size.

    Args:
        first: (64, 64) of `thumbnail`.
        second: the same; mirror it before where the pair is mirrored.

    Returns:
        The normalised correlation of the middle of both, without their finest details and without shading, in [-1, 1]; 0 for a
        picture without any detail.
    """
    first, second = (_details(one.astype(np.float64)) for one in (first, second))
    shift, _ = cv2.phaseCorrelate(first, second, cv2.createHanningWindow((_SIDE, _SIDE), cv2.CV_64F))
    across, down = np.clip(np.nan_to_num(shift), -_FARTHEST, _FARTHEST)
    moved = cv2.warpAffine(second, np.float32([[1, 0, -across], [0, 1, -down]]), (_SIDE, _SIDE))
    # as it lies, too: a pattern that repeats itself gives a wrong shift
    return max(_normalised(first, moved), _normalised(first, second))


def _normalised(first: np.ndarray, second: np.ndarray) -> float:
    middle = (slice(_FARTHEST, -_FARTHEST),) * 2
    one, other = (part[middle] - part[middle].mean() for part in (first, second))
    power = np.sqrt((one**2).sum() * (other**2).sum())
    return float((one * other).sum() / power) if power > 1e-12 else 0.0


def _details(small: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(small, (0, 0), _FINE) - cv2.GaussianBlur(small, (0, 0), _COARSE)
