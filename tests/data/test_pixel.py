import json
import shutil

import cv2
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
from dualpixel.data.images import read_image
from dualpixel.data.index import load_index
from dualpixel.data.orientation import QUARTERS, turned
from dualpixel.data.prepare import prepare
from dualpixel.data.readers import get_reader
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.registry import get_card
from dualpixel.paths import find

LETTERS = {"left": "l", "right": "r", "combined": "c"}
KEYS = [f"{number:03d}" for number in range(13)]
UPRIGHT = KEYS[::2]
SIZE = (96, 144)
NEAR = 2


def grey(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def write(folder, between="source/"):
    """Thirteen grey scenes of 16 bits, all nearer than the focus plane: where upright, the left view shows them lower."""
    for number, key in enumerate(KEYS):
        upright = key in UPRIGHT
        scene = photograph(number, SIZE[::-1] if upright else SIZE)[:, :, 1]
        axis = 0 if upright else 1
        left, right = np.roll(scene, NEAR, axis), np.roll(scene, -NEAR, axis)
        combined = ((left.astype(np.uint32) + right) // 2).astype(np.uint16)
        for letter, image in {"l": left, "r": right, "c": combined}.items():
            grey(folder / f"test_{letter}/{between}{key}.png", image)
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    top = tmp_path_factory.mktemp("pixel")
    write(top / "dd_dp_dataset_pixel")
    return top


@pytest.fixture(scope="module")
def prepared(source, tmp_path_factory):
    """The set's own card, by the command."""
    out = tmp_path_factory.mktemp("shards") / "pixel"
    main(["data", "prepare", "pixel", "--source", str(source), "--out", str(out), "--processes", "1"])
    return out


def test_every_bit_reaches_the_stream_and_upright_scenes_lie_on_their_left_side(source, prepared):
    data = DualPixelData("pixel", prepared, num_workers=0)
    data.require("test", ["left", "right", "combined"], [])
    batches = list(data.test_dataloader())
    assert [key for batch in batches for key in batch["key"]] == KEYS
    for batch in batches:
        (key,) = batch["key"]
        assert set(batch) == {*LETTERS, "key", "group", "index"} and batch["group"] == [""]
        for name, letter in LETTERS.items():
            file = cv2.imread(str(source / f"dd_dp_dataset_pixel/test_{letter}/source/{key}.png"), cv2.IMREAD_UNCHANGED)
            assert file.ndim == 2 and len(np.unique(file & 255)) > 100  # the low byte is in use
            expected = file[:, ::-1].T if key in UPRIGHT else file  # what was right is at the top
            assert batch[name].dtype == torch.uint16 and batch[name].shape == (1, *SIZE, 3)
            for channel in range(3):
                assert np.array_equal(batch[name][0, :, :, channel].numpy(), expected)


def test_after_the_turn_what_is_near_lies_to_the_right_in_the_left_view(prepared):
    split = PreparedSplit(prepared / "test")
    for position, _ in enumerate(KEYS):
        left, right = (np.asarray(split.array(position, name)) for name in ("left", "right"))
        assert np.array_equal(left, np.roll(right, 2 * NEAR, axis=1))
        assert not np.array_equal(left, np.roll(right, -2 * NEAR, axis=1))


def test_the_turn_is_noted_and_leads_back(source, prepared):
    split = PreparedSplit(prepared / "test")
    for position, (key, sample) in enumerate(zip(KEYS, split.index.samples, strict=True)):
        assert sample.metadata.get(QUARTERS) == (1 if key in UPRIGHT else None)
        assert sample.metadata["left_file"] == f"{key}.png"
        back = turned(np.asarray(split.array(position, "left")), -sample.metadata.get(QUARTERS, 0))
        assert np.array_equal(back, read_image(source / f"dd_dp_dataset_pixel/test_l/source/{key}.png", 16))


def test_archives_and_the_mirror_give_the_same_shards(source, prepared, tmp_path):
    mirror = tmp_path / "mirror"
    write(mirror / "PixelDP", between="")
    given = [
        pack(source, tmp_path / "dd_dp_dataset_pixel.zip"),
        mirror,
        pack(mirror, tmp_path / "in" / "PixelDP.zip").parent,
    ]
    for number, one in enumerate(given):
        out = prepare(get_card("pixel"), one, tmp_path / str(number), processes=1)
        assert load_index(out / "test").shards == load_index(prepared / "test").shards


def test_the_commands_say_what_there_is(prepared, monkeypatch, capsys):
    monkeypatch.setenv("DUALPIXEL_SHARDS", str(prepared.parent))
    monkeypatch.setenv("COLUMNS", "400")
    main(["data", "show", "pixel"])
    said = capsys.readouterr().out
    assert "test: 13 scenes" in said and "16 bits per channel, grey" in said and "size varies" in said
    assert "abuolaim2020defocus" in said and "licence: none stated" in said
    assert f"fingerprint {load_index(prepared / 'test').fingerprint}" in said
    main(["data", "list"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if " pixel " in line]
    assert "13 test" in line and "left, right, combined" in line and "yes" in line
    main(["data", "verify", "pixel"])
    assert "as written" in capsys.readouterr().out


def test_recipes_that_need_sharp_images_refuse_the_set_before_the_first_batch(source, prepared, tmp_path, capsys):
    fit = ["fit", "--config", str(TOP / "recipes" / "dpdnet.yaml"), "--run.root", str(tmp_path)]
    message = refused(capsys, *fit, "--data.dataset", "pixel", "--data.root", str(prepared))
    assert "data set pixel has no split 'train'" in message
    content = yaml.safe_load(find("registry", "pixel").read_text().replace("{split}", "test"))
    content |= {"name": "small", "splits": {"train": {"scenes": 13}, "val": {"scenes": 13}}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(content))
    out = prepare(get_card(tmp_path / "small.yaml"), source, tmp_path / "out", processes=1)
    message = refused(capsys, *fit, "--data.dataset", str(tmp_path / "small.yaml"), "--data.root", str(out))
    assert "needs left, right, sharp" in message and "has no sharp (it has left, right, combined)" in message


def test_views_of_another_orientation_than_their_combined_image_are_refused(source, tmp_path):
    copy = shutil.copytree(source, tmp_path / "source")
    file = copy / f"dd_dp_dataset_pixel/test_l/source/{UPRIGHT[1]}.png"
    grey(file, cv2.imread(str(file), cv2.IMREAD_UNCHANGED).T)
    with pytest.raises(DualPixelError, match=f"{UPRIGHT[1]} has mismatched sizes: left 144x96, right 96x144"):
        prepare(get_card("pixel"), copy, tmp_path / "out", processes=1)


def test_files_of_8_bits_are_refused(source, tmp_path):
    copy = shutil.copytree(source, tmp_path / "source")
    for file in copy.rglob("*.png"):
        grey(file, (cv2.imread(str(file), cv2.IMREAD_UNCHANGED) >> 8).astype(np.uint8))
    with pytest.raises(DualPixelError, match="8 bits per channel .uint8., expected 16"):
        prepare(get_card("pixel"), copy, tmp_path / "out", processes=1)


def shifts(left, right, axis, block=48, reach=8):
    """How far blocks of the left view lie from their match in the right view, pixels; where there is anything to match."""
    views = [image[:, :, 1].astype(np.float64) / 257 for image in (left, right)]
    left, right = (cv2.GaussianBlur(view, (0, 0), 2.5) - cv2.GaussianBlur(view, (0, 0), 10) for view in views)
    found = []
    for row in range(reach, left.shape[0] - block - reach, block):
        for column in range(reach, left.shape[1] - block - reach, block):
            piece = left[row : row + block, column : column + block]
            if np.abs(np.gradient(piece, axis=axis)).mean() < 0.35:
                continue
            errors = []
            for shift in range(-reach, reach + 1):
                down, across = (shift, 0) if axis == 0 else (0, shift)
                other = right[row + down : row + down + block, column + across : column + across + block]
                errors.append(np.square(piece - other).mean())
            found.append(int(np.argmin(errors)) - reach)
    return np.array(found)


@pytest.mark.parametrize("name", ["pixel_08", "pixel_09"])
def test_the_turn_makes_the_disparity_of_real_upright_views_that_of_canon(shared, tmp_path, name):
    views = shared / "data" / "dpdd_gif_views"
    for preview, folder in ((name, "pixel"), ("canon_05", "canon")):
        left, right = (cv2.imread(str(views / preview / f"{one}.png"), cv2.IMREAD_GRAYSCALE) for one in "ab")
        for letter, image in {"l": left, "r": right, "c": left // 2 + right // 2}.items():
            grey(tmp_path / folder / f"test_{letter}/source/0.png", image.astype(np.uint16) * 257)
    stored = {}
    for folder in ("pixel", "canon"):
        reader = get_reader(get_card("pixel"), tmp_path / folder)
        (scene,) = reader.scenes("test")
        assert scene.metadata.get(QUARTERS) == (1 if folder == "pixel" else None)
        stored[folder] = reader.read(scene)
        json.dumps(scene.metadata)
    before = [read_image(tmp_path / f"pixel/test_{letter}/source/0.png") for letter in "lr"]
    after, canon = ([stored[folder][view] for view in ("left", "right")] for folder in ("pixel", "canon"))
    assert before[0].shape == (840, 560, 3) and after[0].shape == (560, 840, 3)
    # the background of all three lies behind the focus plane, so its copy in the right view lies farther along the axis
    assert np.median(shifts(*before, axis=0)) >= 3 and np.abs(np.median(shifts(*before, axis=1))) < 0.5
    assert np.median(shifts(*after, axis=1)) >= 3 and np.abs(np.median(shifts(*after, axis=0))) < 0.5
    assert np.median(shifts(*canon, axis=1)) >= 2 and np.abs(np.median(shifts(*canon, axis=0))) < 0.5
