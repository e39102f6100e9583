"""What a lens barrel and a sensor add to rendered views: darker corners, unequal halves, noise. All of it off by default.

The order is that of the light: first the two gains, vignetting and imbalance, then noise, whose strength follows from
the light that is left.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dualpixel.optics.blur import combine


def vignetting_gain(
    height: int,
    width: int,
    focal_length_px: float = math.inf,
    strength: float = 0.0,
    device: torch.device | None = None,
) -> Tensor:
    """Return the share of light that reaches each pixel, 1 on the optical axis.

    With rho the distance of a pixel's centre from the centre of the image, the gain is

        cos^4(theta) (1 - strength rho^2 / rho_corner^2),    tan(theta) = rho / focal_length_px,

    where cos^4(theta) = (1 + rho^2 / focal_length_px^2)^-2 is the natural fall-off of a thin lens, and the second factor
    a quadratic model of what the lens barrel cuts off, which leaves 1 - strength in the image's corners.

    Args:
        height: rows H.
        width: columns W.
        focal_length_px: focal length in pixels; infinity for no natural fall-off.
        strength: share of the light that the barrel takes from the corner of the image, in [0, 1].
        device: of the result.

    Returns:
        (H, W) float64, in [0, 1].
    """
    rows, columns = (torch.arange(size, device=device).double() - (size - 1) / 2 for size in (height, width))
    squared = rows[:, None] ** 2 + columns**2
    corner = (height / 2) ** 2 + (width / 2) ** 2
    return (1 + squared / focal_length_px**2) ** -2 * (1 - strength * squared / corner)


def imbalance_gain(width: int, slope: float, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Return the gains of the two views by column: 1 + slope u and 1 - slope u, with u from -1 to 1 across the image.

    Off the axis the micro-lenses' chief ray is tilted, so that one half of a pixel gets more of the aperture's light
    than the other, and the opposite half on the other side of the image. Their mean stays 1: what one view loses the
    other one gains.

    Args:
        width: columns W; the outer borders of the first and the last column are u = -1 and u = 1.
        slope: in [-1, 1]; positive: the left view is brighter on the right side of the image.
        device: of the result.

    Returns:
        Gains of the left and of the right view, each (W,) float64, in [0, 2].
    """
    across = (2 * torch.arange(width, device=device).double() + 1) / width - 1
    return 1 + slope * across, 1 - slope * across


def add_noise(
    image: Tensor, shot_noise: float = 0.0, read_noise: float = 0.0, generator: torch.Generator | None = None
) -> Tensor:
    """Add the noise of counted photons and that of the read-out: the Gaussian-Poisson model.

        y = a Poisson(x / a) + b Normal(0, 1),    E[y] = x,    Var[y] = a x + b^2,

    where x is the image, a = `shot_noise` and b = `read_noise`. Photons are counted (a Poisson number is drawn), so
    that dark pixels have the skewed distribution that they should. The model holds for linear values; on a
    display-encoded image it is only of the right kind.

    Args:
        image: (B, C, H, W), floating, usually in [0, 1]; negative values count no photons and keep their value.
        shot_noise: a, units of the image an electron: 1 / (electrons of a full pixel); 0 for none. 1e-4 is a full well
            of 10,000 electrons, whose white has a standard deviation of 0.01.
        read_noise: b, standard deviation in units of the image; 0 for none.
        generator: to draw from, on the device of `image`; None for the global one.

    Returns:
        As `image`, not clipped: noise leaves [0, 1] at both ends, and clipping would brighten black. Its gradient is
        that of its expected value: the image's own.
    """
    exact = image.detach().double()
    noise = torch.zeros_like(exact)
    if shot_noise > 0:
        light = exact.clamp(min=0)
        noise += shot_noise * torch.poisson(light / shot_noise, generator=generator) - light
    if read_noise > 0:
        noise += read_noise * torch.randn(exact.shape, generator=generator, dtype=exact.dtype, device=exact.device)
    return (image + noise).to(image.dtype)


@dataclass(frozen=True)
class Sensor:
    """What happens to rendered views between the lens and the file. The defaults change nothing.

    Args:
        shot_noise: variance per unit of light, in units of the image an electron; see :func:`add_noise`.
        read_noise: standard deviation of the read-out in units of the image; see :func:`add_noise`.
        focal_length_px: focal length in pixels for the natural fall-off; see :func:`vignetting_gain`.
        vignetting: share of the light that the lens barrel takes from the corners; see :func:`vignetting_gain`.
        imbalance: slope of the left view's gain across the image; see :func:`imbalance_gain`.

    Raises:
        ValueError: a value outside of its range.

    Example:
        >>> Sensor(shot_noise=1e-4, read_noise=0.002, imbalance=0.1).vignetting
        0.0
    """

    shot_noise: float = 0.0
    read_noise: float = 0.0
    focal_length_px: float = math.inf
    vignetting: float = 0.0
    imbalance: float = 0.0

    def __post_init__(self) -> None:
        for name, lowest, highest in (("vignetting", 0, 1), ("imbalance", -1, 1)):
            if not lowest <= getattr(self, name) <= highest:
                raise ValueError(f"Sensor: {name} is {getattr(self, name)}, but must be in [{lowest}, {highest}]")
        for name in ("shot_noise", "read_noise"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"Sensor: {name} is {getattr(self, name)}, but must be a number of 0 or more")
        if not self.focal_length_px > 0:
            raise ValueError(f"Sensor: focal_length_px is {self.focal_length_px}, but must be positive (or infinite)")

    def expose(
        self,
        left: Tensor,
        right: Tensor,
        generator: torch.Generator | None = None,
        frame: tuple[int, int, int, int] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Expose two rendered views, and add them up to the ordinary image.

        Each view is scaled to the range of the whole image, and its noise is drawn by itself, since the two halves of a
        pixel are two photodiodes. The ordinary image is their mean, noise included, as in a camera that adds up the
        halves: nothing is drawn again, its shot noise is that of all the light, and its variance is
        (a (x_left + x_right) + 2 b^2) / 4.

        Args:
            left: (B, C, H, W), floating, usually in [0, 1].
            right: as `left`.
            generator: for the noise; see :func:`add_noise`. The left view's is drawn first.
            frame: where views that are a crop lie in the sensor's frame: row and column of the frame's first pixel as
                seen from the views' first pixel (0 or less), height and width of the frame. None: they are the frame.

        Returns:
            Left, right and combined, each as `left`; not clipped to [0, 1] (see :func:`add_noise`).

        Raises:
            ValueError: the views are not both (B, C, H, W), floating and of one shape.
        """
        if left.ndim != 4 or left.shape != right.shape or not (left.is_floating_point() and right.is_floating_point()):
            raise ValueError(
                f"Sensor: left is {tuple(left.shape)} {left.dtype} and right {tuple(right.shape)} {right.dtype}, "
                "but both must be (B, C, H, W), floating, of one shape"
            )
        row, column, height, width = frame or (0, 0, *left.shape[-2:])
        falloff = vignetting_gain(height, width, self.focal_length_px, self.vignetting, left.device)
        gains = (falloff * side for side in imbalance_gain(width, self.imbalance, left.device))
        rows, columns = slice(-row, left.shape[-2] - row), slice(-column, left.shape[-1] - column)
        exposed = (
            add_noise((view * gain[rows, columns]).to(view.dtype), self.shot_noise, self.read_noise, generator)
            for view, gain in zip((left, right), gains, strict=True)
        )
        left, right = exposed
        return left, right, combine(left, right)
