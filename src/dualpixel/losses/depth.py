"""Losses of DDDNet: of the restored image, and of the views that image and blur make together.

Source: Pan et al., "Dual Pixel Exploration: Simultaneous Depth Estimation and Image Restoration", CVPR 2021, section 4.2. Its
third, the smooth l1 loss of the inverse depth (equation 10), is torch's own ``smooth_l1_loss``.
"""

from typing import Any

import torch
from torch import Tensor

from dualpixel.optics.render import MODES, render

DIFFERENTIABLE = ("rect",)
"""The modes whose views have a gradient with respect to the blur; in all others the blur is a step function."""


def root_norm(prediction: Tensor, target: Tensor, epsilon: float = 1e-6) -> Tensor:
    r"""DDDNet's :math:`\mathcal{L}_{\text{res}}`: the mean length of the pixels' differences in colour (equation 9).

    .. math:: \frac{1}{N} \sum_{y,z} \sqrt{\sum_c \left(\hat I_c(y,z) - I_c(y,z)\right)^2 + \epsilon}

    over the N = B H W pixels. A colour error counts by its length, not by its square. Halving all values halves the loss.

    Differences: the paper's norm has no :math:`\epsilon`; without it there is no gradient where the two are equal.

    Args:
        prediction: (B, C, H, W).
        target: the same shape.
        epsilon: added to the squared length; colour errors well below its root count quadratically.

    Returns:
        A scalar; the root of `epsilon` where the two are equal.

    Raises:
        ValueError: the shapes differ or are not four-dimensional, or `epsilon` is not positive.
    """
    if prediction.ndim != 4 or prediction.shape != target.shape:
        raise ValueError(
            f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)}: two (B, C, H, W) of one shape are needed"
        )
    if not epsilon > 0:
        raise ValueError(f"epsilon={epsilon}: must be positive")
    return ((prediction - target).square().sum(dim=1) + epsilon).sqrt().mean()


def reblur_loss(
    sharp: Tensor,
    blur: Tensor,
    left: Tensor,
    right: Tensor,
    mode: str = "rect",
    maximum_radius: float = 16.0,
    margin: int = 0,
    epsilon: float = 1e-6,
    **options: Any,
) -> Tensor:
    r"""DDDNet's :math:`\mathcal{L}_{\text{reb}}`: image and blur, rendered, are the views that came in (equation 11).

    .. math:: \mathcal{L}_{\text{reb}} = \sum_{v \in \{L, R\}} \frac{1}{N} \sum_{y,z} \|B_v(y,z) - \hat B_v(y,z)\|

    where :math:`\hat B_L, \hat B_R` is what `dualpixel.optics.render` makes of `sharp` and `blur`, and the norm is that of
    `root_norm`. It needs no truth. There is a gradient with respect to the image and, in mode "rect", to the blur; it
    says nothing about the blur where the image has no texture, and is zero at a blur of exactly zero. A blur of the wrong sign
    is a local minimum: views of a sharp image are further off than those of one blurred to the other side, so descent does not
    lead through zero pixel by pixel. A smooth blur map, or one that begins near the truth, finds the sign.

    The renderer knows no light from beyond the frame, and takes the mean of what falls into a pixel from inside. In a crop, and in a
    photograph too, light from outside reaches as far as the blur radius, so that true image and blur do not reproduce the
    views there: with a `margin` at least as wide as the blur they do.

    Differences: the paper does not say whether the two views' losses are added (here they are) or averaged. The authors' renderer,
    in which the blur is a step function, cannot be trained through; "rect" is the paper's rectangle with edges between pixels.

    Args:
        sharp: (B, C, H, W), the restored image. Rendered in float32 or wider, under autocast too.
        blur: (B, 1, H, W), signed blur radius in pixels, positive nearer than the focus plane.
        left: (B, C, H, W), the left view that came in.
        right: the same shape, the right view.
        mode: the model of the point spread function; see `dualpixel.optics.render`.
        maximum_radius: the blur is clamped to [-maximum_radius, maximum_radius], pixels, and has no gradient beyond;
            `share_beyond` tells how much of it that is.
        margin: pixels left out of the loss on all four sides; they are rendered all the same.
        epsilon: see `root_norm`.
        options: of the mode: ``vertical="down", weight="count"`` in mode "rect" for views of the mode "released", both of which slide
            down with the blur; ``gradient_beyond_maximum=True`` to train clamped radii on.

    Returns:
        A scalar; twice the root of `epsilon` where the views are reproduced.

    Raises:
        ValueError: a blur that requires a gradient in a mode that has none, a margin that leaves nothing, shapes that differ, or
            what `render` refuses.
        TypeError: an option that the mode does not have.
    """
    if blur.requires_grad and mode in MODES and mode not in DIFFERENTIABLE:
        raise ValueError(
            f"reblur loss: the mode {mode!r} has no gradient with respect to the blur, which requires one; "
            f"use {' or '.join(map(repr, DIFFERENTIABLE))}, or detach the blur to train the image alone"
        )
    height, width = sharp.shape[-2:]
    if not 0 <= 2 * margin < min(height, width):
        raise ValueError(f"reblur loss: a margin of {margin} pixels leaves nothing of {height}x{width}")
    if mode == "released":  # which clamps nothing
        blur = blur.clamp(-maximum_radius, maximum_radius)
    else:
        options["maximum_radius"] = maximum_radius
    sharp = sharp.to(torch.promote_types(sharp.dtype, torch.float32))
    inside = (..., slice(margin, height - margin), slice(margin, width - margin))
    views = zip(render(sharp, blur, mode, **options), (left, right), strict=True)
    return sum(root_norm(rendered[inside], view[inside], epsilon) for rendered, view in views)


def share_beyond(blur: Tensor, maximum: float) -> Tensor:
    """Return the share of a blur map that `reblur_loss` clamps: of pixels with a radius of more than `maximum`.

    Args:
        blur: any shape, signed blur radius in pixels.
        maximum: pixels.

    Returns:
        A scalar in [0, 1], without gradient.
    """
    return (blur.detach().abs() > maximum).float().mean()
