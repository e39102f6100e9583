"""Weighted means of overlapping rectangles by an integral image: each pixel costs the same, whatever its blur.

A rectangle is drawn by impulses at its corners and two cumulative sums, and read by four entries of an integral image.
An edge that falls within a pixel is a pair of impulses, so a corner is the outer product of two pairs. One of the two
vertical edges of a half aperture's image always lies on a pixel border: three column impulses do instead of four.

All the other edges lie |r| = k + f outside of their pixel, k whole and 0 <= f < 1: an impulse 1 - f at k pixels and one
of f at k + 1. So the impulses of a pixel are a handful of products, which the corners of both views share. The right
view's columns are the left view's, mirrored about the middle of the pixel.
"""

import math
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

# Shares of an edge in its impulses: the whole of one on a pixel border; 1 - f at k pixels; f at k + 1.
ALL, NEAR, FAR = "all", "near", "far"


class _Frame(NamedTuple):
    """The frame in which impulses lie: one place for each corner of a pixel, with a margin around the picture."""

    height: int
    width: int
    margin: int

    @property
    def lines(self) -> int:
        return self.height + 2 * self.margin + 1

    @property
    def stride(self) -> int:
        return self.width + 2 * self.margin + 1

    def picture(self, table: Tensor, first: int) -> Tensor:
        """Return the part of (..., lines, stride) that belongs to the picture, from its corner (first, first) on."""
        start = self.margin + first
        return table[..., start : start + self.height, start : start + self.width]


class _RowEdge(NamedTuple):
    """The upper or the lower edges of a band's rectangles."""

    sign: int  # +1 for the upper edges
    place: Tensor  # (1, n), of the upper left corner of the pixel, moved to the edge
    shares: tuple[tuple[int, str], ...]  # how much further in memory each impulse lies, and its share


class _Band(NamedTuple):
    """The rectangles of a band of n pixels; all tensors (1, n)."""

    sign: Tensor  # +1 where the fixed column edge of the left view opens the rectangle (r >= 0), -1 where it closes it
    near: Tensor  # 1 - f
    far: Tensor  # f
    rows: tuple[_RowEdge, _RowEdge]
    columns: tuple[tuple[int, Tensor, str], ...]  # sign; offset from the pixel's left border in the left view; share


def _frame(radius: Tensor) -> _Frame:
    """Make the frame that holds all edges; how far an edge lies outside of the picture does not matter."""
    _, height, width = radius.shape
    reach = float(radius.abs().nan_to_num(0, 0).max())
    return _Frame(height, width, math.ceil(min(reach, max(height, width))) + 2)


