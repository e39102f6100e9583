"""From a sharp image to the two views of a dual-pixel sensor: one door to several point spread functions."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from dualpixel.optics.butterworth import render_butterworth
from dualpixel.optics.camera import Camera
from dualpixel.optics.half_disc import render_half_disc
from dualpixel.optics.rectangle import render_rectangle
from dualpixel.optics.released import render_released
from dualpixel.optics.translating_disk import render_translating_disk

# Each takes image (B, C, H, W) and blur (B, 1, H, W), already checked, and its own keyword options; gives left and
# right (B, C, H, W).
MODES: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "released": render_released,
    "rect": render_rectangle,
    "halfdisc": render_half_disc,
    "translating_disk": render_translating_disk,
    "butterworth": render_butterworth,
}


def render(image: Tensor, blur: Tensor, mode: str = "rect", **options: Any) -> tuple[Tensor, Tensor]:
    """Render the left and right view of a sharp image with a known blur radius in every pixel.

    Args:
        image: (B, C, H, W), usually RGB in [0, 1]; floating. Rendered as it is: values of a display-encoded image are
            averaged as such.
        blur: (B, 1, H, W), signed blur radius in pixels, positive nearer than the focus plane; floating, on the device
            of `image`.
        mode: the model of the point spread function, a name in `MODES`:

            - "rect", the half aperture taken for a rectangle: differentiable, for losses;
              :func:`~dualpixel.optics.rectangle.render_rectangle`.
            - "halfdisc", half discs with occlusion, closest to optics;
              :func:`~dualpixel.optics.half_disc.render_half_disc`.
            - "translating_disk", the soft-edged kernel fitted to a Canon sensor;
              :func:`~dualpixel.optics.translating_disk.render_translating_disk`.
            - "butterworth", the kernel of the RDPD data set; :func:`~dualpixel.optics.butterworth.render_butterworth`.
            - "released", the squares of the DDD-syn data set; :func:`~dualpixel.optics.released.render_released`.
        options: of the mode, described there.

    Returns:
        Left and right view, each (B, C, H, W), in the dtype of `image`. Near content (blur > 0) moves right in the left
        view.

    Raises:
        ValueError: an unknown mode, tensors that do not fit each other, or an option's value that is not allowed.
        TypeError: an option that the mode does not have.
    """
    if mode not in MODES:
        close = get_close_matches(str(mode), MODES, n=1)
        meant = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"optics: no rendering mode {mode!r}; {meant}Allowed: {', '.join(MODES)}")
    _check("image", image, "blur", blur)
    return MODES[mode](image, blur, **options)


def simulate(
    image: Tensor, depth: Tensor, camera: Camera | Sequence[Camera], mode: str = "rect", **options: Any
) -> tuple[Tensor, Tensor]:
    """Render the left and right view that a camera has of a sharp image with known depth.

    Args:
        image: (B, C, H, W), as in :func:`render`.
        depth: (B, 1, H, W), metres, positive, infinity allowed; floating, on the device of `image`.
        camera: the thin lens, its aperture and its focus; its pixels are the pixels of `image`. Or one camera an image.
        mode: as in :func:`render`.
        options: as in :func:`render`; mind that most modes clamp the blur radius, "rect" to 16 pixels unless told
            otherwise.

    Returns:
        Left and right view, as in :func:`render`.

    Raises:
        ValueError: as in :func:`render`, a depth that is not positive, or another number of cameras than images.
        TypeError: an option that the mode does not have.
    """
    _check("image", image, "depth", depth)
    return render(image, signed_blur(depth, camera, mode), mode, **options)


def signed_blur(depth: Tensor, camera: Camera | Sequence[Camera], mode: str = "rect") -> Tensor:
    """Return the blur that a mode renders for a depth.

    Args:
        depth: (B, 1, H, W), metres, positive, infinity allowed; floating.
        camera: the camera, or one camera an image. One that is focused "near" or "far" focuses on each image by itself.
        mode: as in :func:`render`. The renderer of "released" knows no focus distance: its blur is that of the camera
            focused at infinity. In all others it is :meth:`~dualpixel.optics.camera.Camera.blur_radius`.

    Returns:
        (B, 1, H, W) float64, signed blur radius in pixels, positive nearer than the focus plane.

    Raises:
        ValueError: a depth that is not positive, or another number of cameras than images.
    """
    positive = depth > 0
    if not positive.all():
        raise ValueError(
            f"optics: {int((~positive).sum())} of {depth.numel()} depths are zero, negative or NaN, "
            "but must be positive metres; fill the holes of a measured map first"
        )
    cameras = [camera] * depth.shape[0] if isinstance(camera, Camera) else list(camera)
    if len(cameras) != depth.shape[0]:
        raise ValueError(f"optics: {len(cameras)} cameras for {depth.shape[0]} images; give one, or one an image")
    if mode == "released":
        cameras = [replace(one, focus_distance_m=math.inf) for one in cameras]
    maps = [one.focused(scene).blur_radius(scene) for one, scene in zip(cameras, depth.double(), strict=True)]
    return torch.stack(maps)


def _check(image_name: str, image: Tensor, field_name: str, field: Tensor) -> None:
    """Refuse an image and a one-channel map that do not fit each other."""
    if image.ndim != 4 or 0 in image.shape:
        raise ValueError(
            f"optics: {image_name} has shape {tuple(image.shape)}, but must be (B, C, H, W) without a zero"
        )
    expected = (image.shape[0], 1, *image.shape[2:])
    if tuple(field.shape) != expected:
        raise ValueError(
            f"optics: {field_name} has shape {tuple(field.shape)}, but must be {expected} "
            f"for {image_name} {tuple(image.shape)}"
        )
    for name, tensor in ((image_name, image), (field_name, field)):
        if not tensor.is_floating_point():
            raise ValueError(
                f"optics: {name} is {tensor.dtype}, but must be floating; divide integers by their largest value first"
            )
    if image.device != field.device:
        raise ValueError(
            f"optics: {image_name} is on {image.device} and {field_name} on {field.device}; move one to the other"
        )
