import json
import pickle
import subprocess
import sys

import h5py
import numpy as np
import pytest
import scipy.io
import yaml

from dualpixel.data import split_job
from dualpixel.data.images import read_image
from dualpixel.data.index import INDEX, load_index
from dualpixel.data.prepare import prepare
from dualpixel.data.readers import Scene, get_reader
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.registry import get_card
from dualpixel.data.verify import verify_split
from dualpixel.errors import DualPixelError
from dualpixel.paths import find

FILE = "nyu_depth_v2_labeled.mat"
DEMO = {
    "split": "test",
    "frames": [1, 1],
    "first_number": 1,
    "focal_length_m": 0.035,
    "focal_length_px": 3000,
    "aperture_px": 1500,
    "focus_distance_m": 5,
    "depth_scale": 0.2,
    "crop": 20,
}


def write_mat(folder, images, depths):
    """Write frames (N, H, W, 3) and (N, H, W) as MATLAB 7.3 does: behind a block of its own, axes reversed, compressed."""
    with h5py.File(folder / FILE, "w", userblock_size=512) as file:
        file.create_dataset("images", data=np.stack(images).transpose(0, 3, 2, 1), compression="gzip")
        file.create_dataset("depths", data=np.stack(depths).transpose(0, 2, 1), compression="gzip")
    return folder


def write_card(path, **changes):
    """Write the card with other options of its reader, and what else is told."""
    card = yaml.safe_load(find("registry", "ddd_syn").read_text())
    options = card["reader"]["options"] | changes.pop("options", {})
    card |= {"name": path.stem, "reader": {"name": "ddd_syn", "options": options}, **changes}
    path.write_text(yaml.safe_dump(card, sort_keys=False))
    return get_card(path)


@pytest.fixture(scope="module")
def small_mat(tmp_path_factory):
    """Five small frames: noise, on a slanted plane with a step in it."""
    random = np.random.default_rng(0)
    depth = np.linspace(1, 3, 72)[None].repeat(60, 0).astype(np.float32)
    depth[20:40, 30:60] = 0.8
    images = random.integers(0, 256, (5, 60, 72, 3), np.uint8)
    return write_mat(tmp_path_factory.mktemp("nyu"), images, [depth + 0.1 * number for number in range(5)])


@pytest.fixture(scope="module")
def small_card(tmp_path_factory):
    """Every camera of the card, on frames that the small file has."""
    frames = {"train": [1, 3], "val": [5, 9], "test": [4, 5]}
    sets = yaml.safe_load(find("registry", "ddd_syn").read_text())["reader"]["options"]["sets"]
    sets = {name: one | {"frames": frames[one["split"]]} for name, one in sets.items()}
    folder = tmp_path_factory.mktemp("cards")
    return write_card(folder / "ddd_small.yaml", options={"sets": sets}, size=[60, 72])


def psnr(image, target):
    return 10 * np.log10(255**2 / ((image.astype(np.float64) - target) ** 2).mean())


def test_the_published_pair_comes_out(shared, tmp_path):
    pair = shared / "data" / "dddnet_simulator"
    depth = scipy.io.loadmat(pair / "depths.mat")["depths"]
    source = write_mat(tmp_path, [read_image(pair / "input.png")], [depth])
    splits = {"test": {"scenes": 1}}
    card = write_card(tmp_path / "demo.yaml", options={"sets": {"demo": DEMO}}, splits=splits)
    prepared = PreparedSplit(prepare(card, source, tmp_path / "out", processes=1) / "test")
    arrays = {name: prepared.array(0, name) for name in card.fields}

    assert np.array_equal(arrays["sharp"], read_image(pair / "oult_gt.png"))
    for name, file, floor in (("left", "oult_l.png", 83.2), ("right", "oult_r.png", 85.2)):
        assert psnr(arrays[name], read_image(pair / file)) > floor
    # the blur is that of a camera focused at infinity: half the aperture times the focal length over the scaled depth
    smooth = np.abs(arrays["blur"] * arrays["depth"] / (750 * 0.035 * 0.2) - 1) < 0.01
    assert smooth.mean() > 0.9
    assert depth.min() <= arrays["depth"].min() < arrays["depth"].max() <= depth.max()


