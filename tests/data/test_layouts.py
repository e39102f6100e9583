import shutil

import numpy as np
import pytest
import torch
import yaml
from command_line import refused
from scenes import COUNTS, TEST_KEYS, write_card
from zipped import pack

from dualpixel import DualPixelError
from dualpixel.cli import main
from dualpixel.data import DualPixelData
from dualpixel.data.archive import Member
from dualpixel.data.images import read_image
from dualpixel.data.index import load_index
from dualpixel.data.prepare import prepare
from dualpixel.data.readers import get_reader
from dualpixel.data.registry import get_card

RESTORMER = {"_l/source": "/inputL", "_r/source": "/inputR", "_c/source": "/inputC", "_c/target": "/target"}


def as_mirror(source, target):
    """The mirror of the IFAN authors: another name of the top folder."""
    shutil.copytree(source / "dd_dp_dataset_canon", target / "DPDD")
    return target


def as_restormer(source, target, rename=lambda name: name):
    """Copies sorted for Restormer."""
    for split in COUNTS:
        for old, new in RESTORMER.items():
            (target / f"{split}{new}").mkdir(parents=True)
            for file in (source / "dd_dp_dataset_canon" / f"{split}{old}").iterdir():
                shutil.copy(file, target / f"{split}{new}" / rename(file.name))
    return target


@pytest.fixture(scope="module")
def layouts(small_source, tmp_path_factory):
    """The same scenes in every layout, as folders and as archives."""
    top = tmp_path_factory.mktemp("layouts")
    folders = {
        "authors": small_source,
        "authors, root named": small_source / "dd_dp_dataset_canon",
        "mirror": as_mirror(small_source, top / "mirror"),
        "restormer": as_restormer(small_source, top / "restormer"),
        "restormer below DPDD": as_restormer(small_source, top / "below" / "DPDD").parent,
    }
    archives = {f"{name}, packed": pack(folder, top / f"{name}.zip") for name, folder in folders.items()}
    downloads = {
        "archive in a folder": pack(small_source, top / "downloads" / "dd_dp_dataset_canon.zip").parent,
        "mirror's archive in a folder": pack(folders["mirror"], top / "others" / "DPDD.zip").parent,
    }
    return {**folders, **archives, **downloads}


FOLDERS = ("authors", "authors, root named", "mirror", "restormer", "restormer below DPDD")
DOWNLOADS = ("archive in a folder", "mirror's archive in a folder")


@pytest.mark.parametrize("name", [*FOLDERS, *(f"{name}, packed" for name in FOLDERS), *DOWNLOADS])
def test_every_layout_gives_the_same_shards_byte_for_byte(layouts, small_card, small_shards, tmp_path, name):
    out = tmp_path / "out"
    main(["data", "prepare", str(small_card), "--source", str(layouts[name]), "--out", str(out), "--processes", "1"])
    for split in COUNTS:
        expected, found = load_index(small_shards / split), load_index(out / split)
        assert found.fingerprint == expected.fingerprint and found.samples == expected.samples
        for shard in expected.shards:
            assert (out / split / shard.name).read_bytes() == (small_shards / split / shard.name).read_bytes()
    assert [sample.group for sample in found.samples] == ["outdoor"] * 2 + ["indoor"] * 3


def test_several_processes_read_one_archive(layouts, small_card, small_shards, tmp_path):
    out = prepare(get_card(small_card), layouts["restormer, packed"], tmp_path / "out", processes=2)
    for split in COUNTS:
        assert load_index(out / split).shards == load_index(small_shards / split).shards
    again = prepare(get_card(small_card), layouts["restormer, packed"], tmp_path / "out", processes=2)
    assert again == out  # nothing to do, as the archive is the same


def test_an_archive_reaches_the_network_as_the_files_were(layouts, small_card, small_source, tmp_path):
    out = prepare(get_card(small_card), layouts["authors, packed"], tmp_path / "out", processes=1)
    data = DualPixelData(get_card(small_card), out, num_workers=0)
    data.require("test", ["left", "right", "combined"], ["sharp"])
    top = small_source / "dd_dp_dataset_canon"
    for batch, key in zip(data.test_dataloader(), TEST_KEYS, strict=True):
        assert batch["key"] == [key] and batch["left"].dtype == torch.uint16
        assert np.array_equal(batch["left"][0].numpy(), read_image(top / f"test_l/source/{key}_L.png", 16))
        assert np.array_equal(batch["combined"][0].numpy(), read_image(top / f"test_c/source/{key}.png", 16))


def test_views_named_like_the_combined_image_are_taken_too(small_source, small_card, small_shards, tmp_path):
    plain = as_restormer(small_source, tmp_path / "plain", lambda name: name.replace("_L", "").replace("_R", ""))
    out = prepare(get_card(small_card), plain, tmp_path / "out", processes=1)
    for split in COUNTS:  # the index notes other file names, the pixels and keys are the same
        assert load_index(out / split).fingerprint == load_index(small_shards / split).fingerprint


def test_other_names_are_paired_by_their_order_and_have_no_groups(small_source, small_card, small_shards, tmp_path):
    source = as_restormer(small_source, tmp_path / "numbered")
    for folder in [f"{split}{new}" for split in COUNTS for new in RESTORMER.values()]:
        for number, file in enumerate(sorted((source / folder).iterdir())):
            file.rename(file.with_name(f"{number:04d}.png"))
    out = prepare(get_card(small_card), source, tmp_path / "out", processes=1)
    known, found = load_index(small_shards / "test").samples, load_index(out / "test").samples
    assert [sample.sha256 for sample in found] == [sample.sha256 for sample in known]
    assert [(sample.key, sample.group) for sample in found] == [(f"000{number}", "") for number in range(5)]


