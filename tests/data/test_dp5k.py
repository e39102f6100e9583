import cv2
import h5py
import numpy as np
import pytest
import yaml
from command_line import refused

from dualpixel.cli import main
from dualpixel.data import DualPixelData
from dualpixel.data.images import write_png
from dualpixel.data.readers import get_reader
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.registry import get_card
from dualpixel.data.verify import verify_split
from dualpixel.paths import find

SIZE = (64, 96)
APERTURES = ("1.8", "4")
FOLDERS = {"train": ["20221012_101010", "20221012_111111"], "valid": ["20221013_101010"], "test": ["20221014_101010"]}
FOCUS_MM, MATRIX = (1234.5, 987.25), np.array([[4000.5, 0, 840], [0, 4000.5, 560], [0, 0, 1]])
PIXEL_MM = 36 / 1680


@pytest.fixture(scope="session")
def photographs(shared):
    """Windows out of real views and a real depth map with holes, 16 bits: the low byte is made up, the rest is real."""
    random = np.random.default_rng(0)
    folder = shared / "data" / "canon_dpdisp"
    real = {letter: cv2.imread(str(folder / f"005_{letter}.jpg"), cv2.IMREAD_COLOR)[:, :, ::-1] for letter in "LRB"}
    depth = cv2.imread(str(shared / "data" / "rgbd" / "mb_piano" / "depth.png"), cv2.IMREAD_UNCHANGED)
    assert depth.dtype == np.uint16

    def part(number):
        row, column = 500 + 70 * number, 700 + 90 * number
        names = {"l": "L", "r": "R", "c": "B", "sharp": "B"}
        images = {name: real[letter][row : row + SIZE[0], column : column + SIZE[1]] for name, letter in names.items()}
        scene = {
            name: image.astype(np.uint16) * 256 + random.integers(0, 256, image.shape, np.uint16)
            for name, image in images.items()
        }
        return scene | {"depth": depth[100 : 100 + SIZE[0], 20 * number : 20 * number + SIZE[1]]}

    return part


def write_metadata(file, **changes):
    """Write what the authors' program writes: one small array a name."""
    content = {
        "M0": MATRIX, "M1": MATRIX + 1, "d0": np.zeros(5), "d1": np.zeros(5), "R": np.eye(3), "t": np.ones(3),
        "focus_dis_0": FOCUS_MM[0], "focus_dis_1": FOCUS_MM[1], "AF_point_0": np.array([801, 555]),
        "AF_point_1": np.array([777, 444]), "pixel_size": PIXEL_MM, **changes,
    }  # fmt: skip
    with h5py.File(file, "w") as stored:
        for name, value in content.items():
            if value is not None:
                stored.create_dataset(name, data=value)


@pytest.fixture
def source(photographs, tmp_path):
    """A folder as the archives unpack, and its scenes: (split, folder, camera, aperture) -> images."""
    top, scenes, number = tmp_path / "source", {}, 0
    for split, folders in FOLDERS.items():
        for folder in folders:
            for camera in (0, 1):
                place = top / split / folder / f"cam{camera}"
                for aperture in APERTURES:
                    scene = photographs(number)
                    if aperture != APERTURES[0]:  # one sharp photograph and one depth map serve all apertures
                        first = scenes[split, folder, camera, APERTURES[0]]
                        scene |= {name: first[name] for name in ("sharp", "depth")}
                    scenes[split, folder, camera, aperture] = scene
                    for name in "lrc":
                        write_png(place / f"FN_{aperture}_{name}.png", scene[name])
                    number += 1
                write_png(place / "FN_22.png", scene["sharp"])
                cv2.imwrite(str(place / "dep.png"), scene["depth"])
            write_metadata(top / split / folder / "meta_data.h5")
    return top, scenes


