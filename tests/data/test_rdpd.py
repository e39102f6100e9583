import json
import math
import pickle
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
import yaml

from dualpixel.data.images import read_image, write_png
from dualpixel.data.index import load_index
from dualpixel.data.prepare import prepare
from dualpixel.data.readers import Scene, get_reader
from dualpixel.data.readers.rdpd import decode_depth, defocus_layers
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.registry import get_card
from dualpixel.data.verify import verify_split
from dualpixel.errors import DualPixelError
from dualpixel.optics import distort
from dualpixel.paths import find

CAMERAS = ((4, 6, 5), (5, 8, 6), (7, 5, 8), (10, 13, 12), (22, 10, 30))
SEQUENCES = {"SEQ1": 0, "SEQ3": 2, "SEQ6": 5}
"""Of which there are stored results: folder -> index."""


@pytest.fixture(scope="module")
def stored(reference):
    return dict(np.load(reference / "rdpd_sim.npz"))


@pytest.fixture(scope="module")
def synthia(stored, tmp_path_factory):
    """A folder as SYNTHIA-SF unpacks: the stored frame once in each sequence that has results."""
    root = tmp_path_factory.mktemp("synthia")
    for name in SEQUENCES:
        write_png(root / "SYNTHIA-SF" / name / "RGBLeft" / "0000007.png", stored["rgb"])
        write_png(root / "SYNTHIA-SF" / name / "DepthLeft" / "0000007.png", stored["depth_rgb"])
    return root


