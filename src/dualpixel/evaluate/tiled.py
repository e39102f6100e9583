"""Images too large for a network at once: the recipe sees them tile by tile, as some protocols say."""

from collections.abc import Mapping
from types import MethodType
from typing import Any

import torch
from torch import Tensor

from dualpixel.blocks.padding import crop_to, pad_to_multiple
from dualpixel.blocks.tiling import cut_tiles, run_tiled
from dualpixel.evaluate.protocol_parts import TILES_OF
from dualpixel.recipes.base import Recipe


class TiledForward:
    """Lets every call of a recipe run over its batch tile by tile; memory for the network is that of one tile with its surroundings.

    The batch is mirrored at the bottom and the right to multiples of `TILES_OF` first, as recipes do by themselves, and its parts are cut
    at such multiples. What a recipe predicts besides images and maps of the size of the batch is left out: it belongs to a tile. Copies of
    the recipe run so as well, so what is counted or timed is all tiles with their overlap.

    Args:
        recipe: called with a batch.
        tile: pixels along the part of a tile that is kept.
        overlap: pixels around it that the network sees.
    """

    def __init__(self, recipe: Recipe, tile: int, overlap: int) -> None:
        self._recipe = recipe
        recipe.forward = MethodType(_tiled(tile, overlap), recipe)

    def remove(self) -> None:
        """Leave the recipe as it was."""
        del self._recipe.forward


def _tiled(tile: int, overlap: int) -> Any:
    def forward(recipe: Recipe, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        seen = {
            name: value
            for name, value in batch.items()
            if isinstance(value, Tensor) and value.ndim == 4 and (name in recipe.inputs or name == "combined")
        }
        height, width = next(iter(seen.values())).shape[-2:]
        # one tensor of all that is seen, since tiles are cut of one
        stacked = pad_to_multiple(torch.cat(list(seen.values()), dim=1), TILES_OF)
        channels = [value.shape[1] for value in seen.values()]

        def network(window: Tensor) -> dict[str, Tensor]:
            found = type(recipe).forward(recipe, dict(zip(seen, window.split(channels, dim=1), strict=True)))
            return {
                name: one
                for name, one in found.items()
                if isinstance(one, Tensor) and one.shape[-2:] == window.shape[-2:]
            }

        whole = run_tiled(network, stacked, cut_tiles(*stacked.shape[-2:], tile, overlap, TILES_OF))
        return {name: crop_to(one, height, width) for name, one in whole.items()}

    return forward
