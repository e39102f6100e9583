"""Half discs in layers: the circle of confusion of half a round aperture, and near things before far ones."""

import torch
from torch import Tensor

from dualpixel.optics.kernels import half_disc
from dualpixel.optics.layers import Occlusion, composite, quantise


def render_half_disc(
    image: Tensor, blur: Tensor, *, occlusion: Occlusion = "plain", maximum_radius: float = 16.0
) -> tuple[Tensor, Tensor]:
    """Render the two views of a sensor whose half apertures are half discs, in layers that cover one another.

    The radius r is rounded to a whole number q = floor(r + 1/2), one layer each. A layer is blurred with a half disc of
    radius |q| + 1/2 (q = 0 stays as it is), and the layers are composited from the farthest to the nearest: see
    :func:`~dualpixel.optics.layers.composite`. For q > 0 the left view has the half with x >= 0, the right view its
    mirror image; for q < 0 they exchange. A constant image stays constant.

    All is computed in float64 outside of autocast. The cost grows with the number of layers and with what they cover
    when blurred, little with the radius. There is a gradient with respect to the image; that with respect to the blur
    is zero (``blur.grad`` is a tensor of zeros), for it only chooses the layer: use "rect" where the blur is learned.

    Source: Abuolaim et al., "Improving Single-Image Defocus Deblurring", WACV 2022, equations 1 and 2 (a half circle of
    confusion and its mirror image); Yang et al., "K3DN", CVPR 2023, equations 3 to 5 (layers).

    Differences: these papers add up the layers; here the nearer cover the farther.

    Args:
        image: (B, C, H, W), any floating dtype and range. A NaN in it spreads to its surroundings.
        blur: (B, 1, H, W), signed blur radius r in pixels, positive nearer than the focus plane.
        occlusion: "plain", or "normalised", where a blurred background goes on behind what hides it.
        maximum_radius: the radius is clamped to [-maximum_radius, maximum_radius], pixels.

    Returns:
        Left and right view, each (B, C, H, W) in the dtype of `image`.

    Raises:
        ValueError: an unknown `occlusion`, a `maximum_radius` that is not positive, or a blur that is NaN or infinite.
    """
    layer = quantise(blur, 1.0, maximum_radius)
    left, right = composite(image, blur, layer, half_disc_kernels, occlusion)
    return left, right


def half_disc_kernels(layer: int) -> Tensor:
    """Return the left and the right view's point spread function of a layer q, (2, n, n) float64 with sum one."""
    left = half_disc(abs(layer) + 0.5 if layer else 0)
    return torch.stack([left, left.flip(1)] if layer >= 0 else [left.flip(1), left])
