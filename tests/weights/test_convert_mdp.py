import hashlib
import json
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from keras_files import activations, check_corner, network_from, stored, to_torch

from dualpixel import weights
from dualpixel.errors import DualPixelError
from dualpixel.nets.mdp import MDP
from dualpixel.weights.convert_mdp import LAYERS, convert_mdp

BRANCHES = {"l": "left", "r": "right", "s": "sharp"}
CASES = {
    "mdp": {"as_bytes": True, "whole_model": True},
    "mdp_b": {"as_bytes": False, "whole_model": False, "first": 49},
}
TOLERANCE = 2e-6


def our_layer(role):
    """What we call a layer: ``l.mid.conv1`` -> ``decoders.branches.left.mid.conv1``."""
    branch, rest = role.split(".", 1)
    return f"decoders.branches.{BRANCHES[branch]}.{rest}" if branch in BRANCHES else role


def renumbered(name, first):
    """The name as Keras makes it where `first` other convolutions were made before in the same program."""
    found = re.match(r"conv2d(?:_(\d+))?(?=/|$)", name)
    number = first + int(found[1] or 0)
    return (f"conv2d_{number}" if number else "conv2d") + name[found.end() :]


def to_keras(images):
    """The three images as the authors' network gives them: (B, 9, H, W)."""
    return torch.cat([images[name] for name in ("left", "right", "sharp")], dim=1)


@pytest.fixture(scope="module")
def mdp_keys(reference):
    return json.loads((reference / "mdp.keys.json").read_text())


@pytest.fixture(scope="module")
def write_mdp(mdp_keys, fill, write_keras):
    """A function that writes the authors' file; `first` is the number of its first convolution."""
    described = {layer["layer"]: layer["weights"] for layer in mdp_keys["layers"]}

    def write(path, seed, first=0, **layout):
        layers = [
            (
                renumbered(layer, first) if layer in described else layer,
                [
                    (renumbered(one["name"], first), fill(one["name"], tuple(one["shape"]), seed, layout="keras"))
                    for one in described.get(layer, [])
                ],
            )
            for layer in mdp_keys["all_layer_names_in_order"]
        ]
        return write_keras(path, layers, **layout)

    return write


