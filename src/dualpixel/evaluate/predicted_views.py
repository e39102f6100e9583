"""Views that another network predicts, in the place of the two that a test would see."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dualpixel.errors import DualPixelError
from dualpixel.evaluate.quantise import STORED_BITS, truncate
from dualpixel.recipes.loading import load
from dualpixel.recipes.outputs import VIEWS, trained_outputs
from dualpixel.weights.files import load_weights, weights_hash


def check_can_be_replaced(protocol: str, recipe: str, inputs: Sequence[str], fields: Sequence[str], what: str) -> None:
    """Refuse a recipe that takes no views, and data from which none can be predicted.

    Args:
        protocol: its id, for the message.
        recipe: its name, for the message.
        inputs: the fields that the recipe predicts from.
        fields: what the data have.
        what: their name, for the message.

    Raises:
        DualPixelError: it does not take both views, or there is no combined image.
    """
    if not set(VIEWS) <= set(inputs):
        raise DualPixelError(
            f"protocol {protocol} replaces the left and the right view, {recipe} takes {', '.join(inputs)}: "
            "test a recipe that takes both views, such as dpdnet, or choose another --protocol"
        )
    if "combined" not in fields:
        raise DualPixelError(
            f"protocol {protocol} predicts views from the combined image; {what} has none (it has "
            f"{', '.join(fields)}): choose another --protocol"
        )


class PredictedViews:
    """Replaces the left and the right view of batches by those predicted from their combined image.

    The network sees the combined image alone, runs in eval mode, without gradients and in full precision. What it predicts is
    truncated to 16 bits, since the authors of MDP wrote views as truncated 16-bit files and read these again.

    Source: Abuolaim, Afifi and Brown, WACV 2022, section 4.4 and table 2.

    Args:
        weights: of the network, .safetensors or .ckpt; recipe and options are those that the file names.

    Attributes:
        origin: recipe, hash of the weights, and file, as they stand in a result.

    Raises:
        DualPixelError: no weights, weights that do not name their recipe, or a recipe that does not predict views from the
            combined image alone.
    """

    def __init__(self, weights: Path) -> None:
        said = f"--scores.views_from {weights}"
        metadata = load_weights(weights)[1]
        name = metadata.get("recipe")
        if name is None:
            raise DualPixelError(f"{said}: the file does not say which recipe it is for; give one that we wrote")
        self._recipe = load(name, weights)
        outputs = trained_outputs(self._recipe)
        if not set(VIEWS) <= set(outputs) or tuple(self._recipe.inputs) != ("combined",):
            raise DualPixelError(
                f"{said}: recipe {name} predicts {', '.join(outputs)} from {', '.join(self._recipe.inputs)}; a network is needed "
                "that predicts left and right from combined, such as MDP"
            )
        self.origin = {
            "recipe": name,
            "weights_sha256": weights_hash(self._recipe.net.state_dict()),
            "source": str(weights),
        }

    def to(self, device: torch.device) -> None:
        """Move the network."""
        self._recipe.to(device)

    @torch.no_grad()
    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return a batch with predicted views; all else is the same.

        Args:
            batch: with ``combined`` (B, 3, H, W) in [0, 1], on the device of the network.
        """
        prediction = self._recipe({"combined": batch["combined"]})
        return {**batch, **{view: truncate(prediction[view].float(), STORED_BITS) for view in VIEWS}}
