import json
import shutil
import tarfile

import cv2
import numpy as np
import pytest
import webdataset
from scenes import COUNTS, SIZE, TEST_KEYS, make_dpdd_folder, write_card

from dualpixel import DualPixelError
from dualpixel.data import split_job
from dualpixel.data.images import read_image, write_png
from dualpixel.data.index import INDEX, load_index
from dualpixel.data.indexing import make_index
from dualpixel.data.maps import write_map
from dualpixel.data.prepare import prepare
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.registry import get_card
from dualpixel.data.verify import verify_split
from dualpixel.data.windows import select_windows, windows


def test_every_pixel_survives_and_pairs_are_made_by_sorted_position(small_source, small_shards):
    top = small_source / "dd_dp_dataset_canon"
    for split, count in COUNTS.items():
        prepared = PreparedSplit(small_shards / split)
        assert len(prepared) == count
        blurry, sharp = sorted((top / f"{split}_c/source").iterdir()), sorted((top / f"{split}_c/target").iterdir())
        for position, sample in enumerate(prepared.index.samples):
            assert sample.key == blurry[position].stem != sharp[position].stem
            files = {
                "combined": blurry[position],
                "sharp": sharp[position],
                "left": top / f"{split}_l/source/{sample.key}_L.png",
                "right": top / f"{split}_r/source/{sample.key}_R.png",
            }
            for field, file in files.items():
                original = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)[:, :, ::-1]
                stored = prepared.array(position, field)
                assert stored.dtype == np.uint16 and np.array_equal(stored, original)
                assert len(np.unique(original & 255)) > 100  # the low byte is in use, so losing it would be seen


def test_the_index_notes_windows_ranks_and_groups(small_shards):
    train = PreparedSplit(small_shards / "train")
    for position, sample in enumerate(train.index.samples):
        assert [(row, column) for row, column, _ in sample.windows] == windows(*SIZE, 64, 0.6)
        dropped = int(0.3 * len(sample.windows))
        kept = [(row, column) for row, column, rank in sample.windows if rank >= dropped]
        assert kept == select_windows(np.asarray(train.array(position, "sharp")), 64, 0.6, 0.3)
    test = load_index(small_shards / "test")
    assert {sample.key: sample.group for sample in test.samples} == {
        key: "indoor" if key in TEST_KEYS[2:] else "outdoor" for key in TEST_KEYS
    }


def test_shards_are_plain_webdataset_tars(small_shards):
    (tar,) = (small_shards / "train").glob("*.tar")
    read = list(webdataset.WebDataset(str(tar), shardshuffle=False).decode())
    prepared = PreparedSplit(small_shards / "train")
    assert [sample["__key__"] for sample in read] == [sample.key for sample in prepared.index.samples]
    for position, sample in enumerate(read):
        assert np.array_equal(sample["left.npy"], prepared.array(position, "left"))


def test_the_same_scenes_give_the_same_bytes_whatever_the_number_of_processes(
    small_card, small_source, small_shards, tmp_path, monkeypatch
):
    again = prepare(get_card(small_card), small_source, tmp_path / "again", processes=2)
    for split in COUNTS:
        first, second = load_index(small_shards / split), load_index(again / split)
        assert first.shards == second.shards and first.fingerprint == second.fingerprint


def test_the_png_codec_holds_the_same_pixels(small_card, small_source, small_shards, tmp_path):
    out = prepare(get_card(small_card), small_source, tmp_path / "png", codec="png", processes=1)
    raw, packed = PreparedSplit(small_shards / "test"), PreparedSplit(out / "test")
    assert packed.index.samples[0].members["left"].codec == "png"
    assert packed.index.fingerprint == raw.index.fingerprint
    assert np.array_equal(packed.array(0, "left"), raw.array(0, "left"))
    with tarfile.open(next((out / "test").glob("*.tar"))) as tar:
        assert any(name.endswith(".left.png") for name in tar.getnames())


