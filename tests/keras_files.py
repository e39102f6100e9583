"""Keras files as the authors' program wrote them, filled with the weights of the reference outputs, and what to compare."""

import importlib.util
import json

import h5py
import numpy as np
import pytest
import torch

from dualpixel.weights.files import load_into, load_weights


def stored(reference, name):
    """The arrays of one file of outputs, as tensors."""
    with np.load(reference / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays.files}


def to_torch(array):
    """NHWC -> NCHW."""
    return array.permute(0, 3, 1, 2)


def network_from(kind, path):
    """The network of class `kind` that a converted file holds, and the file's metadata."""
    state_dict, metadata = load_weights(path)
    with torch.device("meta"):  # no initialisation: every value comes from the file
        network = kind(**json.loads(metadata["options"]))
    network = network.to_empty(device="cpu").eval()
    load_into(network, state_dict, path, metadata)
    return network, metadata


def activations(network, layers, image):
    """The network's output, and that of each of its convolutions after its activation, by our name of the layer."""
    kept = {}
    hooks = [
        network.get_submodule(name).register_forward_hook(
            lambda _, __, result, name=name: kept.__setitem__(name, result.clone())
        )
        for name in layers
    ]
    with torch.no_grad():
        output = network(image)
    for hook in hooks:
        hook.remove()
    return output, {name: one.sigmoid() if name.endswith("out.conv1x1") else one.relu() for name, one in kept.items()}


def check_corner(found, corner, tolerance):
    """Compare the last rows and columns of an activation with those of the authors' network."""
    wanted = to_torch(corner)
    assert (found[..., -wanted.shape[-2] :, -wanted.shape[-1] :] - wanted).abs().max() < tolerance


@pytest.fixture(scope="session")
def fill(reference):
    """The function that gives a weight its reference values."""
    spec = importlib.util.spec_from_file_location("reference_fill", reference / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.fill


@pytest.fixture(scope="session")
def write_keras():
    """A function that writes layers, (name, [(weight name, array)]), in Keras' layout."""

    def names(items, as_bytes):
        if not items:
            return np.array([], dtype="float64")  # what Keras leaves for layers without weights
        if as_bytes:
            return np.array([item.encode() for item in items])
        return np.array(items, dtype=h5py.string_dtype())

    def write(path, layers, as_bytes=True, whole_model=True):
        with h5py.File(path, "w") as file:
            group = file.create_group("model_weights") if whole_model else file
            group.attrs["layer_names"] = names([layer for layer, _ in layers], as_bytes)
            group.attrs["backend"] = "tensorflow"
            if whole_model:
                file.attrs["model_config"] = "{}"
                file.create_group("optimizer_weights")["unused:0"] = np.zeros(3)
            for layer, weights in layers:
                inner = group.create_group(layer)
                inner.attrs["weight_names"] = names([name for name, _ in weights], as_bytes)
                for name, array in weights:
                    inner[name] = array
        return path

    return write


@pytest.fixture(scope="session")
def keys(reference):
    """The layers of the authors' DPDNet file."""
    return json.loads((reference / "dpdnet.keys.json").read_text())


@pytest.fixture(scope="session")
def write_dpdnet(keys, fill, write_keras):
    """A function that writes DPDNet's file: `suffix=False` counts from `conv2d`, as later versions of Keras do."""
    described = {layer["layer"]: layer["weights"] for layer in keys["layers"]}

    def renamed(name, suffix):
        if suffix or not name.startswith("conv2d_"):
            return name
        layer, slash, weight = name.partition("/")
        number = int(layer.removeprefix("conv2d_")) - 1
        return (f"conv2d_{number}" if number else "conv2d") + slash + weight

    def write(path, seed, suffix=True, in_channels=6, **layout):
        layers = []
        for layer in keys["all_layer_names_in_order"]:
            weights = []
            for weight in described.get(layer, []):
                shape = list(weight["shape"])
                if shape == [3, 3, 6, 64]:
                    shape[2] = in_channels
                array = fill(weight["name"], tuple(shape), seed, layout="keras")
                weights.append((renamed(weight["name"], suffix), array))
            layers.append((renamed(layer, suffix), weights))
        return write_keras(path, layers, **layout)

    return write
