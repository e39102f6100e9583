"""The published weights of MDP after either training step (Keras 2.4.3, full-model HDF5) -> ours.

Source: https://github.com/Abdullah-Abuolaim/multi-task-defocus-deblurring-dual-pixel-nimat, files
mdp_phase_1_wacv.hdf5 and mdp_phase_2_wacv.hdf5. Both hold the same 49 layers: which step a file comes from is told by nothing
in it, so that there is one function for each, by the name of the recipe.
"""

import json
import re
from pathlib import Path

from torch import Tensor

from dualpixel.errors import DualPixelError
from dualpixel.files import sha256
from dualpixel.weights.keras import Layers, convolutions_to_torch, read_layers

ENCODER = tuple(f"{name}.{layer}" for name in ("enc1", "enc2", "enc3") for layer in ("conv1", "conv2"))
EARLY = ("mid.conv1", "dec4.up", "dec4.conv1", "dec3.up", "dec3.conv1", "dec3.conv2", "dec2.up")
LATE = ("dec2.conv1", "dec2.conv2", "dec1.up", "dec1.conv1", "dec1.conv2", "out.conv3", "out.conv1x1")
BRANCHES = tuple(f"decoders.branches.{name}" for name in ("left", "right", "sharp"))
LAYERS = (
    *ENCODER,
    "enc4.conv1",
    *(f"{branch}.{layer}" for part in (EARLY, LATE) for branch in BRANCHES for layer in part),
)
"""Our names of the 49 convolutions in the order in which the authors' code makes them: that of the numbers in their names."""


def convert_mdp(source: Path, *, rgb: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Convert the published file of the second training step, views and sharp image.

    Args:
        source: the HDF5 file.
        rgb: the authors' network reads and writes BGR. True permutes the inputs of the first layer and the outputs of
            the three last, so that it takes and gives RGB; False keeps the order as stored.

    Returns:
        State dict of `dualpixel.nets.mdp.MDP`, and metadata.

    Raises:
        DualPixelError: the file cannot be read or holds another network.
    """
    return _convert(source, rgb, "mdp")


def convert_mdp_views(source: Path, *, rgb: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Convert the published file of the first training step, whose decoder of the sharp image is untrained.

    See `convert_mdp`.
    """
    return _convert(source, rgb, "mdp_views")


def _convert(source: Path, rgb: bool, recipe: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    state_dict = convolutions_to_torch(_in_order_of_creation(read_layers(source), source), LAYERS, source)
    if rgb:
        state_dict["enc1.conv1.weight"] = state_dict["enc1.conv1.weight"].flip(1)
        for branch in BRANCHES:
            for kind in ("weight", "bias"):
                name = f"{branch}.out.conv1x1.{kind}"
                state_dict[name] = state_dict[name].flip(0)
    options = {"width": 1.0, "residual": False, "outputs": "all", "stitching": "middle", "checkpointing": False}
    metadata = {
        "recipe": recipe,
        "net": "MDP",
        "options": json.dumps(options),
        "channel_order": "RGB" if rgb else "BGR",
        "source": Path(source).name,
        "source_sha256": sha256(source),
    }
    return state_dict, metadata


def _in_order_of_creation(layers: Layers, source: Path) -> Layers:
    """Sort by Keras' counter, ``conv2d`` being number 0: a file goes by depth, where the layers of the decoders take turns."""
    numbered = {}
    for layer, weights in layers:
        name = re.fullmatch(r"conv2d(?:_(\d+))?", layer)
        if name is None:
            raise DualPixelError(
                f"{source}: layer {layer} with weights; MDP has convolutions conv2d, conv2d_1 to conv2d_48 and no other: "
                "is this another network?"
            )
        numbered[int(name[1] or 0)] = (layer, weights)
    if numbered and max(numbered) - min(numbered) + 1 != len(layers):
        raise DualPixelError(
            f"{source}: {len(layers)} convolutions numbered {min(numbered)} to {max(numbered)}, needed are {len(LAYERS)} "
            "without a gap, since their numbers alone tell the decoders apart: is this another network?"
        )
    return [numbered[number] for number in sorted(numbered)]
