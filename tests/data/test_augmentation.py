import cv2
import numpy as np
import pytest

from dualpixel import DualPixelError
from dualpixel.data import DualPixelData
from dualpixel.data.augmentation import Augmentation
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.samplers import generator
from dualpixel.data.simulated import SimulatedViews
from dualpixel.data.stream import TrainingSamples

SIDE = 64


@pytest.fixture(scope="module")
def train(small_shards):
    return PreparedSplit(small_shards / "train")


def image(seed=0):
    return np.random.default_rng(seed).integers(0, 65536, (SIDE, SIDE, 3), dtype=np.uint16)


def enlargements(augmentation, count=400):
    """What is left of a picture of its own coordinates: (side of the enlarged picture, row, column)."""
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    found = []
    for number in range(count):
        change = augmentation.draw_enlargement(generator(number), SIDE, SIDE)
        row, column = change("depth", rows), change("depth", columns)
        factor = change("blur", np.ones((SIDE, SIDE), np.float32))[0, 0]
        found.append((round(factor * SIDE), row[0, 0] * factor, column[0, 0] * factor))
    return np.array(found)


def test_sides_are_even_and_cover_the_whole_range():
    sides, rows, columns = enlargements(Augmentation(enlarge=1.25)).T
    assert set(sides) == set(range(64, 80, 2))
    assert np.corrcoef(rows, columns)[0, 1] < 0.8  # both grow with the side, and that is all they share
    assert rows.max() > 10 and columns.max() > 10


def test_the_authors_crop_on_the_diagonal():
    _, rows, columns = enlargements(Augmentation(enlarge=1.25, diagonal=True)).T
    assert np.array_equal(rows, columns) and rows.max() > 10


def test_an_enlarged_crop_is_a_part_of_the_bilinearly_enlarged_picture():
    for seed in range(5):
        change = Augmentation(enlarge=1.25).draw_enlargement(generator("pixels", seed), SIDE, SIDE)
        changed = change("sharp", image())
        assert changed.shape == (SIDE, SIDE, 3) and changed.dtype == np.uint16
        larger = round(change("blur", np.ones((SIDE, SIDE), np.float32))[0, 0] * SIDE)
        whole = cv2.resize(image(), (larger, larger), interpolation=cv2.INTER_LINEAR)
        places = [
            (row, column)
            for row in range(larger - SIDE + 1)
            for column in range(larger - SIDE + 1)
            if np.array_equal(whole[row : row + SIDE, column : column + SIDE], changed)
        ]
        assert len(places) == 1
        # all fields of a sample are cut at the same place
        assert np.array_equal(changed, change("left", image()))


def test_blur_grows_with_the_picture_and_depth_does_not():
    change = Augmentation(enlarge=2.0).draw_enlargement(generator(1), SIDE, SIDE)
    three = np.full((SIDE, SIDE), 3, np.float32)
    blur = change("blur", three)
    assert 3 < blur[0, 0] < 6 and (blur == blur[0, 0]).all()
    assert np.array_equal(change("depth", three), three)


def test_without_enlargement_nothing_is_drawn():
    random = generator(0)
    change = Augmentation(mirror=0.5).draw_enlargement(random, SIDE, SIDE)
    assert change("sharp", image()) is not None and np.array_equal(change("sharp", image()), image())
    assert random.random() == generator(0).random()


def test_samples_are_enlarged_before_they_are_flipped(train):
    plain = TrainingSamples(train, ["left", "right"], augmentation=Augmentation(enlarge=1.25), seed=4)
    flipped = TrainingSamples(train, ["left", "right"], augmentation=Augmentation(1.0, 1.0, enlarge=1.25), seed=4)
    without = TrainingSamples(train, ["left", "right"], seed=4)
    changed = 0
    for position in range(0, len(plain), 5):
        one, other = plain[(0, position)], flipped[(0, position)]
        assert np.array_equal(one["left"], other["right"][::-1, ::-1])
        changed += not np.array_equal(one["left"], without[(0, position)]["left"])
    assert changed > 2


def test_a_resumed_run_must_enlarge_as_before(small_card, small_shards):
    data = DualPixelData(str(small_card), root=small_shards, enlarge=1.25, diagonal=True)
    assert data.state_dict()["enlarge"] == 1.25 and data.state_dict()["diagonal"] is True


def test_impossible_enlargements_are_refused(train):
    for factor in (0.5, 9, float("nan")):
        with pytest.raises(DualPixelError, match="between 1 .none. and 8"):
            Augmentation(enlarge=factor)
    with pytest.raises(DualPixelError, match="views cannot be rendered and enlarged; set data.enlarge to 1"):
        TrainingSamples(train, [], augmentation=Augmentation(enlarge=1.1), optics=SimulatedViews())
