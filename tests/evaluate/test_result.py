import json

import pytest
import torch

import dualpixel
from dualpixel import DualPixelError
from dualpixel.data.registry import card_names, get_card
from dualpixel.evaluate.cost.operations import count_macs, count_parameters
from dualpixel.evaluate.protocols import get_protocol
from dualpixel.evaluate.result import Result, code_version, load_result, result_path, save_result


def result(**changes):
    values = {
        "schema": 1, "recipe": "dpdnet", "options": {"width": 1.0}, "weights_sha256": "0" * 64, "weights_source": "x.ckpt",
        "dataset": "dpdd", "dataset_version": "1", "split": "test", "fingerprint": "f" * 16, "complete": True,
        "protocol": "dpdnet-16bit", "protocol_description": "", "rows": [{"key": "a", "group": "", "psnr": 1 / 3, "lpips": None}],
        "means": {"overall": {"psnr": 1 / 3, "lpips": None}}, "parameters": 5, "macs": None, "macs_size": None, "code": "0",
        "made": "2026-01-01T00:00:00+00:00", "environment": {},
    }  # fmt: skip
    return Result(**{**values, **changes})


def test_a_result_is_the_same_after_a_round_trip(tmp_path):
    path = result_path(tmp_path, "dpdd", "test", "dpdnet-16bit")
    assert path.name == "result.json" and "dpdd-test" in str(path) and "dpdnet-16bit" in str(path)
    save_result(path, result())
    assert load_result(path) == result()
    json.loads(path.read_text(), parse_constant=pytest.fail)  # no NaN, no Infinity: other programs read it too


def test_a_result_without_the_keys_of_later_versions_is_read_as_it_is(tmp_path):
    path = tmp_path / "result.json"
    save_result(path, result())
    content = json.loads(path.read_text())
    # as results were written before there were such keys
    for name in ("views_from", "seconds", "protocol_settings", "net"):
        assert content.pop(name) is None
    path.write_text(json.dumps(content))
    assert load_result(path) == result()
    origin = {"recipe": "mdp", "weights_sha256": "1" * 64, "source": "mdp.safetensors"}
    save_result(path, result(views_from=origin))
    assert load_result(path).views_from == origin


def test_what_is_no_result_is_refused(tmp_path):
    save_result(tmp_path / "result.json", result(schema=99))
    with pytest.raises(DualPixelError, match="not a result of schema 1"):
        load_result(tmp_path / "result.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(DualPixelError, match="not a JSON file"):
        load_result(tmp_path / "broken.json")


def test_unknown_protocols_get_a_near_match():
    with pytest.raises(DualPixelError, match="did you mean 'dpdnet-16bit'"):
        get_protocol("dpdnet-16bits")


@pytest.mark.parametrize("name", card_names())
def test_protocols_of_the_cards_exist_and_are_for_their_bits(name):
    card = get_card(name)
    assert card.protocols
    assert all(card.bit_depth in get_protocol(one).data_bits for one in card.protocols)
    first = get_protocol(card.protocols[0])
    compared = f"of {card.bit_depth} bits as stored" if first.metrics else f"cut to {card.bit_depth} bits"
    assert f"inputs and target {compared}" in first.description


@pytest.mark.parametrize(
    ("size", "expected"), [((256, 256), 54.833e9), ((512, 512), 219.331e9), ((1120, 1680), 1574.299e9)]
)
def test_multiply_accumulates_are_the_published_ones(size, expected):
    recipe = dualpixel.load("dpdnet")
    batch = {name: torch.empty(1, 3, *size, device="meta") for name in ("left", "right")}
    assert count_macs(recipe, batch) == pytest.approx(expected, rel=1e-5)
    assert next(recipe.parameters()).device.type == "cpu"  # the recipe itself is left where it was
    assert count_parameters(recipe.net) == 31_035_151


def test_the_code_says_its_version():
    assert code_version().startswith(dualpixel.__version__)