@pytest.fixture(scope="module")
def folder():
    """A folder that is removed at the end: pytest would keep these large files of the last three runs."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture(scope="module")
def source(folder, write_mdp):
    return write_mdp(folder / "mdp_phase_2_wacv.hdf5", 1, **CASES["mdp"])


@pytest.fixture(scope="module")
def published(folder, source):
    out = folder / "mdp.safetensors"
    returned = weights.convert("mdp", [source], out, rgb=False)
    network, metadata = network_from(MDP, out)
    assert metadata == returned
    return network, metadata


def check_against(network, arrays, keys):
    images, layers = activations(network, LAYERS, to_torch(arrays["input"]))
    assert (to_keras(images) - to_torch(arrays["output"])).abs().max() < TOLERANCE
    assert len(keys["layers"]) == len(layers) == 49
    for layer in keys["layers"]:
        check_corner(layers[our_layer(layer["role"])], arrays[f"corner/{layer['layer']}"], TOLERANCE)


def test_every_layer_gives_what_the_authors_network_gives(published, reference, mdp_keys):
    check_against(published[0], stored(reference, "mdp"), mdp_keys)


def test_other_layout_other_numbers_and_livelier_weights(folder, write_mdp, reference, mdp_keys):
    arrays = stored(reference, "mdp_b")
    source = write_mdp(folder / "b.hdf5", int(arrays["seed"]), **CASES["mdp_b"])
    out = folder / "b.safetensors"
    weights.convert("mdp", [source], out, rgb=False)
    check_against(network_from(MDP, out)[0], arrays, mdp_keys)


def test_names_of_layers_are_those_of_the_roles_in_the_order_of_creation(mdp_keys):
    created = sorted(mdp_keys["layers"], key=lambda layer: layer["creation_index"])
    assert list(LAYERS) == [our_layer(layer["role"]) for layer in created]
    assert created != mdp_keys["layers"]


def test_metadata_tells_all(published, source):
    network, metadata = published
    assert json.loads(metadata["options"]) == network.options == MDP(width=0.01).options | {"width": 1.0}
    assert metadata["recipe"] == "mdp"
    assert metadata["net"] == "MDP"
    assert metadata["channel_order"] == "BGR"
    assert metadata["source"] == "mdp_phase_2_wacv.hdf5"
    assert metadata["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()


def test_rgb_weights_of_the_first_step_give_the_same_pictures_from_rgb(folder, source, reference):
    out = folder / "rgb.safetensors"
    weights.convert("mdp_views", [source], out)
    network, metadata = network_from(MDP, out)
    assert metadata["channel_order"] == "RGB"
    assert metadata["recipe"] == "mdp_views"
    arrays = stored(reference, "mdp")
    with torch.no_grad():
        images = network(to_torch(arrays["input"]).flip(1))
    found = to_keras({name: image.flip(1) for name, image in images.items()})
    assert (found - to_torch(arrays["output"])).abs().max() < TOLERANCE


def tiny(mdp_keys, first=0):
    """Layers of the right names, with little in them."""
    return [
        (
            renumbered(layer["layer"], first),
            [
                (one["name"], np.zeros([n // 64 if n >= 64 else n for n in one["shape"]], dtype=np.float32))
                for one in layer["weights"]
            ],
        )
        for layer in mdp_keys["layers"]
    ]


def test_other_networks_are_refused_and_nothing_is_written(tmp_path, write_keras, write_dpdnet, mdp_keys):
    out = tmp_path / "out" / "mdp.safetensors"
    layers = tiny(mdp_keys)
    narrow = write_keras(tmp_path / "narrow.hdf5", layers)
    with pytest.raises(DualPixelError, match=r"enc1.conv1.weight \(1, 3, 3, 3\) \(the network has \(64, 3, 3, 3\)\)"):
        weights.convert("mdp", [narrow], out)
    dense = write_keras(tmp_path / "dense.hdf5", [*layers[:-1], ("dense_3", layers[-1][1])])
    with pytest.raises(
        DualPixelError, match=r"dense.hdf5: layer dense_3 .* conv2d, conv2d_1 to conv2d_48 and no other"
    ):
        weights.convert("mdp_views", [dense], out)
    gap = write_keras(tmp_path / "gap.hdf5", [*layers[:-1], ("conv2d_50", layers[-1][1])])
    with pytest.raises(DualPixelError, match="49 convolutions numbered 0 to 50, needed are 49 without a gap"):
        weights.convert("mdp", [gap], out)
    with pytest.raises(DualPixelError, match="48 layers with weights, needed are 49"):
        convert_mdp(write_keras(tmp_path / "short.hdf5", layers[:-1]))
    with pytest.raises(DualPixelError, match="0 layers with weights, needed are 49, enc1.conv1 to decoders"):
        convert_mdp(write_keras(tmp_path / "empty.hdf5", [("input_1", [])]))
    grey = [
        (name, [(one, array[..., :1, :] if array.shape[-2:] == (3, 1) else array) for one, array in held])
        for name, held in layers
    ]
    with pytest.raises(DualPixelError, match=r"enc1.conv1.weight \(1, 1, 3, 3\)"):
        weights.convert("mdp", [write_keras(tmp_path / "grey.hdf5", grey)], out)
    assert not out.parent.exists()


def test_a_file_of_dpdnet_is_refused(keras_file, tmp_path):
    with pytest.raises(DualPixelError, match="24 layers with weights, needed are 49"):
        weights.convert("mdp", [keras_file], tmp_path / "out.safetensors")


def test_layers_that_take_turns_in_the_file_are_sorted_by_their_numbers(tmp_path, write_keras, mdp_keys):
    layers = tiny(mdp_keys)
    for number, (_, held) in enumerate(layers):
        for _, array in held:
            array += number
    source = write_keras(tmp_path / "numbered.hdf5", layers)
    state_dict, _ = convert_mdp(source)
    order = {layer["layer"]: place for place, layer in enumerate(mdp_keys["layers"])}
    for layer in mdp_keys["layers"]:
        assert (state_dict[f"{our_layer(layer['role'])}.weight"] == order[layer["layer"]]).all()
    assert list(order)[7:10] == ["conv2d_7", "conv2d_14", "conv2d_21"]
