"""Bicubic resizing that is exact and the same everywhere: one float64 matrix an axis."""

import math

import numpy as np


def resize_bicubic(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize an image as MATLAB's `imresize` does.

    Args:
        image: (H, W) or (H, W, C), any numeric dtype.
        height: rows of the result.
        width: columns of the result.

    Returns:
        (height, width) or (height, width, C) float64, not rounded and not clipped: the cubic overshoots at edges.
    """
    rows = np.tensordot(bicubic_weights(image.shape[0], height), image.astype(np.float64), 1)
    both = np.tensordot(bicubic_weights(image.shape[1], width), rows, (1, 1))
    return np.ascontiguousarray(np.moveaxis(both, 0, 1))


def bicubic_weights(size: int, new_size: int) -> np.ndarray:
    """Return the matrix that resizes one axis.

    Pixel i of the result reads the cubic convolution kernel (a = -1/2) at the position (i + 1/2) size / new_size - 1/2.
    Beyond the border the image is mirrored, its border pixel repeated. When shrinking, the kernel is widened by
    size / new_size, which averages instead of skipping pixels. The weights of a pixel sum to 1.

    Source: R. Keys, "Cubic convolution interpolation for digital image processing", IEEE TASSP 1981.

    Differences: OpenCV's bicubic has a = -3/4, repeats the border pixel only, and never averages. Pillow's leaves out
        what lies beyond the border.

    Args:
        size: pixels along the axis.
        new_size: pixels along it in the result.

    Returns:
        (new_size, size) float64.
    """
    stretch = max(1.0, size / new_size)
    position = (np.arange(new_size) + 0.5) * size / new_size - 0.5
    reach = math.ceil(2 * stretch)
    taps = np.floor(position).astype(int)[:, None] + np.arange(1 - reach, reach + 1)
    weights = _cubic((position[:, None] - taps) / stretch)
    weights /= weights.sum(1, keepdims=True)
    mirrored = taps % (2 * size)
    mirrored = np.where(mirrored < size, mirrored, 2 * size - 1 - mirrored)
    matrix = np.zeros((new_size, size))
    np.add.at(matrix, (np.arange(new_size)[:, None], mirrored), weights)
    return matrix


def to_8_bit(image: np.ndarray) -> np.ndarray:
    """Round values in [0, 1] to uint8, halves up; what lies outside is clipped."""
    return np.floor(image * 255 + 0.5).clip(0, 255).astype(np.uint8)


def _cubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0))
