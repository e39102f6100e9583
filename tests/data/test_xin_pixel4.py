import shutil

import cv2
import numpy as np
import pytest
import yaml
from command_line import refused
from scipy.ndimage import uniform_filter

from dualpixel.cli import main
from dualpixel.data import DualPixelData
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.registry import get_card
from dualpixel.data.verify import verify_split
from dualpixel.paths import find

KEYS = ("001", "009", "016")
WINDOW, MARGIN, SMOOTHING = (96, 128), (32, 34), 21
AUTHORS = {
    "left": "DP_data_pixel_4/{}_left.png",
    "right": "DP_data_pixel_4/{}_right.png",
    "sharp": "DP_data_pixel_4/gt_all_in_focus_im/{}_gt.png",
    "disparity": "DP_data_pixel_4/gt_defocus_map/{}_gt.png",
    "white_left": "DP_data_pixel_4/calibration/white_sheet_left.png",
    "white_right": "DP_data_pixel_4/calibration/white_sheet_right.png",
}
CUT = {
    "left": "{}/l.png",
    "right": "{}/r.png",
    "sharp": "{}/sharp.png",
    "disparity": "{}/defocus.png",
    "white_left": "calibration/white_l.png",
    "white_right": "calibration/white_r.png",
}
LAYOUTS = {"authors": (AUTHORS, MARGIN), "cut": (CUT, (0, 0))}


def part(file, margin, row=400, column=880):
    """A window out of a real file, with so many rows and columns round it."""
    image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    rows, columns = (
        slice(at - more, at + size + more) for at, size, more in zip((row, column), WINDOW, margin, strict=True)
    )
    return image[rows, columns]


@pytest.fixture(scope="session")
def real(shared):
    return shared / "data" / "pixel4_dp"


@pytest.fixture
def source(real, tmp_path):
    """Return a function that writes a folder of one of the layouts, made of windows out of the real files."""

    def make(layout):
        names, margin = LAYOUTS[layout]
        for key in KEYS:
            for field, name in names.items():
                file = tmp_path / "source" / name.format(key)
                file.parent.mkdir(parents=True, exist_ok=True)
                taken = part(real / CUT[field].format(key), (0, 0) if field in ("sharp", "disparity") else margin)
                assert cv2.imwrite(str(file), taken)
        return tmp_path / "source"

    return make


