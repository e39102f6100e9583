import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from keras_files import activations, check_corner, network_from, stored, to_torch

from dualpixel import weights
from dualpixel.errors import DualPixelError
from dualpixel.nets.dpdnet import DPDNet
from dualpixel.weights.convert_dpdnet import LAYERS, convert_dpdnet
from dualpixel.weights.files import load_weights

CASES = {
    "dpdnet": {"as_bytes": True, "whole_model": True, "suffix": True},
    "dpdnet_b": {"as_bytes": False, "whole_model": False, "suffix": False},
}
TOLERANCE = 2e-6


@pytest.fixture(scope="module")
def folder():
    """A folder that is removed at the end: pytest would keep these large files of the last three runs."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture(scope="module")
def sources(folder, reference, write_dpdnet):
    return {
        name: write_dpdnet(folder / f"{name}.hdf5", int(np.load(reference / f"{name}.npz")["seed"]), **layout)
        for name, layout in CASES.items()
    }


@pytest.fixture(scope="module")
def published(folder, sources):
    out = folder / "dpdnet.safetensors"
    returned = weights.convert("dpdnet", [sources["dpdnet"]], out, rgb=False)
    network, metadata = network_from(DPDNet, out)
    assert metadata == returned
    return network, metadata


def check_against(network, arrays, keys):
    output, layers = activations(network, LAYERS, to_torch(arrays["input"]))
    assert (output - to_torch(arrays["output"])).abs().max() < TOLERANCE
    assert {layer["role"] for layer in keys["layers"]} == set(layers)
    for layer in keys["layers"]:
        check_corner(layers[layer["role"]], arrays[f"corner/{layer['layer']}"], TOLERANCE)


def test_every_layer_gives_what_the_authors_network_gives(published, reference, keys):
    check_against(published[0], stored(reference, "dpdnet"), keys)


def test_other_layout_and_livelier_weights(folder, sources, reference, keys):
    out = folder / "b.safetensors"
    weights.convert("dpdnet", [sources["dpdnet_b"]], out, rgb=False)
    check_against(network_from(DPDNet, out)[0], stored(reference, "dpdnet_b"), keys)


def test_names_of_layers_are_those_of_the_roles(keys):
    assert list(LAYERS) == [layer["role"] for layer in keys["layers"]]


def test_metadata_tells_all(published, sources):
    metadata = published[1]
    assert json.loads(metadata["options"]) == published[0].options
    assert metadata["recipe"] == "dpdnet"
    assert metadata["net"] == "DPDNet"
    assert metadata["channel_order"] == "BGR"
    assert metadata["source"] == "dpdnet.hdf5"
    assert metadata["source_sha256"] == hashlib.sha256(sources["dpdnet"].read_bytes()).hexdigest()


def test_rgb_weights_give_the_same_picture_from_rgb(folder, sources, reference):
    out = folder / "rgb.safetensors"
    weights.convert("dpdnet", [sources["dpdnet"]], out)
    network, metadata = network_from(DPDNet, out)
    assert metadata["channel_order"] == "RGB"
    arrays = stored(reference, "dpdnet")
    bgr = to_torch(arrays["input"])
    with torch.no_grad():
        output = network(torch.cat((bgr[:, :3].flip(1), bgr[:, 3:].flip(1)), dim=1))
    assert (output.flip(1) - to_torch(arrays["output"])).abs().max() < TOLERANCE


def test_single_image_variant_is_told_by_its_first_kernel(folder, write_dpdnet, fill):
    source = write_dpdnet(folder / "single.hdf5", 1, in_channels=3)
    out = folder / "single.safetensors"
    with pytest.raises(
        DualPixelError, match="holds weights of dpdnet_single, not of dpdnet: use convert dpdnet_single"
    ):
        weights.convert("dpdnet", [source], out)
    assert not out.exists()
    metadata = weights.convert("dpdnet_single", [source], out)
    assert json.loads(metadata["options"])["views"] == "combined"
    state_dict, _ = load_weights(out)
    kernel = fill("conv2d_1/kernel:0", (3, 3, 3, 64), 1, layout="keras")
    np.testing.assert_array_equal(state_dict["enc1.conv1.weight"][:, 0], kernel[:, :, 2].transpose(2, 0, 1))
    assert sum(tensor.numel() for tensor in state_dict.values()) == 31_033_423


def test_other_networks_are_refused_and_nothing_is_written(folder, tmp_path, write_keras, keys):
    out = tmp_path / "out" / "dpdnet.safetensors"
    grey = write_keras(
        tmp_path / "grey.hdf5", [("c", [("c/kernel:0", np.ones((3, 3, 1, 64))), ("c/bias:0", np.ones(64))])]
    )
    with pytest.raises(DualPixelError, match="DPDNet starts with a convolution of 6 or 3 channels"):
        weights.convert("dpdnet", [grey], out)
    empty = write_keras(tmp_path / "empty.hdf5", [("input_1", [])])
    with pytest.raises(DualPixelError, match="no layer"):
        weights.convert("dpdnet", [empty], out)
    half = [
        (
            layer["layer"],
            [
                (one["name"], np.zeros([n // 2 if n >= 64 else n for n in one["shape"]], dtype=np.float32))
                for one in layer["weights"]
            ],
        )
        for layer in keys["layers"]
    ]
    half_width = write_keras(folder / "half.hdf5", half)
    with pytest.raises(DualPixelError, match=r"enc1.conv1.weight \(32, 6, 3, 3\) \(the network has \(64, 6, 3, 3\)\)"):
        weights.convert("dpdnet", [half_width], out)
    with pytest.raises(DualPixelError, match="23 layers with weights, needed are 24"):
        convert_dpdnet(write_keras(folder / "short.hdf5", half[:-1]))
    assert not out.parent.exists()


def test_mistakes_in_the_call_are_named(tmp_path):
    out = tmp_path / "out.safetensors"
    with pytest.raises(DualPixelError, match="did you mean 'dpdnet'"):
        weights.convert("dpdnte", [tmp_path], out)
    with pytest.raises(DualPixelError, match=r"takes 1 file\(s\) \(source\), found 2"):
        weights.convert("dpdnet", [tmp_path, tmp_path], out)
    with pytest.raises(DualPixelError, match="no option 'rbg': did you mean 'rgb'"):
        weights.convert("dpdnet", [tmp_path], out, rbg=True)