def _bands(radius: Tensor, frame: _Frame, symmetric: bool) -> Iterator[tuple[slice, _Band]]:
    """Place the rectangles, band by band on the CPU and at once elsewhere; the slice counts pixels over all images."""
    batch, height, width = radius.shape
    lines = radius.reshape(-1, width)
    step = max(1, BAND // width) if radius.device.type == "cpu" else batch * height
    for start in range(0, batch * height, step):
        band = _place(lines[start : start + step], start, frame, symmetric)
        yield slice(start * width, (start + step) * width), band


def _place(radius: Tensor, start: int, frame: _Frame, symmetric: bool) -> _Band:
    """Place the rectangles of lines (n, W), the first of which is line `start` of all images, `height` lines each."""
    stride, furthest = frame.stride, frame.margin - 2
    line = torch.arange(start, start + radius.shape[0], device=radius.device)[:, None]
    column = torch.arange(frame.width, device=radius.device)[None]
    first_line = line // frame.height * frame.lines + line % frame.height + frame.margin
    home = (first_line * stride + column + frame.margin).view(1, -1)

    radius = radius.reshape(1, -1)
    extent = radius.abs().clamp_(max=furthest)
    # clamping the integer keeps a NaN radius from becoming an address; the fraction stays NaN, shown in the views
    whole = extent.long().clamp_(0, furthest)
    fraction = extent.sub_(whole)
    opens = (radius >= 0).long()
    sign = 2 * opens - 1
    down = whole * stride
    lower = _RowEdge(-1, home + down, ((stride, NEAR), (2 * stride, FAR)))
    upper = (
        _RowEdge(1, home - down - stride, ((stride, NEAR), (0, FAR))) if symmetric else _RowEdge(1, home, ((0, ALL),))
    )
    moving = whole * sign + opens
    columns = ((1, 1 - opens, ALL), (-1, moving, NEAR), (-1, moving + sign, FAR))
    return _Band(sign.to(radius.dtype), 1 - fraction, fraction, (upper, lower), columns)


def _impulses(amount: Tensor, band: _Band) -> dict[tuple[str, str], Tensor]:
    """Return the shares (of row and column) of amounts (K, n) in each impulse."""
    near = amount * band.near
    far = amount - near
    near_near = near * band.near
    near_far = near - near_near
    both = {(NEAR, NEAR): near_near, (NEAR, FAR): near_far, (FAR, NEAR): near_far, (FAR, FAR): far - near_far}
    return both | {(ALL, ALL): amount, (ALL, NEAR): near, (NEAR, ALL): near, (ALL, FAR): far, (FAR, ALL): far}


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
        frame = _frame(radius)
        colours = image.transpose(0, 1).reshape(channels, -1)
        sums = radius.new_zeros(2, channels + 1, batch * frame.lines * frame.stride)
        for pixels, band in _bands(radius, frame, symmetric):
            amount = _with_one(colours[:, pixels]) * (weight.view(-1)[pixels] * band.sign)
            drawn = {1: _impulses(amount, band), -1: _impulses(-amount, band)}
            for row in band.rows:
                for column_sign, offset, column_share in band.columns:
                    for view, place in enumerate((row.place + offset, row.place - offset)):
                        place = place.expand(channels + 1, -1)
                        for shift, row_share in row.shares:
                            impulse = drawn[row.sign * column_sign][row_share, column_share]
                            sums[view, :, shift + view :].scatter_add_(1, place, impulse)
        sums = frame.picture(_integrated(sums.view(2, channels + 1, batch, frame.lines, frame.stride)), 0)
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
        frame = _frame(radius)
        table = radius.new_zeros(2, channels + 1, batch, frame.lines, frame.stride)
        for view, gradient, mean, divisor in zip(frame.picture(table, 1), gradients, means, divisors, strict=True):
            torch.div(gradient.transpose(0, 1), divisor, out=view[:-1])
            for channel in range(channels):
                view[-1].addcmul_(view[channel], mean[channel], value=-1)
        table = _integrated(table).view(2, channels + 1, -1)
        colours = image.transpose(0, 1).reshape(channels, -1)
        image_gradient = torch.zeros_like(colours)
        weight_gradient, radius_gradient = torch.zeros_like(weight), torch.zeros_like(radius)
        for pixels, band in _bands(radius, frame, ctx.symmetric):
            values = _with_one(colours[:, pixels])
            area, growth = _read(table, band)
            share = weight.view(-1)[pixels]
            image_gradient[:, pixels] = area[:-1] * (share * band.sign)
            weight_gradient.view(-1)[pixels] = area.mul_(values).sum(0) * band.sign[0]
            radius_gradient.view(-1)[pixels] = growth.mul_(values).sum(0) * share
        radius_gradient.masked_fill_(radius == 0, 0)
        image_gradient = image_gradient.view(channels, batch, height, width).transpose(0, 1)
        return image_gradient, weight_gradient, radius_gradient, None


def _integrated(table: Tensor) -> Tensor:
    """Sum a table (..., lines, stride) along both axes, in place; on the CPU in one pass over the memory."""
    if table.device.type != "cpu":
        return table.cumsum_(-1).cumsum_(-2)
    above = None
    for line in table.unbind(-2):
        line.cumsum_(-1)
        above = line if above is None else line.add_(above)
    return table


def _with_one(colours: Tensor) -> Tensor:
    """Append a channel of ones, the sum of which is the divisor of the means; (C, n) to (C + 1, n) float64."""
    return torch.cat([colours.double(), colours.new_ones(1, colours.shape[1], dtype=torch.float64)])


def _read(tables: Tensor, band: _Band) -> tuple[Tensor, Tensor]:
    """Read rectangles from the integral images of both views, and how what they hold grows with their extent |r|.

    Args:
        tables: (2, K, places of the frame), the sum of all that lies above and to the left of each place.
        band: the rectangles.

    Returns:
        Two tensors (K, n), summed over the views: what the rectangles hold, with the sign that counts those positive
        whose left view's fixed column edge opens; and its growth per pixel of |r|, counted in the same way.
    """
    # by the share of the row edge: what lies between the fixed and the moving column edge, and its growth
    between: dict[str, Tensor] = {}
    growth: dict[str, Tensor] = {}
    for column_sign, offset, column_share in band.columns:
        lines: dict[str, Tensor] = {}
        for row in band.rows:
            for view, place in enumerate((row.place + offset, row.place - offset)):
                place = place.expand(tables.shape[1], -1)
                for shift, row_share in row.shares:
                    found = tables[view, :, shift + view :].gather(1, place)
                    # the right view's rectangles are drawn with the opposite sign
                    sign = row.sign if view == 0 else -row.sign
                    if row_share in lines:
                        lines[row_share].add_(found, alpha=sign)
                    else:
                        lines[row_share] = found if sign > 0 else found.neg_()
        for row_share, line in lines.items():
            if column_share == ALL:
                between[row_share] = line
            elif column_share == NEAR:
                between[row_share].addcmul_(line, band.near, value=column_sign)
                growth[row_share] = line
            else:
                between[row_share].addcmul_(line, band.far, value=column_sign)
                growth[row_share].sub_(line)
    area = between[NEAR] * band.near + between[FAR] * band.far
    change = growth[NEAR].mul_(band.near).addcmul_(growth[FAR], band.far)
    change += between[FAR].sub_(between[NEAR])
    if ALL in between:
        area += between[ALL]
        change += growth[ALL]
    return area, change
