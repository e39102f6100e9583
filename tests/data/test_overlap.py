import json
import re
import shutil
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage
import torch
import yaml
from command_line import main, refused
from scenes import write_card
from servers import FolderServer

from dualpixel.data.images import read_image, write_png
from dualpixel.data.overlap import (
    CANDIDATE,
    CONFIRMED,
    candidates,
    correlation,
    distances,
    mirrored,
    perceptual_hash,
    thumbnail,
)
from dualpixel.data.prepare import prepare
from dualpixel.data.registry import get_card
from dualpixel.optics import combine, render

NAMES = ("astronaut", "brick", "camera", "coffee", "coins", "gravel", "ihc", "moon", "motorcycle_left", "text")
SIZE = (240, 320)


def to_16_bits(image):
    return (image * 65535).round().clip(0, 65535).astype(np.uint16)


def blurred(image, radius):
    """The combined image of our optics, out of focus by `radius` pixels."""
    pixels = torch.from_numpy(image.astype(np.float32) / np.iinfo(image.dtype).max).permute(2, 0, 1)[None]
    views = render(pixels, torch.full((1, 1, *image.shape[:2]), float(radius)))
    return to_16_bits(combine(*views)[0].permute(1, 2, 0).numpy())


def half(image):
    return cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def gamma(image, exponent):
    return to_16_bits((image / np.iinfo(image.dtype).max) ** exponent)


