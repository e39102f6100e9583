"""Radial distortion of a lens: the polynomial that ImageMagick calls "barrel"."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

Interpolation = Literal["bilinear", "nearest"]
Beyond = Literal["zeros", "border"]


def distort(
    image: Tensor,
    coefficients: Sequence[float],
    interpolation: Interpolation = "bilinear",
    beyond: Beyond = "zeros",
) -> Tensor:
    """Distort images or maps radially about their centre.

    The pixel at distance r from the centre shows what lies at distance

        r (A r^3 + B r^2 + C r + D)

    in the same direction. Distances are in units of half the smaller side of the image; the centre lies in the middle
    of the middle pixel, or between the two, and pixel k covers [k - 1/2, k + 1/2]. A + B + C + D = 1 keeps the middles
    of the longer sides in place; a factor that grows with r makes a barrel, one that falls a pincushion.

    Source: the distortion "barrel" of ImageMagick, with which the RDPD data are made (Abuolaim et al., ICCV 2021).

    Differences: ImageMagick takes a mean over the area that a pixel covers in the source; here the source is read at one
        point, so results are close and not equal. Values of a map (a depth, a blur radius in pixels) move and are not
        scaled.

    Args:
        image: (B, C, H, W), floating.
        coefficients: A, B, C, D.
        interpolation: "bilinear" for images; "nearest" for maps that jump, such as depth, since a mean of two depths is
            the depth of neither surface.
        beyond: what is shown beyond the source: "zeros", black; "border", its border pixels, so that a map has no holes.

    Returns:
        As `image`. Sampled in float64 outside of autocast, with a gradient with respect to the image.

    Raises:
        ValueError: not four finite coefficients, an unknown `interpolation` or `beyond`, or an image of another shape or dtype.
    """
    if len(coefficients) != 4 or not all(math.isfinite(one) for one in coefficients):
        raise ValueError(f"distort: coefficients are {list(coefficients)}, but must be four numbers A, B, C, D")
    for name, value, allowed in (("interpolation", interpolation, Interpolation), ("beyond", beyond, Beyond)):
        if value not in get_args(allowed):
            raise ValueError(f"distort: {name} is {value!r}; allowed: {', '.join(get_args(allowed))}")
    if image.ndim != 4 or 0 in image.shape or not image.is_floating_point():
        raise ValueError(
            f"distort: image is {tuple(image.shape)} {image.dtype}, but must be (B, C, H, W) without a zero, floating"
        )
    height, width = image.shape[-2:]
    y, x = (
        (torch.arange(size, device=image.device).double() - (size - 1) / 2) / (min(height, width) / 2)
        for size in (height, width)
    )
    r = torch.hypot(y[:, None], x)
    a, b, c, d = coefficients
    factor = a * r**3 + b * r**2 + c * r + d
    # grid_sample counts from -1 to 1 between the outer borders of the frame
    across, down = x * factor * (min(height, width) / width), y[:, None] * factor * (min(height, width) / height)
    grid = torch.stack([across, down], -1).expand(image.shape[0], -1, -1, -1)
    with torch.autocast(image.device.type, enabled=False):
        return grid_sample(image.double(), grid, interpolation, beyond, align_corners=False).to(image.dtype)