def test_the_card_has_the_numbers_of_the_published_drivers():
    card = get_card("ddd_syn")
    sets = card.reader.options["sets"]
    assert [sets[name]["aperture_px"] / sets[name]["focal_length_px"] for name in sets if name != "val"] == [
        pytest.approx(1 / share) for share in (6, 2, 2, 5, 2, 2, 2)
    ]
    for split, names in (("train", "train0 train1 train2 train3 train4"), ("val", "val"), ("test", "testing testing1")):
        counts = [sets[name]["frames"][1] - sets[name]["frames"][0] + 1 for name in names.split()]
        assert sum(counts) == card.splits[split].scenes
    used = {split: set() for split in card.splits}
    for one in sets.values():
        used[one["split"]] |= set(range(one["frames"][0], one["frames"][1] + 1))
    assert not (used["train"] & used["val"] or used["train"] & used["test"] or used["val"] & used["test"])


def test_scenes_are_numbered_as_the_authors_number_them(tmp_path):
    with h5py.File(tmp_path / FILE, "w") as file:  # an empty array of the real size takes no room
        file.create_dataset("images", (1449, 3, 640, 480), np.uint8, chunks=(1, 3, 640, 480))
        file.create_dataset("depths", (1449, 640, 480), np.float32, chunks=(1, 640, 480))
    reader = get_reader(get_card("ddd_syn"), tmp_path)
    train, val, test = (reader.scenes(split) for split in ("train", "val", "test"))
    assert [scene.key for scene in train] == [f"{number:04d}" for number in range(1, 5001)]
    assert [scene.key for scene in val] == [f"{number}" for number in range(6351, 6450)]
    assert [scene.key for scene in test] == [f"{n}" for n in range(6001, 6351)] + [f"{n}_h" for n in range(6001, 6151)]
    assert (train[2005].metadata["frame"], train[2005].group) == (6, "train2")
    assert (val[0].metadata["frame"], test[-1].metadata["frame"]) == (1351, 1150)
    noted = test[-1].metadata
    assert (noted["focal_length_m"], noted["depth_scale"], noted["focus_distance_m"], noted["crop"]) == (
        0.03,
        0.8,
        11,
        20,
    )


def test_a_scene_is_made_from_its_metadata_alone_by_any_process(small_card, small_mat):
    reader = pickle.loads(pickle.dumps(get_reader(small_card, small_mat)))
    scene = reader.scenes("train")[7]
    told = Scene("another-name", metadata=json.loads(json.dumps(scene.metadata)), files=scene.files)
    first, again = reader.read(scene), reader.read(told)
    assert all(np.array_equal(first[name], again[name]) for name in small_card.fields)


def test_near_content_lies_further_right_in_the_left_view(small_mat, small_card):
    reader = get_reader(small_card, small_mat)
    scene = next(scene for scene in reader.scenes("train") if scene.group == "train4")
    arrays = reader.read(scene)
    assert arrays["blur"].min() > 5
    left, right = (arrays[name][30:50, 5:-5].astype(np.float64).mean((0, 2)) for name in ("left", "right"))
    errors = {shift: np.abs(left[12:-12] - np.roll(right, shift)[12:-12]).mean() for shift in range(-12, 13)}
    assert min(errors, key=errors.get) > 3


