"""Views that are rendered while a network trains, from sharp images and depth."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from rgbd_scenes import SIZE, write_rgbd, write_rgbd_card

from dualpixel import DualPixelError
from dualpixel.data import DualPixelData
from dualpixel.data.augmentation import Augmentation
from dualpixel.data.prepare import prepare
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.registry import get_card
from dualpixel.data.schema import build
from dualpixel.data.simulated import Place, SimulatedViews, camera_of
from dualpixel.data.stream import EvaluationSamples, TrainingSamples, collate, to_floats
from dualpixel.optics import MODES, Camera, Sensor, combine, simulate

VIEWS = SimulatedViews(f_number=(1.0, 2.0), pixel_pitch_m=8e-5, maximum_radius=6.0)
FIELDS = ("left", "right", "combined", "sharp", "depth", "blur")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Prepared RGB-D scenes, and their card."""
    top = tmp_path_factory.mktemp("rgbd")
    for split, count in (("train", 3), ("val", 2), ("test", 2)):
        write_rgbd(top / "source" / split, [f"{split}{number}" for number in range(count)])
    card = write_rgbd_card(top / "rgbd_small.yaml")
    return card, prepare(get_card(card), top / "source", top / "shards", processes=1)


@pytest.fixture(scope="module")
def train(shards):
    return PreparedSplit(shards[1] / "train")


def rendered(optics, *samples):
    return optics(to_floats(collate(samples)))


def crops(train, optics=VIEWS, seed=0, **changes):
    return TrainingSamples(train, [], 32, "random", 40, optics=optics, seed=seed, **changes)


def whole_scene(train, optics, sample):
    """The whole scene of a training sample through the camera that was drawn for it."""
    position = [one.key for one in train.index.samples].index(sample["key"])
    everything = Place(0, 0, *train.size(position))
    arrays = {name: np.asarray(train.array(position, name)) for name in ("sharp", "depth")}
    places = {"cut": everything, "frame": everything}
    return rendered(optics, {**arrays, **places, "camera": sample["camera"], "key": sample["key"]})


@pytest.mark.parametrize("mode", MODES)
def test_a_crop_is_what_the_whole_scene_shows_there(train, mode):
    optics = replace(VIEWS, mode=mode)
    samples = crops(train, optics)
    blurred = 0
    for position in range(0, len(samples), 17):
        sample = samples[(0, position)]
        crop, scene = rendered(optics, sample), whole_scene(train, optics, sample)
        inside = Place(0, 0, 32, 32).within(sample["frame"])
        for name in FIELDS:
            assert crop[name].shape[-2:] == (32, 32)
            expected = scene[name][..., inside.rows, inside.columns]
            assert torch.allclose(crop[name], expected, rtol=0, atol=2e-6), (name, position)
        blurred = max(blurred, float(crop["blur"].abs().max()))
    assert blurred > 5  # else nothing spills over the crop's border


def test_views_are_those_of_the_camera_that_was_drawn(train):
    sample = crops(train)[(2, 5)]
    scene = whole_scene(train, VIEWS, sample)
    camera = camera_of(sample["camera"])
    left, right = simulate(scene["sharp"], scene["depth"], camera, maximum_radius=6.0)
    assert torch.equal(scene["left"], left) and torch.equal(scene["right"], right)
    assert torch.equal(scene["combined"], combine(left, right))
    assert torch.allclose(scene["blur"], camera.blur_radius(scene["depth"]).clamp(-6, 6), rtol=0, atol=1e-5)


def test_mirrored_samples_have_the_mirrored_and_exchanged_views(train):
    optics = replace(VIEWS, sensor=Sensor(vignetting=0.5, imbalance=0.3))
    plain = crops(train, optics)
    for flipped, dimension in (("mirror", -1), ("flip", -2)):
        changed = crops(train, optics, augmentation=Augmentation(**{flipped: 1.0}))
        for position in range(0, len(plain), 13):
            one, other = rendered(optics, plain[(0, position)]), rendered(optics, changed[(0, position)])
            exchanged = {"left": "right", "right": "left"} if flipped == "mirror" else {}
            for name in FIELDS:
                expected = one[exchanged.get(name, name)].flip(dimension)
                assert torch.allclose(other[name], expected, rtol=0, atol=1e-6), (flipped, name)


def test_cameras_depend_on_seed_epoch_and_sample_alone(train):
    drawn = {position: crops(train)[(3, position)]["camera"] for position in (7, 0, 100)}
    assert drawn[0] == crops(train)[(3, 0)]["camera"]
    others = [drawn[7], crops(train)[(4, 0)]["camera"], crops(train, seed=1)[(3, 0)]["camera"]]
    assert all(
        other[name] != drawn[0][name] for other in others for name in ("aperture_px", "focus_distance_m", "noise")
    )