def test_two_copies_in_one_source_are_refused_and_both_are_named(small_source, small_card, tmp_path, capsys):
    both = as_mirror(small_source, tmp_path / "both")
    shutil.copytree(small_source, both, dirs_exist_ok=True)
    message = refused(capsys, "data", "prepare", str(small_card), "--source", str(both), "--out", str(tmp_path / "out"))
    assert "more than one copy" in message and "name the folder or the archive of one by --source" in message
    assert f"{both}/dd_dp_dataset_canon/train_l/source/1P0A1000_L.png" in message
    assert f"{both}/DPDD/train_l/source/1P0A1000_L.png" in message

    mixed = as_restormer(small_source, tmp_path / "mixed")
    shutil.copytree(small_source, mixed, dirs_exist_ok=True)
    with pytest.raises(DualPixelError, match=r"_L.png \(layout patterns\) and .*inputL/.* \(layout restormer\)"):
        get_reader(get_card(small_card), mixed).scenes("val")

    archives = tmp_path / "archives"
    for name in ("dd_dp_dataset_canon.zip", "DPDD.zip"):
        pack(small_source, archives / name)
    with pytest.raises(DualPixelError, match="dd_dp_dataset_canon.zip: .* and .*DPDD.zip: "):
        get_reader(get_card(small_card), archives).scenes("val")


def test_what_is_unpacked_goes_before_the_archive_beside_it(small_source, small_card, tmp_path):
    downloads = shutil.copytree(small_source, tmp_path / "downloads")
    pack(small_source, downloads / "dd_dp_dataset_canon.zip")
    for scene in get_reader(get_card(small_card), downloads).scenes("test"):
        assert not any(isinstance(file, Member) for file in scene.files.values())
    shutil.rmtree(downloads / "dd_dp_dataset_canon")
    for scene in get_reader(get_card(small_card), downloads).scenes("test"):
        assert all(isinstance(file, Member) for file in scene.files.values())


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_is_missing_is_named_in_every_layout(small_source, small_card, tmp_path, packed):
    source = as_restormer(small_source, tmp_path / "source")
    (source / "val/inputR/1P0A1008_R.png").unlink()
    given = pack(source, tmp_path / "set.zip") if packed else source
    with pytest.raises(DualPixelError, match="2 files for 'combined' but 1 for 'right' .*val/inputR/"):
        prepare(get_card(small_card), given, tmp_path / "out", processes=1)
    (source / "val/inputL/1P0A1010_L.png").unlink()
    (source / "val/inputC/1P0A1010.png").unlink()
    (source / "val/target/1P0A1011.png").unlink()
    given = pack(source, tmp_path / "set.zip") if packed else source
    with pytest.raises(DualPixelError, match="right view of 1P0A1008 is missing: its place .* holds 1P0A1010_R.png"):
        prepare(get_card(small_card), given, tmp_path / "out", processes=1)


def test_damage_in_an_archive_ends_prepare_with_one_sentence(layouts, small_card, tmp_path, capsys):
    damaged = shutil.copy(layouts["authors, packed"], tmp_path / "damaged.zip")
    raw = bytearray(damaged.read_bytes())
    place = raw.find(b"dd_dp_dataset_canon/val_r/source/1P0A1008_R.png") + 2000
    raw[place] ^= 255
    damaged.write_bytes(raw)
    out = ["--out", str(tmp_path / "out"), "--processes", "1"]
    message = refused(capsys, "data", "prepare", str(small_card), "--source", str(damaged), *out)
    assert (
        "damaged.zip: dd_dp_dataset_canon/val_r/source/1P0A1008_R.png: cannot be read" in message and "CRC" in message
    )
    (tmp_path / "set.tar.gz").write_bytes(b"\x1f\x8b" + bytes(50))
    message = refused(capsys, "data", "prepare", str(small_card), "--source", str(tmp_path / "set.tar.gz"), *out)
    assert "neither a folder nor a zip archive" in message
    message = refused(capsys, "data", "prepare", str(small_card), "--source", str(tmp_path / "nowhere.zip"), *out)
    assert "does not exist" in message


@pytest.mark.parametrize(
    "wrong", [{"left": "l/*.png"}, "l/*.png", {"left": "", "right": "", "combined": "", "sharp": "", "rihgt": ""}]
)
def test_a_layout_has_a_pattern_for_every_field(tmp_path, wrong):
    path = write_card(tmp_path / "wrong.yaml")
    content = yaml.safe_load(path.read_text())
    content["reader"]["options"]["layouts"] = {"mine": wrong}
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(
        DualPixelError, match="the layout 'mine' needs a pattern for each of left, right, combined, sharp"
    ):
        get_reader(get_card(path))


def test_the_card_of_dpdd_itself_takes_all_layouts(layouts, tmp_path):
    assert set(layouts) == {*FOLDERS, *(f"{name}, packed" for name in FOLDERS), *DOWNLOADS}
    for name, source in layouts.items():
        scenes = get_reader(get_card("dpdd"), source).scenes("test")
        assert [scene.key for scene in scenes] == list(TEST_KEYS), name
        assert scenes[0].group == "outdoor" and scenes[0].metadata["sharp_file"] == "1P0A0918.png"