def jpeg(image, quality):
    content = cv2.imencode(".jpg", to_8_bits(image), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(content, cv2.IMREAD_COLOR)


def to_8_bits(image):
    return image if image.dtype == np.uint8 else (image >> 8).astype(np.uint8)


def cropped(image, share):
    return image[round(image.shape[0] * share) :, round(image.shape[1] * share) :]


@pytest.fixture(scope="module")
def photographs():
    """Photographs that lie in the scikit-image wheel, as 16 bits."""
    folder = Path(skimage.__file__).parent / "data"
    pieces = {name: read_image(folder / f"{name}.png", drop_alpha=True) for name in NAMES}
    return {name: image.astype(np.uint16) * 257 for name, image in pieces.items()}


CHANGES = {
    "blur of 2 pixels": (lambda image: blurred(image, 2), 8),
    "blur of 6 pixels, far": (lambda image: blurred(image, -6), 16),
    "blur of 12 pixels": (lambda image: blurred(image, 12), 48),
    "half the size": (half, 16),
    "8 bits": (to_8_bits, 4),
    "darker": (lambda image: gamma(image, 1.6), 36),
    "brighter": (lambda image: gamma(image, 0.6), 36),
    "jpeg": (lambda image: jpeg(image, 20), 32),
    "crop of 2 %": (lambda image: cropped(image, 0.02), 64),
    "all of it": (lambda image: jpeg(half(gamma(cropped(blurred(image, 8), 0.02), 0.8)), 50), 72),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_photograph_keeps_its_hash_and_correlates(photographs, change):
    work, limit = CHANGES[change]
    assert limit <= CANDIDATE
    for name, image in photographs.items():
        first, second = thumbnail(image), thumbnail(work(image))
        assert distances(perceptual_hash(first)[None], perceptual_hash(second)[None])[0, 0] <= limit, name
        assert correlation(first, second) > CONFIRMED + 0.05, name


def test_a_mirrored_photograph_is_found_from_the_same_hash(photographs):
    for image in photographs.values():
        one, other = (perceptual_hash(thumbnail(view)) for view in (image, image[:, ::-1].copy()))
        assert candidates(one[None], other[None]) == [
            (0, 0, int(distances(mirrored(one)[None], other[None])[0, 0]), True)
        ]
        assert distances(mirrored(one)[None], other[None])[0, 0] <= 4 and distances(one[None], other[None])[0, 0] > 110


def test_different_photographs_are_far_apart(photographs):
    small = [thumbnail(image) for image in photographs.values()]
    hashes = np.array([perceptual_hash(one) for one in small])
    pairs = np.triu_indices(len(hashes), 1)
    assert distances(hashes, hashes)[pairs].min() > 95 and distances(mirrored(hashes), hashes)[pairs].min() > 90
    assert max(correlation(small[one], small[other]) for one, other in zip(*pairs, strict=True)) < CONFIRMED
    assert [one for one in candidates(hashes, hashes) if one[0] != one[1]] == []


def test_real_scenes_are_told_apart(shared):
    files = [*shared.glob("data/rgbd/*/rgb.png"), *shared.glob("data/dpdd_gif_views/*/a.png")]
    files += [*shared.glob("data/pixel4_dp/*/sharp.png")]
    hashes = np.array([perceptual_hash(thumbnail(read_image(file, drop_alpha=True))) for file in files])
    assert len(files) > 30
    found = candidates(hashes, hashes)
    assert sorted(one[:3] for one in found) == [(number, number, 0) for number in range(len(files))]


def test_both_frames_of_a_real_pair_are_one_scene(shared):
    for folder in shared.glob("data/dpdd_gif_views/canon_*"):
        first, second = (thumbnail(read_image(folder / f"{frame}.png", drop_alpha=True)) for frame in "ab")
        assert distances(perceptual_hash(first)[None], perceptual_hash(second)[None])[0, 0] < 32
        assert correlation(first, second) > 0.9


def test_pictures_without_detail_are_not_confirmed():
    flat = np.full((64, 64), 0.5, np.float32)
    assert correlation(flat, flat) == 0 and thumbnail(np.full((80, 90, 3), 255, np.uint8)) == pytest.approx(1)


def test_distances_count_bits():
    random = np.random.default_rng(0)
    first, second = random.choice(np.int8([-1, 1]), (5, 256)), random.choice(np.int8([-1, 1]), (7, 256))
    expected = [[sum(a != b for a, b in zip(one, other, strict=True)) for other in second] for one in first]
    assert np.array_equal(distances(first, second), expected)
    many = np.concatenate([random.choice(np.int8([-1, 1]), (30, 256)), second[:2]])
    assert candidates(many, second, rows=7) == [(30, 0, 0, False), (31, 1, 0, False)]


def test_a_million_pairs_take_seconds():
    random = np.random.default_rng(0)
    first, second = random.choice(np.int8([-1, 1]), (2000, 256)), random.choice(np.int8([-1, 1]), (500, 256))
    begun = time.process_time()
    assert candidates(first, second) == []
    assert time.process_time() - begun < 5


def prepared(top, name, splits, bit_depth=16):
    """Prepare a set of combined images: split -> key -> image."""
    for split, images in splits.items():
        for key, image in images.items():
            write_png(top / "source" / name / split / f"{key}.png", image)
    card = write_card(
        top / f"{name}.yaml",
        bit_depth=bit_depth,
        fields=["combined"],
        preparation={},
        splits={split: {"scenes": len(images)} for split, images in splits.items()},
        reader={"name": "folders", "options": {"roots": [name], "patterns": {"combined": "{split}/*.png"}}},
    )
    content = yaml.safe_load(card.read_text())
    del content["size"]
    card.write_text(yaml.safe_dump(content))
    prepare(get_card(card), top / "source", top / "shards" / name, processes=1)
    return card


@pytest.fixture(scope="module")
def sets(photographs, tmp_path_factory):
    """A set to be tested on, and one to be trained on that shows four of its ten scenes otherwise."""
    top = tmp_path_factory.mktemp("sets")
    scenes = {}
    for name, image in photographs.items():  # a photograph gives two scenes at most
        scenes[f"{name}-a"] = image[: SIZE[0], : min(SIZE[1], image.shape[1])]
        if image.shape[0] >= 2 * SIZE[0]:
            scenes[f"{name}-b"] = image[-SIZE[0] :, -SIZE[1] :]
    keys = list(scenes)
    ours, theirs = keys[:8], keys[8:]
    test = {key: to_8_bits(blurred(scenes[key], 1)) for key in ours}
    train = {key: blurred(scenes[key], 4 * (-1) ** number) for number, key in enumerate(theirs)}
    leaks = {
        f"far-{ours[0]}": blurred(scenes[ours[0]], 9),
        f"small-{ours[2]}": half(blurred(scenes[ours[2]], -5)),
        f"dark-{ours[4]}": gamma(blurred(scenes[ours[4]], 3), 1.5),
        f"mirrored-{ours[6]}": blurred(scenes[ours[6]], 6)[:, ::-1],
    }
    train |= leaks
    other = {key: blurred(scenes[key], 2) for key in theirs[:2]}
    a = prepared(top, "tested", {"test": test}, bit_depth=8)
    b = prepared(top, "trained", {"train": train, "test": other})
    return top / "shards", a, b, {(key.split("-", 1)[1], key) for key in leaks}


def run_overlap(capsys, *arguments):
    main(["data", "overlap", *map(str, arguments)])
    return capsys.readouterr().out


def found_in(path):
    content = json.loads(path.read_text())
    return [pair for one in content["compared"] for pair in one["pairs"]]


def test_exactly_the_scenes_that_leak_are_found(sets, capsys, monkeypatch, tmp_path):
    shards, a, b, leaks = sets
    monkeypatch.setenv("DUALPIXEL_SHARDS", str(shards))
    said = run_overlap(capsys, a, b, "--out", tmp_path)
    pairs = found_in(tmp_path / "tested-trained.json")
    assert {(pair["a"], pair["b"]) for pair in pairs} == leaks and len(pairs) == 4
    assert [pair["b"].startswith("mirrored") for pair in pairs] == [pair["mirrored"] for pair in pairs]
    assert all(pair["verdict"] == "same" and pair["correlation"] > 0.8 and pair["distance"] < 64 for pair in pairs)
    assert "4 of 8 scenes of tested test are in trained train" in said and "mirrored" in said
    sheet = read_image(tmp_path / "tested-trained.png", drop_alpha=True)
    assert sheet.shape[1] == 1280 and sheet.std() > 20


def test_the_order_of_the_sets_does_not_matter(sets, capsys, tmp_path):
    shards, *_, leaks = sets
    said = run_overlap(capsys, shards / "trained", shards / "tested" / "test", "--out", tmp_path)
    assert "4 of 8 scenes of tested test are in trained train" in said
    assert {(pair["b"], pair["a"]) for pair in found_in(tmp_path / "trained-tested.json")} == leaks


def test_nothing_is_found_in_disjoint_sets(sets, capsys, tmp_path):
    shards, *_ = sets
    (tmp_path / "tested-trained.png").write_bytes(b"of an earlier comparison")
    options = ("--split_b", "test", "--split_a", "test", "--out", tmp_path, "--fail")
    said = run_overlap(capsys, shards / "tested", shards / "trained", *options)
    assert "0 of 8 scenes of tested test are in trained test (2 scenes)" in said
    assert found_in(tmp_path / "tested-trained.json") == [] and not (tmp_path / "tested-trained.png").exists()


def test_a_set_is_held_against_itself(sets, capsys, tmp_path):
    shards, *_ = sets
    said = run_overlap(capsys, shards / "trained", shards / "trained", "--out", tmp_path)
    assert said.count("scenes of") == 1 and "2 of 2 scenes of trained test are in trained train" in said
    same_split = ("--split_a", "train", "--split_b", "train", "--out", tmp_path)
    assert "0 of " in run_overlap(capsys, shards / "trained", shards / "trained", *same_split)


def test_a_script_may_fail_on_what_is_found(sets, capsys, tmp_path):
    trained = str(sets[0] / "trained")
    message = refused(capsys, "data", "overlap", trained, trained, "--out", str(tmp_path), "--fail")
    assert "2 pairs of scenes" in message and (tmp_path / "trained-trained.json").is_file()


def test_what_cannot_be_compared_is_refused_in_one_line(sets, capsys, monkeypatch, tmp_path):
    shards, a, *_ = sets
    monkeypatch.setenv("DUALPIXEL_SHARDS", str(tmp_path))
    tested, trained = str(shards / "tested"), str(shards / "trained")
    for arguments, said in (
        ((tested, "dpdd"), "dpdd: no split is prepared in .*data prepare dpdd --source FOLDER"),
        ((str(tmp_path), tested), "no split is prepared in .*prepare it first"),
        (("dpd", tested), "no data set card 'dpd'"),
        ((tested, tested), "nothing to compare: .*one of them needs its split 'train'"),
        (("http:/host/tested", trained), "http:/...: an address has two slashes"),
        ((tested, trained, "--split_a", "tset"), "no split 'tset' is prepared; did you mean 'test'"),
    ):
        message = refused(capsys, "data", "overlap", *arguments)
        assert len(message.splitlines()) == 1
        assert re.search(said, message), message


def test_two_copies_of_a_set_are_told_apart(sets, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for copy in ("b", "a [c]"):
        shutil.copytree(sets[0] / "trained", tmp_path / copy)
    said = run_overlap(capsys, "b", "a [c]/", "--out", "out").replace("\n", " ")
    assert "2 of 2 scenes of trained test at b/test are in trained train at a [c]/train" in said
    assert "2 of 2 scenes of trained test at a [c]/test are in trained train at b/train" in said


def test_splits_on_a_server_are_compared(sets, capsys, monkeypatch, tmp_path):
    shards, a, b, leaks = sets
    monkeypatch.setenv("DUALPIXEL_CACHE", str(tmp_path / "cache"))
    with FolderServer(shards) as server:
        said = run_overlap(capsys, f"{server.url}/tested/test/", shards / "trained", "--out", tmp_path)
        assert "4 of 8 scenes of tested test are in trained train" in said
        message = refused(capsys, "data", "overlap", f"{server.url}/tested/", str(shards / "trained"))
        assert f"name the address of one split, such as {server.url}/tested/train, or a card" in message
        monkeypatch.setenv("DUALPIXEL_SHARDS", server.url)
        (tmp_path / "tested-trained.json").unlink()
        assert "4 of 8 scenes of tested test are in trained train" in run_overlap(capsys, a, b, "--out", tmp_path)
        assert {(one["a"], one["b"]) for one in found_in(tmp_path / "tested-trained.json")} == leaks
        assert "tested: no split 'train' is prepared" in refused(
            capsys, "data", "overlap", f"{server.url}/tested/test", str(b), "--split_a", "train"
        ).replace(f"{server.url}/tested/test", "tested")
        itself = ("--split_a", "train", "--split_b", "train", "--out", tmp_path)
        assert "0 of " in run_overlap(capsys, f"{server.url}/trained/train/", f"{server.url}/trained/train", *itself)
