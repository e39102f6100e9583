"""The kernels and the renderer of RDPD's synthetic data: a ring-like disc, and a ramp across it for each view."""

import torch
from torch import Tensor
from torch.nn import functional

from dualpixel.optics.layers import NOWHERE, pick, whole


def butterworth_kernels(
    radius: int, order: int = 3, cutoff: float = 2.5, beta: float = 0.1, smoothing: float = 7
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the filters that RDPD blurs content behind the focus plane with; before it, the views exchange theirs.

    With k = 2 radius + 1 and rho the distance from the middle: a filled circle, as OpenCV draws it, times a high-pass
    Butterworth profile 1 - 1 / (1 + (rho / D)^(2 order)) with D = (k - 1) / cutoff, stretched over the square to
    [beta, 1]; smoothed by a Gaussian; for the left view times a ramp from 0 to 1 over the columns; divided by the sum.
    The right view's is the left view's turned by 180 degrees.

    Source: Abuolaim et al., "Learning to Reduce Defocus Blur by Realistically Modeling Dual-Pixel Data", ICCV 2021, and
    its published code, the drawing and border rules of which are followed.

    Args:
        radius: pixels, 1 or more.
        order: of the Butterworth profile; RDPD uses 3, 6 and 9.
        cutoff: the larger, the narrower the dark middle; RDPD uses 2.5 and 2.
        beta: brightness of the middle, below 1; RDPD uses 0.1 and 0.2.
        smoothing: the Gaussian's size is k over this, made odd.

    Returns:
        Left, right and combined, each (n, n) float64 with sum one; n is k plus the Gaussian's reach on either side.
        They are filters for correlation: a point is drawn as the filter turned by 180 degrees.

    Raises:
        ValueError: a radius below 1.
    """
    if radius < 1:
        raise ValueError(f"butterworth: the radius of a kernel is {radius}, but must be at least 1 pixel")
    squares = torch.arange(-radius, radius + 1, dtype=torch.float64) ** 2
    raised = ((squares[:, None] + squares) / (2 * radius / cutoff) ** 2) ** order
    profile = raised / (1 + raised)
    profile = beta + (1 - beta) * (profile - profile.min()) / (profile.max() - profile.min())
    combined = _smoothed(profile * _filled_circle(radius), smoothing)
    combined = combined / combined.sum()
    left = combined * torch.linspace(0, 1, len(combined), dtype=torch.float64)
    left = left / left.sum()
    return left, left.flip(0, 1), combined


def render_butterworth(
    image: Tensor,
    blur: Tensor,
    *,
    order: int = 3,
    cutoff: float = 2.5,
    beta: float = 0.1,
    smoothing: float = 7,
    maximum_radius: float = 40.0,
    levels: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Render the two views as the RDPD data set was rendered.

    The radius is rounded to a whole number (half to even), and the whole image is filtered for each: of the result the
    pixels with that radius are taken. So near things do not cover far ones; and a radius of 0 is taken for one pixel
    behind the focus plane, so that nothing stays sharp. The frame is mirrored at its border without repeating it.
    A constant image stays constant. Precision and gradients are those of
    :func:`~dualpixel.optics.half_disc.render_half_disc`, but rounding to `levels` leaves no gradient.

    Source: as :func:`butterworth_kernels`.

    Differences: RDPD's radius is positive behind the focus plane, ours before it.

    Args:
        image: (B, C, H, W), any floating dtype and range; in [0, 1] for `levels`. A NaN spreads to its surroundings.
        blur: (B, 1, H, W), signed blur radius r in pixels, positive nearer than the focus plane. The radius of the
            camera sets of RDPD, whose numbers have no consistent units, is that of
            ``Camera(focal_length_m=F, focal_length_px=1, aperture_px=2 * F / N, focus_distance_m=f)``.
        order: as in :func:`butterworth_kernels`.
        cutoff: as there.
        beta: as there.
        smoothing: as there.
        maximum_radius: the radius is clamped to [-maximum_radius, maximum_radius], pixels.
        levels: round each filtered image to multiples of 1 / levels, half to even: 255 for 8 bits, as the authors do;
            None for no rounding.

    Returns:
        Left and right view, each (B, C, H, W) in the dtype of `image`.

    Raises:
        ValueError: a `maximum_radius` that is not positive, or a blur that is NaN or infinite.
    """
    kernel_options = {"order": order, "cutoff": cutoff, "beta": beta, "smoothing": smoothing}
    left, right, _ = render_butterworth_with_combined(
        image, blur, maximum_radius=maximum_radius, levels=levels, **kernel_options
    )
    return left, right


def render_butterworth_with_combined(
    image: Tensor,
    blur: Tensor,
    *,
    order: int = 3,
    cutoff: float = 2.5,
    beta: float = 0.1,
    smoothing: float = 7,
    maximum_radius: float = 40.0,
    levels: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Render the two views of RDPD and its combined view, which is filtered with the combined kernel.

    That kernel is the mean of the views' kernels, because a ramp and the ramp turned round have a constant sum. So the
    combined view is the mean of the views before they are rounded, and rounded by itself.

    Args and Raises: as in :func:`render_butterworth`.

    Returns:
        Left, right and combined view, each (B, C, H, W) in the dtype of `image`.
    """
    layer = butterworth_layer(blur, maximum_radius)

    def kernels(number: int) -> Tensor:
        return butterworth_point_spread(number, order=order, cutoff=cutoff, beta=beta, smoothing=smoothing)

    reach = max(kernels(int(end)).shape[-1] // 2 for end in layer.aminmax())
    height, width = image.shape[-2:]
    framed = image[..., _mirror(height, reach, image.device), :][..., _mirror(width, reach, image.device)]
    layer = functional.pad(layer, [reach] * 4, value=NOWHERE)
    views = pick(framed.double(), blur, layer, kernels)[..., reach : reach + height, reach : reach + width]
    left, right = views
    results = left, right, (left + right) / 2
    if levels is not None:
        results = tuple((view * levels).round() / levels for view in results)
    return tuple(view.to(image.dtype) for view in results)


def butterworth_layer(blur: Tensor, maximum_radius: float) -> Tensor:
    """Return the layer of every pixel, (B, H, W): the rounded radius, -1 instead of 0."""
    if not maximum_radius > 0:
        raise ValueError(f"butterworth: maximum_radius is {maximum_radius}, but must be a positive number of pixels")
    rounded = whole(blur.detach()[:, 0].double().clamp(-maximum_radius, maximum_radius).round())
    return torch.where(rounded == 0, -1, rounded)


def butterworth_point_spread(layer: int, **options: float) -> Tensor:
    """Return the left and the right view's point spread function of a layer (not 0), (2, n, n) float64 with sum one."""
    left, right, _ = butterworth_kernels(abs(layer), **options)
    # a filter and the point that it draws are each other's mirror images, and so are the two views
    return torch.stack([left, right] if layer > 0 else [right, left])


def _mirror(size: int, reach: int, device: torch.device) -> Tensor:
    """Return the places that a border of `reach` on both sides shows, mirrored as often as need be."""
    place = torch.arange(-reach, size + reach, device=device)
    period = max(2 * (size - 1), 1)
    place = place % period
    return torch.minimum(place, period - place).clamp(max=size - 1)


def _filled_circle(radius: int) -> Tensor:
    """Draw a filled circle by the midpoint rule, as OpenCV does; (2 radius + 1) square, ones and zeros."""
    reach = [0] * (radius + 1)  # columns on either side of the middle, by row from the middle
    across, down = radius, 0
    while across >= down:
        reach[down] = max(reach[down], across)
        reach[across] = max(reach[across], down)
        down += 1
        across -= across**2 + down**2 > radius**2
    place = torch.arange(-radius, radius + 1).abs()
    return (place <= torch.tensor(reach)[place][:, None]).double()


def _smoothed(kernel: Tensor, smoothing: float) -> Tensor:
    """Enlarge a kernel by zeros and blur it, mirrored at the border without repeating it (there are zeros)."""
    size = round(len(kernel) / smoothing) + 1
    size += size % 2 == 0
    reach = size // 2
    sigma = 0.3 * ((size - 1) / 2 - 1) + 0.8
    gaussian = torch.exp(-((torch.arange(size, dtype=torch.float64) - reach) ** 2) / (2 * sigma**2))
    gaussian = gaussian / gaussian.sum()
    padded = functional.pad(kernel, [reach] * 4)[None, None]
    padded = functional.pad(padded, [reach] * 4, mode="reflect")
    return functional.conv2d(functional.conv2d(padded, gaussian[None, None, None]), gaussian[None, None, :, None])[0, 0]
