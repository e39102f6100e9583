"""What the blur of a dual-pixel pair says: the combined image, the pair's symmetry, its kernels, disparity and depth."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dualpixel.optics.butterworth import butterworth_point_spread
from dualpixel.optics.camera import Camera
from dualpixel.optics.half_disc import half_disc_kernels
from dualpixel.optics.released import render_released
from dualpixel.optics.render import render
from dualpixel.optics.translating_disk import translating_disk_kernels

# The views' point spread functions at a whole radius, for those modes whose disparity is read from them.
_KERNELS = {
    "halfdisc": half_disc_kernels,
    "translating_disk": translating_disk_kernels,
    "butterworth": butterworth_point_spread,
}
# What a Fourier transform leaves where there is nothing.
NOISE = 1e-13


def combine(left: Tensor, right: Tensor) -> Tensor:
    """Return the image that the whole lens sees, of views that are each as bright as the scene: their mean.

    Source: Yang et al., "K3DN", CVPR 2023, equation 2: B = (B_L + B_R) / 2 = I * (K_L + K_R) / 2. Abuolaim et al.,
        "Improving Single-Image Defocus Deblurring", WACV 2022, equation 3, writes I_l + I_r, of views half as bright.

    Args:
        left: (..., H, W).
        right: of the same shape.

    Returns:
        Of the same shape.
    """
    return (left + right) / 2


def mirror(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Return the views of the scene in a mirror: mirrored left-right and exchanged, because K_L = flip(K_R).

    Source: Yang et al., "K3DN", CVPR 2023, section 3.1; Abuolaim et al., WACV 2022, equation 2.

    Args:
        left: (..., H, W).
        right: (..., H, W).

    Returns:
        Left and right view of the mirrored scene.
    """
    return right.flip(-1), left.flip(-1)


def point_spread_functions(
    radius: float, mode: str = "rect", size: int | None = None, **options: Any
) -> tuple[Tensor, Tensor]:
    """Return how a mode of the renderer draws a point, by letting it draw one before a scene of constant blur.

    Args:
        radius: signed blur radius, pixels, positive nearer than the focus plane.
        mode: as in :func:`~dualpixel.optics.render.render`.
        size: odd number of rows and columns; by default the smallest that both views' point fits in.
        options: of the mode. Mind that most modes clamp the radius to their `maximum_radius`.

    Returns:
        Left and right view's point spread function, each (size, size) float64 with sum one, on the CPU.

    Raises:
        ValueError: an unknown mode, an option's value that is not allowed, or a size that is even or too small.
        TypeError: an option that the mode does not have.
    """
    reach = 2 * math.ceil(abs(radius)) + 4
    scene = torch.zeros(1, 1, 4 * reach + 1, 4 * reach + 1, dtype=torch.float64)
    scene[..., 2 * reach, 2 * reach] = 1
    views = torch.cat(render(scene, torch.full_like(scene, radius), mode, **options))[:, 0]
    views = torch.where(views < NOISE, 0, views)
    extent = int((views.nonzero()[:, 1:] - 2 * reach).abs().max())
    needed = 2 * extent + 1
    if size is not None and (size % 2 == 0 or size < needed):
        raise ValueError(
            f"optics: size is {size}, but must be odd and at least {needed} for {mode} with a radius of {radius}"
        )
    around = ((size or needed) - views.shape[-1]) // 2
    left, right = functional.pad(views, [around] * 4)
    return left / left.sum(), right / right.sum()