def write_card(path, **options):
    """Write the card for small frames, with other options of its reader."""
    card = yaml.safe_load(find("registry", "rdpd").read_text())
    card["reader"]["options"] |= options
    card |= {"name": path.stem, "size": [64, 96]}
    path.write_text(yaml.safe_dump(card, sort_keys=False))
    return get_card(path)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The card without distortion."""
    return write_card(tmp_path_factory.mktemp("cards") / "rdpd_straight.yaml", radial_distortion=False)


@pytest.fixture(scope="module")
def results(straight, synthia):
    """Scene and arrays of everything there are results of."""
    reader = get_reader(straight, synthia)
    return [(scene, reader.read(scene)) for split in ("train", "test") for scene in reader.scenes(split)]


def test_the_card_has_the_cameras_and_profiles_of_the_generator(stored):
    options = get_card("rdpd").reader.options
    assert tuple((c["focal_length"], c["f_number"], c["focus_distance"]) for c in options["cameras"]) == CAMERAS
    reader = get_reader(get_card("rdpd"))
    assert [camera.barrel for camera in reader.options.cameras] == [
        (0.01, 0.0028, 0.0028, 0.9),
        (0.008, 0.002, 0.002, 0.92),
        (-0.0055, -0.0013, -0.0013, 1.009),
        (-0.007, -0.0036, -0.0036, 1.015),
        (-0.008, -0.005, -0.005, 1.015),
    ]
    assert {name: split.scenes for name, split in get_card("rdpd").splits.items()} == {
        "train": 10115,
        "val": 1005,
        "test": 1005,
    }


@pytest.mark.parametrize(("camera", "count"), list(zip(range(5), (19, 22, 38, 31, 45), strict=True)))
def test_layers_are_the_stored_ones_with_the_opposite_sign(stored, camera, count):
    layers = defocus_layers(*CAMERAS[camera])
    assert layers.shape == (count, 3)
    assert np.array_equal(-layers[:, 0], stored[f"layers_set{camera}"][:, 0])
    assert np.array_equal(layers[:, 1:], stored[f"layers_set{camera}"][:, 1:])


def test_depth_is_decoded_as_synthia_codes_it(stored):
    assert np.array_equal(decode_depth(stored["depth_rgb"]), stored["depth_m"])
    assert decode_depth(np.full((1, 1, 3), 255, np.uint8)) == 1000


def test_views_are_the_stored_ones_within_a_grey_level(results, stored):
    assert len(results) == 15
    for scene, arrays in results:
        place = f"set{scene.metadata['camera_set']}_seq{SEQUENCES[scene.metadata['sequence']]}"
        for name in ("left", "right", "combined"):
            difference = np.abs(arrays[name].astype(int) - stored[f"{place}_{name[0]}"])
            assert difference.max() <= 1, (place, name)
            assert (difference > 0).mean() < 0.01
        assert np.array_equal(arrays["sharp"], stored["rgb"])
        profile = [scene.metadata[name] for name in ("order", "cutoff", "beta")]
        assert profile == stored[f"bw_seq{SEQUENCES[scene.metadata['sequence']]}"].tolist()


def test_blur_is_the_radius_of_the_layer_and_positive_before_the_focus(results, stored):
    depth = stored["depth_m"].clip(max=250)
    for scene, arrays in results:
        assert np.array_equal(arrays["depth"], depth.astype(np.float32))
        layers = stored[f"layers_set{scene.metadata['camera_set']}"]
        expected = np.select([(depth >= first) & (depth < last) for _, first, last in layers], list(-layers[:, 0]))
        assert np.array_equal(arrays["blur"], expected)
        assert (arrays["depth"][arrays["blur"] > 0] < scene.metadata["focus_distance"]).all()
        assert arrays["blur"].max() > 0 > arrays["blur"].min()


def test_sequences_are_numbered_by_camera_and_then_by_sequence(straight, synthia):
    reader = get_reader(straight, synthia)
    keys = {split: [scene.key for scene in reader.scenes(split)] for split in straight.splits}
    assert keys["val"] == keys["test"] == [f"seq_{number:03d}_0000007" for number in (3, 9, 15, 21, 27)]
    assert keys["train"] == [f"seq_{6 * camera + place:03d}_0000007" for camera in range(5) for place in (1, 6)]
    assert [scene.group for scene in reader.scenes("test")] == [f"set{camera}" for camera in range(5)]


def test_left_right_combined_sharp_and_maps_are_distorted_alike(synthia, straight, tmp_path):
    bent, reference = (get_reader(card, synthia) for card in (write_card(tmp_path / "rdpd_bent.yaml"), straight))
    for scene, plain in zip(bent.scenes("test"), reference.scenes("test"), strict=True):
        if scene.metadata["camera_set"] not in (0, 4):
            continue
        arrays, flat = bent.read(scene), reference.read(plain)
        for name in ("left", "right", "combined", "sharp"):
            whole = torch.from_numpy(flat[name] / 255).permute(2, 0, 1)[None]
            expected = distort(whole, scene.metadata["barrel"])[0].permute(1, 2, 0).numpy() * 255
            assert np.abs(arrays[name] - expected).max() < 0.51
            assert not np.array_equal(arrays[name], flat[name])
        for name in ("depth", "blur"):
            whole = torch.from_numpy(flat[name])[None, None]
            assert np.array_equal(
                arrays[name], distort(whole, scene.metadata["barrel"], "nearest", "border")[0, 0].numpy()
            )


def test_where_the_distorted_image_shows_nothing_it_is_black_and_its_maps_go_on(synthia, stored, tmp_path):
    camera = {"focal_length": 4, "f_number": 6, "focus_distance": 5, "barrel": [0, 0, 0, 2]}
    reader = get_reader(write_card(tmp_path / "small.yaml", cameras=[camera]), synthia)
    arrays = reader.read(reader.scenes("test")[0])
    assert (arrays["sharp"][:15] == 0).all() and (arrays["left"][:, :23] == 0).all()
    assert (arrays["depth"][:15, :23] == np.float32(stored["depth_m"][0, 0].clip(max=250))).all()
    assert np.isfinite(arrays["blur"]).all()


def test_an_alpha_channel_is_left_away(straight, synthia, stored, tmp_path, results):
    for name, image in (("RGBLeft", stored["rgb"]), ("DepthLeft", stored["depth_rgb"])):
        path = tmp_path / "SEQ3" / name / "0000007.png"
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), np.dstack([image[:, :, ::-1], np.full(image.shape[:2], 255, np.uint8)]))
    assert np.array_equal(read_image(path, 8, drop_alpha=True), stored["depth_rgb"])
    with pytest.raises(DualPixelError, match="4 channels"):
        read_image(path)
    reader = get_reader(straight, tmp_path)  # the sequences may also lie in the source folder itself
    arrays = reader.read(reader.scenes("test")[0])
    known = next(known for scene, known in results if scene.key == "seq_003_0000007")
    assert all(np.array_equal(arrays[name], known[name]) for name in arrays)


def test_a_scene_is_made_from_its_metadata_alone_by_any_process(results, straight, synthia):
    reader = pickle.loads(pickle.dumps(get_reader(straight, synthia)))
    scene, arrays = results[3]
    told = Scene("another-name", metadata=json.loads(json.dumps(scene.metadata)), files=scene.files)
    again = reader.read(told)
    assert all(np.array_equal(again[name], arrays[name]) for name in straight.fields)


def test_the_whole_card_is_prepared_in_two_processes(synthia, straight, results, tmp_path):
    out = prepare(straight, synthia, tmp_path / "out", processes=2, partial=True)
    assert [len(load_index(out / split).samples) for split in ("train", "val", "test")] == [10, 5, 5]
    assert all(verify_split(out / split) == [] for split in straight.splits)
    test = PreparedSplit(out / "test")
    known = next(known for scene, known in results if scene.key == test.index.samples[4].key)
    assert all(np.array_equal(test.array(4, name), known[name]) for name in straight.fields)
    assert test.index.samples[4].metadata["focal_length"] == 22


def test_a_frame_without_depth_is_refused(straight, stored, tmp_path):
    write_png(tmp_path / "SEQ3" / "RGBLeft" / "0000001.png", stored["rgb"])
    with pytest.raises(DualPixelError, match=r"1 frames of .*SEQ3 lie in only one of RGBLeft and DepthLeft"):
        get_reader(straight, tmp_path).scenes("test")


def test_depth_of_another_size_is_refused(straight, stored, tmp_path):
    write_png(tmp_path / "SEQ3" / "RGBLeft" / "0000001.png", stored["rgb"])
    write_png(tmp_path / "SEQ3" / "DepthLeft" / "0000001.png", stored["depth_rgb"][:-1])
    reader = get_reader(straight, tmp_path)
    with pytest.raises(DualPixelError, match=r"seq_003_0000001 is \(64, 96, 3\), its depth \(63, 96, 3\)"):
        reader.read(reader.scenes("test")[0])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"smoothin": 7}, "did you mean 'smoothing'"),
        ({"splits": {"test": ["SEQ9"]}}, "unknown sequence 'SEQ9'"),
        ({"depth_bins": 0}, "must be positive"),
        (
            {"cameras": [{"focal_length": 5, "f_number": 1, "focus_distance": 4, "barrel": [0, 0, 0, 1]}]},
            "beyond the focal length",
        ),
        (
            {"cameras": [{"focal_length": 4, "f_number": math.nan, "focus_distance": 5, "barrel": [0, 0, 0, 1]}]},
            "f-number nan",
        ),
    ],
)
def test_wrong_options_are_refused_in_words(tmp_path, options, said):
    card = write_card(tmp_path / "wrong.yaml", **options)
    with pytest.raises(DualPixelError, match=said):
        get_reader(card)


def test_listing_the_reader_needs_no_torch():
    code = "import sys, dualpixel.data.readers.rdpd; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
