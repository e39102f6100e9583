import cv2
import numpy as np
import OpenEXR
import pytest

from dualpixel import DualPixelError
from dualpixel.data.maps import ENDINGS, fill_holes, read_disparity, read_map, write_map

HOLE = np.nan


@pytest.fixture
def depth():
    """Metres, on the grid of millimetres, with holes."""
    random = np.random.default_rng(0)
    depth = (random.integers(500, 9000, (20, 30)) * 0.001).astype(np.float32)
    depth[random.random(depth.shape) < 0.1] = np.nan
    return depth


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_gives_back_the_same_numbers_and_holes(tmp_path, depth, ending):
    path = tmp_path / f"depth{ending}"
    write_map(path, depth, 0.001)
    found = read_map(path, 0.001)
    assert found.dtype == np.float32 and found.shape == (20, 30)
    assert np.array_equal(found, depth, equal_nan=True)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_integers_are_worth_their_unit(tmp_path):
    stored = np.array([[0, 1000, 65535]], np.uint16)
    cv2.imwrite(str(tmp_path / "depth.png"), stored)
    cv2.imwrite(str(tmp_path / "depth.tiff"), stored)
    np.save(tmp_path / "depth.npy", stored.astype(np.int32))
    for ending in ("png", "tiff", "npy"):
        found = read_map(tmp_path / f"depth.{ending}", 0.0002)
        assert np.array_equal(found, np.float32([[HOLE, 0.2, 13.107]]), equal_nan=True)
        with pytest.raises(DualPixelError, match="integers .* without a unit"):
            read_map(tmp_path / f"depth.{ending}")


def test_zero_negative_and_infinite_depth_is_unknown_but_signed_maps_keep_their_values(tmp_path):
    stored = np.array([[0.0, -2.5, np.inf, np.nan, 1e300, 3.0]])
    np.save(tmp_path / "map.npy", stored)
    assert np.array_equal(read_map(tmp_path / "map.npy"), np.float32([[HOLE] * 5 + [3]]), equal_nan=True)
    signed = read_map(tmp_path / "map.npy", signed=True)
    assert np.array_equal(signed, np.float32([[0, -2.5, HOLE, HOLE, HOLE, 3]]), equal_nan=True)


def test_eight_bits_are_refused_unless_they_are_meant(tmp_path):
    cv2.imwrite(str(tmp_path / "depth.png"), np.array([[0, 200]], np.uint8))
    with pytest.raises(DualPixelError, match="8 bits has 256 levels.*option depth_of_8_bits"):
        read_map(tmp_path / "depth.png", 0.01)
    assert read_map(tmp_path / "depth.png", 0.01, eight_bits=True)[0, 1] == np.float32(2)


