"""Scenes in layers: pixels of about the same blur radius are convolved together, then composited or picked.

Both ways are linear in the image, and their gradient with respect to it is written by hand: autograd would keep every
layer's tiles. A layer is a whole number, and a step function of the blur: the gradient with respect to the blur is
zero, given as such so that a loss of nothing but the views can be propagated back.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dualpixel.optics.tiles import TileFilter, Tiling, at_once, presence

Occlusion = Literal["plain", "normalised"]
Kernels = Callable[[int], Tensor]
"""From the number of a layer to the kernels of the views, (V, n, n) float64 on the CPU, for true convolution."""

# Smaller divisors are taken for these: the coverage of all layers, and that of a layer and all behind it. The second is
# as large because rounding in a Fourier transform is a large part of what a kernel's last corner covers.
SMALLEST_COVERAGE = 1e-6
SMALLEST_BEHIND = 1e-3
# What lies outside the frame belongs to no layer, and is nearer than all.
NOWHERE = 2**31 - 1


def quantise(blur: Tensor, step: float, maximum_radius: float) -> Tensor:
    """Return the layer of every pixel: floor(r / step + 1/2), with r clamped to `maximum_radius`.

    Args:
        blur: (B, 1, H, W), signed blur radius r in pixels.
        step: pixels of radius from layer to layer.
        maximum_radius: pixels.

    Returns:
        (B, H, W) int32, without gradient.

    Raises:
        ValueError: a step or a maximum that is not positive, or a radius that is no finite number.
    """
    for name, value in (("step", step), ("maximum_radius", maximum_radius)):
        if not value > 0:
            raise ValueError(f"optics: {name} is {value}, but must be a positive number of pixels")
    radius = blur.detach()[:, 0].double().clamp(-maximum_radius, maximum_radius)
    return whole(torch.floor(radius / step + 0.5))


def whole(layer: Tensor) -> Tensor:
    """Make whole numbers integers; refuse NaN and infinity, which are in no layer."""
    wrong = ~layer.isfinite()
    if wrong.any():
        raise ValueError(f"optics: {int(wrong.sum())} of {wrong.numel()} blur radii are NaN or infinite")
    return layer.int()


def composite(image: Tensor, blur: Tensor, layer: Tensor, kernels: Kernels, occlusion: Occlusion) -> Tensor:
    """Blur every layer and its mask, and lay the layers over one another, from the farthest to the nearest.

    With m a layer's mask, K its kernel, a = K * m and c = K * (m x image), zeros beyond the frame:
    O <- c + (1 - a) O and A <- a + (1 - a) A for each layer, and O / A in the end. "normalised" divides a and c first
    by K * (the masks of the layer and of all behind it), as if a layer went on behind what hides it. "plain" makes a
    blurred background thin beside a nearer thing, which then looks too large.

    Source: the "over" operator; "normalised": Ikoma et al., "Depth from Defocus with Learned Optics for Imaging and
    Occlusion-aware Depth Estimation", ICCP 2021.

    Differences: that paper does not divide by A in the end, but here a constant image stays constant; and it has a
        small number added to each divisor, where here the divisor is kept from being smaller.

    Args:
        image: (B, C, H, W), any floating dtype. A NaN spreads to its surroundings.
        blur: (B, 1, H, W), gets a gradient of zeros.
        layer: (B, H, W), integers, larger is nearer.
        kernels: from a layer to the kernels of the V views.
        occlusion: "plain" or "normalised".

    Returns:
        (V, B, C, H, W) in the dtype of `image`.

    Raises:
        ValueError: an unknown `occlusion`.
    """
    if occlusion not in get_args(Occlusion):
        raise ValueError(f"optics: occlusion is {occlusion!r}; allowed: {', '.join(get_args(Occlusion))}")
    with torch.autocast(image.device.type, enabled=False):
        return _Composite.apply(image, blur, layer, kernels, occlusion == "normalised")


def pick(image: Tensor, blur: Tensor, layer: Tensor, kernels: Kernels) -> Tensor:
    """Blur the whole image with the kernels of each pixel's own layer; layers do not cover one another.

    Args:
        image: (B, C, H, W), any floating dtype; zeros beyond it.
        blur: any shape, gets a gradient of zeros.
        layer: (B, H, W), integers; `NOWHERE` for pixels not asked for, which stay zero.
        kernels: from a layer to the kernels of the V views.

    Returns:
        (V, B, C, H, W) in the dtype of `image`.
    """
    with torch.autocast(image.device.type, enabled=False):
        return _Pick.apply(image, blur, layer, kernels)


class _Stack:
    """The layers that occur, nearest first, with their kernels and their places."""

    def __init__(self, layer: Tensor, kernels: Kernels) -> None:
        self.lowest, self.blocks = presence(layer, NOWHERE)
        numbers = [self.lowest + int(place) for place in self.blocks.flatten(1).any(1).nonzero()]
        self.kernels = {number: kernels(number) for number in reversed(numbers)}
        self.views = len(self.kernels[numbers[0]])
        self.device = layer.device
        self.tiling = Tiling(*layer.shape, reach=max(kernel.shape[-1] // 2 for kernel in self.kernels.values()))
        self.marks = self.tiling.canvas(layer[:, None], NOWHERE)

    def filters(self, turned: bool = False) -> Iterator[tuple[int, TileFilter]]:
        """Go through the layers, nearest first: number and filter, that of the kernels turned by 180 degrees or not."""
        for number, kernel in self.kernels.items():
            yield number, TileFilter(kernel.flip(-1, -2) if turned else kernel, self.tiling.side, self.device)

    def tiles(self, number: int, reach: int, values: int) -> tuple[Tensor, ...]:
        """Return the numbers of the tiles within `reach` of a layer, in parts; `values` is what one tile needs."""
        return at_once(self.tiling.reached(self.blocks[number - self.lowest], reach).to(self.device), values)

    def own(self, number: int, tiles: Tensor, reach: int, size: int) -> Tensor:
        """Return a layer's mask in windows, (n, 1, size, size) boolean."""
        return self.tiling.windows(self.marks, tiles, reach, size) == number

    def zeros(self, *channels: int) -> Tensor:
        """Return float64 zeros (tiles, *channels, side, side)."""
        side = self.tiling.side
        return torch.zeros(self.tiling.count, *channels, side, side, dtype=torch.float64, device=self.device)

    def views_of(self, tiles: Tensor) -> Tensor:
        """Lay tiles (tiles, V, K, side, side) together to (V, B, K, H, W)."""
        return self.tiling.join(tiles.flatten(1, 2)).unflatten(1, tiles.shape[1:3]).transpose(0, 1)

    def canvas_of(self, views: Tensor) -> Tensor:
        """Put views (V, B, K, H, W) on one canvas with V x K channels."""
        return self.tiling.canvas(views.transpose(0, 1).flatten(1, 2))