def test_evaluation_sees_the_same_views_in_every_run(shards):
    split = PreparedSplit(shards[1] / "test")
    first, again = (EvaluationSamples(split, optics=VIEWS) for _ in range(2))
    assert first.fields == list(FIELDS)
    assert first[0]["camera"] == again[0]["camera"] != first[1]["camera"]
    batch = rendered(VIEWS, first[0])
    assert batch["left"].shape == (1, 3, *SIZE)
    assert not torch.equal(batch["left"], batch["right"])


def test_values_are_drawn_from_their_whole_ranges():
    optics = SimulatedViews(focal_length_m=(0.03, 0.06), f_number=(2.0, 8.0), focus=(1.0, 4.0), depth_scale=0.5)
    random = np.random.default_rng(0)
    cameras = [Camera(**{k: v for k, v in optics.draw(random, 0.5, 9.0).items() if k != "noise"}) for _ in range(2000)]
    for low, middle, high, values in (
        (0.03, 0.03 * 2**0.5, 0.06, [camera.focal_length_m for camera in cameras]),
        (2.0, 4.0, 8.0, [camera.f_number for camera in cameras]),
        (1.0, 1.6, 4.0, [camera.focus_distance_m for camera in cameras]),
    ):
        assert low <= min(values) < low * 1.01 and high / 1.01 < max(values) <= high * (1 + 1e-12)
        assert np.median(values) == pytest.approx(middle, rel=0.05)
    assert {camera.depth_scale for camera in cameras} == {0.5}
    assert cameras[0].focal_length_m / cameras[0].focal_length_px == pytest.approx(5.6e-5)


@pytest.mark.parametrize(("focus", "expected"), [("near", (2.0, 2.0)), ("far", (18.0, 18.0)), ("scene", (2.0, 18.0))])
def test_focus_follows_the_scene(focus, expected):
    random = np.random.default_rng(0)
    optics = SimulatedViews(focus=focus, depth_scale=0.5)
    drawn = [optics.draw(random, 1.0, 9.0)["focus_distance_m"] for _ in range(300)]
    assert min(drawn) == pytest.approx(expected[0], rel=0.02)
    assert max(drawn) == pytest.approx(expected[1], rel=0.2)
    assert SimulatedViews(focus="far").draw(random, 1.0, float("inf"))["focus_distance_m"] == float("inf")


def test_noise_is_drawn_for_each_sample_by_itself(train):
    clean, noisy = VIEWS, replace(VIEWS, sensor=Sensor(shot_noise=1e-3, read_noise=0.01))
    samples = [crops(train, noisy)[(0, position)] for position in (0, 1)]
    together, alone = rendered(noisy, *samples), rendered(noisy, samples[1])
    assert torch.equal(together["left"][1:], alone["left"])
    left, right = together["left"], together["right"]
    recorded = (left > 0) & (left < 1) & (right > 0) & (right < 1)
    assert recorded.float().mean() > 0.5  # the rest is clipped
    assert torch.equal(together["combined"][recorded], combine(left, right)[recorded])
    noise = left - rendered(clean, *samples)["left"]
    assert 0.01 < noise.std() < 0.05
    assert torch.equal(together["sharp"], rendered(clean, *samples)["sharp"])


def test_what_noise_and_uneven_light_take_out_of_range_is_clipped_as_in_a_file(train):
    optics = replace(VIEWS, sensor=Sensor(read_noise=0.5, imbalance=1.0))
    batch = rendered(optics, crops(train, optics)[(0, 0)])
    for name in ("left", "right", "combined"):
        assert (float(batch[name].min()), float(batch[name].max())) == (0, 1)


def test_a_scene_that_cannot_be_rendered_is_named(train, monkeypatch):
    close = replace(VIEWS, focus=0.04)
    with pytest.raises(DualPixelError, match="^train[0-2]: .*within the focal length"):
        rendered(close, crops(train, close)[(0, 0)])
    for hole in (0, np.nan):
        broken = PreparedSplit(train.folder)
        depth = np.array(train.array(0, "depth"))
        depth[3, 5] = hole
        monkeypatch.setattr(broken, "array", lambda position, field, depth=depth: depth)
        with pytest.raises(DualPixelError, match="train: train0: depth from .* positive metres alone"):
            EvaluationSamples(broken, optics=VIEWS)[0]


def test_equal_cameras_have_equal_fingerprints():
    whole = SimulatedViews(f_number=2, focus=[1, 3], maximum_radius=8)
    assert whole == SimulatedViews(f_number=2.0, focus=(1.0, 3.0), maximum_radius=8.0)
    told = whole.fingerprint()
    assert told == build(SimulatedViews, {"f_number": 2.0, "focus": [1, 3.0], "maximum_radius": 8}, "x").fingerprint()
    assert told != replace(whole, focus=(1.0, 3.1)).fingerprint()


