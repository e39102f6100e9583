import pytest
import torch

from dualpixel.evaluate.protocols import PROTOCOLS, get_protocol


@pytest.fixture
def batch():
    random = torch.Generator().manual_seed(0)
    images = {name: torch.rand(1, 3, 4, 6, generator=random) for name in ("left", "right", "combined", "sharp")}
    return {**images, "blur": torch.zeros(1, 1, 4, 6), "key": ["a"], "index": torch.tensor([0])}


@pytest.mark.parametrize("name", ["dpdnet-16bit", "whole-8bit"])
def test_protocols_without_bits_leave_everything_alone(batch, name):
    protocol = get_protocol(name)
    assert protocol.bits is None and not protocol.halved
    assert all(protocol.batch(batch)[field] is value for field, value in batch.items())
    assert protocol.output(batch["left"]) is batch["left"]


def test_8_bits_are_those_of_the_upper_byte(batch):
    seen = get_protocol("dpanet-8bit").batch(batch)
    for name in ("left", "right", "combined", "sharp"):
        assert torch.equal((seen[name] * 255).round(), (batch[name] * 65535).round().div(256).floor())
    assert seen["blur"] is batch["blur"] and seen["key"] == ["a"]
    assert torch.equal(get_protocol("dpanet-8bit").output(batch["left"]) * 255, (batch["left"] * 255).floor())


def test_images_are_cut_before_they_are_halved_and_maps_are_left_out(batch):
    batch["left"] = torch.tensor([[255, 256], [256, 255]]).div(65535).repeat(1, 3, 2, 3)  # cut: 0, 1, 1, 0
    seen = get_protocol("dpanet-half").batch(batch)
    assert seen["sharp"].shape == (1, 3, 2, 3) and "blur" not in seen and seen["index"] is batch["index"]
    assert torch.equal(seen["left"] * 255, torch.ones(1, 3, 2, 3))  # 0.5, rounded up


def test_every_protocol_says_which_data_it_is_for():
    assert {name: one.data_bits for name, one in PROTOCOLS.items()} == {
        "dpdnet-16bit": (16,),
        "whole-8bit": (8,),
        "dpanet-8bit": (8, 16),
        "dpanet-half": (8, 16),
    }