class _Composite(torch.autograd.Function):
    """:func:`composite`, from the nearest layer to the farthest: what is behind is seen as far as nothing hid it yet."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, blur: Tensor, layer: Tensor, kernels: Kernels, normalised: bool) -> Tensor:
        """Add each layer's blurred colours, times what the layers before it let through."""
        stack, channels = _Stack(layer, kernels), image.shape[1]
        canvas = stack.tiling.canvas(image)
        total, through = stack.zeros(stack.views, channels), stack.zeros(stack.views, 1) + 1
        ctx.weights = {}
        for number, layer_filter in stack.filters():
            place = layer_filter.reach, layer_filter.size
            kept = ctx.weights[number] = []
            for tiles in stack.tiles(number, layer_filter.reach, (channels + 1) * layer_filter.size**2):
                marks = stack.tiling.windows(stack.marks, tiles, *place)
                own = marks == number
                fields = [torch.where(own, stack.tiling.windows(canvas, tiles, *place), 0).double(), own.double()]
                if normalised:
                    fields.append((marks <= number).double())
                blurred = layer_filter.apart(torch.cat(fields, 1))
                weight = before = through[tiles]
                if normalised:
                    weight = before / blurred[:, :, -1:].clamp(min=SMALLEST_BEHIND)
                total.index_add_(0, tiles, blurred[:, :, :channels] * weight)
                through[tiles] = before - blurred[:, :, channels : channels + 1] * weight
                if ctx.needs_input_grad[0]:
                    kept.append((tiles, weight[:, :, 0]))
        coverage = stack.views_of(1 - through).clamp(min=SMALLEST_COVERAGE)
        ctx.save_for_backward(blur, coverage)
        ctx.stack, ctx.shape, ctx.dtype = stack, image.shape, image.dtype
        return (stack.views_of(total) / coverage).to(image.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None, None, None]:
        """Read for each layer's pixels what their kernels reach of the gradient, times what let them through."""
        (blur, coverage), stack, channels = ctx.saved_tensors, ctx.stack, ctx.shape[1]
        if not ctx.needs_input_grad[0]:
            return None, torch.zeros_like(blur), None, None, None
        canvas = stack.canvas_of(gradient / coverage)
        weights = stack.canvas_of(torch.zeros_like(coverage))
        result = stack.zeros(channels)
        for number, layer_filter in stack.filters(turned=True):
            place = layer_filter.reach, layer_filter.size
            for tiles, weight in ctx.weights[number]:
                stack.tiling.write(weights, tiles, weight)
            for tiles in stack.tiles(number, 0, stack.views * channels * layer_filter.size**2):
                fields = stack.tiling.windows(canvas, tiles, *place).unflatten(1, (stack.views, channels))
                seen = layer_filter.together(fields * stack.tiling.windows(weights, tiles, *place)[:, :, None])
                result[tiles] += torch.where(stack.own(number, tiles, 0, stack.tiling.side), seen, 0)
        return stack.tiling.join(result).to(ctx.dtype), torch.zeros_like(blur), None, None, None


