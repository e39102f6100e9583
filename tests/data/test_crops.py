"""Training crops that are not square, and square ones that stay what they were."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rgbd_scenes import write_rgbd, write_rgbd_card

from dualpixel import DualPixelError
from dualpixel.data import DualPixelData
from dualpixel.data.augmentation import Augmentation
from dualpixel.data.crops import plain_crop_size
from dualpixel.data.prepare import prepare
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.registry import get_card
from dualpixel.data.samplers import generator
from dualpixel.data.simulated import Place, SimulatedViews
from dualpixel.data.stream import TrainingSamples, collate, to_floats

SIZE = (144, 208)
WINDOWS = [(0, 0, 0), (40, 60, 1), (80, 144, 2)]
VIEWS = ("left", "right", "combined", "sharp")


class Coordinates:
    """A split of one scene whose fields are pictures of their own rows and columns; the third channel is 1 in the right view."""

    def __init__(self, windows=(), size=SIZE):
        preparation = {"windows": {"size": 64, "overlap": 0.6, "discard": 0.0}} if windows else {}
        scene = SimpleNamespace(key="scene0", group="", windows=windows)
        self.index = SimpleNamespace(dataset="set", split="train", samples=[scene], preparation=preparation)
        rows, columns = np.mgrid[: size[0], : size[1]]
        self.fields = {name: np.stack([rows, columns, 0 * rows + (name == "right")], -1) for name in VIEWS}

    def __len__(self):
        return 1

    def size(self, scene):
        return self.fields["left"].shape[:2]

    def array(self, scene, name):
        return self.fields[name].astype(np.uint16)


def corners(samples, count, epoch=2):
    """(row, column) of the first and of the last pixel of the first samples."""
    crops = [samples[(epoch, position)]["sharp"] for position in range(count)]
    return [(*crop[0, 0, :2].tolist(), *crop[-1, -1, :2].tolist()) for crop in crops]


def test_square_crops_lie_where_they_always_did():
    """Numbers of the program that knew square crops only: a seeded stream must not change."""
    random = TrainingSamples(Coordinates(), ["sharp"], 32, "random", 8, Augmentation(0.5, 0.5), seed=3)
    assert corners(random, 6) == [
        (39, 176, 70, 145), (47, 94, 78, 63), (75, 94, 44, 125), (88, 167, 57, 198), (101, 195, 70, 164), (108, 70, 77, 101),
    ]  # fmt: skip
    changed = TrainingSamples(
        Coordinates(WINDOWS), ["sharp"], 48, augmentation=Augmentation(0.5, 0.5, enlarge=1.5), seed=3
    )
    assert corners(changed, 3) == [(6, 60, 53, 13), (58, 112, 92, 78), (130, 154, 87, 197)]


def enlarged(height, width, seed, **options):
    """(factor, row, column, last row, last column) of what is kept of an enlarged picture of its own coordinates."""
    change = Augmentation(enlarge=1.25, **options).draw_enlargement(generator(seed), height, width)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    factor = change("blur", np.ones((height, width), np.float32))
    rows, columns = change("depth", rows), change("depth", columns)
    assert factor.shape == rows.shape == (height, width) and (factor == factor[0, 0]).all()
    return float(factor[0, 0]), rows[0, 0], columns[0, 0], rows[-1, -1], columns[-1, -1]


@pytest.mark.parametrize(
    ("diagonal", "expected"),
    [
        (False, [(68, 1, 3), (64, 0, 0), (70, 0, 0), (68, 1, 0), (74, 6, 0), (66, 0, 0)]),
        (True, [(68, 1, 1), (64, 0, 0), (70, 0, 0), (68, 1, 1), (74, 6, 6), (66, 0, 0)]),
    ],
)
def test_square_crops_are_enlarged_as_they_always_were(diagonal, expected):
    found = [enlarged(64, 64, seed, diagonal=diagonal) for seed in range(6)]
    assert [(round(factor * 64), row, column) for factor, row, column, *_ in found] == expected


def test_both_sides_of_a_rectangle_grow_by_one_factor():
    found = np.array([enlarged(80, 40, seed) for seed in range(300)])
    factors, rows, columns, last_rows, last_columns = found.T
    assert set(np.round(factors * 80)) == set(range(80, 100, 2))
    # what is kept covers 1 / factor of each side, to the pixel
    assert np.abs(last_rows - rows - 79 / factors).max() <= 1.5
    assert np.abs(last_columns - columns - 39 / factors).max() <= 1.5
    assert last_rows.max() == 79 and last_columns.max() == 39 and rows.max() > 12 and columns.max() > 6


def test_the_diagonal_of_a_rectangle_has_one_share_of_the_room_on_both_axes():
    shares = []
    for seed in range(100):
        factor, row, column, *_ = enlarged(400, 200, seed, diagonal=True)
        room = 400 * (factor - 1)  # below; half of it beside
        shares.append(row * factor / room if room > 40 else None)
        assert abs(row * factor - 2 * column * factor) <= 4
    shares = [share for share in shares if share is not None]
    assert min(shares) < 0.1 and max(shares) > 0.9


@pytest.mark.parametrize("size", [(48, 32), (24, 64)])
def test_rectangular_crops_of_windows_are_slices_of_the_scene(size):
    samples = TrainingSamples(Coordinates(WINDOWS), VIEWS, size, seed=1)
    places = set()
    for epoch in range(40):
        for position, (top, left, _) in enumerate(WINDOWS):
            sample = samples[(epoch, position)]
            row, column = sample["sharp"][0, 0, :2].tolist()
            assert top <= row <= top + 64 - size[0] and left <= column <= left + 64 - size[1]
            for name in VIEWS:
                whole = samples.split.array(0, name)
                assert np.array_equal(sample[name], whole[row : row + size[0], column : column + size[1]])
            places.add((row - top, column - left))
    assert len({row for row, _ in places}) > 10
    assert len({column for _, column in places}) == 1 if size[1] == 64 else 20 < len({c for _, c in places}) <= 33


def test_random_rectangular_crops_lie_anywhere():
    samples = TrainingSamples(Coordinates(), ["sharp"], (100, 32), "random", 300, seed=0)
    found = np.array(corners(samples, 300))
    assert np.array_equal(found[:, 2:] - found[:, :2], np.tile([99, 31], (300, 1)))
    assert set(found[:, 0]) <= set(range(45)) and found[:, 0].min() <= 1 and found[:, 0].max() >= 43
    assert found[:, 1].min() <= 4 and 172 <= found[:, 1].max() <= 176


def test_mirrored_rectangles_have_the_views_exchanged():
    plain = TrainingSamples(Coordinates(), VIEWS, (24, 56), "random", 20, Augmentation(), seed=2)
    mirrored = TrainingSamples(Coordinates(), VIEWS, (24, 56), "random", 20, Augmentation(mirror=1.0), seed=2)
    for position in range(20):
        one, other = plain[(0, position)], mirrored[(0, position)]
        assert one["left"].shape == other["left"].shape == (24, 56, 3)
        assert (one["left"][..., 2] == 0).all() and (one["right"][..., 2] == 1).all()
        assert np.array_equal(other["left"], one["right"][:, ::-1])
        assert np.array_equal(other["right"], one["left"][:, ::-1])
        assert np.array_equal(other["sharp"], one["sharp"][:, ::-1])


@pytest.fixture(scope="module")
def rgbd(tmp_path_factory):
    """Prepared RGB-D scenes of 72 x 96, and one set with a lower scene."""
    found = []
    for name, sizes in (("rgbd_equal", [(72, 96)] * 2), ("rgbd_mixed", [(72, 96), (70, 96)])):
        top = tmp_path_factory.mktemp(name)
        for number, size in enumerate(sizes):
            write_rgbd(top / "source" / "train", [f"train{number}"], size=size)
        card = write_rgbd_card(top / f"{name}.yaml", splits={"train": {"scenes": None}}, shares={})
        found.append(PreparedSplit(prepare(get_card(card), top / "source", top / "shards", processes=1) / "train"))
    return found


def test_a_rendered_rectangle_is_what_the_whole_scene_shows_there(rgbd):
    optics = SimulatedViews(f_number=(1.0, 2.0), pixel_pitch_m=8e-5, maximum_radius=6.0)
    plain, turned = (
        TrainingSamples(rgbd[0], [], (48, 24), "random", 10, Augmentation(share, share), optics=optics)
        for share in (0.0, 1.0)
    )
    for position in range(0, 20, 6):
        sample = turned[(0, position)]
        assert sample["sharp"].shape == (60, 36, 3) and sample["cut"][2:] == (48, 24)
        crop = optics(to_floats(collate([sample])))
        assert crop["left"].shape == (1, 3, 48, 24)
        inside = Place(0, 0, 48, 24).within(plain[(0, position)]["frame"])
        everything = Place(0, 0, 72, 96)
        arrays = {name: np.asarray(rgbd[0].array(position // 10, name)) for name in ("sharp", "depth")}
        whole = {**arrays, "camera": sample["camera"], "key": "a", "cut": everything, "frame": everything}
        scene = optics(to_floats(collate([whole])))
        for name, view in (("left", "right"), ("right", "left"), ("combined", "combined"), ("sharp", "sharp")):
            expected = scene[view][..., inside.rows, inside.columns].flip(-1, -2)
            assert torch.allclose(crop[name], expected, rtol=0, atol=2e-6), (name, position)


def test_surroundings_of_rectangles_must_be_of_one_size(rgbd):
    optics = SimulatedViews(maximum_radius=6.0)
    TrainingSamples(rgbd[1], [], (58, 84), "random", 2, optics=optics)
    with pytest.raises(DualPixelError, match="within 76x52 pixels of scene, of which the smallest scenes have 70x52"):
        TrainingSamples(rgbd[1], [], (64, 40), "random", 2, optics=optics)


@pytest.mark.parametrize(
    ("crop", "windows", "said"),
    [
        (65, WINDOWS, "data.crop_size 65 is larger than the 64 pixels that set train offers"),
        ((40, 72), WINDOWS, "data.crop_size 40x72 is larger than the 64x64 pixels that set train offers"),
        (145, (), "data.crop_size 145 is larger than the 144 pixels that set train offers"),
        ((145, 100), (), "data.crop_size 145x100 is larger than the 144x208 pixels that set train offers"),
        ((100, 209), (), "data.crop_size 100x209 is larger than the 144x208 pixels"),
    ],
)
def test_crops_that_do_not_fit_are_refused(crop, windows, said):
    with pytest.raises(DualPixelError, match=said):
        TrainingSamples(Coordinates(windows), ["sharp"], crop, "windows" if windows else "random")


def test_a_rectangle_may_be_longer_than_the_shorter_side_of_the_scenes():
    samples = TrainingSamples(Coordinates(), ["sharp"], (100, 208), "random", 1)
    assert samples[0]["sharp"].shape == (100, 208, 3)


@pytest.mark.parametrize("size", [0, -3, (0, 4), [8], (1, 2, 3), (4.0, 4), "64"])
def test_what_is_no_size_is_refused(size):
    with pytest.raises(
        DualPixelError, match="data.crop_size .*at least 1 pixel; a number for a square, or .height, width"
    ):
        plain_crop_size(size)


def test_one_size_has_one_form(small_card, small_shards):
    sizes = [DualPixelData(str(small_card), root=small_shards, crop_size=size) for size in ([48, 40], (48, 40))]
    assert [data.training.crop_size for data in sizes] == [(48, 40), (48, 40)]
    # as a file or a checkpoint gives it back
    assert [data.state_dict()["crop_size"] for data in sizes] == [[48, 40], [48, 40]]
    squares = [DualPixelData(str(small_card), root=small_shards, crop_size=size) for size in (48, [48, 48])]
    assert [data.state_dict()["crop_size"] for data in squares] == [48, 48]
    assert DualPixelData(str(small_card), root=small_shards).state_dict()["crop_size"] is None
