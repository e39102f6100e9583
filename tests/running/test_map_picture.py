import numpy as np
import pytest
from matplotlib import colormaps

from dualpixel.data.images import read_image
from dualpixel.running.map_picture import LEAST_HEIGHT, colour_range, draw_map, write_map_picture


def ramp(lowest, highest, height=200, width=301):
    return np.linspace(lowest, highest, width, dtype=np.float32)[None].repeat(height, 0)


def colour(name, place):
    return (np.array(colormaps[name](place)[:3]) * 255).round()


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        (ramp(0, 10), (0.1, 9.9)),
        (ramp(-4, 10), (-9.86, 9.86)),
        (ramp(-10, -2), (-9.92, -2.08)),
        (np.full((3, 4), 2.0), (1.5, 2.5)),
        (np.full((3, 4), np.nan), (0, 1)),
    ],
)
def test_the_scale_holds_all_but_a_hundredth_and_is_symmetric_for_both_signs(values, ends):
    assert colour_range(values) == pytest.approx(ends, abs=1e-5)


def test_one_outlier_does_not_change_the_scale():
    values = ramp(1, 5)
    values[0, 0] = -1e6
    values[0, 1] = np.inf
    assert colour_range(values) == pytest.approx(colour_range(ramp(1, 5)), abs=0.01)


def test_zero_is_in_the_middle_of_the_colours_and_nearer_is_red():
    drawn = draw_map(ramp(-4, 10, width=1401), "blur, pixels")[:200, :1401].astype(int)
    assert np.abs(drawn[0, 400] - colour("coolwarm", 0.5)).max() <= 1
    assert np.abs(drawn[0, 1400] - colour("coolwarm", 1.0)).max() <= 1
    expected = colour("coolwarm", 0.5 - 2 / (2 * 9.86))
    assert np.abs(drawn[0, 200] - expected).max() <= 2
    assert drawn[0, 1400, 0] > drawn[0, 1400, 2] and drawn[0, 0, 0] < drawn[0, 0, 2]


@pytest.mark.parametrize(("lowest", "highest"), [(0, 10), (-10, -2)])
def test_one_sign_has_sequential_colours_from_end_to_end(lowest, highest):
    drawn = draw_map(ramp(lowest, highest), "blur, pixels").astype(int)
    assert np.abs(drawn[0, 0] - colour("viridis", 0.0)).max() <= 1
    assert np.abs(drawn[0, 300] - colour("viridis", 1.0)).max() <= 1
    assert np.abs(drawn[0, 150] - colour("viridis", 0.5)).max() <= 2


@pytest.mark.parametrize(("height", "width"), [(64, 72), (700, 90), (1, 1)])
def test_the_map_is_drawn_one_pixel_for_one_beside_its_bar(height, width, tmp_path):
    values = np.random.default_rng(0).normal(size=(height, width)).astype(np.float32)
    write_map_picture(tmp_path / "one.png", values, "blur, pixels")
    drawn = read_image(tmp_path / "one.png", 8)
    assert drawn.shape[0] == max(height, LEAST_HEIGHT) and width + 90 < drawn.shape[1] < width + 120
    assert (drawn[height:, :width] == 255).all()
    limit = max(np.abs(colour_range(values)))
    if height > 1:
        expected = colormaps["coolwarm"]((values + limit) / (2 * limit), bytes=True)[..., :3]
        assert np.abs(drawn[:height, :width].astype(int) - expected).max() <= 3
    bar = drawn[:, width:]
    assert (bar != 255).any(2).mean() > 0.08 and len(np.unique(bar.reshape(-1, 3), axis=0)) > 100
    assert [path.name for path in tmp_path.iterdir()] == ["one.png"]


def test_what_is_not_known_is_grey_and_the_label_is_drawn():
    values = ramp(0, 10)
    values[50:60, 20:40] = np.nan
    drawn = draw_map(values, "blur, pixels")
    assert np.abs(drawn[50:60, 20:40].astype(int) - 128).max() <= 1
    spread = np.ptp(drawn[:50].astype(int), axis=2)
    assert (spread[:, :301] > 10).all()  # and nothing else is grey
    assert not np.array_equal(drawn, draw_map(values, "depth, metres"))
