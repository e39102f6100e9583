from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import correlate1d

from dualpixel.data.windows import select_windows, sharpness, sharpness_rank, sobel_energy, windows
from dualpixel.errors import DualPixelError


@pytest.fixture(scope="module")
def authors(reference):
    with np.load(reference / "dpdnet_data.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


def test_training_windows_of_the_authors(authors):
    target = authors["target_bgr"][:, :, ::-1]
    kept = select_windows(target, int(authors["patch"]), float(authors["train_overlap"]), float(authors["discard"]))
    assert kept == [tuple(pair) for pair in authors["train_top_left"].tolist()]


def test_validation_windows_of_the_authors(authors):
    target = authors["target_bgr"][:, :, ::-1]
    kept = select_windows(target, int(authors["patch"]), float(authors["val_overlap"]), 0.0)
    assert kept == [tuple(pair) for pair in authors["val_top_left"].tolist()]


def test_training_scan_of_the_paper_size():
    columns = [0, 204, 408, 612, 816, 1020]
    first = [(0, column) for column in columns] + [(0, 1168), (608, 1168)]
    between = [(row, column) for row in (204, 408) for column in [*columns, 1168]]
    assert windows(1120, 1680, 512, 0.6) == first + between + [(608, column) for column in columns]
    assert len(windows(1120, 1680, 512, 0.6)) == 28


def test_validation_scan_of_the_paper_size():
    expected = [(row, column) for row in (0, 506, 608) for column in (0, 506, 1012, 1168)]
    assert windows(1120, 1680, 512, 0.01) == expected


def test_a_flush_window_may_equal_one_of_the_grid():
    assert windows(8, 12, 8, 0.5) == [(0, 0), (0, 4), (0, 4), (0, 0)]


@given(
    window=st.integers(2, 24),
    down=st.integers(0, 60),
    right=st.integers(0, 60),
    overlap=st.floats(0, 0.9, allow_nan=False),
)
def test_windows_lie_inside_and_cover_every_pixel(window, down, right, overlap):
    height, width = window + down, window + right
    stride = int((1 - overlap) * window)
    if stride < 1:
        with pytest.raises(DualPixelError, match="overlap"):
            windows(height, width, window, overlap)
        return
    found = windows(height, width, window, overlap)
    covered = np.zeros((height, width), dtype=bool)
    for row, column in found:
        assert 0 <= row <= height - window
        assert 0 <= column <= width - window
        covered[row : row + window, column : column + window] = True
    assert covered.all()
    if down % stride and right % stride:
        assert len(set(found)) == len(found)


def test_too_small_an_image_names_both_sizes():
    with pytest.raises(ValueError, match=r"100 x 600.*512 x 512"):
        windows(100, 600, 512, 0.6)


@pytest.mark.parametrize("overlap", [-0.1, 1.0, 0.999])
def test_refused_overlaps(overlap):
    with pytest.raises(DualPixelError, match="overlap"):
        windows(100, 100, 64, overlap)


def explicit_energy(grey, aperture):
    smooth = np.array([comb(aperture - 1, i) for i in range(aperture)], dtype=np.float64)
    slope = np.convolve([comb(aperture - 2, i) for i in range(aperture - 1)], [-1.0, 1.0])
    grey = grey.astype(np.float64)
    along_x = correlate1d(correlate1d(grey, slope, axis=1, mode="mirror"), smooth, axis=0, mode="mirror")
    along_y = correlate1d(correlate1d(grey, slope, axis=0, mode="mirror"), smooth, axis=1, mode="mirror")
    return np.hypot(along_x, along_y).sum()


def explicit_scores(grey, positions, window, apertures):
    product = np.ones(len(positions))
    for aperture in apertures:
        energy = np.array([explicit_energy(grey[r : r + window, c : c + window], aperture) for r, c in positions])
        product *= (energy - energy.min()) / (energy.max() - energy.min())
    return product


def explicit_selection(grey, window, discard, apertures):
    positions = windows(*grey.shape, window, 0.0)
    scores = explicit_scores(grey, positions, window, apertures).tolist()
    order = sorted(range(len(positions)), key=lambda place: (scores[place], place))
    return [positions[place] for place in sorted(order[int(discard * len(positions)) :])]


def banded_target(seed, window=24, across=5):
    """Each window holds noise of its own scale and strength, so that apertures disagree about which is sharp."""
    generator = np.random.default_rng(seed)
    grey = np.zeros((window * across, window * across))
    for row in range(0, window * across, window):
        for column in range(0, window * across, window):
            patch = np.zeros((window, window))
            for cell in (1, 2, 4, 8):
                coarse = generator.random((window // cell, window // cell)) - 0.5
                patch += generator.random() * np.kron(coarse, np.ones((cell, cell)))
            grey[row : row + window, column : column + window] = patch
    return np.rint(32768 + 12000 * grey).astype(np.uint16)


@pytest.mark.parametrize("aperture", [3, 7, 11, 15])
def test_energy_equals_explicit_kernels(aperture):
    patch = np.random.default_rng(0).integers(0, 65536, (40, 33), dtype=np.uint16)
    assert sobel_energy(patch, aperture) == pytest.approx(explicit_energy(patch, aperture), rel=1e-12)


def test_each_aperture_counts():
    grey, window, discard = banded_target(26), 24, 0.4
    target = np.repeat(grey[:, :, None], 3, axis=2)
    apertures = (3, 7, 11, 15)
    positions = windows(*grey.shape, window, 0.0)
    expected = explicit_scores(grey, positions, window, apertures)
    np.testing.assert_allclose(sharpness(target, positions, window), expected, rtol=1e-10, atol=1e-14)
    kept = select_windows(target, window, 0.0, discard)
    assert kept == explicit_selection(grey, window, discard, apertures)
    for left_out in apertures:
        others = [aperture for aperture in apertures if aperture != left_out]
        assert kept != explicit_selection(grey, window, discard, others), left_out


def test_the_border_belongs_to_the_patch_alone():
    target = np.full((32, 96, 3), 1000, dtype=np.uint16)
    target[:, 32:64] = np.random.default_rng(1).integers(0, 65536, (32, 32, 1), dtype=np.uint16)
    scores = sharpness(target, [(0, 0), (0, 32), (0, 64)], 32)
    assert scores.tolist() == [0.0, 1.0, 0.0]


def test_colour_order_is_red_first():
    noise = np.random.default_rng(2).integers(0, 65536, (32, 32), dtype=np.uint16)
    target = np.zeros((32, 96, 3), dtype=np.uint16)
    target[:, :32, 0], target[:, 32:64, 2], target[:, 64:, 1] = noise, noise, noise
    red, blue, green = sharpness(target, [(0, 0), (0, 32), (0, 64)], 32)
    assert blue == 0.0 < red < green == 1.0


def test_equal_energies_count_as_one_and_ties_drop_the_first():
    target = np.full((32, 96, 3), 77, dtype=np.uint8)
    positions = windows(32, 96, 32, 0.0)
    assert sharpness(target, positions, 32).tolist() == [1.0, 1.0, 1.0]
    assert select_windows(target, 32, 0.0, 0.4) == positions[1:]


def test_rank_of_ties():
    assert sharpness_rank(np.array([0.5, 0.0, 0.5, 0.0, 1.0])).tolist() == [2, 0, 3, 1, 4]
    assert sharpness_rank(np.arange(100) % 2.0)[::2].tolist() == list(range(50))


@pytest.mark.parametrize(("discard", "kept"), [(0.0, 3), (0.33, 3), (0.34, 2), (0.6, 2), (1.0, 0)])
def test_share_dropped_is_rounded_down(discard, kept):
    target = np.random.default_rng(3).integers(0, 65536, (32, 96, 3), dtype=np.uint16)
    assert len(select_windows(target, 32, 0.0, discard)) == kept


@pytest.mark.parametrize(
    "target",
    [np.zeros((32, 32), np.uint16), np.zeros((32, 32, 3), np.float32), np.zeros((32, 32, 4), np.uint8)],
)
def test_refused_targets(target):
    with pytest.raises(DualPixelError, match="RGB"):
        sharpness(target, [(0, 0)], 16)


def test_refused_window_and_share():
    target = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(DualPixelError, match=r"\(20, 0\)"):
        sharpness(target, [(0, 0), (20, 0)], 16)
    with pytest.raises(DualPixelError, match="discard"):
        select_windows(target, 16, 0.0, 1.5)
