import json
import shutil

import cv2
import numpy as np
import pytest
import webdataset
import yaml
from scenes import COUNTS, SIZE, make_dpdd_folder, photograph, views

from dualpixel import DualPixelError
from dualpixel.data import DualPixelData
from dualpixel.data.card import WindowRule
from dualpixel.data.images import read_image, write_png
from dualpixel.data.index import load_index
from dualpixel.data.indexing import make_index
from dualpixel.data.prepare import prepare
from dualpixel.data.preview import draw_contact_sheet
from dualpixel.data.readers import get_reader
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.registry import get_card
from dualpixel.data.verify import verify_split
from dualpixel.paths import find

FIELDS = ("left", "right", "combined")
LETTERS = dict(zip(FIELDS, "lrc", strict=True))
OWN = {"train": ["0001", "0002", "0003", "0010"], "test": ["0004", "0005", "0006"]}
DPDD_TRAIN = ["1P0A1000", "1P0A1002", "1P0A1004", "1P0A1006"]
LEFT_OUT = {"val": ["1P0A1008", "1P0A1009"], "test": ["1P0A0917", "1P0A0918"]}


def add(folder, stems, first=50, **suffixes):
    """Write scenes into the folders l, r and c of a split."""
    for number, stem in enumerate(stems):
        scene = views(photograph(first + number))
        for name, letter in LETTERS.items():
            write_png(folder / letter / f"{stem}{suffixes.get(name, '')}.png", scene[name])


@pytest.fixture
def source(tmp_path):
    """The two archives, unpacked into one folder."""
    for split, stems in OWN.items():
        add(tmp_path / "source" / "dldp_data_png" / split, stems)
    return tmp_path / "source"


@pytest.fixture
def card(tmp_path, small_card):
    """Return a function that makes the card for small scenes, with other options of the reader."""

    def make(test=3, changes=(), **options):
        content = yaml.safe_load(find("registry", "dldp").read_text())
        content |= {"name": "small", "size": list(SIZE), **dict(changes)}
        content["splits"] = {"train": {"scenes": None}, "val": {"scenes": None}, "test": {"scenes": test}}
        content["reader"]["options"] |= {"join": str(small_card), "leave_out": LEFT_OUT, **options}
        (tmp_path / "small.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        return get_card(tmp_path / "small.yaml")

    return make


def keys(card, source, split="train"):
    return [scene.key for scene in get_reader(card, source).scenes(split)]


def test_every_bit_of_every_view_survives(source, card, tmp_path):
    out = prepare(card(), source, tmp_path / "out", processes=1)
    expected = {"train": OWN["train"], "val": OWN["test"], "test": OWN["test"]}
    for split, stems in expected.items():
        prepared = PreparedSplit(out / split)
        assert [sample.key for sample in prepared.index.samples] == stems
        assert prepared.index.fields() == list(FIELDS) and verify_split(out / split) == []
        for position, sample in enumerate(prepared.index.samples):
            assert sample.windows == [] and sample.group == "" and sample.metadata["from"] == "small"
            folder = source / "dldp_data_png" / ("train" if split == "train" else "test")
            for name, letter in LETTERS.items():
                file = folder / letter / f"{sample.key}.png"
                original = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)[:, :, ::-1]
                stored = prepared.array(position, name)
                assert stored.dtype == np.uint16 and np.array_equal(stored, original)
                assert len(np.unique(original & 255)) > 100  # the low byte is in use


def test_the_root_may_be_the_source_and_the_test_scenes_may_be_called_val(source, card):
    root = source / "dldp_data_png"
    (root / "test").rename(root / "val")
    assert [keys(card(), root, split) for split in ("train", "val", "test")] == [OWN["train"], OWN["test"], OWN["test"]]


def test_scenes_of_ones_own_are_validated_where_there_are_any(source, card):
    add(source / "dldp_data_png" / "val", ["0020", "0021"])
    assert keys(card(), source, "val") == ["0020", "0021"] and keys(card(), source, "test") == OWN["test"]


def test_dpdd_scenes_among_the_files_are_known_by_name(source, card):
    train = source / "dldp_data_png" / "train"
    add(train, ["1P0A0917", "1P0A0918", "1P0A0919", "1P0A1000", "1P0A1008", "1P0A1010", "1P0A9171"])
    others = ["1P0A0919", "1P0A1000", "1P0A1010", "1P0A9171"]
    assert keys(card(), source) == OWN["train"] + others
    # a blurry photograph, or the sharp one of its pair, is left out whatever follows its name
    shutil.rmtree(train)
    add(train, ["1P0A0917", "1P0A0919", "1P0A1009", "1P0A1010"], combined="_C", left="_L", right="_R")
    assert keys(card(), source) == ["1P0A0919_C", "1P0A1010_C"]
    everything = card(leave_out={})
    assert keys(everything, source) == ["1P0A0917_C", "1P0A0919_C", "1P0A1009_C", "1P0A1010_C"]