def test_a_stopped_preparation_goes_on_where_it_stopped(small_card, small_source, tmp_path, monkeypatch):
    monkeypatch.setattr(split_job, "SCENES_PER_SHARD", 2)
    card, folder = get_card(small_card), tmp_path / "out" / "train"

    original = split_job.scene_data

    def interrupted(card, reader, split, scene, rule):
        if scene.key == "1P0A1004":  # the third, in the second shard
            raise KeyboardInterrupt
        return original(card, reader, split, scene, rule)

    monkeypatch.setattr(split_job, "scene_data", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(card, small_source, tmp_path / "out", processes=1)
    first = sorted(path for path in folder.glob("*.tar"))
    assert len(first) == 1 and not (folder / INDEX).exists()
    written = first[0].stat().st_mtime_ns
    left_over = folder / f".{first[0].stem}.77.part.tar"
    left_over.write_bytes(b"what a kill leaves behind")

    monkeypatch.setattr(split_job, "scene_data", original)
    prepare(card, small_source, tmp_path / "out", processes=1)
    assert first[0].stat().st_mtime_ns == written and not left_over.exists()  # not written again
    assert len(load_index(folder).shards) == 2 and verify_split(folder) == []
    prepare(card, small_source, tmp_path / "out")  # nothing to do
    assert first[0].stat().st_mtime_ns == written


def test_other_files_are_not_mixed_into_prepared_shards(small_card, small_source, small_shards, tmp_path):
    copy = shutil.copytree(small_source, tmp_path / "source")
    out = shutil.copytree(small_shards, tmp_path / "shards")
    victim = next((copy / "dd_dp_dataset_canon/train_l/source").iterdir())
    write_png(victim, read_image(victim) // 2)
    with pytest.raises(DualPixelError, match="other files or settings"):
        prepare(get_card(small_card), copy, out)


def _broken(tmp_path, damage, card_changes=None):
    source = make_dpdd_folder(tmp_path / "source", {"train": 2, "val": 1, "test": 2})
    damage(source / "dd_dp_dataset_canon")
    card = write_card(tmp_path / "card.yaml", {"train": 2, "val": 1, "test": 2}, **(card_changes or {}))
    return lambda **options: prepare(get_card(card), source, tmp_path / "out", processes=1, **options)


def _first(folder):
    return sorted(folder.iterdir())[0]


def test_scenes_of_another_size_than_the_cards_are_refused_with_both_sizes(tmp_path):
    source = make_dpdd_folder(tmp_path / "source", size=(144, 192))
    card = get_card(write_card(tmp_path / "wide.yaml"))
    with pytest.raises(
        DualPixelError, match=r"is 144x192 \(height x width\), the card says 144x208; mend `size`"
    ) as said:
        prepare(card, source, tmp_path / "out", processes=1)
    assert "mismatched" not in str(said.value)


def test_mismatched_sizes_are_refused(tmp_path):
    def damage(top):
        path = _first(top / "train_r/source")
        write_png(path, read_image(path)[:-16])

    with pytest.raises(DualPixelError, match=r"mismatched sizes.*right 128x208.*expected 144x208"):
        _broken(tmp_path, damage)()


def test_an_8_bit_file_under_a_16_bit_card_is_refused(tmp_path):
    def damage(top):
        path = _first(top / "val_c/source")
        write_png(path, (read_image(path) >> 8).astype(np.uint8))

    with pytest.raises(DualPixelError, match="8 bits per channel .*expected 16"):
        _broken(tmp_path, damage)()


def test_a_missing_view_is_refused(tmp_path):
    with pytest.raises(DualPixelError, match=r"2 files for 'combined' but 1 for 'left'"):
        _broken(tmp_path, lambda top: _first(top / "train_l/source").unlink())()


def test_a_view_of_another_scene_in_its_place_is_refused(tmp_path):
    def damage(top):
        path = _first(top / "train_l/source")
        path.rename(path.with_name("1P0A9999_L.png"))

    with pytest.raises(DualPixelError, match="the left view of 1P0A1000 is missing"):
        _broken(tmp_path, damage)()


def test_an_empty_split_is_refused(tmp_path):
    def damage(top):
        for name in ("val_c", "val_l", "val_r"):
            shutil.rmtree(top / name)

    run = _broken(tmp_path, damage)
    with pytest.raises(
        DualPixelError, match=r"the split 'val' is empty .*\(2 train, 0 val, 2 test\).*leave it out by --partial"
    ):
        run()
    folder = run(partial=True)
    assert sorted(path.parent.name for path in folder.glob("*/index.json")) == ["test", "train"]


def test_an_incomplete_download_is_refused_unless_it_is_meant(tmp_path):
    def damage(top):
        for name in ("train_c/source", "train_c/target", "train_l/source", "train_r/source"):
            _first(top / name).unlink()

    run = _broken(tmp_path, damage)
    with pytest.raises(DualPixelError, match="1 scenes in 'train', the card promises 2"):
        run()
    assert load_index(run(partial=True) / "train").preparation["complete"] is False


def test_a_truncated_image_is_refused(tmp_path):
    def damage(top):
        path = _first(top / "test_c/target")
        path.write_bytes(path.read_bytes()[:2000])

    with pytest.raises(DualPixelError, match="cannot be decoded|can be decoded"):
        _broken(tmp_path, damage)()


def test_maps_in_folders_are_read_in_their_unit_and_unknown_depth_stays_unknown(tmp_path):
    depth = np.array([[1.5, np.nan], [2.25, 0.001]], np.float32)
    blur = np.array([[-3.5, 0], [1.25, 2]], np.float32)
    write_map(tmp_path / "depth/a.png", depth, 0.001)
    write_map(tmp_path / "blur/a.exr", blur)
    patterns = {"depth": "depth/*.png", "blur": "blur/*.exr"}
    card = {"fields": list(patterns), "splits": {"test": {"scenes": 1}}, "preparation": {}}
    options = {"patterns": patterns, "units": {"depth": 0.001}}
    path = write_card(tmp_path / "maps.yaml", size=(2, 2), reader={"name": "folders", "options": options}, **card)
    prepared = PreparedSplit(prepare(get_card(path), tmp_path, tmp_path / "out", processes=1) / "test")
    assert np.array_equal(prepared.array(0, "depth"), depth, equal_nan=True)
    assert np.array_equal(prepared.array(0, "blur"), blur)


def test_verify_finds_missing_altered_truncated_and_extra_shards(small_shards, tmp_path):
    for damage, said in (
        (lambda tar: tar.unlink(), "is missing"),
        (lambda tar: tar.write_bytes(tar.read_bytes()[:-512]), "bytes, its index says"),
        (lambda tar: tar.write_bytes(tar.read_bytes()[:5000] + b"x" + tar.read_bytes()[5001:]), "is altered"),
        (lambda tar: shutil.copy(tar, tar.with_name("extra.tar")), "is not in the index"),
    ):
        folder = shutil.copytree(small_shards / "train", tmp_path / said.replace(" ", "-"))
        assert verify_split(folder) == []
        damage(next(folder.glob("*.tar")))
        (fault,) = verify_split(folder)
        assert said in fault


def test_a_truncated_shard_is_refused_when_it_is_opened(small_shards, tmp_path):
    folder = shutil.copytree(small_shards / "train", tmp_path / "train")
    tar = next(folder.glob("*.tar"))
    tar.write_bytes(tar.read_bytes()[:-2048])
    with pytest.raises(DualPixelError, match="truncated or altered; run `data verify`"):
        PreparedSplit(folder)


def test_an_index_is_made_for_tars_of_others(small_shards, tmp_path):
    folder = tmp_path / "theirs" / "train"
    folder.mkdir(parents=True)
    prepared = PreparedSplit(small_shards / "train")
    with webdataset.TarWriter(str(folder / "a.tar")) as tar:
        for position in range(2):
            images = {name: np.asarray(prepared.array(position, name)) for name in ("left", "right", "sharp")}
            tar.write({"__key__": f"scene{position}", **{f"{name}.npy": image for name, image in images.items()}})
    index = make_index(folder, rule=get_card("dpdd").preparation.windows["train"].__class__(64, 0.6, 0.3))
    assert index.dataset == "theirs" and index.fields() == ["left", "right", "sharp"]
    theirs = PreparedSplit(folder)
    assert np.array_equal(theirs.array(1, "sharp"), prepared.array(1, "sharp"))
    assert theirs.index.samples[1].windows == prepared.index.samples[1].windows


@pytest.mark.parametrize("name", ["../x.tar", "/etc/x.tar", "pipe:cat x.tar", "a/b.tar", "x.zip", ".x.tar"])
def test_an_index_cannot_name_a_file_outside_its_folder(small_shards, tmp_path, name):
    folder = shutil.copytree(small_shards / "train", tmp_path / "train")
    content = json.loads((folder / INDEX).read_text())
    content["shards"][0]["name"] = name
    (folder / INDEX).write_text(json.dumps(content))
    with pytest.raises(DualPixelError, match="is not allowed"):
        PreparedSplit(folder)


@pytest.mark.parametrize(("where", "name"), [("key", "../../x"), ("dataset", "../x"), ("split", "a/b"), ("key", "")])
def test_an_index_cannot_name_files_elsewhere(small_shards, tmp_path, where, name):
    folder = shutil.copytree(small_shards / "train", tmp_path / "train")
    content = json.loads((folder / INDEX).read_text())
    (content["samples"][0] if where == "key" else content)[where] = name
    (folder / INDEX).write_text(json.dumps(content))
    with pytest.raises(DualPixelError, match="is not allowed"):
        load_index(folder)


def test_a_prepared_index_is_not_replaced(small_shards):
    with pytest.raises(DualPixelError, match="was written by `data prepare`"):
        make_index(small_shards / "train")


def test_tars_of_others_are_held_against_their_card(small_card, small_shards, tmp_path):
    folder = tmp_path / "train"
    folder.mkdir()
    shutil.copy(next((small_shards / "train").glob("*.tar")), folder)
    index = make_index(folder, get_card(small_card))
    assert index.preparation["complete"] and index.samples == load_index(small_shards / "train").samples
    eight_bits = write_card(tmp_path / "eight.yaml", bit_depth=8)
    with pytest.raises(DualPixelError, match="is uint16 of 144x208, the card eight says uint8"):
        make_index(folder, get_card(eight_bits))


def test_a_source_here_and_a_target_there_missing_do_not_pair_strangers(tmp_path):
    def damage(top):
        _first(top / "train_c/target").unlink()
        for name in ("c", "l", "r"):
            sorted((top / f"train_{name}/source").iterdir())[-1].unlink()

    with pytest.raises(DualPixelError, match="would be paired with"):
        _broken(tmp_path, damage)(partial=True)


def test_options_of_the_reader_get_near_matches(tmp_path):
    card = write_card(tmp_path / "card.yaml", reader={"name": "folders", "options": {"pattern": {}}})
    with pytest.raises(DualPixelError, match="did you mean 'patterns'"):
        prepare(get_card(card), tmp_path, tmp_path / "out")


def test_two_preparations_at_once_wait_for_each_other(small_card, small_source, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        for done in [
            pool.submit(prepare, get_card(small_card), small_source, tmp_path / "out", processes=1) for _ in range(2)
        ]:
            done.result()
    assert all(verify_split(tmp_path / "out" / split) == [] for split in COUNTS)


@pytest.mark.parametrize(
    "change", [{"offset": 10**12}, {"offset": -8}, {"dtype": "object"}, {"shape": [1, 1, 3]}, {"shape": [-1, 4, 3]}]
)
def test_an_index_cannot_point_outside_its_shard(small_shards, tmp_path, change):
    folder = shutil.copytree(small_shards / "train", tmp_path / "train")
    content = json.loads((folder / INDEX).read_text())
    content["samples"][0]["members"]["left"].update(change)
    (folder / INDEX).write_text(json.dumps(content))
    with pytest.raises(DualPixelError, match="left"):
        load_index(folder)


def test_pickles_in_a_tar_are_not_opened(tmp_path):
    folder = tmp_path / "evil" / "train"
    folder.mkdir(parents=True)
    import io
    import pickle

    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with tarfile.open(folder / "a.tar", "w") as tar:
        for name, content in (("s.left.npy", stream.getvalue()), ("s.sharp.pkl", pickle.dumps(1))):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    with pytest.raises(DualPixelError, match="not a plain array"):
        make_index(folder)


def test_links_in_a_tar_are_refused(tmp_path):
    folder = tmp_path / "evil" / "train"
    folder.mkdir(parents=True)
    with tarfile.open(folder / "a.tar", "w") as tar:
        info = tarfile.TarInfo("s.left.npy")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(DualPixelError, match="not a plain file"):
        make_index(folder)
