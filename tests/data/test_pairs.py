import pytest
from scenes import photograph, views

from dualpixel import DualPixelError
from dualpixel.data.images import write_png
from dualpixel.data.pairs import Photographs, find_photographs


@pytest.fixture
def scene():
    return views(photograph(1))


def test_folders_of_views_and_files_with_endings_are_paired(tmp_path, scene):
    for name in ("b", "a"):
        for field in ("left", "right", "combined"):
            write_png(tmp_path / "folders" / field / f"{name}.png", scene[field])
        for ending, field in (("_L", "left"), ("_R", "right"), ("_B", "combined")):
            write_png(tmp_path / "files" / f"{name}{ending}.png", scene[field])
    for folder in ("folders", "files"):
        found = find_photographs([tmp_path / folder])
        assert list(found) == ["a", "b"] and set(found["a"]) == {"left", "right", "combined"}
        sample = Photographs([tmp_path / folder], ["left", "right"])[1]
        assert (sample["left"] == scene["left"]).all() and sample["key"] == "b"
    assert list(find_photographs([tmp_path / "files" / "a_L.png", tmp_path / "files" / "a_R.png"])) == ["a"]


def test_equal_names_in_the_folders_of_the_views_are_whole_names(tmp_path, scene):
    for name in ("1P0A0919_C", "garden_L"):  # keys of other sets end as the files of DPDD's views do
        for field in ("left", "right", "combined"):
            write_png(tmp_path / field / f"{name}.png", scene["left"])
    assert {name: sorted(files) for name, files in find_photographs([tmp_path]).items()} == {
        name: ["combined", "left", "right"] for name in ("1P0A0919_C", "garden_L")
    }


def test_a_missing_view_is_named(tmp_path, scene):
    write_png(tmp_path / "a_L.png", scene["left"])
    with pytest.raises(DualPixelError, match="a: the right view is missing"):
        Photographs([tmp_path], ["left", "right"])


def test_views_of_two_sizes_are_refused(tmp_path, scene):
    write_png(tmp_path / "a_L.png", scene["left"])
    write_png(tmp_path / "a_R.png", scene["right"][:-1])
    with pytest.raises(DualPixelError, match="differ in size or bit depth"):
        Photographs([tmp_path], ["left", "right"])[0]


def test_no_images_and_no_folder_are_said(tmp_path):
    with pytest.raises(DualPixelError, match="no images"):
        find_photographs([tmp_path])
    with pytest.raises(DualPixelError, match="no such file or folder"):
        find_photographs([tmp_path / "nothing"])


def test_two_files_for_one_view_are_refused(tmp_path, scene):
    write_png(tmp_path / "x" / "a_L.png", scene["left"])
    write_png(tmp_path / "y" / "a_L.png", scene["left"])
    with pytest.raises(DualPixelError, match="two files for the left image of 'a'"):
        find_photographs([tmp_path / "x", tmp_path / "y"])
