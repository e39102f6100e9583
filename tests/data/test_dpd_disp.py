import json

import cv2
import numpy as np
import pytest
import torch
import yaml
from command_line import TOP
from scenes import SIZE, photograph, views

import dualpixel
from dualpixel import DualPixelError
from dualpixel.cli import main
from dualpixel.data import DualPixelData
from dualpixel.data.augmentation import Augmentation
from dualpixel.data.images import read_image, write_png
from dualpixel.data.pairs import find_photographs
from dualpixel.data.prepare import prepare
from dualpixel.data.preview import draw_contact_sheet
from dualpixel.data.readers import get_reader
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.registry import get_card
from dualpixel.data.stream import TrainingSamples, to_floats
from dualpixel.data.verify import verify_split
from dualpixel.paths import find
from dualpixel.weights.files import save_weights

LETTERS = {"left": "L", "right": "R", "combined": "B"}
FIELDS = [*LETTERS, "disparity"]
NUMBERS = ("001", "002", "010", "100")


def write(folder, number, scene):
    """Write a scene of 8-bit RGB images by its documented names, and a disparity beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, letter in LETTERS.items():
        assert cv2.imwrite(str(folder / f"{number}_{letter}.jpg"), scene[name][:, :, ::-1])
    disparity = (
        np.arange(scene["left"][:, :, 0].size).reshape(scene["left"].shape[:2]).astype(np.uint8)
    )  # all values, 0 too
    disparity[0, 0] = int(number)
    assert cv2.imwrite(str(folder / f"{number}_D.TIF"), disparity)


@pytest.fixture
def source(tmp_path):
    for number in NUMBERS:
        scene = {name: (view >> 8).astype(np.uint8) for name, view in views(photograph(int(number))).items()}
        write(tmp_path / "source", number, scene)
    return tmp_path / "source"


@pytest.fixture
def card(tmp_path):
    """Return a function that makes the card for so many scenes."""

    def make(scenes=4, **splits):
        content = yaml.safe_load(find("registry", "dpd_disp").read_text())
        content |= {"name": "small", "splits": {"test": {"scenes": scenes}, **splits}}
        (tmp_path / "small.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        return get_card(tmp_path / "small.yaml")

    return make


@pytest.fixture(scope="session")
def real(shared, tmp_path_factory):
    """The documented layout with the real scene 005, half as high and half as wide."""
    folder = tmp_path_factory.mktemp("real")
    for name in ("005_L.jpg", "005_R.jpg", "005_B.jpg", "005_D.TIF"):
        image = cv2.imread(str(shared / "data" / "canon_dpdisp" / name), cv2.IMREAD_UNCHANGED)
        half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        assert cv2.imwrite(str(folder / name), half)
    return folder


def read(path):
    """A file as it is stored."""
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_every_value_of_every_file_survives(source, card, tmp_path):
    out = prepare(card(), source, tmp_path / "out", processes=1)
    prepared = PreparedSplit(out / "test")
    assert [sample.key for sample in prepared.index.samples] == list(NUMBERS)
    assert prepared.index.fields() == FIELDS and verify_split(out / "test") == []
    for position, number in enumerate(NUMBERS):
        for name, letter in LETTERS.items():
            stored = prepared.array(position, name)
            expected = cv2.imread(str(source / f"{number}_{letter}.jpg"), cv2.IMREAD_COLOR)[:, :, ::-1]
            assert stored.dtype == np.uint8 and np.array_equal(stored, expected)
        truth, disparity = read(source / f"{number}_D.TIF"), prepared.array(position, "disparity")
        assert disparity.dtype == np.float32 and np.array_equal(disparity, (truth / 255).astype(np.float32))
        assert set(np.unique(truth)) == set(range(256)) and np.array_equal((disparity * 255).round(), truth)


@pytest.mark.parametrize("folders", [dict.fromkeys("LRBD", "one/two"), {"L": "l", "R": "r", "B": "b", "D": "d"}])
def test_files_are_found_in_whatever_folders_the_archive_has(source, card, folders):
    for file in sorted(source.iterdir()):
        target = source / folders[file.stem[-1]]
        target.mkdir(parents=True, exist_ok=True)
        file.rename(target / file.name)
    scenes = get_reader(card(), source).scenes("test")
    assert [scene.key for scene in scenes] == list(NUMBERS)
    names = {"left": "010_L.jpg", "right": "010_R.jpg", "combined": "010_B.jpg", "disparity": "010_D.TIF"}
    assert scenes[2].metadata == {f"{field}_file": name for field, name in names.items()}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda top: (top / "002_R.jpg").unlink(), "small test: 4 files for 'combined' but 3 for 'right'"),
        (lambda top: (top / "002_D.TIF").unlink(), "small test: 4 files for 'combined' but 3 for 'disparity'"),
        (
            lambda top: [(top / name).unlink() for name in ("002_L.jpg", "010_R.jpg", "100_B.jpg", "100_D.TIF")],
            "the left view of 002 is missing: its place in the sorted order holds 010_L.jpg",
        ),
        (lambda top: [file.unlink() for file in top.glob("010_*")], "3 scenes in 'test', the card promises 4"),
        (lambda top: [file.unlink() for file in top.glob("*")], "the split 'test' is empty .*data show .*small.yaml"),
    ],
)  # fmt: skip
def test_an_incomplete_download_is_refused_in_words(source, card, tmp_path, damage, said):
    damage(source)
    with pytest.raises(DualPixelError, match=said):
        prepare(card(), source, tmp_path / "out", processes=1)


def test_part_of_the_scenes_can_be_asked_for(source, card, tmp_path):
    out = prepare(card(100), source, tmp_path / "out", processes=1, partial=True)
    assert len(PreparedSplit(out / "test").index.samples) == len(NUMBERS)


def test_the_card_says_what_there_is(capsys):
    main(["data", "show", "dpd_disp"])
    said = capsys.readouterr().out
    assert (
        "test: 100 scenes" in said
        and "8 bits per channel" in said
        and "fields: left, right, combined, disparity" in said
    )
    assert "Punnappurath" in said and "up to an unknown factor and offset" in said and "value / 255" in said
    assert "drive.google.com" in said and "train:" not in said


def test_there_is_nothing_to_train_on(source, card, tmp_path):
    small = card()
    root = prepare(small, source, tmp_path / "out", processes=1)
    data = DualPixelData(small, root, num_workers=0)
    with pytest.raises(DualPixelError, match="no split 'train'"):
        data.require("fit", ["left", "right"], ["left"])
    data.require("test", ["left", "right"], ["sharp"])  # a test scores what there is
    with pytest.raises(DualPixelError, match="needs left, depth; small test has no depth"):
        data.require("test", ["left", "depth"], ["sharp"])
    (whole, *others) = data.test_dataloader()
    assert len(others) == len(NUMBERS) - 1 and set(whole) == {*FIELDS, "key", "group", "index"}
    assert whole["left"].shape == (1, *SIZE, 3) and whole["key"] == ["001"]


def test_a_copy_of_the_card_can_train_on_the_test_scenes(source, card, tmp_path):
    small = card(train={"scenes": 4}, val={"scenes": 4})
    root = prepare(small, source, tmp_path / "out", processes=1)
    data = DualPixelData(small, root, batch_size=2, crop_size=32, crops="random", crops_per_scene=1, num_workers=0)
    data.require("fit", ["left", "right"], ["left", "right"])
    assert sorted(key for batch in data.train_dataloader() for key in batch["key"]) == list(NUMBERS)


def test_a_mirrored_disparity_keeps_its_values(source, card, tmp_path):
    root = prepare(card(), source, tmp_path / "out", processes=1)
    split, fields = PreparedSplit(root / "test"), ["left", "right", "disparity"]
    whole = {"crop_size": SIZE, "crops": "random", "crops_per_scene": 1}
    for mirror, flip in ((False, False), (True, False), (False, True), (True, True)):
        sample = TrainingSamples(split, fields, augmentation=Augmentation(float(mirror), float(flip)), **whole)[(0, 1)]
        turned = np.s_[:: -1 if flip else 1, :: -1 if mirror else 1]
        assert np.array_equal(sample["disparity"], split.array(1, "disparity")[turned])
        assert np.array_equal(sample["left"], split.array(1, "right" if mirror else "left")[turned])
    batch = to_floats({"disparity": torch.from_numpy(np.array(split.array(1, "disparity")))[None]})
    assert batch["disparity"].shape == (1, 1, *SIZE) and batch["disparity"].dtype == torch.float32


def test_an_enlarged_disparity_keeps_its_values():
    stored = np.random.default_rng(0).random((20, 30)).astype(np.float32)
    enlarge = Augmentation(enlarge=2.0).draw_enlargement(np.random.default_rng(1), 20, 30)
    assert set(np.unique(enlarge("disparity", stored))) < set(np.unique(stored))
    assert not set(np.unique(enlarge("blur", stored))) & set(np.unique(stored))  # blur grows


def test_the_real_scene_goes_all_the_way(real, card, tmp_path):
    root = prepare(card(1), real, tmp_path / "out", processes=1)
    assert verify_split(root / "test") == []
    prepared = PreparedSplit(root / "test")
    (sample,) = prepared.index.samples
    left, right, combined = (prepared.array(0, name).astype(np.float64) / 255 for name in LETTERS)
    assert sample.key == "005" and left.shape == (1470, 2590, 3)
    # 42 dB at full size; halving takes noise and rounding away
    error = np.square((left + right) / 2 - combined).mean()
    assert 38 < -10 * np.log10(error) < 60
    assert np.square(left - right).mean() > 2 * error  # the views do differ
    stored, disparity = read(real / "005_D.TIF"), prepared.array(0, "disparity")
    assert stored.shape == (1470, 2590) and np.array_equal(disparity, (stored / 255).astype(np.float32))
    assert 0.02 < np.mean(disparity == 0) < 0.05 and disparity.max() == np.float32(228 / 255)  # its border is 0
    draw_contact_sheet(prepared, tmp_path / "sheet.png")
    assert read_image(tmp_path / "sheet.png", drop_alpha=True).std() > 20


@pytest.fixture
def identity(tmp_path):
    """Arguments of `predict` by a network that gives the combined image back."""
    net = {"views": "dual", "width": 0.02, "dropout": 0.0, "residual": True}
    untrained = dualpixel.load("dpdnet", **net)
    save_weights(tmp_path / "identity.safetensors", untrained.net.state_dict(), untrained.weights_metadata())
    options = [f"--model.net.init_args.{name}={json.dumps(value).strip(chr(34))}" for name, value in net.items()]
    return ["predict", "--config", str(TOP / "recipes" / "dpdnet.yaml"), *options, "--model.init_from",
            str(tmp_path / "identity.safetensors"), "--data.dataset", str(tmp_path / "small.yaml"), "--data.num_workers", "0",
            "--trainer.accelerator", "cpu", "--trainer.devices", "1", "--run.root", str(tmp_path / "runs"),
            "--predictions.output", str(tmp_path / "predicted")]  # fmt: skip


@pytest.mark.parametrize("prepared", [True, False])
def test_a_network_runs_over_prepared_scenes_and_over_the_files_alike(source, card, identity, tmp_path, prepared):
    small = card()
    if prepared:
        taken = ["--data.root", str(prepare(small, source, tmp_path / "out", processes=1))]
    else:
        taken = ["--data.predict_source", f"[{source}]"]  # the disparity that lies beside is no photograph
    main([*identity, *taken])
    assert sorted(path.name for path in (tmp_path / "predicted").iterdir()) == [f"{number}.png" for number in NUMBERS]
    for number in NUMBERS:
        combined = read_image(source / f"{number}_B.jpg", 8)
        assert np.array_equal(
            read_image(tmp_path / "predicted" / f"{number}.png", 16), combined.astype(np.uint16) * 257
        )


def test_a_photograph_whose_name_ends_like_a_disparity_is_one_where_there_are_no_views(tmp_path):
    write_png(tmp_path / "vitamin_D.png", photograph(0))
    assert find_photographs([tmp_path]) == {"vitamin_D": {"combined": tmp_path / "vitamin_D.png"}}
