"""The published weights of DPDNet and of its single-image variant (Keras 2.2.4, full-model HDF5) -> ours.

Source: https://github.com/Abdullah-Abuolaim/defocus-deblurring-dual-pixel, file
defocus_deblurring_dp_l5_s512_f0.7_d0.4.hdf5.
"""

import json
from pathlib import Path

from torch import Tensor

from dualpixel.errors import DualPixelError
from dualpixel.files import sha256
from dualpixel.weights.keras import convolutions_to_torch, is_convolution, read_layers

LAYERS = (
    *(f"{block}.{layer}" for block in ("enc1", "enc2", "enc3", "enc4", "mid") for layer in ("conv1", "conv2")),
    *(f"{block}.{layer}" for block in ("dec4", "dec3", "dec2", "dec1") for layer in ("up", "conv1", "conv2")),
    "out.conv3",
    "out.conv1x1",
)
"""Our names of the 24 convolutions in the order of the file, which is the order of the forward pass."""

VARIANTS = {6: ("dpdnet", "dual"), 3: ("dpdnet_single", "combined")}
"""Input channels of the first kernel -> recipe and the network's `views`."""


def convert_dpdnet(source: Path, *, rgb: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Convert one published file; whether it is DPDNet or DPDNet-Single is told by its first kernel.

    Args:
        source: the HDF5 file.
        rgb: the authors' network reads and writes BGR. True permutes the inputs of the first layer and the outputs of
            the last, so that it takes and gives RGB; False keeps the order as stored.

    Returns:
        State dict of `dualpixel.nets.dpdnet.DPDNet`, and metadata.

    Raises:
        DualPixelError: the file cannot be read or holds another network.
    """
    layers = read_layers(source)
    kernel = layers[0][1]["kernel"] if layers and is_convolution(layers[0][1]) else None
    if kernel is None or kernel.shape[2] not in VARIANTS:
        found = (
            f"layer {layers[0][0]} with shapes {[array.shape for array in layers[0][1].values()]}"
            if layers
            else "no layer"
        )
        raise DualPixelError(f"{source}: starts with {found}; DPDNet starts with a convolution of 6 or 3 channels")
    recipe, views = VARIANTS[kernel.shape[2]]
    state_dict = convolutions_to_torch(layers, LAYERS, source)
    if rgb:
        order = [2, 1, 0, 5, 4, 3][: kernel.shape[2]]
        state_dict["enc1.conv1.weight"] = state_dict["enc1.conv1.weight"][:, order]
        state_dict["out.conv1x1.weight"] = state_dict["out.conv1x1.weight"].flip(0)
        state_dict["out.conv1x1.bias"] = state_dict["out.conv1x1.bias"].flip(0)
    metadata = {
        "recipe": recipe,
        "net": "DPDNet",
        "options": json.dumps({"views": views, "width": 1.0, "dropout": 0.4, "residual": False}),
        "channel_order": "RGB" if rgb else "BGR",
        "source": Path(source).name,
        "source_sha256": sha256(source),
    }
    return state_dict, metadata
