import shutil

import cv2
import numpy as np
import OpenEXR
import pytest
import yaml
from command_line import refused

from dualpixel.cli import main
from dualpixel.data import DualPixelData
from dualpixel.data.orientation import turned
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.verify import verify_split
from dualpixel.paths import find

SCENE = "20180302_mmmm_6527_20180303T130940"
PARTS = {"apt1_0": (600, 640), "apt2_0": (100, 300)}
SIZE = (192, 128)
ARCHIVE = {
    "left": "{}/left_pd/{}/result_leftPd_center.png",
    "right": "{}/right_pd/{}/result_rightPd_center.png",
    "depth": "{}/merged_depth/{}/result_merged_depth_center.png",
}


@pytest.fixture(scope="session")
def real(shared):
    return shared / "data" / "google_pixel_dp" / SCENE


@pytest.fixture(scope="session")
def parts(real):
    """Windows out of the real scene: views, and depth and confidence of half their size."""
    images = {name: cv2.imread(str(real / f"{name}.png"), cv2.IMREAD_UNCHANGED) for name in ("left", "right", "depth")}
    images["confidence"] = np.load(real / "confidence.npz")["confidence"]

    def part(name, row, column):
        step = 2 if name in ("depth", "confidence") else 1
        return images[name][row // step : (row + SIZE[0]) // step, column // step : (column + SIZE[1]) // step]

    return {key: {name: part(name, *at) for name in images} for key, at in PARTS.items()}


def write_confidence(folder, kind, values):
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "npy":
        np.save(folder / "result_merged_conf_center.npy", values)
    else:
        channels = {"RGB": np.dstack([values, values, values])}
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        OpenEXR.File(header, channels).write(str(folder / "result_merged_conf_center.exr"))


@pytest.fixture
def source(parts, tmp_path):
    """Return a function that writes a folder of one of the layouts."""

    def make(kind):
        top = tmp_path / "source"
        for split in ("train", "test"):
            for key, images in parts.items():
                if kind == "single":
                    (top / key).mkdir(parents=True, exist_ok=True)
                    files = {name: f"{key}/{name}.png" for name in ARCHIVE}
                    np.savez(top / key / "confidence.npz", confidence=images["confidence"])
                else:
                    files = {name: pattern.format(split, key) for name, pattern in ARCHIVE.items()}
                    write_confidence(top / split / "merged_conf" / key, kind, images["confidence"])
                for name, file in files.items():
                    (top / file).parent.mkdir(parents=True, exist_ok=True)
                    assert cv2.imwrite(str(top / file), images[name])
        return top

    return make


@pytest.fixture
def card(tmp_path):
    """Return a function that writes the card for the small windows, with other options of the reader."""

    def make(**options):
        content = yaml.safe_load(find("registry", "google_dp_depth").read_text())
        content |= {"name": "small", "size": [SIZE[1], SIZE[0]]}
        content["reader"]["options"] |= options
        (tmp_path / "small.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        return str(tmp_path / "small.yaml")

    return make


def arguments(card, source, out, *more):
    return ["data", "prepare", card, "--source", str(source), "--out", str(out), "--processes", "1", *more]


def check(split, parts, least=0.5):
    """Hold what is stored against the windows, turned and enlarged by other means."""
    assert verify_split(split.folder) == []
    assert [sample.key for sample in split.index.samples] == list(parts)
    assert split.index.fields() == ["left", "right", "disparity"]
    for position, images in enumerate(parts.values()):
        for name in ("left", "right"):
            stored = np.asarray(split.array(position, name))
            expected = cv2.rotate(images[name], cv2.ROTATE_90_COUNTERCLOCKWISE)
            assert stored.dtype == np.uint8 and stored.shape == (SIZE[1], SIZE[0], 3)
            assert all(np.array_equal(stored[:, :, channel], expected) for channel in range(3))
        known = images["confidence"] >= least
        depth = np.kron(np.where(known, images["depth"] / 255, np.nan), np.ones((2, 2)))
        stored = np.asarray(split.array(position, "disparity"))
        assert stored.dtype == np.float32
        expected = cv2.rotate(depth, cv2.ROTATE_90_COUNTERCLOCKWISE).astype(np.float32)
        assert np.array_equal(stored, expected, equal_nan=True)
        assert split.index.samples[position].metadata["quarters_turned"] == 1
    assert any(np.isnan(np.asarray(split.array(position, "disparity"))).any() for position in range(len(parts)))


@pytest.mark.parametrize("kind", ["npy", "exr"])
def test_the_layout_of_the_archives_is_read(source, card, parts, tmp_path, kind):
    main(arguments(card(), source(kind), tmp_path / "out"))
    for split in ("train", "test"):
        check(PreparedSplit(tmp_path / "out" / split), parts)


def test_single_scenes_are_scenes_to_test_on(source, card, parts, tmp_path):
    main(arguments(card(), source("single"), tmp_path / "out", "--partial"))
    check(PreparedSplit(tmp_path / "out" / "test"), parts)
    assert not (tmp_path / "out" / "train").exists()


def test_the_threshold_of_confidence_is_the_cards(source, card, parts, tmp_path):
    unsure = [((images["confidence"] > 0.5) & (images["confidence"] < 0.99)).sum() for images in parts.values()]
    assert sum(unsure) > 0
    main(arguments(card(least_confidence=0.99), source("npy"), tmp_path / "out"))
    check(PreparedSplit(tmp_path / "out" / "test"), parts, least=0.99)


def test_the_stream_gives_the_same_values(source, card, tmp_path):
    path = card()
    main(arguments(path, source("npy"), tmp_path / "out"))
    split = PreparedSplit(tmp_path / "out" / "test")
    for position, batch in enumerate(DualPixelData(path, root=tmp_path / "out", num_workers=0).test_dataloader()):
        for name in ("left", "right", "disparity"):
            assert np.array_equal(batch[name][0].numpy(), split.array(position, name), equal_nan=True)


def shift(left, right, where, axis):
    """Number of pixels that the right view lies farther along an axis, by correlation over part of an image."""
    details = [cv2.GaussianBlur(view.astype(np.float32), (0, 0), 1.5) for view in (left, right)]
    left, right = (view - cv2.GaussianBlur(view, (0, 0), 12) for view in details)
    scores = {}
    for distance in np.arange(-2, 2.01, 0.125):
        move = np.float32([[1, 0, -distance * (axis == 1)], [0, 1, -distance * (axis == 0)]])
        moved = cv2.warpAffine(right, move, right.shape[::-1])
        scores[distance] = (left * moved)[where].sum() / np.sqrt(np.square(moved)[where].sum())
    return max(scores, key=scores.get)


def test_turned_scenes_have_the_sign_of_this_package(real, tmp_path):
    """Nearer than the focus the left view's copy lies to the right, so the right view's lies to the left."""
    shutil.copytree(real, tmp_path / "source" / SCENE)
    main(arguments("google_dp_depth", tmp_path / "source", tmp_path / "out", "--partial"))
    split = PreparedSplit(tmp_path / "out" / "test")
    left, right, disparity = (np.asarray(split.array(0, name)) for name in ("left", "right", "disparity"))
    assert left.shape == (1512, 2016, 3)
    inside = np.zeros(disparity.shape, bool)
    inside[40:-40, 40:-40] = True
    pole, background = (inside & (disparity < 0.8)), (inside & (disparity > 0.92))
    left, right = left[:, :, 0], right[:, :, 0]
    assert shift(left, right, pole, axis=1) < 0 < shift(left, right, background, axis=1)
    assert abs(shift(left, right, background, axis=0)) <= 0.125


def test_quarter_turns_can_be_taken_back():
    image = np.arange(24).reshape(4, 3, 2)
    assert turned(image, 1).shape == (3, 4, 2)
    assert turned(image, 1)[0, 0].tolist() == image[0, -1].tolist()  # the right edge comes to the top
    assert turned(image, 1)[-1, -1].tolist() == image[-1, 0].tolist()  # and the lower left corner to the right
    for quarters in range(-4, 5):
        assert np.array_equal(turned(turned(image, quarters), -quarters), image)
        assert turned(image, quarters).flags.c_contiguous


def rewrite(top, file, change):
    path = top / "test" / file
    cv2.imwrite(str(path), change(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))


DEPTH, LEFT = "merged_depth/apt2_0/result_merged_depth_center.png", "left_pd/apt2_0/result_leftPd_center.png"
CONFIDENCE = "merged_conf/apt2_0/result_merged_conf_center.npy"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda top: (top / "test" / LEFT).unlink(), ["scene apt2_0 lacks left", LEFT]),
        (lambda top: (top / "test" / CONFIDENCE).unlink(), ["scene apt2_0 lacks confidence", CONFIDENCE]),
        (lambda top: rewrite(top, LEFT, lambda image: image[2:]), ["apt2_0 has mismatched sizes: left 190x128, right 192x128"]),
        (lambda top: rewrite(top, DEPTH, lambda image: image[:, 1:]), ["apt2_0 has mismatched sizes", "depth 96x63"]),
        (lambda top: rewrite(top, LEFT, lambda image: image.astype(np.uint16) * 257), ["apt2_0", "16 bits per channel"]),
        (lambda top: rewrite(top, LEFT, lambda image: np.dstack([image, image, 255 - image])), ["apt2_0", "colour"]),
        (lambda top: np.save(top / "test" / CONFIDENCE, np.full((96, 64), 2.0)), ["apt2_0", "one number in [0, 1]"]),
        (lambda top: np.save(top / "test" / CONFIDENCE, np.array([{}], object)), ["apt2_0", "not a map"]),
        (lambda top: (top / "test" / CONFIDENCE).write_bytes(b""), ["apt2_0", "not a map that can be read"]),
        (lambda top: (top / "test" / CONFIDENCE).write_bytes(b"PK\3\4"), ["apt2_0", "not a map that can be read"]),
        (lambda top: (top / "test" / CONFIDENCE).write_bytes(b"none"), ["apt2_0", "not a map that can be read"]),
    ],
)  # fmt: skip
def test_damaged_folders_are_refused_in_one_line(source, card, tmp_path, capsys, damage, said):
    top = source("npy")
    damage(top)
    message = refused(capsys, *arguments(card(), top, tmp_path / "out"))
    assert len(message.splitlines()) == 1
    for one in said:
        assert one in message


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"least_confidence": 1.5}, "must lie in [0, 1]"),
        ({"unsorted": "tset"}, "did you mean 'test'"),
        ({"layouts": [{"left": "{split}/*.png"}]}, "expected left, right, disparity, confidence"),
        ({"quarter": 1}, "did you mean 'quarters'"),
    ],
)
def test_options_that_make_no_sense_are_refused(card, tmp_path, capsys, options, said):
    assert said in refused(capsys, *arguments(card(**options), tmp_path, tmp_path / "out"))


def test_the_card_says_what_is_not_verified(capsys):
    main(["data", "show", "google_dp_depth"])
    said = capsys.readouterr().out
    for one in (
        "Not verified",
        "0.2 m and 100 m",
        "counter-clockwise",
        "Garg, Rahul",
        "none stated",
        "any number of scenes",
    ):
        assert one in said
