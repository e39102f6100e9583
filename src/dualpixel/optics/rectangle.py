"""The sub-pixel rectangle: a half aperture taken for a rectangle, rendered in a time that no blur prolongs."""

from typing import Literal, get_args

import torch
from torch import Tensor

from dualpixel.optics.integral import MeanOfRectangles

Vertical = Literal["sym", "down"]
Weight = Literal["energy", "count"]


def render_rectangle(
    image: Tensor,
    blur: Tensor,
    *,
    vertical: Vertical = "sym",
    weight: Weight = "energy",
    maximum_radius: float = 16.0,
    gradient_beyond_maximum: bool = False,
) -> tuple[Tensor, Tensor]:
    """Render the two views of a dual-pixel sensor whose half apertures are rectangles.

    Every pixel is spread evenly over the rectangle that each half aperture makes of it (edges between pixels allowed;
    see :class:`~dualpixel.optics.integral.MeanOfRectangles` for its place), and each output pixel is the weighted mean
    of what falls into it: sum(weight x overlap area x colour) / sum(weight x overlap area). A constant image stays
    constant, r = 0 is the identity, and at the frame's border the mean is taken over what is there. Occlusion is
    ignored: near and far content is averaged.

    The work per pixel does not depend on the blur. Sums are made in float64 outside of autocast, whatever goes in,
    because cumulative sums in float32 err by 1e-3 and more over a megapixel. On a CPU the result is reproducible to the
    bit; on a GPU it is under ``torch.use_deterministic_algorithms(True)``. A NaN in the image or the blur spreads to
    everything below and to the right of it.

    Source: Pan et al., "Dual Pixel Exploration", CVPR 2021, section 3 (integral image).

    Differences: the paper leaves open how corners are rounded, what happens at the frame's border, and how sums are
    normalised; here edges are real-valued, so that the views have a gradient with respect to the blur. The options
    ``vertical="down", weight="count"`` have the systematic downward shift and the weighting of the authors' published
    example; the defaults are the physical half aperture.

    Args:
        image: (B, C, H, W), any floating dtype and range.
        blur: (B, 1, H, W), signed blur radius r in pixels, positive nearer than the focus plane.
        vertical: "sym": rows y -+ (1/2 + |r|), twice as tall as wide as half an aperture is; "down": rows
            y - 1/2 to y + 1/2 + |r|, which moves both views down by |r|/2.
        weight: "energy": a pixel's weight is 1 / area of its rectangle, the same light from every point; "count": 1, so
            that strongly blurred content outweighs sharp content.
        maximum_radius: the radius is clamped to [-maximum_radius, maximum_radius], pixels; ``math.inf`` to leave it.
        gradient_beyond_maximum: let the gradient with respect to a clamped radius through unchanged, instead of none.

    Returns:
        Left and right view, each (B, C, H, W) in the dtype of `image`.

    Raises:
        ValueError: an unknown `vertical` or `weight`, or a `maximum_radius` that is not positive.
    """
    for name, value, allowed in (("vertical", vertical, Vertical), ("weight", weight, Weight)):
        if value not in get_args(allowed):
            raise ValueError(f"rect: {name} is {value!r}; allowed: {', '.join(get_args(allowed))}")
    if not maximum_radius > 0:
        raise ValueError(f"rect: maximum_radius is {maximum_radius}, but must be a positive number of pixels")
    with torch.autocast(image.device.type, enabled=False):
        radius = blur[:, 0].double().contiguous()
        clamped = radius.clamp(-maximum_radius, maximum_radius)
        radius = radius + (clamped - radius).detach() if gradient_beyond_maximum else clamped
        extent = radius.abs()
        height = 1 + (2 * extent if vertical == "sym" else extent)
        share = 1 / ((1 + extent) * height) if weight == "energy" else torch.ones_like(radius)
        return MeanOfRectangles.apply(image, share, radius, vertical == "sym")
