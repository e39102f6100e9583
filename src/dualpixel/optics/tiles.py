"""Convolution of those parts of an image where there is something to convolve: square tiles, filtered many at a time.

A layer of a scene is a thin strip or a few patches, seldom the whole frame. The frame is cut into tiles; for a layer,
only the tiles that its kernel can reach are gathered, each with a margin as wide as the kernel reaches, and convolved
by a Fourier transform just large enough that nothing wraps round (overlap-save), or directly where the kernel has few
pixels.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# Presence is known by square blocks of so many pixels; a tile's side is a multiple.
BLOCK = 16
# Up to so many pixels of a kernel, sums of shifted tiles are faster than Fourier transforms.
DIRECT_TAPS = 12
# Values transformed at a time: on the CPU what the caches hold, elsewhere what keeps the device busy.
VALUES_ON_CPU, VALUES_ELSEWHERE = 2**18, 2**26


@dataclass(frozen=True)
class Tiling:
    """A batch of frames in square tiles, numbered image by image and row by row.

    A field is (B, K, H, W), its tiles (tiles, K, side, side), and its canvas the field with zeros around, from which
    windows are taken: a window is a tile with the margin that a kernel needs.

    Args:
        batch: frames.
        height: rows of a frame.
        width: columns of a frame.
        reach: of the largest kernel, pixels from its middle.
    """

    batch: int
    height: int
    width: int
    reach: int

    @property
    def side(self) -> int:
        """Pixels along a tile: the wider the kernels, the larger, or the margins would be most of the work."""
        wished = max(4, math.ceil(4 * self.reach / BLOCK)) * BLOCK
        return min(wished, math.ceil(max(self.height, self.width) / BLOCK) * BLOCK)

    @property
    def rows(self) -> int:
        """Tiles down a frame."""
        return math.ceil(self.height / self.side)

    @property
    def columns(self) -> int:
        """Tiles across a frame."""
        return math.ceil(self.width / self.side)

    @property
    def count(self) -> int:
        """Tiles of all frames."""
        return self.batch * self.rows * self.columns

    def canvas(self, field: Tensor, outside: float = 0) -> Tensor:
        """Put `outside` around a field: the reach before it, and as much after it as the last window needs."""
        after = self.side + fast_size(self.side + 2 * self.reach) + self.reach
        down, right = self.rows * self.side - self.height, self.columns * self.side - self.width
        return functional.pad(field, (self.reach, right + after, self.reach, down + after), value=outside)

    def windows(self, canvas: Tensor, tiles: Tensor, reach: int, size: int) -> Tensor:
        """Copy squares (n, K, size, size) that begin `reach` before each tile."""
        return self._squares(canvas, self.reach - reach, size)[self._places(tiles)]

    def write(self, canvas: Tensor, tiles: Tensor, values: Tensor) -> None:
        """Overwrite tiles (n, K, side, side) of a canvas."""
        self._squares(canvas, self.reach, self.side)[self._places(tiles)] = values

    def join(self, tiles: Tensor) -> Tensor:
        """Lay tiles (tiles, K, side, side) together to a field (B, K, H, W)."""
        laid = tiles.unflatten(0, (self.batch, self.rows, self.columns)).permute(0, 3, 1, 4, 2, 5)
        return laid.flatten(4, 5).flatten(2, 3)[..., : self.height, : self.width]

    def reached(self, blocks: Tensor, reach: int) -> Tensor:
        """Return the numbers of the tiles that lie within `reach` of a block; blocks as :func:`presence` gives one layer."""
        margin, span = math.ceil(reach / BLOCK), self.side // BLOCK
        down, right = self.rows * span - blocks.shape[1], self.columns * span - blocks.shape[2]
        padded = functional.pad(blocks[:, None].float(), (margin, right + margin, margin, down + margin))
        return functional.max_pool2d(padded, span + 2 * margin, stride=span).flatten().nonzero()[:, 0]

    def _squares(self, canvas: Tensor, start: int, size: int) -> Tensor:
        """View a canvas as (B, rows, columns, K, size, size) squares, a tile's side apart."""
        squares = canvas[..., start:, start:].unfold(2, size, self.side).unfold(3, size, self.side)
        return squares[:, :, : self.rows, : self.columns].permute(0, 2, 3, 1, 4, 5)

    def _places(self, tiles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return tiles // (self.rows * self.columns), tiles // self.columns % self.rows, tiles % self.columns


class TileFilter:
    """True convolution of windows with the kernels of several views; all of it in float64.

    Args:
        kernels: (V, n, n) float64 on the CPU, n odd.
        side: of the tiles.
        device: of the windows.
    """

    def __init__(self, kernels: Tensor, side: int, device: torch.device) -> None:
        self.reach, self.side = kernels.shape[-1] // 2, side
        self.views = len(kernels)
        self.direct = kernels.count_nonzero() <= DIRECT_TAPS * self.views
        if self.direct:
            self.size = side + 2 * self.reach
            self.taps = [kernel.nonzero().tolist() for kernel in kernels]
            self.kernels = kernels
        else:
            self.size = fast_size(side + 2 * self.reach)
            self.spectra = torch.fft.rfft2(kernels.to(device), s=(self.size, self.size))

    def apart(self, windows: Tensor) -> Tensor:
        """Convolve every channel with every view's kernel: (n, K, size, size) to (n, V, K, side, side)."""
        if not self.direct:
            return self._inverse(torch.fft.rfft2(windows)[:, None] * self.spectra[:, None])
        result = windows.new_zeros(len(windows), self.views, windows.shape[1], self.side, self.side)
        for view in range(self.views):
            self._add(result[:, view], windows, view)
        return result

    def together(self, windows: Tensor) -> Tensor:
        """Convolve every view with its own kernel and sum: (n, V, K, size, size) to (n, K, side, side)."""
        if not self.direct:
            return self._inverse((torch.fft.rfft2(windows) * self.spectra[:, None]).sum(1))
        result = windows.new_zeros(len(windows), windows.shape[2], self.side, self.side)
        for view in range(self.views):
            self._add(result, windows[:, view], view)
        return result

    def _inverse(self, spectrum: Tensor) -> Tensor:
        whole = torch.fft.irfft2(spectrum, s=(self.size, self.size))
        return whole[..., 2 * self.reach :, 2 * self.reach :][..., : self.side, : self.side]

    def _add(self, result: Tensor, windows: Tensor, view: int) -> None:
        """Add the convolution with one view's kernel, a shifted copy for each of its pixels."""
        for row, column in self.taps[view]:
            down, right = 2 * self.reach - row, 2 * self.reach - column
            shifted = windows[..., down : down + self.side, right : right + self.side]
            result.add_(shifted, alpha=self.kernels[view, row, column].item())


def presence(layer: Tensor, nowhere: int) -> tuple[int, Tensor]:
    """Find which blocks of `BLOCK` x `BLOCK` pixels hold pixels of which layer.

    Args:
        layer: (B, H, W), integers.
        nowhere: marks pixels of no layer; not all are.

    Returns:
        The lowest layer, and (layers, B, rows of blocks, columns of blocks) boolean on the CPU, from the lowest layer
        to the highest.
    """
    batch, height, width = layer.shape
    down, across = math.ceil(height / BLOCK), math.ceil(width / BLOCK)
    row = torch.arange(height, device=layer.device) // BLOCK * across
    column = torch.arange(width, device=layer.device) // BLOCK
    block = torch.arange(batch, device=layer.device)[:, None, None] * (down * across) + row[:, None] + column
    inside = layer != nowhere
    number, block = layer[inside].long(), block[inside]
    lowest, highest = (int(end) for end in number.aminmax())
    held = torch.zeros((highest - lowest + 1) * batch * down * across, dtype=torch.bool, device=layer.device)
    held.index_fill_(0, (number - lowest) * (batch * down * across) + block, True)
    return lowest, held.view(-1, batch, down, across).cpu()


def at_once(tiles: Tensor, values: int) -> tuple[Tensor, ...]:
    """Split the numbers of tiles into parts to work on together.

    Args:
        tiles: their numbers.
        values: float64 values that one tile needs.
    """
    limit = VALUES_ON_CPU if tiles.device.type == "cpu" else VALUES_ELSEWHERE
    return tiles.split(max(1, limit // values))


def fast_size(least: int) -> int:
    """Return the smallest even size, at least `least`, whose only prime factors are 2, 3 and 5."""
    size = least + least % 2
    while True:
        rest = size
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return size
        size += 2
