"""Images too large for a network at once: run tile by tile, each with enough around it that the result is the same."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class Tile(NamedTuple):
    """A rectangle of an image, and the larger one that a network must see to compute it; (rows, columns) each."""

    core: tuple[slice, slice]
    """What is kept. The cores of all tiles cover the image once."""
    window: tuple[slice, slice]
    """What is seen: the core and its surroundings, as far as the image goes."""


def cut_tiles(height: int, width: int, core: int, halo: int, multiple: int) -> list[Tile]:
    """Cut an image into tiles, row by row.

    All begin at multiples of `multiple`, so that a network that pools sees the same squares of pixels in a tile as in the
    whole image. A side that fits into one window is not cut.

    Args:
        height: rows of the image, divisible by `multiple`.
        width: its columns, likewise.
        core: side of the cores; those at the bottom and at the right may be smaller. Rounded up to `multiple`.
        halo: how far from an output pixel the network looks, pixels. Rounded up to `multiple`.
        multiple: what the network needs sizes to be divisible by: the product of its strides.

    Raises:
        ValueError: a size below 1, a negative halo, or an image that `multiple` does not divide.
    """
    if min(height, width, core, multiple) < 1 or halo < 0:
        raise ValueError(f"image {height} x {width}, core {core}, halo {halo}, multiple {multiple}: too small")
    if height % multiple or width % multiple:
        raise ValueError(f"an image of {height} x {width} pixels is not divisible by {multiple}")
    core, halo = (-(-one // multiple) * multiple for one in (core, halo))
    return [
        Tile((row, column), (row_window, column_window))
        for row, row_window in _cut(height, core, halo)
        for column, column_window in _cut(width, core, halo)
    ]


def _cut(size: int, core: int, halo: int) -> list[tuple[slice, slice]]:
    if size <= core + 2 * halo:
        return [(slice(0, size), slice(0, size))]
    ends = [(start, min(start + core, size)) for start in range(0, size, core)]
    return [(slice(start, end), slice(max(start - halo, 0), min(end + halo, size))) for start, end in ends]


def run_tiled(
    network: Callable[[Tensor], Mapping[str, Tensor]], image: Tensor, tiles: Iterable[Tile]
) -> dict[str, Tensor]:
    """Run a network on one tile after the other, and lay the results together.

    For a network of convolutions, pooling and nearest upsampling alone the result is that of the whole image, but for the
    rounding of convolutions of another size, if the halo of the tiles reaches as far as the network looks. Memory for the
    network is that of one window. Whatever looks at the whole image (attention, mean features) makes the result another.

    Args:
        network: gives tensors (..., H', W') for a window (..., H', W').
        image: (..., H, W), any type of number; windows are handed on in this type, as views.
        tiles: from `cut_tiles`; those that are not needed may be left out, and stay zero.

    Returns:
        What the network gives, (..., H, W) each, of the type and on the device of the network's results.

    Raises:
        ValueError: there are no tiles, or a result is not as large as its window.
    """
    whole: dict[str, Tensor] = {}
    for tile in tiles:
        window = image[(..., *tile.window)]
        inner = [slice(core.start - seen.start, core.stop - seen.start) for core, seen in zip(*tile, strict=True)]
        for name, result in network(window).items():
            if result.shape[-2:] != window.shape[-2:]:
                raise ValueError(f"{name}: {tuple(result.shape)} for a window of {tuple(window.shape)}")
            if name not in whole:
                whole[name] = torch.zeros(
                    *result.shape[:-2], *image.shape[-2:], dtype=result.dtype, device=result.device
                )
            whole[name][(..., *tile.core)] = result[(..., *inner)]
    if not whole:
        raise ValueError("no tiles, or a network without results")
    return whole
