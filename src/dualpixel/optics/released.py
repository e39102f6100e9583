"""The renderer behind the DDD-syn data set: every pixel a square of whole pixels, in focus nowhere but far away."""

import math

import torch
from torch import Tensor

from dualpixel.optics.rectangle import render_rectangle


def render_released(image: Tensor, blur: Tensor, *, offset: float = 0.018) -> tuple[Tensor, Tensor]:
    """Render as the published DDD-syn generator does, for data that shall equal the authors'.

    A pixel becomes a square of n x n pixels, n = max(1, floor(|blur| + offset)), of weight 1 wherever it falls; each
    output pixel is the mean over the squares that cover it. The square begins at the pixel's own row and goes down; in
    the left view it begins at the pixel's own column and goes right (blur > 0), in the right view it ends there. So
    both views slide down by (n - 1)/2 pixels, and their disparity is n - 1. This is the sub-pixel rectangle
    ``vertical="down", weight="count"`` of radius n - 1.

    Source: measured from the input and the output that Pan et al. (CVPR 2021) publish with their generator, which is
    itself unreadable.

    Differences: the generator's blur is never negative; negative ones have their views exchanged here. Its `offset` was
        found by fitting one pair (the feasible range is about 0.0180 to 0.0182).

    Args:
        image: (B, C, H, W), any floating dtype and range.
        blur: (B, 1, H, W), pixels: (A/2) f depth_scale / depth, the radius of a camera focused at infinity. The
            generator's focus distance has no effect; :func:`~dualpixel.optics.render.signed_blur` knows that.
        offset: added before rounding down, pixels.

    Returns:
        Left and right view, each (B, C, H, W) in the dtype of `image`. They have a gradient with respect to the image,
        none with respect to the blur: n is a step function.

    Raises:
        ValueError: an `offset` that is not a finite number.
    """
    if not math.isfinite(offset):
        raise ValueError(f"released: offset is {offset}, but must be a finite number of pixels")
    blur = blur.detach().double()
    side = (blur.abs() + offset).floor().clamp(min=1)
    radius = torch.copysign(side - 1, blur)
    return render_rectangle(image, radius, vertical="down", weight="count", maximum_radius=math.inf)
