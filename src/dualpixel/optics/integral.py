"""Weighted means of overlapping rectangles by an integral image: each pixel costs the same, whatever its blur.

A rectangle is drawn by impulses at its corners and two cumulative sums, and read by four entries of an integral image.
An edge that falls within a pixel is a pair of impulses, 1 - t and t, so a corner is the outer product of two pairs. One
of the two vertical edges of a half aperture's image always lies on a pixel border: three column impulses do instead of
four. An impulse outside the frame acts on the frame as one on its border does, so edges are held at the border and
nothing is padded.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Pixels worked on at a time on the CPU, so that the temporaries of a band stay in the second-level cache.
BAND = 16384
# Smaller sums of weights are taken for this one; a pixel's own rectangle always covers it, so only radii in the
# thousands come near.
SMALLEST_DIVISOR = 1e-8


class _Edge(NamedTuple):
    """One edge of every rectangle of a band, in places along one axis; all tensors (1, pixels of the band)."""

    first: Tensor  # flat index of the impulse of weight 1 - fraction; that of weight `fraction` is one row or column on
    fraction: Tensor | None = None  # in [0, 1]; None: always on a pixel border
    moves: Tensor | None = None  # 1 where the edge moves with the radius, 0 where the border or a zero radius holds it


class _Band(NamedTuple):
    """The rectangles of a band of image rows. Flat index of an impulse: row edge's + column edge's."""

    sign: Tensor  # +1 where the fixed column edge of the left view opens the rectangle (r >= 0), -1 where it closes it
    rows: tuple[_Edge, _Edge]  # top and bottom, the same in both views
    columns: tuple[tuple[Tensor, _Edge], tuple[Tensor, _Edge]]  # left and right view: fixed column, moving edge


def _bands(radius: Tensor, symmetric: bool) -> Iterator[tuple[slice, _Band]]:
    """Place the rectangles, band by band on the CPU and at once elsewhere; the slice counts pixels over all images."""
    batch, height, width = radius.shape
    lines = radius.reshape(-1, width)
    step = max(1, BAND // width) if radius.device.type == "cpu" else batch * height
    for start in range(0, batch * height, step):
        band = _place(lines[start : start + step], start, height, symmetric)
        yield slice(start * width, (start + step) * width), band


def _place(radius: Tensor, start: int, height: int, symmetric: bool) -> _Band:
    """Place the rectangles of lines (n, W), the first of which is line `start` of all images, `height` lines each."""
    width = radius.shape[1]
    line = torch.arange(start, start + radius.shape[0], device=radius.device)[:, None]
    column = torch.arange(width, device=radius.device)[None]
    image, row = line // height * (height + 1) * (width + 1), line % height
    near, blurred, extent = (radius >= 0).long(), radius != 0, radius.abs()

    def flat(tensor: Tensor) -> Tensor:
        return tensor.expand(radius.shape).reshape(1, -1)

    def edge(place: Tensor, size: int, pace: int = 1, origin: Tensor | int = 0) -> _Edge:
        held = place.clamp(0, size)
        # clamping the integer keeps a NaN radius from becoming an address; the fraction stays NaN, shown in the views
        first = held.floor().long().clamp_(0, size - 1)
        moves = ((place == held) & blurred).to(radius.dtype)
        return _Edge(flat(origin + first * pace), flat(held - first), flat(moves))

    top = edge(row - extent, height, width + 1, image) if symmetric else _Edge(flat(image + row * (width + 1)))
    bottom = edge(row + 1 + extent, height, width + 1, image)
    left = flat(column + 1 - near), edge(column + near + radius, width)
    right = flat(column + near), edge(column + 1 - near - radius, width)
    return _Band(flat(2 * near - 1).to(radius.dtype), (top, bottom), (left, right))


class MeanOfRectangles(torch.autograd.Function):
    """Spread every pixel over the rectangle that each half aperture makes of it, and take weighted means.

    ``apply(image, weight, radius, symmetric)`` with image (B, C, H, W), any floating dtype; weight (B, H, W) float64,
    of a pixel per unit of area; radius (B, H, W) float64, signed blur radius r in pixels. Returns the left and the
    right view, (B, C, H, W) in the dtype of the image: sum(weight x overlap x colour) / sum(weight x overlap). Pixel k
    covers [k - 1/2, k + 1/2]; the rectangle of (y, x) is

        left view   columns [x - 1/2 + min(r, 0), x + 1/2 + max(r, 0)]
        right view  columns [x - 1/2 - max(r, 0), x + 1/2 - min(r, 0)]
        both        rows    [y - 1/2 - |r|, y + 1/2 + |r|] (symmetric) or [y - 1/2, y + 1/2 + |r|]

    The gradient with respect to the radius is exact, except that it is one-sided where an edge meets a pixel border,
    and zero at r = 0. Written by hand because autograd would keep every impulse: 24 times the pixels in float64.
    """

    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor, radius: Tensor, symmetric: bool) -> tuple[Tensor, Tensor]:
        """Scatter the impulses of colour and weight, sum along columns and rows, divide."""
        batch, channels, height, width = image.shape
        stride = width + 1
        colours = image.transpose(0, 1).reshape(channels, -1)
        sums = radius.new_zeros(2, channels + 1, batch * (height + 1) * stride)
        for pixels, band in _bands(radius, symmetric):
            opening = _with_one(colours[:, pixels]) * (weight.view(-1)[pixels] * band.sign)
            for edge_sign, row in zip((1, -1), band.rows, strict=True):
                if row.fraction is None:
                    parts = [(opening * edge_sign, 0)]
                else:
                    lower = opening * (edge_sign * row.fraction)
                    parts = [(opening * edge_sign - lower, 0), (lower, stride)]
                for view, (fixed, moving) in zip(sums, band.columns, strict=True):
                    fixed_at = (row.first + fixed).expand(channels + 1, -1)
                    moving_at = (row.first + moving.first).expand(channels + 1, -1)
                    for amount, down in parts:
                        view[:, down:].scatter_add_(1, fixed_at, amount)
                        view[:, down:].scatter_add_(1, moving_at, amount * (moving.fraction - 1))
                        view[:, down + 1 :].scatter_add_(1, moving_at, amount * -moving.fraction)
        sums = sums.view(2, channels + 1, batch, height + 1, stride).cumsum_(-1).cumsum_(-2)[..., :height, :width]
        # where the left view's fixed edge opens, the right view's closes: drawn by the same rule, its sums are negative
        divisors = sums[:, -1:].abs_().clamp_(min=SMALLEST_DIVISOR)
        means = sums[:, :-1].div_(divisors)
        means[1].neg_()
        ctx.save_for_backward(image, weight, radius, means, divisors)
        ctx.symmetric = symmetric
        left, right = (mean.transpose(0, 1).to(image.dtype, copy=True) for mean in means)
        return left, right

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Read every pixel's rectangles, and how their edges change them, from the integral image of the gradient."""
        image, weight, radius, means, divisors = ctx.saved_tensors
        batch, channels, height, width = image.shape
        table = radius.new_zeros(2, channels + 1, batch, height + 1, width + 1)
        for view, gradient, mean, divisor in zip(table[..., 1:, 1:], gradients, means, divisors, strict=True):
            torch.div(gradient.transpose(0, 1), divisor, out=view[:-1])
            torch.sum(view[:-1] * mean, 0, out=view[-1]).neg_()
        table = table.cumsum_(-1).cumsum_(-2).view(2, channels + 1, -1)
        colours = image.transpose(0, 1).reshape(channels, -1)
        image_gradient = torch.zeros_like(colours)
        weight_gradient, radius_gradient = torch.zeros_like(weight), torch.zeros_like(radius)
        for pixels, band in _bands(radius, ctx.symmetric):
            values, share = _with_one(colours[:, pixels]), weight.view(-1)[pixels]
            total = change = 0.0
            for view, (fixed, moving), side in zip(table, band.columns, (1, -1), strict=True):
                area, stretch, slope = _read(view, width + 1, band.rows, fixed, moving)
                total = total + area * (band.sign * side)
                change = change - slope * (moving.moves * band.sign) - stretch * side
            image_gradient[:, pixels] = total[:-1] * share
            weight_gradient.view(-1)[pixels] = (total * values).sum(0)
            radius_gradient.view(-1)[pixels] = (change * values).sum(0) * share
        image_gradient = image_gradient.view(channels, batch, height, width).transpose(0, 1)
        return image_gradient, weight_gradient, radius_gradient, None