@pytest.fixture
def card(tmp_path):
    """Return a function that writes the card for the small windows, with other options of the reader."""

    def make(**options):
        content = yaml.safe_load(find("registry", "xin_pixel4").read_text())
        content |= {"name": "small", "size": [WINDOW[0] - 2, WINDOW[1] - 2], "splits": {"test": {"scenes": len(KEYS)}}}
        chosen = content["reader"]["options"]
        chosen |= {"window": list(WINDOW), "smoothing": SMOOTHING, **options}
        for layout, (_, margin) in zip(chosen["layouts"], LAYOUTS.values(), strict=True):
            layout["size"] = [size + 2 * more for size, more in zip(WINDOW, margin, strict=True)]
        (tmp_path / "small.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        return str(tmp_path / "small.yaml")

    return make


def prepared(card, source, out):
    main(["data", "prepare", card, "--source", str(source), "--out", str(out), "--processes", "1"])
    assert verify_split(out / "test") == []
    return PreparedSplit(out / "test")


def grey(split, position, name):
    """A stored image as one channel; all three must be the same."""
    stored = np.asarray(split.array(position, name))
    assert stored.dtype == np.uint16 and stored.shape[2] == 3
    assert (stored == stored[:, :, :1]).all()
    return stored[:, :, 0]


def expected_brightness(real, margin):
    """Left over right of the white sheet, averaged over a box by another program, without the border."""
    left, right = (part(real / CUT[name], margin).astype(np.float64) - 1024 for name in ("white_left", "white_right"))
    average = uniform_filter(left / right, SMOOTHING, mode="mirror")
    inner = tuple(slice(more + 1, more + 1 + size - 2) for size, more in zip(WINDOW, margin, strict=True))
    return average[inner]


def files_of(real, key):
    """The real windows of a scene without their border."""
    return {
        name: part(real / CUT[name].format(key), (0, 0))[1:-1, 1:-1] for name in ("left", "right", "sharp", "disparity")
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_field_is_what_the_files_say(source, card, real, tmp_path, layout):
    split = prepared(card(), source(layout), tmp_path / "out")
    assert [sample.key for sample in split.index.samples] == list(KEYS)
    assert split.index.fields() == ["left", "right", "combined", "sharp", "disparity"]
    brightness = expected_brightness(real, LAYOUTS[layout][1])
    for position, key in enumerate(KEYS):
        files = files_of(real, key)
        left, right, combined, sharp = (grey(split, position, name) for name in ("left", "right", "combined", "sharp"))
        # all 14 bits of the sensor come back, those of the corrected view too
        assert np.array_equal(left // 4 + 1024, files["left"]) and (left % 4 == 0).all()
        assert np.abs(right - 4 * (files["right"].astype(float) - 1024) * brightness).max() <= 0.5 + 1e-6
        assert np.array_equal(np.rint(right / (4 * brightness)) + 1024, files["right"])
        assert np.array_equal(combined, (left.astype(int) + right + 1) >> 1)
        gain = split.index.samples[position].metadata["sharp_gain"]
        assert gain == pytest.approx(combined.mean(dtype=float) / files["sharp"].mean(dtype=float), abs=1e-6)
        assert np.array_equal(sharp, np.rint(files["sharp"] * gain))
        disparity, known = np.asarray(split.array(position, "disparity")), files["disparity"] > 0
        assert disparity.dtype == np.float32 and np.array_equal(~np.isnan(disparity), known)
        assert np.array_equal(disparity[known], (files["disparity"][known] / 255).astype(np.float32))
    unknown = [np.isnan(np.asarray(split.array(position, "disparity"))).mean() for position in range(len(KEYS))]
    assert 0 < max(unknown) < 1


def test_the_stream_gives_the_same_values_as_floats(source, card, tmp_path):
    path = card()
    split = prepared(path, source("authors"), tmp_path / "out")
    batches = list(DualPixelData(path, root=tmp_path / "out", num_workers=0).test_dataloader())
    assert [batch["key"] for batch in batches] == [[key] for key in KEYS]
    for position, batch in enumerate(batches):
        assert batch["left"].shape == (1, WINDOW[0] - 2, WINDOW[1] - 2, 3)
        assert np.array_equal(batch["sharp"][0].numpy(), split.array(position, "sharp"))
        assert np.array_equal(batch["disparity"][0].numpy(), split.array(position, "disparity"), equal_nan=True)


def test_the_views_of_a_real_scene_come_to_one_brightness_and_the_sharp_image_too(real, tmp_path):
    for name in ("004", "calibration"):
        shutil.copytree(real / name, tmp_path / "source" / name)
    out = tmp_path / "out"
    main(
        [
            "data",
            "prepare",
            "xin_pixel4",
            "--source",
            str(tmp_path / "source"),
            "--out",
            str(out),
            "--partial",
            "--processes",
            "1",
        ]
    )
    split = PreparedSplit(out / "test")
    left, right, combined, sharp = (grey(split, 0, name) for name in ("left", "right", "combined", "sharp"))
    raw = [cv2.imread(str(real / "004" / name), cv2.IMREAD_UNCHANGED) for name in ("l.png", "r.png", "sharp.png")]
    assert (raw[0].mean() - 1024) / (raw[1].mean() - 1024) > 1.19
    assert left.mean() / right.mean() == pytest.approx(1, abs=0.01)
    assert sharp.mean() == pytest.approx(combined.mean(), rel=1e-4)
    assert sharp.shape == (1006, 1342)
    # the frame that is cut off is all that is black in the sharp image
    assert raw[2][1:-1, 1:-1].all() and not raw[2][[0, -1]].any() and not raw[2][:, [0, -1]].any()
    error = np.square((combined.astype(float) - sharp) / 65535).mean()
    assert 25.8 < -10 * np.log10(error) < 25.9


def test_sensor_values_and_the_files_own_sharp_image_can_be_asked_for(source, card, real, tmp_path):
    folder = source("authors")
    shutil.rmtree(folder / "DP_data_pixel_4" / "calibration")  # not needed then
    path = card(vignetting=False, sharp_scale="file")
    split = prepared(path, folder, tmp_path / "out")
    for position, key in enumerate(KEYS):
        files = files_of(real, key)
        assert np.array_equal(grey(split, position, "right") // 4 + 1024, files["right"])
        assert np.array_equal(grey(split, position, "sharp"), files["sharp"])
        assert split.index.samples[position].metadata["sharp_gain"] == 1


def test_what_lies_below_black_becomes_zero_and_what_is_saturated_stays_in_range(source, card, real, tmp_path):
    folder = source("cut")
    for name in ("l.png", "r.png"):
        file = folder / "001" / name
        image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        image[10, 10], image[20, 20] = 1000, 16383
        cv2.imwrite(str(file), image)
    file = folder / "001" / "sharp.png"
    image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED) // 2  # its gain doubles
    image[30, 30] = 40000
    cv2.imwrite(str(file), image)
    split = prepared(card(), folder, tmp_path / "out")
    assert grey(split, 0, "sharp")[29, 29] == 65535
    left, right = grey(split, 0, "left"), grey(split, 0, "right")
    assert (left[9, 9], right[9, 9]) == (0, 0)
    lit = 4 * (16383 - 1024)
    assert left[19, 19] == lit < 65535 < lit * expected_brightness(real, (0, 0))[19, 19] and right[19, 19] == 65535


def rewrite(folder, name, change):
    file = folder / "DP_data_pixel_4" / name
    cv2.imwrite(str(file), change(cv2.imread(str(file), cv2.IMREAD_UNCHANGED)))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda top: (top / "DP_data_pixel_4/009_right.png").unlink(), ["scene 009 lacks right (009_right.png)"]),
        (lambda top: (top / "DP_data_pixel_4/009_left.png").unlink(), ["scene 009 lacks left (009_left.png)"]),
        (lambda top: (top / "DP_data_pixel_4/gt_defocus_map/016_gt.png").unlink(), ["scene 016 lacks disparity"]),
        (lambda top: (top / AUTHORS["white_left"]).unlink(), ["lacks white_left (calibration/white_sheet_left.png)"]),
        (lambda top: rewrite(top, "009_left.png", lambda image: image[2:]), ["left of 009 is 158x196, expected 160x196"]),
        (lambda top: rewrite(top, "gt_all_in_focus_im/009_gt.png", lambda image: image[:, 2:]), ["sharp of 009 is 96x126"]),
        (lambda top: rewrite(top, "gt_defocus_map/016_gt.png", lambda image: image[2:]), ["disparity of 016 is 94x128"]),
        (lambda top: rewrite(top, "calibration/white_sheet_right.png", lambda image: image[2:]), ["white_right of 001"]),
        (lambda top: rewrite(top, "009_right.png", lambda image: (image >> 8).astype(np.uint8)), ["009_right.png", "8 bits"]),
        (lambda top: rewrite(top, "016_left.png", lambda image: image | 0x4000), ["left of 016 holds", "more than 14 bits"]),
        (lambda top: rewrite(top, "016_left.png", lambda image: np.dstack([image, image, image + 1])), ["016_left.png", "colour"]),
        (lambda top: rewrite(top, "calibration/white_sheet_right.png", lambda image: image - image), ["white_sheet_right.png is black"]),
        (lambda top: rewrite(top, "gt_all_in_focus_im/001_gt.png", lambda image: image - image), ["sharp of 001 is black"]),
        (lambda top: [file.unlink() for file in top.rglob("*_*t.png")], ["the split 'test' is empty", "/small.yaml` says"]),
    ],
)  # fmt: skip
def test_damaged_folders_are_refused_in_one_line(source, card, tmp_path, capsys, damage, said):
    folder = source("authors")
    damage(folder)
    message = refused(
        capsys, "data", "prepare", card(), "--source", str(folder), "--out", str(tmp_path / "out"), "--processes", "1"
    )
    assert len(message.splitlines()) == 1
    for one in said:
        assert one in message


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"smoothing": 20}, "must be odd"),
        ({"bits": 17}, "17 bits"),
        ({"window": [95, 128]}, "has no place round the centre"),
        ({"border": 48}, "inside the window"),
        ({"sharp_scale": "view"}, "did you mean 'views'"),
        ({"vigneting": True}, "did you mean 'vignetting'"),
    ],
)
def test_options_that_make_no_sense_are_refused(card, tmp_path, capsys, options, said):
    message = refused(capsys, "data", "prepare", card(**options), "--source", str(tmp_path))
    assert said in message


def test_the_card_says_what_a_user_must_know(capsys):
    assert get_card("xin_pixel4").splits["test"].scenes == 17
    main(["data", "show", "xin_pixel4"])
    said = capsys.readouterr().out
    for one in ("linear", "sharp_gain", "none stated", "Xin, Shumian", "git clone", "16 bits per channel, grey"):
        assert one in said
