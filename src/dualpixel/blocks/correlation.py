"""Correlation of two feature maps: how well each place of one fits the places around it of the other ("cost volume")."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import register_flop_formula

TILE = 8
"""Rows and columns of the squares in which the left map is cut, pixels."""

STEP, STEP_ELSEWHERE = 2**20, 2**26
"""Numbers that are worked on at a time: on a CPU what its cache holds, elsewhere enough to keep a device busy."""


def correlation(left: Tensor, right: Tensor, displacement: int = 4) -> Tensor:
    r"""Correlate each pixel of `left` with the pixels of `right` that are at most `displacement` away on either axis.

    .. math:: V_t(y, x) = \frac{1}{C} \sum_c L_c(y, x) \, R_c(y + \Delta y, x + \Delta x),
              \qquad t = (2 d + 1)(\Delta y + d) + (\Delta x + d),

    for whole :math:`\Delta y, \Delta x` from -d to d, with zeros outside of the image. Channel t therefore goes through
    the window row by row; its middle is no displacement.

    The sum is made in float32 or float64, also for half precision and under autocast. Beside copies of the maps only a
    few MB are held on a CPU (a few hundred elsewhere), in the backward pass too, and a CPU gives the same numbers on
    every run. ``torch.compile`` and the meta device take the whole as one operator, torch's operation counter as
    (2 d + 1)^2 C H W multiply-accumulates. There are no second derivatives.

    Source: Li et al., "Learning Dual-Pixel Alignment for Defocus Deblurring" (DPANet), equation 7; the window after
    Dosovitskiy et al., "FlowNet", ICCV 2015.

    Differences: the paper says d = 9, which is the width of the authors' window; its displacement is 4.

    Args:
        left: (B, C, H, W), floating, of any range; nothing is normalised.
        right: of the same shape.
        displacement: d, pixels, at least 0.

    Returns:
        (B, (2 d + 1)^2, H, W) in the wider of the two dtypes, with gradients with respect to both maps.

    Raises:
        ValueError: the shapes differ, are not four-dimensional or hold no pixels or channels; a dtype is not floating;
            `displacement` is negative.
    """
    if left.shape != right.shape or left.ndim != 4 or 0 in left.shape[1:]:
        raise ValueError(
            f"left {tuple(left.shape)} and right {tuple(right.shape)}: two maps of one shape (B, C, H, W) are needed"
        )
    dtype = torch.promote_types(left.dtype, right.dtype)
    if not (left.is_floating_point() and right.is_floating_point()):
        raise ValueError(f"left is {left.dtype} and right {right.dtype}: floating dtypes are needed")
    if displacement < 0:
        raise ValueError(f"displacement={displacement}: must be at least 0")
    return _correlation(left.to(dtype), right.to(dtype), displacement)


class Correlation(nn.Module):
    """The correlation of two feature maps, with a leaky ReLU after it where asked for.

    Args:
        displacement: d, pixels, at least 0.
        negative_slope: of the leaky ReLU; None leaves the correlation as it is.

    Raises:
        ValueError: `displacement` is negative.
    """

    def __init__(self, displacement: int = 4, negative_slope: float | None = None) -> None:
        super().__init__()
        if displacement < 0:
            raise ValueError(f"displacement={displacement}: must be at least 0")
        self.displacement = displacement
        self.negative_slope = negative_slope

    @property
    def channels(self) -> int:
        """Channels of the result, (2 d + 1)^2."""
        return (2 * self.displacement + 1) ** 2

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Map two (B, C, H, W) to (B, (2 d + 1)^2, H, W); see :func:`correlation`."""
        volume = correlation(left, right, self.displacement)
        return volume if self.negative_slope is None else functional.leaky_relu(volume, self.negative_slope)

    def extra_repr(self) -> str:
        """Show the settings when printed."""
        return f"displacement={self.displacement}, negative_slope={self.negative_slope}"


# The left map is cut in tiles of t x t pixels (t = TILE). The window of a tile is all that its pixels reach in the right
# map, s x s, s = t + 2 d. One matrix product makes all (t^2, s^2) products of the two; those that are wanted lie at
# regular distances, so that a strided view finds them. At d = 4 three times as many products are made as are wanted, and
# still that is several times as fast as one pass over the maps for each displacement: for all sizes tried, from 64
# channels of 256 x 256 to 512 of 32 x 32, and for all displacements but 0. Hence there is one form only.

