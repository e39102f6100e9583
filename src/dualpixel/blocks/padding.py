"""Any image size for networks that need multiples: mirror at the bottom and the right, run, crop back."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def pad_to(image: Tensor, height: int, width: int) -> Tensor:
    """Enlarge height and width by mirroring at the bottom and at the right.

    The border pixel itself is not repeated (a b c -> a b c b a). Where more is needed than the image holds, it is
    mirrored again and again, so that even one single pixel can be padded.

    Args:
        image: (..., H, W), any type of number.
        height: rows of the result, at least H.
        width: columns of the result, at least W.

    Returns:
        (..., height, width); `image` itself, not a copy, where it has that size already.

    Raises:
        ValueError: the image is larger, or has no pixels.
    """
    if 0 in image.shape[-2:] or image.shape[-2] > height or image.shape[-1] > width:
        raise ValueError(
            f"an image of {image.shape[-2]} x {image.shape[-1]} pixels cannot be padded to {height} x {width}"
        )
    for dimension, padded in ((-2, height), (-1, width)):
        size = image.shape[dimension]
        if padded != size:
            image = image.index_select(dimension, _mirrored_indices(size, padded, image.device))
    return image


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Enlarge height and width to the next multiples, as `pad_to` does.

    Args:
        image: (..., H, W), any type of number.
        multiple: what height and width of the result are divisible by, at least 1.

    Returns:
        (..., H', W'); `image` itself, not a copy, where H and W fit already.

    Raises:
        ValueError: `multiple` is below 1, or the image has no pixels.
    """
    return pad_to(image, *next_multiples(*image.shape[-2:], multiple))


def next_multiples(height: int, width: int, multiple: int) -> tuple[int, int]:
    """Return the smallest multiples that are not below height and width.

    Raises:
        ValueError: `multiple` is below 1.
    """
    if multiple < 1:
        raise ValueError(f"multiple={multiple}: must be at least 1")
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple


def crop_to(image: Tensor, height: int, width: int) -> Tensor:
    """Cut the rows and columns at the bottom and the right that `pad_to_multiple` added.

    Args:
        image: (..., H', W').
        height: rows to keep, at most H'.
        width: columns to keep, at most W'.

    Returns:
        (..., height, width), a view; `image` itself where it has that size already.

    Raises:
        ValueError: the image is smaller than the size asked for.
    """
    if image.shape[-2] < height or image.shape[-1] < width:
        raise ValueError(
            f"an image of {image.shape[-2]} x {image.shape[-1]} pixels cannot be cropped to {height} x {width}"
        )
    return image if image.shape[-2:] == (height, width) else image[..., :height, :width]


def fit_centre(image: Tensor, height: int, width: int) -> Tensor:
    """Bring an image to a size about its centre: zeros around it where it is smaller, its central window where larger.

    An odd zero is added at the bottom or the right; an odd row or column is cut at the top or the left.

    Args:
        image: (..., H, W).
        height: rows of the result.
        width: columns of the result.

    Returns:
        (..., height, width); `image` itself where it has that size already.
    """
    rows, columns = height - image.shape[-2], width - image.shape[-1]
    if not rows and not columns:
        return image
    top, left = rows // 2, columns // 2  # negative where it is cut; half a pixel is rounded down
    return functional.pad(image, (left, columns - left, top, rows - top))


def run_padded(
    network: Callable[..., Any], fit: int | Callable[[int, int], tuple[int, int]], *images: Tensor | None
) -> Any:
    """Call a network that takes certain sizes only on images of any size.

    Args:
        network: called with the padded images in the same order.
        fit: what the network needs height and width to be divisible by; or what gives, for a height and a width, those
            that it takes, neither of them smaller.
        images: each (..., H, W) with one common H and W; None is handed on as it is.

    Returns:
        What the network returns: a tensor, or tuples, lists and dicts of them. Tensors of the padded size are cropped
        to H x W; everything else (such as a coarser scale, whose crop is no whole number of pixels) is left as it is.

    Raises:
        ValueError: no image was given, or the images differ in size.
    """
    sizes = {tuple(image.shape[-2:]) for image in images if image is not None}
    if len(sizes) != 1:
        raise ValueError(f"images of one common size are needed, found {sorted(sizes) or 'none'}")
    ((height, width),) = sizes
    padded_size = fit(height, width) if callable(fit) else next_multiples(height, width, fit)
    padded = [None if image is None else pad_to(image, *padded_size) for image in images]

    def crop(result: Any) -> Any:
        if isinstance(result, Tensor):
            return crop_to(result, height, width) if result.shape[-2:] == padded_size else result
        if isinstance(result, dict):
            return {key: crop(value) for key, value in result.items()}
        if isinstance(result, (tuple, list)):
            return type(result)(crop(value) for value in result)
        return result

    return crop(network(*padded))


def _mirrored_indices(size: int, padded: int, device: torch.device) -> Tensor:
    """Return 0 1 ... size-1 size-2 ... 0 1 ..., `padded` of them: a triangle wave of period 2 (size - 1)."""
    period = max(2 * (size - 1), 1)
    position = torch.arange(padded, device=device) % period
    return torch.minimum(position, period - position)