def disparity_of_blur(blur: Tensor, mode: str = "rect", **kernel_options: Any) -> Tensor:
    """Return how far apart the two views of a point are: the distance of the centroids of its images.

    | mode | disparity at blur radius r, pixels |
    |---|---|
    | rect | r |
    | halfdisc | 8 / (3 pi) R of a disc of radius R = abs(r) + 1/2; pixels make it less, by 0.11 at r = 1, 0.02 at 8 |
    | translating_disk | R^2 / (R + f) f with f = 3 pi / 16: f R, less what the sum over whole pixels takes away |
    | butterworth | about 0.6 r, or 0.5 r with other options, and more for small r: 0.97 at 1 |
    | released | n - 1, for squares of n x n pixels |

    Those of the three layered modes are read from the kernels at whole radii and drawn as straight lines in between,
    through 0 at r = 0, since their layers are what is in fact rendered.

    Args:
        blur: any shape, floating; signed blur radius in pixels, positive nearer than the focus plane.
        mode: as in :func:`~dualpixel.optics.render.render`.
        kernel_options: of "butterworth": those of :func:`~dualpixel.optics.butterworth.butterworth_kernels`.

    Returns:
        Pixels, of the shape and dtype of `blur`; positive where the left view's point lies to the right. For "released"
        a step function, as the blur of that mode is.

    Raises:
        ValueError: an unknown mode.
    """
    size = blur.detach().abs().double()
    if mode == "rect":
        return blur
    if mode == "released":
        offset = {**render_released.__kwdefaults__, **kernel_options}["offset"]
        return blur.sign() * ((size + offset).floor() - 1).clamp(min=0).to(blur.dtype)
    curve = _curve(mode, math.ceil(float(size.max())) + 1, blur.device, **kernel_options)
    start = size.floor().long()
    slope = (curve[start + 1] - curve[start]).to(blur.dtype)
    return blur.sign() * (curve[start].to(blur.dtype) + slope * (blur.abs() - start))


def blur_of_disparity(disparity: Tensor, mode: str = "rect", **kernel_options: Any) -> Tensor:
    """Return the blur radius that has a disparity: the inverse of :func:`disparity_of_blur`.

    Args:
        disparity: any shape, floating; pixels, positive where the left view's point lies to the right.
        mode: as in :func:`disparity_of_blur`.
        kernel_options: as there.

    Returns:
        Signed blur radius in pixels, of the shape and dtype of `disparity`. For "released", where several radii have
        the same disparity, the side of the square, n = abs(disparity) + 1, with the sign of the disparity.

    Raises:
        ValueError: an unknown mode.
    """
    if mode == "rect":
        return disparity
    if mode == "released":
        return disparity.sign() * (disparity.abs() + 1)
    size = disparity.detach().abs().double()
    reach = 4
    while (curve := _curve(mode, reach, disparity.device, **kernel_options))[-1] <= size.max():
        reach *= 2
    start = torch.searchsorted(curve, size, right=True) - 1
    slope = (curve[start + 1] - curve[start]).to(disparity.dtype)
    return disparity.sign() * (start + (disparity.abs() - curve[start].to(disparity.dtype)) / slope)


def depth_of_blur(blur: Tensor, camera: Camera, mode: str = "rect") -> Tensor:
    """Return the depth that has a blur radius: the inverse of :func:`~dualpixel.optics.render.signed_blur`.

    Args:
        blur: any shape, floating; signed blur radius in pixels, positive nearer than the focus plane.
        camera: the thin lens; its focus distance is a number, except for "released".
        mode: as in :func:`~dualpixel.optics.render.signed_blur`: the blur of "released" is that of the camera focused at
            infinity, so that none of it is negative.

    Returns:
        Metres, of the shape of `blur`, float64. Infinite where the radius is that of an infinitely far point,
        ``camera.blur_radius(math.inf)`` as the dtype of `blur` holds it. NaN where it is below that, which no depth has,
        or is itself NaN. Both have the gradient zero; :meth:`Camera.depth` refuses them.

    Raises:
        ValueError: a camera that is focused "near" or "far".
    """
    if mode == "released":
        camera = replace(camera, focus_distance_m=math.inf)
    at_infinity = torch.tensor(camera.blur_radius(math.inf), dtype=torch.float64, device=blur.device)
    farthest = at_infinity.to(blur.dtype)
    possible = blur > farthest
    # what no depth has must not be divided by, or its gradient would be NaN
    above_infinity = torch.where(possible, blur.double() - at_infinity, 1)
    depth = camera.depth_scale * camera.aperture_px / 2 * camera.sensor_distance_m / above_infinity
    return torch.where(possible, depth, torch.where(blur == farthest, math.inf, math.nan))


def _curve(mode: str, reach: int, device: torch.device, **kernel_options: Any) -> Tensor:
    """Return the disparity of a mode's kernels at the radii 0 to `reach`, float64."""
    if mode not in _KERNELS:
        raise ValueError(
            f"optics: no disparity is known for mode {mode!r}; allowed: rect, released, {', '.join(_KERNELS)}"
        )
    disparities = [0.0]
    for radius in range(1, reach + 1):
        left, right = _KERNELS[mode](radius, **kernel_options).sum(1)
        places = torch.arange(len(left)) - len(left) // 2
        disparities.append(float(((left - right) * places).sum()))
    return torch.tensor(disparities, dtype=torch.float64, device=device)
