"""Published Keras weights (HDF5), read without Keras."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from dualpixel.errors import DualPixelError

Layers = list[tuple[str, dict[str, np.ndarray]]]


def read_layers(path: Path) -> Layers:
    """Read all layers that have weights, in the order of the file.

    Both layouts are read: a whole model, whose weights stand in the group `model_weights`, and a weights-only file
    without that level. Names may be stored as bytes or as text.

    Args:
        path: the HDF5 file.

    Returns:
        Layer name and its weights by short name (``conv2d_1/kernel:0`` -> ``kernel``), in the order of `layer_names`.
        The names are Keras' counters, which start at ``conv2d`` or ``conv2d_1`` by version: match layers by order.

    Raises:
        DualPixelError: no such file, no HDF5 file, a truncated one, or one that Keras did not write.
    """
    path = Path(path)
    if not path.is_file():
        raise DualPixelError(f"{path}: no such file; give the authors' Keras file (.hdf5 or .h5)")
    try:
        with h5py.File(path, "r") as file:
            group = file.get("model_weights", file)
            layers = [(name, _read_weights(group[name])) for name in _names(group, "layer_names")]
    except (OSError, KeyError, ValueError) as error:
        reason = str(error).strip("'\"")
        raise DualPixelError(
            f"{path}: not a Keras weights file in HDF5, or a truncated one ({reason}); download it again"
        ) from None
    return [(name, weights) for name, weights in layers if weights]


def convolutions_to_torch(layers: Layers, names: Iterable[str], source: Path) -> dict[str, Tensor]:
    """Turn plain convolution layers into a PyTorch state dict, matched by order.

    Kernels go from (height, width, in, out) to (out, in, height, width); both libraries correlate, so nothing is
    flipped.

    Args:
        layers: from `read_layers`.
        names: the PyTorch names of the layers, in the same order.
        source: the file, for the message.

    Returns:
        ``NAME.weight`` and ``NAME.bias``, float32.

    Raises:
        DualPixelError: another number of layers, or a layer that is no 2-D convolution with a bias.
    """
    names = list(names)
    if len(layers) != len(names):
        raise DualPixelError(
            f"{source}: {len(layers)} layers with weights, needed are {len(names)}, {names[0]} to {names[-1]}: "
            "is this another network?"
        )
    state_dict = {}
    for name, (layer, weights) in zip(names, layers, strict=True):
        if not is_convolution(weights):
            found = ", ".join(f"{key} {array.shape}" for key, array in weights.items())
            raise DualPixelError(
                f"{source}: layer {layer} is no convolution with kernel and bias ({found}): is this another network?"
            )
        kernel = weights["kernel"].transpose(3, 2, 0, 1)
        state_dict[f"{name}.weight"] = torch.from_numpy(np.ascontiguousarray(kernel, dtype=np.float32))
        state_dict[f"{name}.bias"] = torch.from_numpy(weights["bias"].astype(np.float32))
    return state_dict


def is_convolution(weights: Mapping[str, np.ndarray]) -> bool:
    """Whether these are a kernel of four dimensions and its bias, and nothing else."""
    return set(weights) == {"kernel", "bias"} and weights["kernel"].ndim == 4


def _read_weights(group: h5py.Group) -> dict[str, np.ndarray]:
    weights: dict[str, np.ndarray] = {}
    for name in _names(group, "weight_names"):
        short = name.rsplit("/", 1)[-1].split(":")[0]
        if short in weights:
            raise ValueError(f"layer {group.name} holds several weights named {short}: a nested model")
        weights[short] = group[name][()]
    return weights


def _names(group: h5py.Group, attribute: str) -> list[str]:
    if attribute not in group.attrs:
        raise ValueError(f"no attribute {attribute}")
    return [name.decode() if isinstance(name, bytes) else str(name) for name in group.attrs[attribute]]
