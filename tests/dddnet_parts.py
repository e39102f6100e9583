"""DDDNet's published files with the weights and inputs of the stored outputs, by the names of the authors' state dicts."""

import json

import numpy as np
import torch

WRAPPER = "module."
NORMS = (".bn.", ".branch1.1.1.", ".branch3.1.1.")


def stored(reference):
    """The arrays of DDDNet's outputs, as tensors."""
    with np.load(reference / "dddnet.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def published_shapes(reference):
    """ "Estd" and "Esti": the authors' name -> shape, in the order of their state dicts, with the wrapper's prefix."""
    return json.loads((reference / "dddnet.keys.json").read_text())


def published_value(fill, key, shape, file):
    """What the state dict of a file holds under `key` while the outputs are made."""
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    value = torch.from_numpy(fill(key.removeprefix(WRAPPER), tuple(shape), 1))
    if key.endswith("running_var"):
        return 1 + value.abs()
    if key.endswith("weight") and any(norm in key for norm in NORMS):
        return 1 + value
    if file == "Esti" and len(shape) > 1:
        return 0.6 * value
    return 40 * value if key.endswith("matching.end.1.conv.weight") else value


def published(reference, fill):
    """The two state dicts."""
    return {
        file: {name: published_value(fill, name, shape, file) for name, shape in shapes.items()}
        for file, shapes in published_shapes(reference).items()
    }


def write_published(folder, reference, fill):
    """Write Estd.pkl and Esti.pkl as the authors' program writes them; their paths."""
    paths = []
    for file, state_dict in published(reference, fill).items():
        paths.append(folder / f"{file}.pkl")
        torch.save(state_dict, paths[-1])
    return paths