_Step = tuple[slice, slice, slice]  # images, rows of tiles, columns of tiles


@torch.library.custom_op("dualpixel::correlation", mutates_args=())
def _correlation(left: Tensor, right: Tensor, displacement: int) -> Tensor:
    tiling = _Tiling(left, displacement)
    left, right = tiling.pad(left), tiling.pad(right, displacement)
    volume = left.new_empty(len(left), tiling.side, tiling.side, *left.shape[2:])
    with torch.autocast(left.device.type, enabled=False):
        for step in tiling.steps(len(left)):
            products = (tiling.tiles(left, step) / left.shape[1]).mT @ tiling.windows(right, step)
            wanted = tiling.cut_volume(volume, step)
            wanted.copy_(tiling.within_reach(products).view(wanted.shape))
    return tiling.crop(volume).flatten(1, 2)


@torch.library.custom_op("dualpixel::correlation_backward", mutates_args=())
def _correlation_backward(gradient: Tensor, left: Tensor, right: Tensor, displacement: int) -> tuple[Tensor, Tensor]:
    tiling = _Tiling(left, displacement)
    left, right = tiling.pad(left), tiling.pad(right, displacement)
    gradient = gradient.to(tiling.dtype) / left.shape[1]
    gradient = tiling.pad(gradient.unflatten(1, (tiling.side, tiling.side)))
    of_left = torch.empty_like(left, memory_format=torch.contiguous_format)
    whole_tiles = -(-2 * displacement // TILE) * TILE  # of the frame, so that a sum of windows can be cut like a map
    of_right = left.new_zeros(*left.shape[:2], *(size + whole_tiles for size in left.shape[2:]), dtype=tiling.dtype)
    with torch.autocast(left.device.type, enabled=False):
        for step in tiling.steps(len(left)):
            tiles, windows = tiling.tiles(left, step), tiling.windows(right, step)
            of_wanted = tiling.cut_volume(gradient, step)
            of_products = tiles.new_zeros(len(tiles), TILE**2, tiling.reach**2)
            tiling.within_reach(of_products).view(of_wanted.shape).copy_(of_wanted)
            tiling.cut(of_left, step).copy_(tiling.placed(windows @ of_products.mT, step))
            tiling.add_windows(of_right, tiling.placed(tiles @ of_products, step), step)
    return tiling.crop(of_left), tiling.crop(of_right, displacement).to(left.dtype)


@_correlation.register_fake
def _shape(left: Tensor, right: Tensor, displacement: int) -> Tensor:
    images, _, height, width = left.shape
    return left.new_empty(images, (2 * displacement + 1) ** 2, height, width)


@_correlation_backward.register_fake
def _shapes(gradient: Tensor, left: Tensor, right: Tensor, displacement: int) -> tuple[Tensor, Tensor]:
    return left.new_empty(left.shape), right.new_empty(right.shape)


def _remember(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
    left, right, ctx.displacement = inputs
    ctx.save_for_backward(left, right)


def _differentiate(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
    return *_correlation_backward(gradient, *ctx.saved_tensors, ctx.displacement), None


_correlation.register_autograd(_differentiate, setup_context=_remember)


@register_flop_formula(torch.ops.dualpixel.correlation)
def _operations(left: torch.Size, right: torch.Size, displacement: int, **_: Any) -> int:
    return 2 * (2 * displacement + 1) ** 2 * math.prod(left)


@register_flop_formula(torch.ops.dualpixel.correlation_backward)
def _operations_backward(gradient: torch.Size, left: torch.Size, right: torch.Size, displacement: int, **_: Any) -> int:
    return 2 * _operations(left, right, displacement)


class _Tiling:
    """Where the tiles of maps (B, C, H, W) and their windows lie, and how many are worked on in one step."""

    def __init__(self, features: Tensor, displacement: int) -> None:
        _, channels, self.height, self.width = features.shape
        self.side, self.reach = 2 * displacement + 1, 2 * displacement + TILE
        self.rows, self.columns = -(-self.height // TILE), -(-self.width // TILE)
        self.dtype = torch.promote_types(features.dtype, torch.float32)
        limit = STEP if features.device.type == "cpu" else STEP_ELSEWHERE
        self.tiles_in_step = max(1, limit // (self.reach**2 * (TILE**2 + channels)))

    def steps(self, images: int) -> Iterator[_Step]:
        """Walk over all tiles, as many at a time as a step may hold."""
        rows = max(1, self.tiles_in_step // self.columns)
        parts = ((images, rows // self.rows), (self.rows, rows), (self.columns, self.tiles_in_step))
        return itertools.product(*(_parts(length, part) for length, part in parts))

    def pad(self, maps: Tensor, frame: int = 0) -> Tensor:
        """Add zeros up to whole tiles, and a frame of zeros around."""
        below, beside = self.rows * TILE - self.height, self.columns * TILE - self.width
        sizes = (frame, frame + beside, frame, frame + below)
        return functional.pad(maps, sizes) if any(sizes) else maps

    def crop(self, maps: Tensor, frame: int = 0) -> Tensor:
        """Undo `pad`."""
        return maps[..., frame : frame + self.height, frame : frame + self.width].contiguous()

    def cut(self, maps: Tensor, step: _Step) -> Tensor:
        """View the step's part of (B, ..., H, W) as (b, ..., rows, t, columns, t)."""
        images, *places = step
        rows, columns = (slice(place.start * TILE, place.stop * TILE) for place in places)
        return maps[images, ..., rows, columns].unflatten(-1, (-1, TILE)).unflatten(-3, (-1, TILE))

    def cut_volume(self, volume: Tensor, step: _Step) -> Tensor:
        """View the step's part of (B, 2 d + 1, 2 d + 1, H, W) as (b, rows, columns, t, t, 2 d + 1, 2 d + 1)."""
        return self.cut(volume, step).permute(0, 3, 5, 4, 6, 1, 2)

    def tiles(self, maps: Tensor, step: _Step) -> Tensor:
        """Return the tiles of a step, (n, C, t^2)."""
        tiles = self.cut(maps, step).permute(0, 2, 4, 1, 3, 5).to(self.dtype)
        return tiles.reshape(-1, maps.shape[1], TILE**2)

    def windows(self, framed: Tensor, step: _Step) -> Tensor:
        """Return the windows of the tiles of a step, (n, C, s^2)."""
        images, *places = step
        rows, columns = (slice(place.start * TILE, place.stop * TILE + self.side - 1) for place in places)
        windows = framed[images, :, rows, columns].unfold(2, self.reach, TILE).unfold(3, self.reach, TILE)
        return windows.permute(0, 2, 3, 1, 4, 5).to(self.dtype).reshape(-1, framed.shape[1], self.reach**2)

    def within_reach(self, products: Tensor) -> Tensor:
        """View of (n, t^2, s^2) those that are at most d apart, (n, t, t, 2 d + 1, 2 d + 1)."""
        pixel = self.reach**2  # from a pixel's products to the next one's
        strides = (TILE**2 * pixel, TILE * pixel + self.reach, pixel + 1, self.reach, 1)
        return products.as_strided((len(products), TILE, TILE, self.side, self.side), strides)

    def placed(self, squares: Tensor, step: _Step) -> Tensor:
        """View squares of pixels (n, C, q^2), tiles or windows, as (b, C, rows, q, columns, q)."""
        _, rows, columns = (part.stop - part.start for part in step)
        side = math.isqrt(squares.shape[2])
        return squares.view(-1, rows, columns, squares.shape[1], side, side).permute(0, 3, 1, 4, 2, 5)

    def add_windows(self, framed: Tensor, windows: Tensor, step: _Step) -> None:
        """Add overlapping windows (b, C, rows, s, columns, s) where they lie: of each, one tile's size at a time."""
        for top in range(0, self.reach, TILE):
            for start in range(0, self.reach, TILE):
                piece = windows[:, :, :, top : top + TILE, :, start : start + TILE]
                place = self.cut(framed[..., top:, start:], step)
                place[:, :, :, : piece.shape[3], :, : piece.shape[5]] += piece


def _parts(length: int, part: int) -> list[slice]:
    part = max(1, part)
    return [slice(start, min(start + part, length)) for start in range(0, length, part)]
