"""Parts of K3DN with the weights and inputs of the stored outputs, by the names of the authors' state dict."""

import json

import numpy as np
import torch

from dualpixel.weights.convert_k3dn import our_name


def stored(reference):
    """The arrays of K3DN's outputs, as tensors; use `stored(reference)["psf/out_truncate100_forward"]` and so on."""
    with np.load(reference / "k3dn.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files if key != "meta_json"}


def published_shapes(reference):
    """The authors' name -> shape of the Large network with SRP, in the order of their state dict."""
    return json.loads((reference / "k3dn.keys.json").read_text())


def drawn(*shapes):
    """The inputs of one item, drawn in this order from one generator: uniform in -0.5 ... 0.5."""
    random = np.random.Generator(np.random.PCG64(7))
    return tuple(torch.from_numpy(random.random(shape, dtype=np.float32) - np.float32(0.5)) for shape in shapes)


def published_value(fill, key, shape):
    """What the state dict holds under `key` while the outputs are made; `key` is that of the module that was run alone."""
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    channels = shape[0]
    if key.endswith("conv2.p") or key == "p":
        return torch.eye(channels).flip(1)
    if key.endswith("sign_s"):
        return torch.tensor([1.0, -1.0]).repeat(channels)[:channels]
    value = torch.from_numpy(fill(key, tuple(shape), 1))
    if key.endswith("running_var"):
        return 1 + value.abs()
    norm = ".bn." in key or key.endswith(("branch1.1.1.weight", "branch3.1.1.weight"))
    return 1 + value if norm and key.endswith("weight") else value


def fill_part(part, fill, published, prefix="", ours=""):
    """Fill a module.

    Args:
        part: the module of ours, a part of the network or the whole.
        fill: the fixture that gives a weight its reference values.
        published: the authors' names and shapes of the module when it is run alone, name -> shape.
        prefix: what stands before these names in the whole network of the authors, such as "deblur.0.".
        ours: what stands before the names of `part` in our network, such as "psf.0.".
    """
    wanted = part.state_dict()
    filled = {}
    for key, shape in published.items():
        name = our_name(prefix + key)
        assert name.startswith(ours), f"{prefix + key} became {name}"
        name = name.removeprefix(ours)
        filled[name] = published_value(fill, key, shape).reshape(wanted[name].shape)
    part.load_state_dict(filled, strict=True)
    return part.eval()


SMALL = {"base_channels": 8, "residual_blocks": 1, "psf_blocks": 2, "srp_blocks": 1}
"""The reduced networks of the stored outputs."""


def shapes_of(network, reference):
    """The authors' names and shapes of any of our networks, from those of the Large one."""
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    names = [name for name in published_shapes(reference) if our_name(name) in wanted]
    names += [  # the estimator for one image, which the Large network does not have
        name.replace("estimator.features.", "disp.model.").replace(".norm.", ".bn.")
        for name in wanted
        if name.startswith("estimator.features.") and name.split(".")[2].isdigit()
    ]
    shapes = {}
    for name in names:
        shape = wanted[our_name(name)]
        ones = name.startswith("deblur.") and name.endswith(("conv1.weight", "to_w"))
        shapes[name] = (1, shape[0], 1, *shape[1:]) if ones else shape
    assert {our_name(name) for name in shapes} == set(wanted)
    return shapes


def filled(network, reference, fill):
    """The network with the weights of the stored outputs."""
    return fill_part(network, fill, shapes_of(network, reference))
