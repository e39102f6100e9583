import shutil

import numpy as np
import pytest
import torch
import yaml
from command_line import TOP, refused
from scenes import photograph
from zipped import pack

from dualpixel import DualPixelError
from dualpixel.cli import main
from dualpixel.data import DualPixelData
from dualpixel.data.images import read_image, write_png
from dualpixel.data.index import load_index
from dualpixel.data.prepare import prepare
from dualpixel.data.readers import get_reader
from dualpixel.data.registry import get_card
from dualpixel.paths import find

SIZE = (88, 104)
SCENES = {"train": {"IMG_1": 4, "IMG_10": 3, "IMG_2": 5}, "test": {"IMG_3": 2, "IMG_4": 3}}
KEYS = {
    split: [f"{scene}-{scene}_ap{number}_x" for scene in sorted(scenes) for number in range(scenes[scene])]
    for split, scenes in SCENES.items()
}


def write(folder, split):
    for place, (scene, count) in enumerate(SCENES[split].items()):
        for number in range(count):
            blurry = photograph(10 * place + number + len(split), SIZE) >> 8
            write_png(folder / f"input/{scene}/{scene}_ap{number}.x.png", blurry.astype(np.uint8))
        write_png(folder / f"ground_truth/{scene}.png", (photograph(50 + place, SIZE) >> 8).astype(np.uint8))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Several blurry images of 8 bits for each sharp one."""
    top = tmp_path_factory.mktemp("lfdof")
    write(top / "LFDOF/train_data", "train")
    write(top / "test_set/LFDOF", "test")
    return top


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    """The set's own card for so many pairs."""
    content = yaml.safe_load(find("registry", "lfdof").read_text())
    splits = {split: {"scenes": len(keys)} for split, keys in KEYS.items()}
    path = tmp_path_factory.mktemp("cards") / "small.yaml"
    path.write_text(yaml.safe_dump(content | {"name": "small", "splits": splits}, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def prepared(source, card, tmp_path_factory):
    out = tmp_path_factory.mktemp("shards") / "small"
    main(["data", "prepare", str(card), "--source", str(source), "--out", str(out), "--processes", "1"])
    return out


def test_every_blurry_image_stands_beside_the_sharp_one_of_its_scene(source, card, prepared):
    folders = {"train": source / "LFDOF/train_data", "test": source / "test_set/LFDOF"}
    data = DualPixelData(card, prepared, num_workers=0)
    data.require("test", ["combined"], ["sharp"])
    batches = list(data.test_dataloader())
    assert [key for batch in batches for key in batch["key"]] == KEYS["test"]
    for batch in batches:
        (key,) = batch["key"]
        scene, _, name = key.partition("-")
        expected = {
            "combined": folders["test"] / f"input/{scene}/{name.removesuffix('_x')}.x.png",
            "sharp": folders["test"] / f"ground_truth/{scene}.png",
        }
        for field, file in expected.items():
            assert batch[field].dtype == torch.uint8 and np.array_equal(batch[field][0].numpy(), read_image(file, 8))
    train = load_index(prepared / "train")
    assert [sample.key for sample in train.samples] == KEYS["train"]
    assert {(sample.key.partition("-")[0], sample.metadata["sharp_file"]) for sample in train.samples} == {
        (scene, f"{scene}.png") for scene in SCENES["train"]
    }


def test_the_archive_gives_the_same_shards(source, card, prepared, tmp_path):
    out = prepare(get_card(card), pack(source, tmp_path / "lfdof.zip"), tmp_path / "out", processes=1)
    for split in KEYS:
        assert load_index(out / split).shards == load_index(prepared / split).shards


def test_part_of_the_set_is_taken_when_asked_for(source, tmp_path, capsys):
    prepare_part = ["data", "prepare", "lfdof", "--source", str(source), "--out", str(tmp_path), "--processes", "1"]
    assert "12 scenes in 'train', the card promises 11261" in refused(capsys, *prepare_part)
    main([*prepare_part, "--partial"])
    assert [len(load_index(tmp_path / split).samples) for split in KEYS] == [12, 5]


def test_a_scene_without_its_sharp_image_is_named(source, card, tmp_path):
    copy = shutil.copytree(source, tmp_path / "source")
    (copy / "LFDOF/train_data/ground_truth/IMG_2.png").unlink()
    with pytest.raises(
        DualPixelError, match="small train: no sharp image is called IMG_2, as the folder of .*IMG_2_ap0"
    ):
        get_reader(get_card(card), copy).scenes("train")


def test_two_sharp_images_of_one_name_are_not_mixed_up(source, card, tmp_path):
    twice = shutil.copytree(source, tmp_path / "twice")
    shutil.copytree(twice / "LFDOF/train_data", twice / "more/LFDOF/train_data")
    with pytest.raises(DualPixelError, match="small train: two sharp images are called IMG_1, .*--source"):
        get_reader(get_card(card), twice).scenes("train")


def test_the_commands_say_what_there_is(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    main(["data", "show", "lfdof"])
    said = capsys.readouterr().out
    assert "train: 11261 scenes" in said and "test: 725 scenes" in said and "fields: combined, sharp" in said
    assert "ruan2021aifnet" in said and "not verified" in said
    main(["data", "list"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if " lfdof " in line]
    assert "11261 train / 725 test" in line and "combined, sharp" in line


def test_recipes_for_two_views_refuse_the_set_before_the_first_batch(source, card, tmp_path, capsys):
    own = shutil.copytree(source, tmp_path / "source")  # with scenes to validate on, as the card's notes say
    for name in ("input/IMG_10", "ground_truth/IMG_10.png"):
        (own / "val" / name).parent.mkdir(parents=True)
        (own / "LFDOF/train_data" / name).rename(own / "val" / name)
    content = yaml.safe_load(card.read_text())
    content["splits"] |= {"train": {"scenes": 9}, "val": {"scenes": 3}}
    with_val = tmp_path / "small.yaml"
    with_val.write_text(yaml.safe_dump(content, sort_keys=False))
    out = prepare(get_card(with_val), own, tmp_path / "out", processes=1)
    assert {sample.key.partition("-")[0] for sample in load_index(out / "val").samples} == {"IMG_10"}
    fit = ["fit", "--config", str(TOP / "recipes" / "dpdnet.yaml"), "--data.dataset", str(with_val)]
    message = refused(capsys, *fit, "--data.root", str(out), "--run.root", str(tmp_path))
    assert "needs left, right, sharp" in message and "has no left, right" in message