@pytest.fixture
def card(tmp_path):
    """Return a function that writes the card for small images, with other options of the reader."""

    def make(**options):
        content = yaml.safe_load(find("registry", "dp5k").read_text())
        content |= {"name": "small", "size": list(SIZE)}
        content["reader"]["options"] |= {"apertures": list(APERTURES), **options}
        (tmp_path / "small.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        return str(tmp_path / "small.yaml")

    return make


def arguments(card, source, out):
    return ["data", "prepare", card, "--source", str(source), "--out", str(out), "--processes", "1"]


def test_every_photograph_is_a_scene_with_all_its_bits(source, card, tmp_path):
    top, scenes = source
    main(arguments(card(), top, tmp_path / "out"))
    holes = 0
    for split, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        prepared = PreparedSplit(tmp_path / "out" / split)
        assert verify_split(prepared.folder) == []
        mine = {key: scene for key, scene in scenes.items() if key[0] == folder}
        names = [f"{one}-cam{camera}-f{aperture.replace('.', '_')}" for _, one, camera, aperture in mine]
        assert [sample.key for sample in prepared.index.samples] == names
        assert len(names) == 4 * len(FOLDERS[folder])
        for position, scene in enumerate(mine.values()):
            for name, stored in {"left": "l", "right": "r", "combined": "c", "sharp": "sharp"}.items():
                found = prepared.array(position, name)
                assert found.dtype == np.uint16 and np.array_equal(found, scene[stored])
            depth, known = np.asarray(prepared.array(position, "depth")), scene["depth"] > 0
            assert depth.dtype == np.float32 and np.array_equal(np.isnan(depth), ~known)
            assert np.array_equal(depth[known], (scene["depth"][known] / 1000).astype(np.float32))
            holes += (~known).sum()
    assert holes > 0


def test_what_the_camera_was_set_to_is_noted(source, card, tmp_path):
    main(arguments(card(), source[0], tmp_path / "out"))
    first, *_, last = PreparedSplit(tmp_path / "out" / "test").index.samples
    for sample, camera, aperture in ((first, 0, "1.8"), (last, 1, "4")):
        noted = sample.metadata
        assert sample.group == f"f{aperture}" and noted["f_number"] == float(aperture) and noted["camera"] == camera
        assert noted["focus_distance_m"] == pytest.approx(FOCUS_MM[camera] / 1000)
        assert noted["focal_length_px"] == 4000.5 + camera
        assert noted["focal_length_mm"] == pytest.approx((4000.5 + camera) * PIXEL_MM)
        assert noted["pixel_size_mm"] == PIXEL_MM
        assert noted["focus_point"] == ([801, 555] if camera == 0 else [777, 444])
        assert noted["left_file"] == f"cam{camera}/FN_{aperture}_l.png"


def test_the_stream_gives_the_same_values(source, card, tmp_path):
    path = card()
    main(arguments(path, source[0], tmp_path / "out"))
    split = PreparedSplit(tmp_path / "out" / "test")
    batches = list(DualPixelData(path, root=tmp_path / "out", num_workers=0).test_dataloader())
    assert len(batches) == 4
    for position, batch in enumerate(batches):
        for name in ("left", "sharp", "depth"):
            assert np.array_equal(batch[name][0].numpy(), split.array(position, name), equal_nan=True)


def test_cameras_and_apertures_can_be_chosen(source, card):
    found = get_reader(get_card(card(cameras=[1], apertures=["4"])), source[0]).scenes("train")
    assert [scene.key for scene in found] == [f"{folder}-cam1-f4" for folder in FOLDERS["train"]]


def rewrite(top, name, change):
    file = top / "test" / FOLDERS["test"][0] / name
    cv2.imwrite(str(file), change(cv2.imread(str(file), cv2.IMREAD_UNCHANGED)))


def metadata(top):
    return top / "test" / FOLDERS["test"][0] / "meta_data.h5"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda top: (metadata(top).parent / "cam1" / "FN_4_r.png").unlink(), "lacks cam1/FN_4_r.png"),
        (lambda top: (metadata(top).parent / "cam0" / "dep.png").unlink(), "lacks cam0/dep.png"),
        (lambda top: metadata(top).unlink(), "lacks meta_data.h5"),
        (lambda top: metadata(top).write_bytes(b"none"), "not an HDF5 file"),
        (lambda top: write_metadata(metadata(top), focus_dis_1=None), "no focus_distance_m of camera 1"),
        (lambda top: write_metadata(metadata(top), focus_dis_0=np.nan), "no focus_distance_m of camera 0"),
        (lambda top: write_metadata(metadata(top), M0=np.zeros((3, 3))), "no focal_length_px of camera 0"),
        (lambda top: write_metadata(metadata(top), pixel_size=np.ones(99)), "no pixel_size_mm of camera 0"),
        (lambda top: rewrite(top, "cam0/FN_4_l.png", lambda image: (image >> 8).astype(np.uint8)), "8 bits per channel"),
        (lambda top: rewrite(top, "cam0/FN_22.png", lambda image: image[2:]), "sharp 62x96"),
        (lambda top: rewrite(top, "cam0/dep.png", lambda image: image[:, 2:]), "depth 64x94"),
        (lambda top: rewrite(top, "cam0/dep.png", lambda image: (image >> 8).astype(np.uint8)), "a map of 8 bits"),
    ],
)  # fmt: skip
def test_damaged_folders_are_refused_in_one_line(source, card, tmp_path, capsys, damage, said):
    damage(source[0])
    message = refused(capsys, *arguments(card(), source[0], tmp_path / "out"))
    assert len(message.splitlines()) == 1
    assert said in message and FOLDERS["test"][0] in message


def test_text_and_large_arrays_in_the_metadata_are_left_alone(source, card, tmp_path, capsys):
    top, _ = source
    others = {"note": "text", "large": np.zeros(17), "R": np.full((3, 3), np.nan)}
    write_metadata(metadata(top), **others)
    assert get_reader(get_card(card()), top).scenes("test")[0].metadata["focus_point"] == [801, 555]
    write_metadata(metadata(top), **others, M0=None)
    found = refused(capsys, *arguments(card(), top, tmp_path / "out")).rpartition("found ")[2]
    assert "pixel_size" in found and "large" not in found and "note" not in found


def test_a_split_that_was_not_downloaded_is_empty_in_words(source, card, tmp_path, capsys):
    top, _ = source
    (top / "valid").rename(top / "elsewhere")
    assert "the split 'val' is empty" in refused(capsys, *arguments(card(), top, tmp_path / "out"))
    (top / "elsewhere").rename(top / "val")
    main(arguments(card(), top, tmp_path / "out"))
    assert len(PreparedSplit(tmp_path / "out" / "val")) == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"apertures": ["f2"]}, "expected an f-number"),
        ({"files": {"left": "l.png"}}, "say nothing of right"),
        ({"folders": {"train": ["train"]}}, "say nothing of val"),
    ],
)
def test_options_that_make_no_sense_are_refused(card, tmp_path, capsys, options, said):
    assert said in refused(capsys, *arguments(card(**options), tmp_path, tmp_path / "out"))


def test_the_card_says_that_no_file_was_seen(capsys):
    main(["data", "show", "dp5k"])
    said = capsys.readouterr().out
    for one in ("Not verified on any file", "focus_distance_m", "Li, Feiran", "(browser)", "16 bits per channel"):
        assert one in said
