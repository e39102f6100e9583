import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from rgbd_scenes import scene, write_rgbd, write_rgbd_card

from dualpixel import DualPixelError
from dualpixel.data.fields import IMAGES
from dualpixel.data.images import read_image
from dualpixel.data.prepare import prepare
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.registry import get_card
from dualpixel.data.simulate import CAMERA, CARD, simulate_pairs
from dualpixel.data.simulated import SimulatedViews, load_views
from dualpixel.optics import Camera, render

FIELDS = ("left", "right", "combined", "sharp", "depth", "blur")
NAMES = {"train": ["attic", "cellar"], "val": ["hall"]}
VIEWS = SimulatedViews(f_number=(1.4, 4.0), pixel_pitch_m=2e-4)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("source")
    for split, names in NAMES.items():
        write_rgbd(root / split, names)
    return root


@pytest.fixture(scope="module")
def pairs(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "My Pairs"
    made = simulate_pairs(get_card("rgbd"), source, out, VIEWS, processes=1)
    assert made.scenes == NAMES and made.rendered == 3 and made.empty == ["test"]
    return out


def record(out, split, key):
    return json.loads((out / split / "records" / f"{key}.json").read_text())


def images(out):
    return {path.relative_to(out): path.read_bytes() for path in sorted(out.glob("*/*/*.png"))}


def test_views_are_what_the_recorded_camera_sees(pairs):
    for split, number, key in (("train", 0, "attic"), ("train", 1, "cellar"), ("val", 0, "hall")):
        sharp, depth = scene(number)
        camera = record(pairs, split, key)["camera"]
        camera.pop("noise")
        metres = torch.from_numpy(depth).double()[None, None]
        blur = Camera(**camera).blur_radius(metres)
        assert blur.abs().max() > 1
        left, right = render(torch.from_numpy(sharp / 65535).permute(2, 0, 1)[None], blur)
        expected = {"left": left, "right": right, "combined": (left + right) / 2}
        for name, view in expected.items():
            stored = cv2.imread(str(pairs / split / name / f"{key}.png"), cv2.IMREAD_UNCHANGED)[:, :, ::-1]
            assert stored.dtype == np.uint16
            assert np.array_equal(stored, np.rint(view[0].permute(1, 2, 0).numpy() * 65535))
        assert np.array_equal(read_image(pairs / split / "sharp" / f"{key}.png", 16), sharp)
        assert np.array_equal(np.load(pairs / split / "depth" / f"{key}.npy"), depth)
        stored = np.load(pairs / split / "blur" / f"{key}.npy")
        assert stored.dtype == np.float32 and np.array_equal(stored, blur[0, 0].float().numpy())
        assert record(pairs, split, key)["blur_radius_px"] == [blur.min().item(), blur.max().item()]


def test_cameras_differ_from_scene_to_scene_and_from_seed_to_seed_alone(pairs, source, tmp_path):
    drawn = {key: record(pairs, split, key)["camera"] for split, names in NAMES.items() for key in names}
    assert len({camera["aperture_px"] for camera in drawn.values()}) == 3
    only = shutil.copytree(source / "val", tmp_path / "only" / "train")
    simulate_pairs(get_card("rgbd"), only.parent, tmp_path / "again", VIEWS, processes=1)
    assert record(tmp_path / "again", "train", "hall")["camera"] == drawn["hall"]
    simulate_pairs(get_card("rgbd"), only.parent, tmp_path / "other", VIEWS, seed=1, processes=1)
    assert record(tmp_path / "other", "train", "hall")["camera"]["aperture_px"] != drawn["hall"]["aperture_px"]


def test_pairs_are_a_data_set_that_prepares_and_reads_back_equal(pairs, tmp_path):
    card = get_card(pairs / CARD)
    assert card.name == "my-pairs" and card.fields == list(FIELDS) and card.bit_depth == 16
    assert {split: one.scenes for split, one in card.splits.items()} == {"train": 2, "val": 1}
    folder = prepare(card, pairs, tmp_path / "shards", processes=1)
    for split, names in NAMES.items():
        prepared = PreparedSplit(folder / split)
        assert [sample.key for sample in prepared.index.samples] == names
        for position, key in enumerate(names):
            for field in FIELDS:
                path = pairs / split / field / f"{key}.{'png' if field in IMAGES else 'npy'}"
                written = read_image(path, 16) if field in IMAGES else np.load(path)
                stored = prepared.array(position, field)
                assert stored.dtype == written.dtype and np.array_equal(stored, written)


@pytest.mark.parametrize("ending", ["exr", "npy", "tiff", "pfm"])
def test_depth_of_any_format_gives_the_same_pairs(pairs, source, tmp_path, ending):
    for split, names in NAMES.items():
        write_rgbd(tmp_path / "source" / split, names, depth="{name}/depth." + ending)
    simulate_pairs(get_card("rgbd"), tmp_path / "source", tmp_path / "out", VIEWS, processes=1)
    assert images(tmp_path / "out") == images(pairs)


def test_eight_bits_in_are_eight_bits_out_where_they_are_asked_for(tmp_path):
    source = write_rgbd(tmp_path / "source" / "train", ["a"], bit_depth=8).parent
    simulate_pairs(get_card("rgbd"), source, tmp_path / "eight", VIEWS, bit_depth=8, processes=1)
    simulate_pairs(get_card("rgbd"), source, tmp_path / "sixteen", VIEWS, processes=1)
    assert np.array_equal(
        read_image(tmp_path / "eight/train/sharp/a.png", 8), read_image(source / "train/a/rgb.png", 8)
    )
    fine = read_image(tmp_path / "sixteen/train/left/a.png", 16) / 65535
    coarse = read_image(tmp_path / "eight/train/left/a.png", 8) / 255
    assert 0 < np.abs(fine - coarse).max() <= 0.5 / 255 + 0.5 / 65535 + 1e-12
    assert get_card(tmp_path / "eight" / CARD).bit_depth == 8


def test_the_settings_of_a_run_can_be_given_again(pairs, source, tmp_path):
    assert load_views(pairs / CAMERA) == VIEWS
    assert load_views(None) == SimulatedViews()


def test_every_line_of_a_camera_is_optional_and_numbers_need_no_point(tmp_path):
    path = tmp_path / "camera.yaml"
    path.write_text("# f_number: 2\n")
    assert load_views(path) == SimulatedViews()
    path.write_text("pixel_pitch_m: 4e-6\nfocus: [1, 2e0]\n")
    assert load_views(path) == SimulatedViews(pixel_pitch_m=4e-6, focus=(1.0, 2.0))
    path.write_text("pixel_pitch_m: 4e-6m\n")
    with pytest.raises(DualPixelError, match="pixel_pitch_m: found '4e-6m'"):
        load_views(path)


def test_nothing_is_rendered_twice_and_what_is_added_is(pairs, source, tmp_path):
    grown, out = shutil.copytree(source, tmp_path / "source"), shutil.copytree(pairs, tmp_path / "out")
    written = {path: path.stat().st_mtime_ns for path in out.glob("*/*/*") if path.is_file()}
    write_rgbd(grown / "test", ["den"])
    (out / "train/left/attic.png").write_bytes(b"cut off")
    (out / "val/blur/hall.npy").unlink()
    for left_over in (".card.77.part.yaml", "val/left/.hall.77.part.png"):
        (out / left_over).write_bytes(b"what a kill leaves behind")
    made = simulate_pairs(get_card("rgbd"), grown, out, VIEWS, processes=1)
    assert made.rendered == 3 and made.empty == []
    assert {path.stem for path, time in written.items() if path.stat().st_mtime_ns == time} == {"cellar"}
    assert {path: content for path, content in images(out).items() if path.parts[0] != "test"} == images(pairs)
    assert get_card(out / CARD).splits["test"].scenes == 1 and [path.name for path in out.rglob(".*")] == [".lock"]
    assert simulate_pairs(get_card("rgbd"), grown, out, VIEWS, processes=1).rendered == 0


def test_pairs_of_other_settings_or_files_are_not_mixed(pairs, source, tmp_path):
    out = shutil.copytree(pairs, tmp_path / "out")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    other_card = get_card(write_rgbd_card(tmp_path / "mine.yaml", border=2, minimum_size=8))
    shorter = shutil.copytree(source, tmp_path / "shorter")
    shutil.rmtree(shorter / "train" / "attic")
    changed = shutil.copytree(source, tmp_path / "changed")
    (changed / "train/attic/depth.png").write_bytes((changed / "train/cellar/depth.png").read_bytes())
    for said, arguments in {
        r"other settings \(optics\); remove that folder, or give another --out": (get_card("rgbd"), source, out),
        r"other settings \(bit_depth, seed\)": (get_card("rgbd"), source, out, VIEWS, 8, 3),
        r"other settings \(reader\)": (other_card, source, out, VIEWS),
        r"other files \(attic is not in the source\)": (get_card("rgbd"), shorter, out, VIEWS),
        r"other files \(attic has changed since\)": (get_card("rgbd"), changed, out, VIEWS),
    }.items():
        with pytest.raises(DualPixelError, match=said):
            simulate_pairs(*arguments, processes=1)
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_what_cannot_be_rendered_is_refused_in_words(source, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DualPixelError, match="renders from sharp and depth; the card dpdd has no depth"):
        simulate_pairs(get_card("dpdd"), source, tmp_path / "out")
    with pytest.raises(DualPixelError, match="is the source itself"):
        simulate_pairs(get_card("rgbd"), source, source)
    (tmp_path / CAMERA).write_text("focus: near  # my own")
    with pytest.raises(DualPixelError, match="camera.yaml is no simulation's and would be overwritten"):
        simulate_pairs(get_card("rgbd"), source, tmp_path)
    assert (tmp_path / CAMERA).read_text().endswith("my own")
    with pytest.raises(DualPixelError, match="is empty below .*looked for"):
        simulate_pairs(get_card("rgbd"), tmp_path / "empty", tmp_path / "out")
    with pytest.raises(DualPixelError, match="attic.*within the focal length"):
        simulate_pairs(get_card("rgbd"), source, tmp_path / "out", SimulatedViews(focus=0.04), processes=1)


def test_the_real_scenes_are_rendered(shared, tmp_path):
    options = {"skip_incomplete": True, "border": 8, "layouts": [{"sharp": "mb_p*/rgb", "depth": "mb_p*/depth"}]}
    card = get_card(write_rgbd_card(tmp_path / "middlebury.yaml", {"train": {"scenes": None}}, shares={}, **options))
    made = simulate_pairs(card, shared / "data" / "rgbd", tmp_path / "out", processes=1)
    assert made.scenes["train"] == ["iano", "ipes", "laytable"]
    sharp, left, right = (
        read_image(tmp_path / "out/train" / name / "iano.png", 16) / 65535 for name in ("sharp", "left", "right")
    )
    assert sharp.shape == (481 - 16, 707 - 16, 3)
    assert 1e-5 < ((left - sharp) ** 2).mean() < 1e-2 and 1e-5 < ((left - right) ** 2).mean() < 1e-2