def test_all_cameras_are_prepared_in_two_processes_and_a_stopped_run_goes_on(
    small_card, small_mat, tmp_path, monkeypatch
):
    with pytest.raises(DualPixelError, match="15 scenes in 'train', the card promises 5000"):
        prepare(small_card, small_mat, tmp_path / "refused")

    original = split_job.scene_data

    def interrupted(card, reader, split, scene, rule):
        if scene.key == "3001":  # the tenth, in the second shard
            raise KeyboardInterrupt
        return original(card, reader, split, scene, rule)

    monkeypatch.setattr(split_job, "scene_data", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(small_card, small_mat, tmp_path / "out", processes=1, partial=True)
    monkeypatch.setattr(split_job, "scene_data", original)
    first = tmp_path / "out" / "train" / "ddd_small-train-000000.tar"
    assert sorted((tmp_path / "out").rglob("*.tar")) == [first] and not list((tmp_path / "out").rglob(INDEX))
    written = first.stat().st_mtime_ns

    prepare(small_card, small_mat, tmp_path / "out", processes=2, partial=True)
    assert first.stat().st_mtime_ns == written
    folders = [tmp_path / "out" / split for split in ("train", "val", "test")]
    assert [len(load_index(folder).samples) for folder in folders] == [15, 1, 4]
    assert all(verify_split(folder) == [] for folder in folders)
    sample = load_index(folders[2]).samples[3]
    assert (sample.key, sample.group, sample.metadata["frame"]) == ("6002_h", "testing1", 5)
    # the same frame under two cameras
    test = PreparedSplit(folders[2])
    assert np.array_equal(test.array(0, "sharp"), test.array(2, "sharp"))
    assert not np.array_equal(test.array(0, "left"), test.array(2, "left"))


def test_another_camera_in_the_card_is_another_preparation(small_mat, tmp_path):
    def demo(depth_scale):
        options = {"sets": {"demo": DEMO | {"depth_scale": depth_scale}}}
        return write_card(tmp_path / "demo.yaml", options=options, splits={"test": {"scenes": 1}}, size=[60, 72])

    prepare(demo(0.2), small_mat, tmp_path / "out", processes=1)
    prepare(demo(0.2), small_mat, tmp_path / "out", processes=1)
    with pytest.raises(DualPixelError, match="other files or settings"):
        prepare(demo(0.3), small_mat, tmp_path / "out", processes=1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"offfset": 0.1}, "did you mean 'offset'"),
        ({"sets": {"one": {key: DEMO[key] for key in DEMO if key != "crop"}}}, "sets.one: the key 'crop' is missing"),
        ({"sets": {"one": DEMO | {"depth_scale": 0}}}, "depth_scale of a camera set is 0"),
        ({"sets": {"one": DEMO | {"frames": [0, 5]}}}, r"frames \[0, 5\]"),
    ],
)
def test_wrong_options_are_refused_in_words(tmp_path, options, said):
    card = write_card(tmp_path / "wrong.yaml", options=options)
    with pytest.raises(DualPixelError, match=said):
        get_reader(card, tmp_path)


def test_files_that_are_not_the_labelled_set_are_refused(tmp_path, small_card):
    reader = get_reader(small_card, tmp_path)
    with pytest.raises(DualPixelError, match="no such file"):
        reader.scenes("train")
    scipy.io.savemat(tmp_path / FILE, {"images": np.zeros((2, 2)), "depths": np.zeros(2)})
    with pytest.raises(DualPixelError, match="not a MATLAB 7.3 file"):
        reader.scenes("train")
    with h5py.File(tmp_path / FILE, "w") as file:
        file["images"] = np.zeros((1, 3, 8, 8), np.uint8)
    with pytest.raises(DualPixelError, match="no array 'depths' of 3 axes; it holds images"):
        reader.scenes("train")


def test_raw_depth_with_holes_is_refused(tmp_path, small_card):
    depth = np.ones((60, 72), np.float32)
    depth[3, 4] = 0
    write_mat(tmp_path, [np.zeros((60, 72, 3), np.uint8)], [depth])
    reader = get_reader(small_card, tmp_path)
    with pytest.raises(DualPixelError, match="in-painted"):
        reader.read(reader.scenes("train")[0])


def test_listing_the_reader_needs_no_torch():
    code = "import sys, dualpixel.data.readers.ddd_syn; sys.exit('torch' in sys.modules or 'h5py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
