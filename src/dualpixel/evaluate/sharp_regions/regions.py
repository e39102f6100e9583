"""Regions of a photograph that are in focus, and how much a network alters them.

Source: Yang, Pan, Liu and Liu, "K3DN: Disparity-aware Kernel Estimation for Dual-Pixel Defocus Deblurring", CVPR 2023,
section 4.2, "Sharp region preservation", and figure 8.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dualpixel.data.images import read_image
from dualpixel.errors import DualPixelError

THRESHOLDS = tuple(step / 1000 for step in range(101))
"""Errors at which the distribution is read, in units of full scale."""

LARGEST_RADIUS = 0.5
"""Blur radius up to which a place is in focus, pixels."""

WINDOW = 15
"""Side of the neighbourhood in which the input is compared with the target, pixels."""

AGREEMENT, TEXTURE = 0.1, 0.02
"""Largest difference of input and target, in units of the local texture; least texture, in units of full scale."""


def blurry_image(batch: Mapping[str, Any]) -> Tensor:
    """Return the image (B, 3, H, W) that outputs are compared with: ``combined``, else the mean of the views there are."""
    if "combined" in batch:
        return batch["combined"]
    return torch.stack([batch[name] for name in ("left", "right") if name in batch]).mean(0)


def intensity_error(output: Tensor, blurry: Tensor) -> Tensor:
    """Return how far each pixel of an output lies from the input's, the root mean square over the colours.

    Source: section 4.2 and figure 8, whose axis says RMSE_rel; the text calls the error map an absolute difference.

    Args:
        output: (B, 3, H, W) in [0, 1].
        blurry: the same of the input.

    Returns:
        (B, H, W) float64, in units of full scale.
    """
    return (output.double() - blurry.double()).square().mean(1).sqrt()


def error_distribution(errors: Tensor, in_focus: Tensor, thresholds: Sequence[float] = THRESHOLDS) -> Tensor:
    """Count the pixels in focus whose error is at most each threshold.

    Args:
        errors: (B, H, W); NaN is above all thresholds.
        in_focus: (B, H, W) of bool.
        thresholds: rising.

    Returns:
        (B, thresholds) int64: divided by the pixels in focus it is the curve of figure 8. Counts add up exactly over images.
    """
    limits = torch.tensor(thresholds, dtype=errors.dtype, device=errors.device)
    first = torch.searchsorted(limits, errors.contiguous())  # of those that an error does not exceed
    first = torch.where(errors.isnan(), len(limits), first)
    counts = [row[chosen].bincount(minlength=len(limits) + 1) for row, chosen in zip(first, in_focus, strict=True)]
    return torch.stack(counts)[:, : len(limits)].cumsum(1)


def in_focus_by_blur(blur: Tensor) -> Tensor:
    """Return where the blur radius is at most half a pixel: there a point stays within its pixel.

    Args:
        blur: (B, 1, H, W), signed blur radius in pixels.

    Returns:
        (B, H, W) of bool.
    """
    return blur[:, 0].abs() <= LARGEST_RADIUS


def in_focus_by_target(blurry: Tensor, target: Tensor) -> Tensor:
    """Return where the input agrees with the sharp image and there is texture that blur would have taken away.

    In a window of 15x15 pixels the mean `intensity_error` between the two is at most a tenth of the texture, which is the
    standard deviation of the target's brightness and at least 0.02. A flat wall is left out, as it agrees at any blur.

    The limit is relative since blur takes away a share of the texture. On the scenes of the quickstart set, whose blur
    is known, 98 % of the pixels found have a radius of at most 1.5 px (71 % of at most 0.5 px), and 45 % of the textured
    pixels in focus are found. A fixed limit of 0.01 with a texture of 0.04 gives 93 % (66 %) and 42 %.

    This favours networks: only places are found where even a perfect restoration alters the input little, and those in
    focus whose target is displaced, or lit or noisy otherwise, are missed. Blur below 1.5 px mostly counts as sharp.

    Args:
        blurry: (B, 3, H, W) in [0, 1].
        target: the same of the sharp image.

    Returns:
        (B, H, W) of bool.
    """
    difference = _local_mean(intensity_error(blurry, target))
    brightness = target.double().mean(1)
    # less its own mean, so that little is lost in the difference of two squares
    brightness = brightness - brightness.mean((1, 2), keepdim=True)
    variance = _local_mean(brightness.square()) - _local_mean(brightness).square()
    texture = variance.clamp(min=0).sqrt()
    return (texture >= TEXTURE) & (difference <= AGREEMENT * texture)


def in_focus_by_mask(path: Path, height: int, width: int) -> Tensor:
    """Read a region that was labelled by hand.

    Args:
        path: an image file of 8 or 16 bits; what is not black is in focus.
        height: of the image it belongs to, pixels.
        width: the same.

    Returns:
        (height, width) of bool.

    Raises:
        DualPixelError: missing, unreadable, or of another size.
    """
    mask = torch.from_numpy((read_image(path) != 0).any(axis=2))
    if mask.shape != (height, width):
        raise DualPixelError(
            f"{path}: {mask.shape[0]} x {mask.shape[1]} pixels, the image as the protocol compares it has {height} x {width}: "
            "label images of that size"
        )
    return mask


def _local_mean(image: Tensor) -> Tensor:
    """Average (B, H, W) over windows; the border is repeated."""
    padded = functional.pad(image[:, None], [WINDOW // 2] * 4, mode="replicate")
    return functional.avg_pool2d(functional.avg_pool2d(padded, (WINDOW, 1), 1), (1, WINDOW), 1)[:, 0]
