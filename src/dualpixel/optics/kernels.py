"""Point spread functions of a round aperture and of its halves, in pixels, with exact areas.

A pixel's share of a shape is the area of their intersection, from the closed form of the integral under a circle; no
sampling is involved. Pixel k covers [k - 1/2, k + 1/2], and the middle pixel lies at the centre of the shape. A kernel
is a float64 tensor of odd size on the CPU.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional


def disc(radius: float) -> Tensor:
    """Return the circle of confusion of the whole aperture: an evenly lit disc.

    Args:
        radius: pixels, 0 or more; a disc within the middle pixel (up to 1/2) is that pixel.

    Returns:
        (n, n) float64 with n = 2 ceil(radius - 1/2) + 1; the sum is one.

    Raises:
        ValueError: a radius that is negative or not finite.
    """
    return _unit_sum(_mirrored(_mirrored(_quadrant(radius), 0), 1))


def half_disc(radius: float) -> Tensor:
    """Return the circle of confusion of half an aperture: the half of a disc with x >= 0.

    Of the middle column the right half is covered; all columns to its left are zero. It is the left view's point spread
    function of a point nearer than the focus plane.

    Source: Abuolaim et al., "Improving Single-Image Defocus Deblurring", WACV 2022, section 2 (half circle of
    confusion); Punnappurath et al., "Modeling Defocus-Disparity in Dual-Pixel Sensors", ICCP 2020.

    Args:
        radius: of the whole disc, as in :func:`disc`.

    Returns:
        (n, n) float64, n as in :func:`disc`; the sum is one.

    Raises:
        ValueError: as in :func:`disc`.
    """
    right = _mirrored(_quadrant(radius), 0)
    return _unit_sum(functional.pad(right, (right.shape[1] - 1, 0)))


def translating_disk(radius: float, window: int | None = None) -> Tensor:
    """Return the translating disk: the part of a real half aperture's light, a disc that brightens towards one side.

    The disc h, moved to the side pixel by pixel over its own place and summed:
    K(x) = 1/2 normalise(sum over i >= 0 of h(x) h(x - sign(radius) i)). A moved disc only counts where it meets the
    one that stays, so the sum is h times its running sum along the row.

    Source: Punnappurath et al., "Modeling Defocus-Disparity in Dual-Pixel Sensors", ICCP 2020, and its published code.

    Args:
        radius: signed blur radius, pixels. Positive: brighter towards the right, the left view's kernel of a point
            nearer than the focus plane; negative: the mirror image, that of the right view.
        window: odd size of the result, at least that of ``disc(abs(radius))``, which it is when left out.

    Returns:
        (window, window) float64 with sum 1/2: the kernels of the two views together have sum one, as an ordinary image
        is the sum of the views.

    Raises:
        ValueError: a radius that is not finite, or a window that is even or too small.
    """
    still = disc(abs(radius))
    kernel = _unit_sum(still * still.cumsum(1)) / 2
    kernel = kernel.flip(1) if radius < 0 else kernel
    size = len(kernel)
    if window is not None and (window % 2 == 0 or window < size):
        raise ValueError(f"optics: window is {window}, but must be odd and at least {size} for a radius of {radius}")
    return functional.pad(kernel, [((window or size) - size) // 2] * 4)


def _quadrant(radius: float) -> Tensor:
    """Return the area that a disc covers of each pixel with x, y >= 0; of the pixels 0, the part with x, y >= 0."""
    if not 0 <= radius < math.inf:
        raise ValueError(f"optics: the radius of a disc is {radius}, but must be a number of pixels, 0 or more")
    edges = torch.arange(max(math.ceil(radius - 0.5), 0) + 2, dtype=torch.float64) - 0.5
    edges[0] = 0
    if len(edges) == 2:
        return torch.ones(1, 1, dtype=torch.float64)
    near, far = edges[:-1], edges[1:]
    # along a row of pixels the arc is above their far edge up to `full`, and below their near edge from `empty` on
    full = (radius**2 - far**2).clamp(min=0).sqrt()[:, None].clamp(near, far)
    empty = (radius**2 - near**2).clamp(min=0).sqrt()[:, None].clamp(near, far)

    def under_arc(x: Tensor) -> Tensor:
        x = x.clamp(max=radius)
        return (x * (radius**2 - x**2).clamp(min=0).sqrt() + radius**2 * (x / radius).asin()) / 2

    beneath_arc = under_arc(empty) - under_arc(full) - near[:, None] * (empty - full)
    return (full - near) * (far - near)[:, None] + beneath_arc


def _mirrored(half: Tensor, dim: int) -> Tensor:
    """Complete a shape that is symmetric about place 0, of which `half` has the part beyond 0, along one dimension."""
    beyond = half.narrow(dim, 1, half.shape[dim] - 1)
    return torch.cat([beyond.flip(dim), 2 * half.narrow(dim, 0, 1), beyond], dim)


def _unit_sum(kernel: Tensor) -> Tensor:
    return kernel / kernel.sum()