def test_dpdd_scenes_beside_join_the_training_scenes_alone(source, card, tmp_path):
    make_dpdd_folder(source)
    out = prepare(card(), source, tmp_path / "out", processes=1)
    train = PreparedSplit(out / "train")
    assert [sample.key for sample in train.index.samples] == OWN["train"] + DPDD_TRAIN
    assert [sample.metadata["from"] for sample in train.index.samples] == ["small"] * 4 + ["dpdd_small"] * 4
    for name, folder in (("left", "train_l"), ("right", "train_r"), ("combined", "train_c")):
        file = sorted((source / "dd_dp_dataset_canon" / folder / "source").iterdir())[2]
        assert np.array_equal(train.array(6, name), read_image(file, 16))
    assert [len(load_index(out / split).samples) for split in ("val", "test")] == [3, 3]


def test_a_scene_joins_once(source, card):
    make_dpdd_folder(source)
    add(source / "dldp_data_png" / "train", ["1P0A1002", "1P0A1010"], combined="_C")
    scenes = get_reader(card(), source).scenes("train")
    twice = [scene for scene in scenes if scene.key.startswith("1P0A1002")]
    assert len(scenes) == 4 + 2 + 3 and [scene.metadata["from"] for scene in twice] == ["small"]


def test_which_scenes_join_is_an_option(source, card):
    make_dpdd_folder(source)
    assert keys(card(join=None), source) == OWN["train"]
    everything = keys(card(leave_out={}), source)
    assert len(everything) == len(OWN["train"]) + sum(COUNTS.values()) and {"1P0A0917", "1P0A1008"} <= set(everything)
    shutil.rmtree(source / "dldp_data_png" / "train")
    assert keys(card(), source) == []  # DPDD alone is not DLDP
    add(source / "dldp_data_png" / "train", OWN["train"])
    by_name = keys(card(leave_out={"test": ["1P0A1000"]}), source)
    assert by_name == OWN["train"] + DPDD_TRAIN[1:] + ["1P0A1008", "1P0A1010"]


def test_scenes_that_join_later_are_other_shards(source, card, tmp_path):
    prepare(card(), source, tmp_path / "out", processes=1)
    make_dpdd_folder(source)
    with pytest.raises(DualPixelError, match="made from other files or settings"):
        prepare(card(), source, tmp_path / "out", processes=1)


def _first(folder):
    return sorted(folder.iterdir())[0]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda top: _first(top / "train/l").unlink(), "small train: 4 files for 'combined' but 3 for 'left' .*train/l/"),
        (lambda top: shutil.rmtree(top / "test/r"), "small test: 3 files for 'combined' but 0 for 'right'"),
        (
            lambda top: (top / "train/r/0002.png").rename(top / "train/r/0009.png"),
            "small train: the right view of .*0002.png would be 0003.png, of another number.*same_numbers: false",
        ),
        (
            lambda top: ((top / "train/l/0001.png").unlink(), (top / "train/c/0010.png").unlink(), (top / "train/r/0010.png").unlink()),
            "the left view of .*0001.png would be 0002.png",
        ),
        (lambda top: [_first(top / "test" / one).unlink() for one in "lrc"], "2 scenes in 'test', the card promises 3"),
        (lambda top: shutil.rmtree(top / "test"), r"'val' is empty .*\(4 train, 0 val, 0 test\); looked for .* test: test or val"),
        (
            lambda top: write_png(top / "train/c/0003.png", (photograph(1) >> 8).astype(np.uint8)),
            "0003.png: 8 bits per channel .*expected 16",
        ),
        (lambda top: write_png(top / "train/l/0003.png", photograph(1)[:-8]), "mismatched sizes: left 136x208.*144x208"),
        (
            lambda top: (make_dpdd_folder(top.parent), [_first(top.parent / f"dd_dp_dataset_canon/train_{one}").unlink()
                         for one in ("l/source", "r/source", "c/source")]),
            "3 scenes of dpdd_small train .* would join, its card promises 4; .*join: null",
        ),
        (
            lambda top: (make_dpdd_folder(top.parent), _first(top.parent / "dd_dp_dataset_canon/train_l/source").unlink()),
            "dpdd_small train: 4 files for 'combined' but 3 for 'left'",
        ),
    ],
)  # fmt: skip
def test_files_that_are_missing_or_misnamed_are_refused_in_words(source, card, tmp_path, damage, said):
    damage(source / "dldp_data_png")
    with pytest.raises(DualPixelError, match=said):
        prepare(card(), source, tmp_path / "out", processes=1)