def test_disparity_is_the_share_of_the_largest_integer_and_zero_is_a_value(tmp_path):
    for kind, ending in ((np.uint8, "tif"), (np.uint8, "png"), (np.uint16, "tif")):
        largest = np.iinfo(kind).max
        stored = np.array([[0, 1, largest // 3, largest]], kind)
        cv2.imwrite(str(tmp_path / f"d.{ending}"), stored)
        found = read_disparity(tmp_path / f"d.{ending}")
        assert found.dtype == np.float32
        assert np.array_equal(found, (stored / largest).astype(np.float32)) and found[0, 0] == 0 and found[0, -1] == 1
    np.save(tmp_path / "d.npy", np.float32([[0.25, 0]]))
    assert np.array_equal(read_disparity(tmp_path / "d.npy"), np.float32([[0.25, 0]]))


@pytest.mark.parametrize("values", [np.float32([[1.5]]), np.float32([[np.nan]]), np.int16([[3]])])
def test_other_numbers_are_no_disparity(tmp_path, values):
    np.save(tmp_path / "d.npy", values)
    with pytest.raises(DualPixelError, match="d.npy: disparity up to factor and offset is read from unsigned integers"):
        read_disparity(tmp_path / "d.npy")
    with pytest.raises(DualPixelError, match="no such map"):
        read_disparity(tmp_path / "none.npy")


def test_the_depth_channel_of_an_exr_is_found(tmp_path, depth):
    path = str(tmp_path / "frame.exr")
    colour = np.zeros((*depth.shape, 3), np.float32)
    for name in ("Z", "depth", "ViewLayer.Depth.Z"):
        OpenEXR.File({}, {"RGB": colour, name: depth}).write(path)
        assert np.array_equal(read_map(path), depth, equal_nan=True)
    for name in ("Y", "R", "V"):
        OpenEXR.File({}, {name: depth.astype(np.float16)}).write(path)
        assert np.array_equal(read_map(path), depth.astype(np.float16).astype(np.float32), equal_nan=True)
    OpenEXR.File({}, {"RGB": colour}).write(path)
    with pytest.raises(DualPixelError, match="none is called depth or Z"):
        read_map(path)


def test_the_scale_of_a_pfm_says_the_order_of_bytes_and_nothing_else(tmp_path):
    values = np.arange(6, dtype=np.float32).reshape(2, 3) + 1
    for order, sign in (("<", "-"), (">", "")):
        content = values[::-1].astype(f"{order}f4").tobytes()
        (tmp_path / "map.pfm").write_bytes(f"Pf\n3 2\n{sign}0.003922\n".encode() + content)
        assert np.array_equal(read_map(tmp_path / "map.pfm"), values)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_truncated_map_is_refused(tmp_path, depth, ending):
    path = tmp_path / f"depth{ending}"
    write_map(path, np.random.default_rng(1).random((300, 200)) + 1, 0.001)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(DualPixelError, match=f"depth{ending}: not a map"):
        read_map(path, 0.001)


def test_what_is_no_map_is_refused(tmp_path, depth):
    cv2.imwrite(str(tmp_path / "colour.png"), np.zeros((4, 5, 3), np.uint16))
    np.save(tmp_path / "object.npy", np.array([[{}]]), allow_pickle=True)
    np.save(tmp_path / "complex.npy", np.zeros((2, 2), complex))
    np.save(tmp_path / "empty.npy", np.zeros((0, 2)))
    (tmp_path / "map.jpg").write_bytes(b"x")
    (tmp_path / "colour.pfm").write_bytes(b"PF\n1 1\n-1\n" + bytes(12))
    for name, said in {
        "colour.png": "one number a pixel",
        "object.npy": "not a map that can be read",
        "complex.npy": "one number a pixel",
        "empty.npy": "one number a pixel",
        "map.jpg": "not a format for maps",
        "colour.pfm": "not a map that can be read",
        "none.png": "no such map",
    }.items():
        with pytest.raises(DualPixelError, match=said):
            read_map(tmp_path / name, 0.001)
    with pytest.raises(DualPixelError, match="do not fit into 16 bits"):
        write_map(tmp_path / "far.png", depth * 100, 0.001)
    with pytest.raises(DualPixelError, match="only with a unit"):
        write_map(tmp_path / "far.png", depth)
    assert not (tmp_path / "far.png").exists()


def test_one_channel_may_have_an_axis_of_its_own(tmp_path, depth):
    np.save(tmp_path / "map.npy", depth[:, :, None])
    assert np.array_equal(read_map(tmp_path / "map.npy"), depth, equal_nan=True)


def test_holes_are_filled_from_behind():
    rows = [[HOLE, 5, HOLE, HOLE, 9, HOLE], [8, HOLE, 3, HOLE, 4, 1], [2, 2, 2, 2, 2, 2]]
    filled = fill_holes(np.array(rows))
    assert filled.tolist() == [[5, 5, 9, 9, 9, 9], [8, 8, 3, 4, 4, 1], [2, 2, 2, 2, 2, 2]]


def test_rows_without_any_known_value_are_filled_by_columns():
    rows = [[HOLE] * 3, [1, HOLE, 4], [HOLE] * 3, [3, 3, 3], [HOLE] * 3]
    filled = fill_holes(np.array(rows, np.float32), most=0.7)
    assert filled.dtype == np.float32
    assert filled.tolist() == [[1, 4, 4], [1, 4, 4], [3, 4, 4], [3, 3, 3], [3, 3, 3]]


def test_known_values_stay():
    depth = np.random.default_rng(2).random((40, 50)).astype(np.float32) + 1
    holed = np.where(np.random.default_rng(3).random(depth.shape) < 0.4, np.float32(np.nan), depth)
    filled = fill_holes(holed)
    known = np.isfinite(holed)
    assert np.array_equal(filled[known], depth[known]) and np.isfinite(filled).all() and 0.3 < (~known).mean() < 0.5


def test_a_map_of_mostly_holes_is_refused():
    depth = np.array([[1, HOLE, HOLE, HOLE]])
    with pytest.raises(DualPixelError, match="desk: 75% of the map are holes; at most 50% are filled"):
        fill_holes(depth, name="desk")
    assert fill_holes(depth, most=0.75).tolist() == [[1, 1, 1, 1]]
    with pytest.raises(DualPixelError, match="100% of the map"):
        fill_holes(np.full((2, 2), np.nan), most=0.99)