def test_vignetting_of_a_crop_is_that_of_the_frame(train):
    optics = replace(VIEWS, sensor=Sensor(vignetting=0.8, imbalance=0.5))
    sample = crops(train, optics)[(0, 3)]
    crop, scene = rendered(optics, sample), whole_scene(train, optics, sample)
    inside = Place(0, 0, 32, 32).within(sample["frame"])
    assert torch.allclose(crop["left"], scene["left"][..., inside.rows, inside.columns], rtol=0, atol=2e-6)


def test_the_data_module_gives_what_the_recipe_needs(shards):
    card, root = shards
    data = DualPixelData(str(card), root=root, batch_size=2, crop_size=32, crops="random", num_workers=0, optics=VIEWS)
    data.require("fit", ["left", "right"], ["sharp"])
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert batch["left"].shape == batch["right"].shape == batch["sharp"].shape == (2, 3, 32, 32)
    assert batch["left"].dtype == torch.float32 and 0 <= batch["left"].min() <= batch["left"].max() <= 1
    plain = DualPixelData(str(card), root=root)
    with pytest.raises(DualPixelError, match="has no left, right .it has sharp, depth."):
        plain.require("test", ["left", "right"], ["sharp"])
    assert data.fingerprint("test").startswith(plain.fingerprint("test") + "-optics-")
    other = DualPixelData(str(card), root=root, optics=replace(VIEWS, f_number=2.0))
    assert other.fingerprint("test") != data.fingerprint("test")


def test_the_stream_is_the_same_with_workers(shards):
    card, root = shards

    def stream(workers):
        data = DualPixelData(
            str(card), root=root, batch_size=4, crop_size=32, crops="random", num_workers=workers, optics=VIEWS
        )
        return [
            data.on_after_batch_transfer(batch, 0) for _, batch in zip(range(3), data.train_dataloader(), strict=False)
        ]

    for one, other in zip(stream(0), stream(2), strict=True):
        assert one["key"] == other["key"] and one["camera"] == other["camera"]
        assert torch.equal(one["left"], other["left"])


def test_a_set_without_depth_cannot_be_rendered(small_card, small_shards):
    data = DualPixelData(str(small_card), root=small_shards, optics=VIEWS)
    with pytest.raises(DualPixelError, match="renders from sharp and depth; dpdd_small test has no depth"):
        data.require("test", ["left", "right"], ["sharp"])


def test_crops_whose_surroundings_differ_in_size_are_refused(tmp_path):
    for name, size in (("a", (72, 96)), ("b", (70, 96))):
        write_rgbd(tmp_path / "source" / "train", [name], size=size)
    card = write_rgbd_card(tmp_path / "rgbd_mixed.yaml", splits={"train": {"scenes": None}}, shares={})
    split = PreparedSplit(prepare(get_card(card), tmp_path / "source", tmp_path / "shards", processes=1) / "train")
    TrainingSamples(split, [], 58, "random", 2, optics=VIEWS)  # 58 and 6 on each side are 70
    with pytest.raises(DualPixelError, match="within 76x76 pixels of scene, of which the smallest scenes have 70x76"):
        TrainingSamples(split, [], 64, "random", 2, optics=VIEWS)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mode": "rects"}, "optics.mode 'rects'; did you mean 'rect'"),
        ({"f_number": [4, 2]}, r"optics.f_number \(4.0, 2.0\): must be a positive number, or a range"),
        ({"focal_length_m": -1}, "optics.focal_length_m -1.0: must be a positive"),
        ({"focus": "middle"}, "focus: found 'middle'"),
        ({"options": {"maximum_radius": 4}}, "maximum_radius is given as optics.maximum_radius"),
        ({"maximum_radius": 0}, "optics.maximum_radius 0.0: must be a positive number of pixels"),
        ({"options": {"vertical": "up"}}, "optics.options .*vertical is 'up'; allowed: sym, down"),
        ({"options": {"sideways": 1}}, "optics.options .*sideways"),
        ({"sensor": {"shot_noise": -1}}, "test: sensor: Sensor: shot_noise is -1.0"),
        ({"f_numbers": 2}, "unknown key 'f_numbers'; did you mean 'f_number'"),
    ],
)
def test_settings_that_no_camera_has_are_refused(settings, words):
    with pytest.raises(DualPixelError, match=words):
        build(SimulatedViews, settings, "test")


@pytest.mark.parametrize("value", ["2", [1.0], [1.0, 2.0, 3.0], None, float("nan")])
def test_what_is_no_range_is_refused_in_python_too(value):
    with pytest.raises(DualPixelError, match="optics.f_number .* must be a positive number, or a range"):
        SimulatedViews(f_number=value)
    with pytest.raises(DualPixelError, match="optics.focus .* or one of near, far, scene"):
        SimulatedViews(focus=value)
