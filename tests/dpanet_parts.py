"""Parts of DPANet with the weights of the stored outputs, by the names of the authors' checkpoint."""

import json

import numpy as np
import torch

from dualpixel.weights.convert_dpanet import our_name


def stored(reference, name):
    """The arrays of one file, as tensors."""
    with np.load(reference / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def published_shapes(reference):
    """The authors' name -> shape, in the order of their checkpoint."""
    return json.loads((reference / "dpanet.keys.json").read_text())


def fill_part(part, reference, fill, prefix):
    """Fill a part of any width: its weights are named by what stands behind `prefix` in the authors' checkpoint."""
    wanted, filled = part.state_dict(), {}
    for name in published_shapes(reference):
        if name.startswith(prefix):
            (ours,) = [one for one in wanted if our_name(name).endswith(f".{one}")]
            filled[ours] = torch.from_numpy(fill(name.removeprefix(prefix), tuple(wanted[ours].shape), 1))
    part.load_state_dict(filled, strict=True)
    return part.eval()
