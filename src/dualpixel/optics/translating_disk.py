"""The translating disk in layers: a disc that brightens towards one side, as a real dual-pixel sensor blurs."""

from functools import partial

import torch
from torch import Tensor

from dualpixel.optics.kernels import translating_disk
from dualpixel.optics.layers import Occlusion, composite, quantise


def render_translating_disk(
    image: Tensor,
    blur: Tensor,
    *,
    step: float = 1.0,
    occlusion: Occlusion = "plain",
    maximum_radius: float = 16.0,
) -> tuple[Tensor, Tensor]:
    """Render the two views of a sensor whose half pixels also see light of the other half of the aperture.

    The radius r is rounded to a multiple of `step`, one layer each. A layer is blurred with the translating disk of
    that radius (see :func:`~dualpixel.optics.kernels.translating_disk`), and the layers are composited from the
    farthest to the nearest: see :func:`~dualpixel.optics.layers.composite`. A constant image stays constant. Precision,
    cost and gradients are those of :func:`~dualpixel.optics.half_disc.render_half_disc`.

    Source: Punnappurath et al., "Modeling Defocus-Disparity in Dual-Pixel Sensors", ICCP 2020.

    Differences: the paper has the kernel for one patch of one depth, and layers are ours. Its kernels have sum 1/2, so
    that the views add up to the ordinary image; ours have sum one, and the ordinary image is the mean of the views.

    Args:
        image: (B, C, H, W), any floating dtype and range. A NaN in it spreads to its surroundings.
        blur: (B, 1, H, W), signed blur radius r in pixels, positive nearer than the focus plane.
        step: pixels of radius from layer to layer; smaller is smoother in depth, and in proportion slower. On a photograph
            with made-up depth and radii up to 12, steps of 1 and of 1/4 lie 36.5 and 37.5 dB from a step of 1/16.
        occlusion: "plain", or "normalised", where a blurred background goes on behind what hides it.
        maximum_radius: the radius is clamped to [-maximum_radius, maximum_radius], pixels.

    Returns:
        Left and right view, each (B, C, H, W) in the dtype of `image`.

    Raises:
        ValueError: an unknown `occlusion`, a `step` or `maximum_radius` that is not positive, or a blur that is NaN or
            infinite.
    """
    layer = quantise(blur, step, maximum_radius)
    left, right = composite(image, blur, layer, partial(translating_disk_kernels, step=step), occlusion)
    return left, right


def translating_disk_kernels(layer: int, step: float = 1.0) -> Tensor:
    """Return the left and the right view's point spread function of a layer, (2, n, n) float64 with sum one."""
    left = 2 * translating_disk(layer * step)
    return torch.stack([left, left.flip(1)])
