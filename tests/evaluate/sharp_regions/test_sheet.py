import cv2
import numpy as np
import pytest
from matplotlib import colormaps

from dualpixel.evaluate.sharp_regions import sheet
from dualpixel.evaluate.sharp_regions.sheet import draw_curves, draw_sharp_region_sheet

SIZE = (40, 80)


def filled(*colour):
    return np.ones((*SIZE, 1)) * colour


def draw(path, in_focus, similarities):
    images = {"input": filled(0.8, 0, 0), "output": filled(0, 0.8, 0), "target": filled(0, 0, 0.8)}
    errors = np.where(np.arange(80) < 40, 0.0, sheet.LARGEST_ERROR) * np.ones(SIZE)
    draw_sharp_region_sheet(path, "scene", images, in_focus, errors, similarities)
    picture = cv2.imread(str(path))[..., ::-1]

    def colour(cell, across, down=0.5):
        """The colour in a cell, counted row by row."""
        row, column = divmod(cell, sheet.COLUMNS)
        height = sheet.CELL / 2
        x = sheet.GAP + column * (sheet.CELL + sheet.BAR + sheet.BAR_LABELS) + across * sheet.CELL
        y = sheet.HEADING + row * (sheet.TITLE + height + sheet.GAP) + sheet.TITLE + down * height
        return tuple(int(value) for value in picture[round(150 * y), round(150 * x)])

    return colour


def of_map(name, value):
    return tuple(colormaps[name](value, bytes=True)[:3])


def test_the_sheet_shows_the_numbers_as_colours(tmp_path):
    in_focus = np.ones(SIZE, bool)
    in_focus[:20] = False
    ramp = np.where(np.arange(80) < 40, -1.0, 3.0) * np.ones(SIZE)
    colour = draw(tmp_path / "scene.png", in_focus, {f"srp.{number}": (-1) ** number * ramp for number in range(4)})
    assert [path.name for path in tmp_path.iterdir()] == ["scene.png"]
    assert [colour(cell, 0.25) for cell in (0, 2, 3)] == [(204, 0, 0), (0, 204, 0), (0, 0, 204)]
    assert colour(1, 0.25, 0.75) == (204, 0, 0) and colour(1, 0.25, 0.25) == (61, 0, 0)  # dimmed out of focus
    top = round(150 * (sheet.HEADING + sheet.TITLE + sheet.CELL / 2))  # rows without colour bars
    picture = cv2.imread(str(tmp_path / "scene.png"))[:top, :, ::-1].astype(int)
    yellow = (picture[..., 0] > 150) & (picture[..., 1] > 120) & (picture[..., 2] < 60)
    assert yellow.any(1).sum() <= 4 and yellow.any(0).sum() > 400  # one line from side to side
    assert [colour(5, across) for across in (0.25, 0.75)] == [of_map("inferno", 0.0), of_map("inferno", 1.0)]
    assert [colour(4, 0.75, down) for down in (0.75, 0.25)] == [of_map("inferno", 1.0), (89, 89, 89)]
    dark, bright = of_map("viridis", 0.0), of_map("viridis", 1.0)
    assert [colour(6, across) for across in (0.25, 0.75)] == [dark, bright]
    assert [colour(7, across) for across in (0.25, 0.75)] == [bright, dark]
    assert colour(9, 0.25) == bright  # a fourth block begins another row


@pytest.mark.parametrize("found", [False, True])
def test_an_image_that_is_nowhere_or_everywhere_in_focus_can_be_drawn(tmp_path, found):
    colour = draw(tmp_path / "scene.png", np.full(SIZE, found), {})
    assert colour(4, 0.75) == (of_map("inferno", 1.0) if found else (89, 89, 89))
    assert colour(1, 0.25) == ((204, 0, 0) if found else (61, 0, 0))


def test_every_curve_is_drawn_in_its_own_colour(tmp_path):
    thresholds = [step / 10 for step in range(11)]
    curves = {"first": [100.0 * step for step in thresholds], "second": [50.0 for _ in thresholds]}
    draw_curves(tmp_path / "curve.png", "set test", thresholds, curves)
    both = cv2.imread(str(tmp_path / "curve.png"))[..., ::-1]
    draw_curves(tmp_path / "curve.png", "set test", thresholds, {"first": curves["first"]})
    one = cv2.imread(str(tmp_path / "curve.png"))[..., ::-1]
    red, blue = (214, 39, 40), (31, 119, 180)
    count = [[int((picture == colour).all(2).sum()) for colour in (red, blue)] for picture in (both, one)]
    assert min(count[0]) > 300 and count[1][0] > 300 and count[1][1] == 0
