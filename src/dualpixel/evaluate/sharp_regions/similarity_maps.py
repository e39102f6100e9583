"""What SRP blocks find alike before and after deblurring: recorded by hooks, brought to the size of the image."""

from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from dualpixel.blocks.padding import next_multiples
from dualpixel.blocks.sharp_region import SharpRegionPreservation


class SimilarityRecorder:
    """Listens to the local similarity in every `SharpRegionPreservation` of a network while it runs.

    Kept is its mean over the window, one number a place. Of a block that is called more than once, the first call counts:
    it belongs to the prediction, later ones to a loss.

    Source: Yang et al., "K3DN", CVPR 2023, figure 4, which shows the similarity O_B of equation 11; how its window was
    reduced to one brightness is not said there.

    Args:
        net: any network; one without such blocks has no maps.
    """

    def __init__(self, net: nn.Module) -> None:
        self._net = net
        self._blocks = {name: one for name, one in net.named_modules() if isinstance(one, SharpRegionPreservation)}
        self._maps: dict[str, Tensor] = {}
        self._hooks: list[RemovableHandle] = []

    def attach(self) -> None:
        """Forget what was recorded, and begin to listen."""
        self.remove()
        self._maps.clear()
        for name, block in self._blocks.items():
            self._hooks.append(block.similarity.register_forward_hook(partial(_note, self._maps, name)))

    def remove(self) -> None:
        """Stop listening."""
        while self._hooks:
            self._hooks.pop().remove()

    def maps(self, row: int, height: int, width: int) -> dict[str, Tensor]:
        """Return what was recorded for one image of the batch.

        Args:
            row: which image.
            height: of that image, pixels.
            width: the same.

        Returns:
            Name of the block -> (height, width) float32 on the CPU, in the order of the network's modules.
        """
        size = (height, width)
        if hasattr(self._net, "padded_size"):
            padded = self._net.padded_size(*size)
        else:
            padded = next_multiples(*size, getattr(self._net, "multiple", 1))
        return {
            name: over_image(self._maps[name][row].cpu(), size, padded) for name in self._blocks if name in self._maps
        }


def over_image(similarity: Tensor, size: tuple[int, int], padded: tuple[int, int]) -> Tensor:
    """Lay a map over the image it belongs to.

    Args:
        similarity: (h, w), floating.
        size: height and width of the image.
        padded: what it becomes by rows and columns that are added at the bottom and the right.

    Returns:
        Of `size`, enlarged bilinearly. Where the map is the padded image reduced by a whole number, the padding's share is cut
        off; otherwise the network saw the image resized, and the map is the whole of it.
    """
    scales = {divmod(whole, part) for whole, part in zip(padded, similarity.shape, strict=True)}
    reduced = len(scales) == 1 and next(iter(scales))[1] == 0
    enlarged = functional.interpolate(similarity[None, None], padded if reduced else size, mode="bilinear")
    return enlarged[0, 0, : size[0], : size[1]]


def _note(maps: dict[str, Tensor], name: str, module: nn.Module, inputs: Any, similarity: Tensor) -> None:
    if name not in maps:
        maps[name] = similarity.detach().float().mean(1)
