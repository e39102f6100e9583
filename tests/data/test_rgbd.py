import numpy as np
import pytest
from rgbd_scenes import SIZE, scene, write_rgbd, write_rgbd_card

from dualpixel import DualPixelError
from dualpixel.data.images import read_image, write_png
from dualpixel.data.index import load_index
from dualpixel.data.maps import read_map, write_map
from dualpixel.data.prepare import prepare
from dualpixel.data.readers import get_reader
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.registry import get_card

NAMES = [f"room-{number:02d}" for number in range(30)]
LAYOUTS = {
    "a folder a scene": ("{name}/rgb.png", "{name}/depth.png"),
    "a folder a field": ("rgb/{name}.png", "depth/{name}.exr"),
    "split, then a folder a scene": ("{split}/{name}/rgb.png", "{split}/{name}/depth.npy"),
    "split, then a folder a field": ("{split}/rgb/{name}.png", "{split}/depth/{name}.tiff"),
}


def reader(tmp_path, source, **options):
    return get_reader(get_card(write_rgbd_card(tmp_path / "mine.yaml", **options)), source)


def keys(reader):
    return {split: [scene.key for scene in reader.scenes(split)] for split in reader.card.splits}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_scenes_of_every_layout_are_found_and_read(tmp_path, layout):
    chosen = {"train": ["one", "two"], "val": ["three"], "test": ["four"]}
    for split, names in chosen.items():
        patterns = [pattern.replace("{split}", split) for pattern in LAYOUTS[layout]]
        write_rgbd(tmp_path / "source", names, *patterns)
    rgbd = get_reader(get_card("rgbd"), tmp_path / "source")
    found = keys(rgbd)
    if "split" in layout:
        assert found == {split: sorted(names) for split, names in chosen.items()}
    assert sorted(sum(found.values(), [])) == ["four", "one", "three", "two"]
    one = next(one for split in found for one in rgbd.scenes(split) if one.key == "one")
    sharp, depth = scene(0)
    read = rgbd.read(one)
    assert read["sharp"].dtype == np.uint16 and np.array_equal(read["sharp"], sharp)
    assert read["depth"].dtype == np.float32 and np.array_equal(read["depth"], depth)


def test_patterns_of_ones_own_need_no_code(tmp_path):
    write_rgbd(tmp_path / "source", ["7"], "scan{name}/color/frame {name}.png", "scan{name}/depth/frame {name}.png")
    layouts = [{"sharp": "*/color/*", "depth": "*/depth/*"}]
    assert keys(reader(tmp_path, tmp_path / "source", layouts=layouts, shares={}))["train"] == ["scan7-frame_7"]
    write_rgbd(tmp_path / "flat", ["a.b", "c"], "{name}_colors.png", "{name}_depth.png")
    layouts = [{"sharp": "*_colors", "depth": "*_depth"}]
    assert keys(reader(tmp_path, tmp_path / "flat", layouts=layouts, shares={}))["train"] == ["a_b", "c"]


def test_eight_bits_are_stored_in_sixteen_with_the_same_value(tmp_path):
    write_rgbd(tmp_path / "source", ["a"], bit_depth=8)
    rgbd = reader(tmp_path, tmp_path / "source", shares={})
    stored = read_image(tmp_path / "source/a/rgb.png", 8)
    read = rgbd.read(rgbd.scenes("train")[0])["sharp"]
    assert read.dtype == np.uint16 and np.array_equal(read / 65535, stored / 255)


def test_a_scene_that_is_added_moves_no_other(tmp_path):
    before = keys(get_reader(get_card("rgbd"), write_rgbd(tmp_path / "some", NAMES[::2])))
    after = keys(get_reader(get_card("rgbd"), write_rgbd(tmp_path / "all", NAMES)))
    assert all(set(before[split]) <= set(after[split]) for split in before)
    assert sum(map(len, after.values())) == len(NAMES) and sum(map(len, before.values())) == len(NAMES) / 2


def test_shares_are_kept():
    rgbd = get_reader(get_card("rgbd"))
    dealt = [rgbd.split_of(str(number)) for number in range(5000)]
    assert dealt.count("val") == pytest.approx(500, abs=60) and dealt.count("test") == pytest.approx(500, abs=60)


def test_too_few_scenes_for_three_splits_are_refused_with_advice(tmp_path):
    source = write_rgbd(tmp_path / "source", ["cellar", "attic"])
    with pytest.raises(DualPixelError, match=r"is empty .*\(2 train, 0 val, 0 test\).*sort so few.*--partial"):
        prepare(get_card("rgbd"), source, tmp_path / "out")
    folder = prepare(get_card("rgbd"), source, tmp_path / "out", processes=1, partial=True)
    assert [path.name for path in sorted(folder.iterdir()) if path.is_dir()] == ["train"]
    assert load_index(folder / "train").preparation["complete"] is True
    with pytest.raises(DualPixelError, match=r"\(0 train, 0 val, 0 test\).*rgb/\* \+ depth/\*"):
        prepare(get_card("rgbd"), tmp_path / "out", tmp_path / "again", partial=True)