def test_views_that_are_numbered_otherwise_are_paired_by_position(source, card):
    for file in sorted((source / "dldp_data_png/train/r").iterdir()):
        file.rename(file.with_name(f"{file.stem}_2.png"))
    with pytest.raises(DualPixelError, match="the right view of .*0001.png would be 0001_2.png"):
        keys(card(), source)
    (scene, *_) = get_reader(card(same_numbers=False), source).scenes("train")
    assert {name: file.name for name, file in scene.files.items()} == {
        "left": "0001.png", "right": "0001_2.png", "combined": "0001.png",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"leave_outs": {}}, "did you mean 'leave_out'"),
        ({"folders": {"train": ["train"], "vall": ["val"], "test": ["test"]}}, "none for the split 'val'; did you mean 'vall'"),
        ({"join": "rgbd"}, "join rgbd: found the reader 'rgbd' and fields without left, right, combined"),
        ({"leave_out": {"validation": []}}, "no split 'validation'"),
        ({"patterns": {"left": "l/*", "combined": "c/*"}}, "a pattern for each of left, right, combined"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused_in_words(source, card, options, said):
    with pytest.raises(DualPixelError, match=said):
        keys(card(**options), source)


def test_a_card_without_the_field_that_names_scenes_is_refused(card, source):
    with pytest.raises(DualPixelError, match="needs the field combined"):
        keys(card(changes={"fields": ["left", "right"]}), source)


def test_the_card_leaves_out_the_photographs_of_the_authors_lists(shared):
    facts = json.loads((shared / "data" / "dpdd_splits.json").read_text())
    left_out = get_card("dldp").reader.options["leave_out"]
    assert left_out == {split: sorted(name for pair in facts[split] for name in pair) for split in ("val", "test")}
    assert {split: len(names) for split, names in left_out.items()} == {"val": 148, "test": 152}


def test_the_test_scenes_of_dpdd_are_left_out():
    left_out = get_card("dldp").reader.options["leave_out"]
    groups = get_card("dpdd").splits["test"].groups
    assert {key for group in groups.values() for key in group} <= set(left_out["test"])
    assert not set(left_out["val"]) & set(left_out["test"])


def test_a_set_without_sharp_images_goes_all_the_way(source, card, tmp_path):
    small = card()
    root = prepare(small, source, tmp_path / "out", processes=1)
    data = DualPixelData(
        small, root, batch_size=2, crop_size=32, crops="random", crops_per_scene=4, mirror=0.5, num_workers=0
    )
    data.require("fit", ["combined"], ["left", "right"])
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]
    assert len(batches) == 8 and all(batch.keys() == {*FIELDS, "key", "group", "index"} for batch in batches)
    for batch in batches:
        assert all(batch[name].shape == (2, 3, 32, 32) and 0 < batch[name].mean() < 1 for name in FIELDS)
        # the file's combined image is the mean of the views, rounded down: it fits only where all three are cut alike
        mean = (batch["left"] + batch["right"]) / 2
        assert (mean - batch["combined"]).abs().max() < 1.01 / 65535
    (whole, *_) = data.val_dataloader()
    assert whole["left"].shape == (1, *SIZE, 3) and "sharp" not in whole
    with pytest.raises(DualPixelError, match="small train has no sharp .it has left, right, combined."):
        data.require("fit", ["combined"], ["sharp"])
    with pytest.raises(DualPixelError, match="prepared without windows; use data.crops=random"):
        DualPixelData(small, root, num_workers=0).train_dataloader()
    draw_contact_sheet(PreparedSplit(root / "train"), tmp_path / "sheet.png")
    sheet = read_image(tmp_path / "sheet.png", drop_alpha=True)
    assert sheet.shape[1] == 1200 and sheet.std() > 20  # left, right, their difference, combined


def test_windows_without_a_sharp_image_can_all_be_kept_but_not_chosen(source, card, tmp_path):
    rules = {discard: {"windows": {"train": {"size": 64, "discard": discard}}} for discard in (0.0, 0.3)}
    with pytest.raises(DualPixelError, match="discard 0.3: no sharp image tells .*set discard to 0"):
        prepare(card(changes={"preparation": rules[0.3]}), source, tmp_path / "none", processes=1)
    small = card(changes={"preparation": rules[0.0]})
    root = prepare(small, source, tmp_path / "out", processes=1)
    assert len(load_index(root / "train").samples[0].windows) == 12
    assert next(iter(DualPixelData(small, root, num_workers=0).train_dataloader()))["left"].shape == (1, 64, 64, 3)
    folder = tmp_path / "theirs" / "train"
    folder.mkdir(parents=True)
    with webdataset.TarWriter(str(folder / "a.tar")) as tar:
        tar.write({"__key__": "one", "left.npy": photograph(1), "right.npy": photograph(2)})
    assert [rank for *_, rank in make_index(folder, rule=WindowRule(64)).samples[0].windows] == list(range(12))
    with pytest.raises(DualPixelError, match="discard 0.3: no sharp image"):
        make_index(folder, rule=WindowRule(64, 0.6, 0.3))