def _with_one(colours: Tensor) -> Tensor:
    """Append a channel of ones, the sum of which is the divisor of the means; (C, n) to (C + 1, n) float64."""
    return torch.cat([colours.double(), colours.new_ones(1, colours.shape[1], dtype=torch.float64)])


def _read(
    table: Tensor, stride: int, rows: tuple[_Edge, _Edge], fixed: Tensor, moving: _Edge
) -> tuple[Tensor, Tensor, Tensor]:
    """Read rectangles from an integral image, and how what they hold changes as their edges move.

    Args:
        table: (K, images x (H + 1) x (W + 1)), the sum of all that lies above and to the left of each pixel corner.
        stride: W + 1.
        rows: top and bottom edges.
        fixed: (1, n), columns of the fixed edges.
        moving: the moving column edges.

    Returns:
        Three tensors (K, n), all with the sign that counts a rectangle positive where the fixed column edge opens it:
        the sum within the rectangle, its loss per pixel that both row edges move outwards, and its loss per pixel that
        the moving edge goes right.
    """

    def across(row: _Edge, down: int) -> tuple[Tensor, Tensor]:
        line, channels = table[:, down:], table.shape[0]
        at = (row.first + moving.first).expand(channels, -1)
        opening, closing = line.gather(1, (row.first + fixed).expand(channels, -1)), line.gather(1, at)
        step = line[:, 1:].gather(1, at).sub_(closing)
        return opening.sub_(closing).sub_(step * moving.fraction), step

    area = stretch = slope = 0.0
    for edge_sign, row in zip((1, -1), rows, strict=True):
        sums, steps = across(row, 0)
        if row.fraction is not None:
            lower_sums, lower_steps = across(row, stride)
            rise = lower_sums.sub_(sums)
            stretch = stretch + rise * row.moves
            sums, steps = sums.addcmul_(rise, row.fraction), steps.lerp_(lower_steps, row.fraction)
        area, slope = area + edge_sign * sums, slope + edge_sign * steps
    return area, stretch, slope
