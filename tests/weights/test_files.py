import hashlib
import struct
from pathlib import Path

import pytest
import torch
from torch import nn

from dualpixel.errors import DualPixelError
from dualpixel.weights.files import METADATA, load_into, load_weights, save_weights, weights_hash

METADATA_OF_TOY = {"recipe": "toy", "net": "Toy", "options": '{"width": 2}'}


def toy(width=2):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.Conv2d(width, 3, 1))


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_what_is_saved_is_loaded(tmp_path):
    state_dict = toy().to(memory_format=torch.channels_last).state_dict()
    state_dict["half"] = torch.rand(4, 4).to(torch.bfloat16).T
    state_dict["tied"] = state_dict["0.bias"]
    save_weights(tmp_path / "new" / "w.safetensors", state_dict, METADATA_OF_TOY)
    loaded, metadata = load_weights(tmp_path / "new" / "w.safetensors")
    assert same(loaded, state_dict)
    assert loaded["half"].dtype == torch.bfloat16
    assert metadata == METADATA_OF_TOY


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, toy().state_dict(), METADATA_OF_TOY)
    before = path.read_bytes()
    with pytest.raises(Exception, match="str"):
        save_weights(path, toy().state_dict(), {"recipe": 3})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_checkpoints_give_the_networks_weights(tmp_path):
    network = toy()
    state_dict = {f"net.{name}": tensor for name, tensor in network.state_dict().items()}
    checkpoint = {
        "state_dict": {**state_dict, "perceptual.weight": torch.ones(2)},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}}],
        "epoch": 3,
        METADATA: METADATA_OF_TOY,
    }
    torch.save(checkpoint, tmp_path / "last.ckpt")
    loaded, metadata = load_weights(tmp_path / "last.ckpt")
    assert same(loaded, network.state_dict())
    assert metadata == METADATA_OF_TOY

    torch.save(network.state_dict(), tmp_path / "plain.pth")
    loaded, metadata = load_weights(tmp_path / "plain.pth")
    assert same(loaded, network.state_dict())
    assert metadata == {}


class Harmful:
    def __reduce__(self):
        return (Path.touch, (Path("harm"),))


def test_nothing_in_a_checkpoint_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Harmful()}, tmp_path / "last.ckpt")
    with pytest.raises(DualPixelError, match=r"last.ckpt: holds Python objects .*(pathlib.*touch|getattr)"):
        load_weights(tmp_path / "last.ckpt")
    assert not Path("harm").exists()


@pytest.mark.parametrize("kind", ["safetensors", "ckpt"])
@pytest.mark.parametrize("kept", [0.99, 0.5, 0.1])
def test_truncated_files_are_refused(tmp_path, kind, kept):
    path = tmp_path / f"w.{kind}"
    if kind == "ckpt":
        torch.save({"state_dict": toy().state_dict()}, path)
    else:
        save_weights(path, toy(40).state_dict(), METADATA_OF_TOY)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(DualPixelError, match="truncated"):
        load_weights(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a weights file"),
        (b"<html><body>moved</body></html>", "not a weights file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(20), "dualpixel convert RECIPE"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(DualPixelError, match=message):
        load_weights(path)


def test_files_without_weights_are_refused(tmp_path):
    with pytest.raises(DualPixelError, match="no such file"):
        load_weights(tmp_path)
    for content in ([torch.ones(2)], {"epoch": 3}, {"state_dict": {}}):
        torch.save(content, tmp_path / "w.ckpt")
        with pytest.raises(DualPixelError, match="without a state dict"):
            load_weights(tmp_path / "w.ckpt")


def test_hash_depends_on_the_weights_alone():
    state_dict = toy().state_dict()
    digest = weights_hash(state_dict)
    assert digest == weights_hash(dict(reversed(state_dict.items())))
    assert digest == weights_hash(toy().to(memory_format=torch.channels_last).state_dict())
    by_hand = hashlib.sha256(b"a\0float32\0()\0" + struct.pack("<f", 1.0))
    assert weights_hash({"a": torch.ones(())}) == by_hand.hexdigest()
    changed = {name: tensor.clone() for name, tensor in state_dict.items()}
    changed["0.weight"].view(-1)[5] = torch.nextafter(changed["0.weight"].view(-1)[5], torch.tensor(9.0))
    assert weights_hash(changed) != digest
    others = [
        {"a": torch.zeros(2, 3)},
        {"a": torch.zeros(3, 2)},
        {"b": torch.zeros(2, 3)},
        {"a": torch.zeros(2, 3, dtype=torch.int32)},
        {"a": torch.zeros(2, 3, dtype=torch.bfloat16)},
    ]
    assert len({weights_hash(one) for one in others}) == len(others)


def test_weights_of_another_network_are_named_and_change_nothing():
    network = toy()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    wrong = dict(toy(4).state_dict())
    del wrong["1.bias"], wrong["0.bias"]
    wrong["2.weight"] = torch.ones(1)
    with pytest.raises(DualPixelError) as caught:
        load_into(network, wrong, "file.safetensors", METADATA_OF_TOY)
    message = str(caught.value)
    assert message.startswith("file.safetensors: these weights do not fit Sequential")
    assert "missing: 0.bias and 1 more; unexpected: 2.weight; of another shape: 0.weight (4, 3, 3, 3)" in message
    assert "(the network has (2, 3, 3, 3)) and 1 more" in message
    assert 'recipe toy, net Toy, options {"width": 2}' in message
    assert len(message.splitlines()) == 2
    assert same(network.state_dict(), before)


def test_fitting_weights_are_loaded():
    network, wanted = toy(), {name: tensor + 1 for name, tensor in toy().state_dict().items()}
    load_into(network, wanted, "memory")
    assert same(network.state_dict(), wanted)


def with_options(**options):
    network = toy()
    network.options, network.silent_options = options, ("shifts", "residual")
    return network


def test_options_that_no_shape_tells_are_compared():
    before = with_options(width=2, shifts=[0, 1], residual=False, dropout=0.1)
    stored = {"options": '{"width": 2, "shifts": [-1, 0], "residual": true, "dropout": 0.5}'}
    wanted = {name: tensor + 1 for name, tensor in toy().state_dict().items()}
    with pytest.raises(DualPixelError) as caught:
        load_into(before, wanted, "file.safetensors", stored)
    assert str(caught.value) == (
        "file.safetensors: these weights are of Sequential with other options, and would compute nonsense: "
        "shifts is [0, 1], theirs [-1, 0]; residual is false, theirs true\n"
        "Give --model.net.shifts '[-1, 0]' --model.net.residual true, or the configuration that they were trained with."
    )
    assert same(before.state_dict(), toy().state_dict())


@pytest.mark.parametrize(
    "metadata", [{}, {"options": "{}"}, {"options": '{"dropout": 0.5, "residual": false, "width": 2.2}'}]
)
def test_files_without_options_and_options_that_change_nothing_are_taken(metadata):
    network, wanted = with_options(residual=False, dropout=0.1, width=2), toy().state_dict()
    wanted = {name: tensor + 1 for name, tensor in wanted.items()}
    load_into(network, wanted, "file", metadata)
    assert same(network.state_dict(), wanted)


def test_options_that_are_not_plain_are_refused():
    with pytest.raises(DualPixelError, match="its options are not plain values"):
        load_into(with_options(residual=False), toy().state_dict(), "file", {"options": '{"residual": {"a": 1}}'})
