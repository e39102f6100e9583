import cv2
import numpy as np
import pytest
import torch

from dualpixel.evaluate.thumbnails import KINDS, ThumbnailFolder, find_detail, find_thumbnails


@pytest.fixture
def result_file(tmp_path):
    return tmp_path / "dpdd-test" / "dpdnet-16bit" / "result.json"


@pytest.fixture
def images():
    """An input that differs from its target in a square, slightly elsewhere, and an output with a shade of its own."""
    random = torch.Generator().manual_seed(0)
    target = torch.rand(3, 200, 400, generator=random) * 0.2 + 0.4
    unprocessed = target + 0.01
    unprocessed[:, 40:168, 250:378] += 0.2
    return unprocessed, torch.full_like(target, 0.25), target


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[:, :, ::-1] / 255.0


def written(folder, *keys, images):
    folder.begin()
    for key in keys:
        folder.write(key, *images)
    folder.end()


def test_the_detail_lies_where_input_and_target_differ_most(images):
    unprocessed, _, target = images
    assert find_detail(unprocessed, target) == (slice(40, 168), slice(250, 378))
    assert find_detail(unprocessed[:, :100], target[:, :100]) == (slice(0, 100), slice(250, 378))
    assert find_detail(target, target) == (slice(0, 128), slice(0, 128))
    unprocessed[:, 0, 0] = float("nan")
    assert find_detail(unprocessed, target) == (slice(40, 168), slice(250, 378))


def test_four_pictures_of_an_image_are_written_and_found(result_file, images):
    folder = ThumbnailFolder(result_file)
    folder.begin()
    folder.write("1P0A-0917", *images)
    assert not find_thumbnails(result_file)  # nothing new stands beside a result that is not there yet
    folder.end()
    found = find_thumbnails(result_file)
    assert list(found) == ["1P0A-0917"] and set(found["1P0A-0917"]) == set(KINDS)
    pictures = {kind: read(path) for kind, path in found["1P0A-0917"].items()}
    assert {kind: picture.shape for kind, picture in pictures.items()} == {
        "scene": (80, 160, 3), "input": (128, 128, 3), "output": (128, 128, 3), "target": (128, 128, 3),
    }  # fmt: skip
    assert pictures["output"].mean() == pytest.approx(0.25, abs=0.01)
    assert pictures["input"].mean() - pictures["target"].mean() == pytest.approx(0.21, abs=0.01)
    assert sum(path.stat().st_size for path in found["1P0A-0917"].values()) < 40_000


def test_colours_keep_their_places_and_nothing_wraps_round(result_file):
    target = torch.zeros(3, 32, 48)
    target[0] = 1.5  # red, out of range as an output may be
    output = torch.full((3, 32, 48), -0.5)
    output[2] = 65534 / 65535  # of 16 bits, just below full scale
    written(ThumbnailFolder(result_file), "a", images=(target, output, target))
    files = find_thumbnails(result_file)["a"]
    assert read(files["target"]).mean((0, 1)) == pytest.approx([1, 0, 0], abs=0.03)
    assert read(files["output"]).mean((0, 1)) == pytest.approx([0, 0, 1], abs=0.03)
    assert read(files["scene"]).shape == (32, 48, 3)


def test_an_earlier_tests_pictures_make_way_even_for_none(result_file, images):
    folder = ThumbnailFolder(result_file)
    written(folder, "a", "b", images=images)
    folder.begin()
    folder.write("left-over", *images)  # by a test that broke
    assert set(find_thumbnails(result_file)) == {"a", "b"}
    written(folder, "b", "c", images=images)
    assert set(find_thumbnails(result_file)) == {"b", "c"}
    written(folder, images=images)
    assert not find_thumbnails(result_file) and not list(result_file.parent.iterdir())


def test_links_and_other_names_are_no_thumbnails(result_file, images, tmp_path):
    written(ThumbnailFolder(result_file), "a", images=images)
    folder = result_file.parent / "thumbnails"
    secret = tmp_path / "secret.webp"
    secret.write_bytes(b"x")
    (folder / "b-input.webp").symlink_to(secret)
    (folder / "c-input.webp").mkdir()
    for name in ("d-other.webp", "-input.webp", "e<b>-input.webp", "f-input.png"):
        (folder / name).write_bytes(b"x")
    assert set(find_thumbnails(result_file)) == {"a"}
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert not find_thumbnails(result_file)
    written(ThumbnailFolder(result_file), images=images)
    assert not folder.is_symlink() and (tmp_path / "elsewhere" / "a-input.webp").is_file()


def test_one_colour_has_a_detail(result_file):
    grey = torch.from_numpy(np.full((3, 5, 7), 0.5, np.float32))
    assert find_detail(grey, grey) == (slice(0, 5), slice(0, 7))
    written(ThumbnailFolder(result_file), "a", images=(grey, grey, grey))
    assert read(find_thumbnails(result_file)["a"]["scene"]).mean() == pytest.approx(0.5, abs=0.01)


def test_a_folder_that_cannot_be_written_costs_the_pictures_and_a_warning_alone(result_file, images, capsys):
    result_file.parent.parent.mkdir(parents=True)
    result_file.parent.write_text("a file in the place of the folder")
    written(ThumbnailFolder(result_file), "one", "two", images=images)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: no more thumbnails: ") and "Not a directory" in line
