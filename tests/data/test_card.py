import pickle
from dataclasses import asdict

import pytest
import yaml
from scenes import write_card

from dualpixel import DualPixelError
from dualpixel.data.card import Card, load_card
from dualpixel.data.readers import get_reader
from dualpixel.data.registry import card_names, get_card
from dualpixel.evaluate.protocols import get_protocol


@pytest.mark.parametrize("name", card_names())
def test_every_card_loads_and_names_things_that_exist(name):
    card = get_card(name)
    assert card.name == name
    assert all(split.scenes is None or split.scenes > 0 for split in card.splits.values())
    assert "@" in card.citation and card.download.strip()
    get_reader(card)
    for protocol in card.protocols:
        get_protocol(protocol)
    listed = [key for split in card.splits.values() for keys in split.groups.values() for key in keys]
    assert len(listed) == len(set(listed))


def test_dpdd_carries_the_published_numbers():
    card = get_card("dpdd")
    assert {name: split.scenes for name, split in card.splits.items()} == {"train": 350, "val": 74, "test": 76}
    groups = card.splits["test"].groups
    assert len(groups["indoor"]) == 37 and len(groups["outdoor"]) == 39
    assert card.bit_depth == 16 and card.size == (1120, 1680)
    assert card.preparation.windows["train"].discard == 0.3


def test_dpdd_groups_are_the_listed_positions(shared):
    import json

    facts = json.loads((shared / "data" / "dpdd_splits.json").read_text())
    names = [pair[0] for pair in facts["test"]]
    assert get_card("dpdd").splits["test"].groups["indoor"] == [
        names[position] for position in facts["test_indoor_index"]
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bitdepth": 16}, "did you mean 'bit_depth'"),
        ({"bit_depth": 12}, "found 12"),
        ({"fields": ["left", "rigth"]}, "did you mean 'right'"),
        ({"name": "../escape"}, "lower-case letters"),
        ({"splits": {}}, "no splits"),
        ({"splits": {"train": {"scene": 3}}}, "did you mean 'scenes'"),
        ({"preparation": {"windows": {"trian": {"size": 8}}}}, "did you mean 'train'"),
        ({"preparation": {"windows": {"train": {"size": 8, "overlap": 1.5}}}}, "overlap and discard"),
        ({"size": [1, 2, 3]}, "expected 2"),
        ({"title": 7}, "expected str"),
    ],
)
def test_a_wrong_card_is_refused_in_words(tmp_path, change, said):
    path = write_card(tmp_path / "wrong.yaml", **change)
    with pytest.raises(DualPixelError, match=said):
        load_card(path)


def test_a_missing_key_is_named(tmp_path):
    path = write_card(tmp_path / "short.yaml")
    content = yaml.safe_load(path.read_text())
    del content["licence"]
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(DualPixelError, match="'licence' is missing"):
        load_card(path)


def test_an_unknown_card_gets_a_near_match():
    with pytest.raises(DualPixelError, match="did you mean 'quickstart'"):
        get_card("quikstart")


def test_a_card_cannot_have_a_module_imported(tmp_path):
    path = write_card(tmp_path / "evil.yaml", reader={"name": "os:system", "options": {}})
    with pytest.raises(DualPixelError, match="no reader 'os:system'"):
        get_reader(load_card(path))


def test_yaml_tags_are_not_executed(tmp_path):
    path = tmp_path / "tag.yaml"
    path.write_text("name: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(DualPixelError, match="not a readable YAML file"):
        load_card(path)


def test_a_card_may_lie_anywhere(small_card):
    assert isinstance(get_card(small_card), Card)


def test_a_suggested_command_names_a_card_as_it_can_be_found(tmp_path):
    card = get_card(write_card(tmp_path / "my set.yaml", name="mine"))
    assert f"data prepare '{tmp_path}/my set.yaml' --source FOLDER" in card.how_to_get()
    assert f"`data show '{tmp_path}/my set.yaml'`" in card.how_to_get()
    assert "data prepare dpdd --source FOLDER" in get_card("dpdd").how_to_get()
    assert pickle.loads(pickle.dumps(card)).argument == card.argument  # as worker processes get it
    assert "origin" not in asdict(card) and Card.origin is None


def test_a_card_cannot_say_where_it_lies(tmp_path):
    with pytest.raises(DualPixelError, match="unknown key 'origin'"):
        load_card(write_card(tmp_path / "set.yaml", origin="/elsewhere"))
