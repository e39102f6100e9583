"""The windows of K3DN: which image sizes can be cut in them, how features are cut, and one style vector for each.

Source: Yang, Pan, Liu and Liu, "K3DN: Disparity-aware Kernel Estimation for Dual-Pixel Defocus Deblurring", CVPR 2023,
section 3.2 (alignment of encoder and disparity estimator); the numbers are from the configuration in the authors' code
(https://github.com/cjsj166/k3dn).
"""

from dataclasses import dataclass
from itertools import count

from torch import Tensor
from torch.nn import functional

STRIDE = 8
"""Pixels of the image per pixel of the features that are cut; the disparity map has half their size, twice over."""

SMALLEST = 32
"""Least height and width of the features: the disparity estimator averages over squares of 32 x 32 at this scale."""


@dataclass(frozen=True)
class WindowGrid:
    """How features are cut in equal windows, and a disparity map is pooled to one vector for each window.

    An image of H x W pixels has features of H/8 x W/8 and p1 x p2 windows, p1 = floor(H / 8 / window height), p2 alike.
    The disparity map, of ceil(H / 32) x ceil(W / 32), is pooled apart from this and must come out as p1 x p2 too; only
    some heights and some widths do that (`fits`). Height and width do not depend on each other. All multiples of
    8 x `window`, from 256 pixels on, are among them, and best served: at all other sizes rows and columns of the
    disparity map are left over at the end, so that a vector drifts, by up to one window, towards the top and the left.

    Args:
        window: least height and width of a window, pixels of the features.
        pool: height and width of the squares over which the disparity map is averaged, pixels of the resized map.
        pad_scale: the disparity map is resized to have H // pad_scale[0] rows and W // pad_scale[1] columns more.

    Raises:
        ValueError: a number is below 1, or on an axis window, pool and pad_scale do not belong together, so that
            multiples of the window would not fit: window / 4 + 8 window / pad_scale = pool is needed.
    """

    window: tuple[int, int] = (18, 14)
    pool: tuple[int, int] = (5, 4)
    pad_scale: tuple[int, int] = (288, 224)

    def __post_init__(self) -> None:
        for window, pool, pad_scale in self._axes():
            if min(window, pool, pad_scale) < 1 or window * (pad_scale + 4 * STRIDE) != 4 * pool * pad_scale:
                raise ValueError(
                    f"window={window}, pool={pool}, pad_scale={pad_scale}: these must be at least 1, "
                    "and window / 4 + 8 window / pad_scale must be pool, as in 18, 5 and 288"
                )

    def fits(self, height: int, width: int) -> bool:
        """Say whether an image of this size, pixels, can be cut in windows that have a style each."""
        return all(_fits(size, *axis) for size, axis in zip((height, width), self._axes(), strict=True))

    def require(self, height: int, width: int) -> None:
        """Refuse an image size that does not fit.

        Raises:
            ValueError: it does not fit; the next larger size that does is named.
        """
        if not self.fits(height, width):
            next_height, next_width = self.next_size(height, width)
            raise ValueError(
                f"an image of {height} x {width} pixels (height x width) cannot be cut in windows "
                f"of about {self.window[0]} x {self.window[1]} features; the next size that can is {next_height} x {next_width}"
            )

    def next_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the smallest height and the smallest width that fit and are not below these, pixels.

        >>> WindowGrid().next_size(512, 512)
        (528, 512)
        """
        next_height, next_width = (_next(size, *axis) for size, axis in zip((height, width), self._axes(), strict=True))
        return next_height, next_width

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """Return (p1, p2), the rows and columns of windows in an image of this size.

        Raises:
            ValueError: the size does not fit.
        """
        self.require(height, width)
        return height // STRIDE // self.window[0], width // STRIDE // self.window[1]

    @staticmethod
    def split(features: Tensor, p1: int, p2: int) -> Tensor:
        """Cut features in windows.

        Args:
            features: (B, C, h, w).
            p1: rows of windows.
            p2: columns of windows.

        Returns:
            (B p1 p2, C, h / p1, w / p2): image by image, in each row by row.

        Raises:
            ValueError: p1 does not divide h, or p2 does not divide w.
        """
        height, width = features.shape[-2:]
        if height % p1 or width % p2:
            raise ValueError(f"features of {height} x {width} cannot be cut in {p1} x {p2} equal windows")
        windows = features.unflatten(3, (p2, -1)).unflatten(2, (p1, -1))  # B, C, p1, h / p1, p2, w / p2
        return windows.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)

    @staticmethod
    def merge(windows: Tensor, p1: int, p2: int) -> Tensor:
        """Put windows back: the inverse of `split`.

        Args:
            windows: (B p1 p2, C, h, w).
            p1: rows of windows.
            p2: columns of windows.

        Returns:
            (B, C, p1 h, p2 w).

        Raises:
            ValueError: the windows do not fill whole images.
        """
        if len(windows) % (p1 * p2):
            raise ValueError(f"{len(windows)} windows do not fill images of {p1} x {p2} windows")
        return windows.unflatten(0, (-1, p1, p2)).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)

    def pool_styles(self, disparity: Tensor, height: int, width: int) -> Tensor:
        """Pool a disparity map to one vector for each window, in the order of `split`.

        The map is resized to the nearest neighbour, which mixes no disparities, and then averaged.

        Args:
            disparity: (B, C, ceil(H / 32), ceil(W / 32)).
            height: H, pixels of the image.
            width: W, pixels of the image.

        Returns:
            (B p1 p2, C).

        Raises:
            ValueError: the size of the image does not fit, or the map is not of that image.
        """
        self.require(height, width)
        if tuple(disparity.shape[-2:]) != (_quarter(height // STRIDE), _quarter(width // STRIDE)):
            raise ValueError(
                f"a disparity map of {disparity.shape[-2]} x {disparity.shape[-1]} does not belong to an image "
                f"of {height} x {width} pixels: {_quarter(height // STRIDE)} x {_quarter(width // STRIDE)} is needed"
            )
        more = (height // self.pad_scale[0], width // self.pad_scale[1])
        size = [now + added for now, added in zip(disparity.shape[-2:], more, strict=True)]
        pooled = functional.avg_pool2d(functional.interpolate(disparity, size, mode="nearest"), self.pool)
        return pooled.permute(0, 2, 3, 1).flatten(0, 2)

    def _axes(self) -> list[tuple[int, int, int]]:
        return list(zip(self.window, self.pool, self.pad_scale, strict=True))


def _quarter(size: int) -> int:
    """Size of a map after two convolutions of stride 2 that keep the odd pixel."""
    return -(-size // 4)


def _fits(size: int, window: int, pool: int, pad_scale: int) -> bool:
    features, rest = divmod(size, STRIDE)
    windows = features // window
    if rest or features < SMALLEST or not windows or features % windows:
        return False
    return (_quarter(features) + size // pad_scale) // pool == windows


def _next(size: int, window: int, pool: int, pad_scale: int) -> int:
    first = max(SMALLEST * STRIDE, -(-size // STRIDE) * STRIDE)
    # Every multiple of the window fits, see WindowGrid, so that this ends within one window.
    return next(candidate for candidate in count(first, STRIDE) if _fits(candidate, window, pool, pad_scale))
