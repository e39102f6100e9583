import json
import math
import pickle
import re
import socket
import subprocess
import sys

import numpy as np
import pytest

from dualpixel.data.card import Card, ReaderChoice, Split
from dualpixel.data.made_up_depth import made_up_depth
from dualpixel.data.readers import Scene, get_reader, quickstart
from dualpixel.errors import DualPixelError

SPLITS = ("train", "val", "test")


def reader(**options):
    text = dict.fromkeys(["version", "title", "citation", "licence", "homepage", "download"], "x")
    choice = ReaderChoice("quickstart", options)
    fields = ["left", "right", "combined", "sharp", "depth", "blur"]
    splits = {split: Split(1) for split in SPLITS}
    return get_reader(
        Card(name="quickstart", fields=fields, bit_depth=16, splits=splits, reader=choice, generated=True, **text)
    )


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


@pytest.fixture(scope="module")
def pictures():
    """One training scene of each photograph, and all measured ones: (split, scene, arrays)."""
    maker = reader()
    chosen = [("train", scene) for scene in maker.scenes("train") if re.fullmatch("brick-00|[a-z]+-0[12]", scene.key)]
    chosen += [(split, scene) for split in ("val", "test") for scene in maker.scenes(split)]
    return [(split, scene, maker.read(scene)) for split, scene in chosen]


def psnr(image, target):
    return -10 * math.log10((((image.astype(np.float64) - target) / 65535) ** 2).mean())


def test_scenes_are_as_many_as_said_with_names_of_their_own():
    scenes = [scene for split in SPLITS for scene in reader().scenes(split)]
    assert [len(reader().scenes(split)) for split in SPLITS] == [36, 3, 4]
    assert len({scene.key for scene in scenes}) == len(scenes)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,60}", scene.key) for scene in scenes)
    assert {scene.group for scene in reader().scenes("train")} == {"made-up"}
    assert {scene.group for split in ("val", "test") for scene in reader().scenes(split)} == {"measured"}


def test_no_camera_and_no_photograph_of_training_is_seen_again():
    def settings(split, *names):
        return {tuple(scene.metadata[name] for name in names) for scene in reader().scenes(split)}

    cameras = [settings(split, "aperture_px", "focus_distance_m") for split in SPLITS]
    assert sum(map(len, cameras)) == len(set.union(*cameras)) == 43
    assert not settings("train", "photograph") & (settings("val", "photograph") | settings("test", "photograph"))


def test_a_scene_is_made_from_its_metadata_alone_by_any_process(pictures):
    maker = pickle.loads(pickle.dumps(reader()))
    for _, scene, arrays in (pictures[0], pictures[-1]):
        told = Scene("another-name", metadata=json.loads(json.dumps(scene.metadata)))
        again = maker.read(told)
        assert all(np.array_equal(again[name], arrays[name]) for name in arrays)


def test_another_seed_makes_other_training_scenes():
    first, second = reader().scenes("train"), reader(seed=1).scenes("train")
    assert all(a.key == b.key and a.metadata["seed"] != b.metadata["seed"] for a, b in zip(first, second, strict=True))
    assert reader(seed=1).scenes("test") == reader().scenes("test")


def test_fields_have_their_storage_and_size(pictures):
    for split, _, arrays in pictures:
        size = (192, 256) if split == "train" else (500, 741)
        for name in ("left", "right", "combined", "sharp"):
            assert (arrays[name].dtype, arrays[name].shape) == (np.uint16, (*size, 3))
        for name in ("depth", "blur"):
            assert (arrays[name].dtype, arrays[name].shape) == (np.float32, size)
            assert np.isfinite(arrays[name]).all()


def test_combined_is_the_mean_of_the_views(pictures):
    for _, _, arrays in pictures:
        mean = (arrays["left"].astype(np.float64) + arrays["right"]) / 2
        assert np.abs(arrays["combined"] - mean).max() <= 1


def test_blur_is_positive_nearer_than_the_focus_and_of_moderate_size(pictures):
    for _, scene, arrays in pictures:
        nearer = arrays["depth"] < scene.metadata["focus_distance_m"]
        assert np.array_equal(arrays["blur"] > 0, nearer)
        assert 2 < np.abs(arrays["blur"]).max() < 8


def test_near_content_lies_further_right_in_the_left_view(pictures):
    _, scene, arrays = next(p for p in pictures if p[1].key == "motorcycle-val-2")
    assert np.median(arrays["blur"]) > 2
    grey = {name: arrays[name][300:450, 100:640].astype(np.float64).mean(-1) for name in ("left", "right")}
    differences = {
        shift: np.abs(grey["left"] - np.roll(grey["right"], shift, 1))[:, 8:-8].mean() for shift in range(-6, 7)
    }
    assert 2 <= min(differences, key=differences.get) <= 5


def test_the_blurred_image_is_clearly_but_not_hopelessly_worse_than_the_sharp(pictures):
    for split, _, arrays in pictures:
        low, high = (20, 30) if split == "train" else (23, 27)
        assert low < psnr(arrays["combined"], arrays["sharp"]) < high
        assert psnr(arrays["combined"], arrays["sharp"]) > psnr(arrays["left"], arrays["sharp"])


def test_training_blur_is_like_that_of_the_measured_scene(pictures):
    made_up, measured = (
        np.concatenate([np.abs(a["blur"]).ravel()[::50] for split, _, a in pictures if (split == "train") is train])
        for train in (True, False)
    )
    assert made_up.mean() == pytest.approx(measured.mean(), rel=0.4)


def test_sharp_is_the_photograph_halved_or_the_whole_measured_one(pictures):
    # byte values repeated in both bytes; means of four of them are within rounding of a quarter of that grid
    for split, _, arrays in pictures:
        quarters = arrays["sharp"].astype(np.float64) * 4 / 257
        assert np.abs(quarters - quarters.round()).max() < 0.01
        assert bool((arrays["sharp"] % 257).any()) is (split == "train")


def test_made_up_depth_is_of_its_seed_and_has_both_slopes_and_jumps():
    maps = [made_up_depth(120, 160, seed, 2.1, 5.0) for seed in range(8)]
    assert np.array_equal(maps[3], made_up_depth(120, 160, 3, 2.1, 5.0))
    assert not np.array_equal(maps[3], maps[4])
    for depth in maps:
        steps = np.abs(np.diff(1 / depth, axis=1))
        assert depth.min() >= np.float32(2.1) and depth.max() <= np.float32(5.0)
        assert (steps > 0.02).sum() > 50
        assert ((steps > 1e-5) & (steps < 0.005)).mean() > 0.2


def test_disparity_becomes_depth_by_the_calibration():
    # f = 994.978 px, baseline 193.001 mm, doffs 31.086 px
    found = quickstart.depth_of_disparity(np.array([0.0, 38.733, np.inf, np.nan]))
    assert found == pytest.approx([6.17744, 2.75042, np.nan, np.nan], rel=1e-5, nan_ok=True)


def test_an_unknown_split_is_refused():
    with pytest.raises(DualPixelError, match="did you mean 'train'"):
        reader().scenes("trian")


def test_a_wheel_without_photographs_is_not_downloaded_but_named(monkeypatch):
    monkeypatch.setattr(quickstart, "find_spec", lambda name: None)
    maker = reader()
    with pytest.raises(DualPixelError, match="pip install"):
        maker.read(maker.scenes("train")[0])


def test_listing_scenes_needs_no_torch():
    code = "import sys, dualpixel.data.readers.quickstart; sys.exit('torch' in sys.modules or 'skimage' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