class _Pick(torch.autograd.Function):
    """:func:`pick`."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, blur: Tensor, layer: Tensor, kernels: Kernels) -> Tensor:
        """Convolve the tiles that hold a layer's pixels, and keep these."""
        stack, channels = _Stack(layer, kernels), image.shape[1]
        canvas = stack.tiling.canvas(image)
        result = stack.zeros(stack.views, channels)
        for number, layer_filter in stack.filters():
            for tiles in stack.tiles(number, 0, channels * layer_filter.size**2):
                fields = stack.tiling.windows(canvas, tiles, layer_filter.reach, layer_filter.size)
                blurred = layer_filter.apart(fields.double())
                own = stack.own(number, tiles, 0, stack.tiling.side)
                result[tiles] += torch.where(own[:, None], blurred, 0)
        ctx.save_for_backward(blur)
        ctx.stack, ctx.dtype = stack, image.dtype
        return stack.views_of(result).to(image.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        """Spread the gradient of each layer's pixels over what their kernels reach."""
        (blur,), stack, channels = ctx.saved_tensors, ctx.stack, gradient.shape[2]
        if not ctx.needs_input_grad[0]:
            return None, torch.zeros_like(blur), None, None
        canvas = stack.canvas_of(gradient.double())
        result = stack.zeros(channels)
        for number, layer_filter in stack.filters(turned=True):
            place = layer_filter.reach, layer_filter.size
            for tiles in stack.tiles(number, layer_filter.reach, stack.views * channels * layer_filter.size**2):
                fields = torch.where(stack.own(number, tiles, *place), stack.tiling.windows(canvas, tiles, *place), 0)
                result.index_add_(0, tiles, layer_filter.together(fields.unflatten(1, (stack.views, channels))))
        return stack.tiling.join(result).to(ctx.dtype), torch.zeros_like(blur), None, None