def test_border_limits_and_holes(tmp_path):
    source = write_rgbd(tmp_path / "source", ["a"])
    metres = read_map(source / "a/depth.png", 0.001)
    metres[:8] = metres[:, :8] = np.nan
    metres[30, 40:45] = np.nan
    write_map(source / "a/depth.png", metres, 0.001)
    sharp, depth = scene(0)
    rgbd = reader(tmp_path, source, border=8, near_m=2.0, far_m=4.0, most_holes=0.01, shares={}, minimum_size=56)
    read = rgbd.read(rgbd.scenes("train")[0])
    assert read["sharp"].shape == (SIZE[0] - 16, SIZE[1] - 16, 3)
    assert np.array_equal(read["sharp"], sharp[8:-8, 8:-8])
    expected = depth.copy()
    expected[30, 40:45] = max(depth[30, 39], depth[30, 45])
    assert np.array_equal(read["depth"], expected[8:-8, 8:-8].clip(2, 4))
    for options, said in (
        ({"most_holes": 0.1}, r"depth.png: 1\d% of the map are holes; at most 10%"),
        ({"border": 8, "minimum_size": 57}, "72x96 .*border of 8 is cut.* minimum_size 57"),
    ):
        rgbd = reader(tmp_path, source, shares={}, **options)
        with pytest.raises(DualPixelError, match=said):
            rgbd.read(rgbd.scenes("train")[0])


def test_scenes_may_differ_in_size_but_not_colour_from_depth(tmp_path):
    source = write_rgbd(tmp_path / "source", ["a", "b"])
    write_rgbd(source, ["c"], size=(80, 64))
    card = get_card(write_rgbd_card(tmp_path / "mine.yaml", {"train": {"scenes": None}}, shares={}))
    prepared = PreparedSplit(prepare(card, source, tmp_path / "out", processes=1) / "train")
    assert [prepared.size(position) for position in range(3)] == [SIZE, SIZE, (80, 64)]
    write_png(source / "c/rgb.png", scene(0)[0])
    with pytest.raises(DualPixelError, match="c has colour of 72x96 but depth of 80x64"):
        prepare(card, source, tmp_path / "again", processes=1)


def test_a_scene_without_depth_is_refused_unless_it_may_be_left_out(tmp_path):
    source = write_rgbd(tmp_path / "source", NAMES[:3])
    (source / NAMES[1] / "depth.png").unlink()
    with pytest.raises(DualPixelError, match="1 of 3 scenes lack colour or depth, the first is room-01"):
        reader(tmp_path, source).scenes("train")
    found = keys(reader(tmp_path, source, skip_incomplete=True))
    assert sorted(sum(found.values(), [])) == [NAMES[0], NAMES[2]]


def test_two_files_for_one_scene_are_refused(tmp_path):
    source = write_rgbd(tmp_path / "source", ["a"])
    write_map(source / "a/depth.npy", scene(0)[1])
    with pytest.raises(DualPixelError, match="would both be depth"):
        reader(tmp_path, source).scenes("train")


def test_other_options_are_other_shards(tmp_path):
    source = write_rgbd(tmp_path / "source", ["a"])
    splits = {"train": {"scenes": None}}
    prepare(get_card(write_rgbd_card(tmp_path / "mine.yaml", splits, shares={})), source, tmp_path / "out", processes=1)
    changed = get_card(write_rgbd_card(tmp_path / "mine.yaml", splits, shares={}, depth_unit=0.0002))
    with pytest.raises(DualPixelError, match="other files or settings"):
        prepare(changed, source, tmp_path / "out", processes=1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"depth_units": 1.0}, "did you mean 'depth_unit'"),
        ({"layouts": [{"sharp": "rgb/*"}]}, "expected sharp and depth"),
        ({"layouts": [{"sharp": "*/rgb/*", "depth": "depth/*"}]}, "as many `\\*`"),
        ({"depth_unit": 0.0}, "depth_unit 0.0 must be positive"),
        ({"near_m": 3, "far_m": 2}, "near_m 3.0 must be positive and below far_m 2.0"),
        ({"shares": {"vall": 0.1}}, "did you mean 'val'"),
        ({"shares": {"val": 0.8, "test": 0.4}}, "at most 1 together"),
    ],
)
def test_wrong_options_are_refused_in_words(tmp_path, options, said):
    with pytest.raises(DualPixelError, match=said):
        reader(tmp_path, tmp_path, **options)


def test_the_real_scenes_are_read(shared, tmp_path):
    rgbd = reader(tmp_path, shared / "data" / "rgbd", skip_incomplete=True)
    scenes = {one.key: one for split in rgbd.card.splits for one in rgbd.scenes(split)}
    assert len(scenes) == 18 and "mb_aloe_disparity" not in scenes
    teddy = rgbd.read(scenes["mb_teddy"])
    assert teddy["sharp"].shape == (375, 450, 3)
    assert (teddy["depth"].min(), teddy["depth"].max()) == (np.float32(1.146), np.float32(1.791))
    for one in scenes.values():
        depth = rgbd.read(one)["depth"]
        assert np.isfinite(depth).all() and depth.min() > 0.6 and depth.max() <= 10


def test_the_white_frame_of_nyu_is_cut(shared, tmp_path):
    source = shared / "data" / "rgbd"
    layouts = [{"sharp": "nyu_m3d_*/rgb", "depth": "nyu_m3d_*/depth"}]
    whole, cut = (reader(tmp_path, source, layouts=layouts, shares={}, border=border) for border in (0, 8))
    for one in whole.scenes("train"):
        framed, inner = whole.read(one)["sharp"], cut.read(one)["sharp"]
        assert (framed[:6] > 60000).mean() > 0.9 and (inner[:6] > 60000).mean() < 0.5
        assert inner.shape == (464, 624, 3)
