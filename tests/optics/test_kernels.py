import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from dualpixel.optics.kernels import disc, half_disc, translating_disk

RADII = (0, 0.4, 0.5, 0.51, 0.8, 1, 1.5, 2.3, 4, 7.6, 12.5, 40)


@pytest.mark.parametrize("radius", ["2.3", "-4", "7.6"])
def test_kernels_are_the_stored_ones(reference, radius):
    stored, size = np.load(reference / "simulator.npz"), abs(float(radius))
    pairs = {
        f"disk_{radius.lstrip('-')}": disc(size),
        f"halfdisc_kernel_{radius.lstrip('-')}": half_disc(size),
        f"translating_disk_{radius}": translating_disk(float(radius), window=21),
    }
    for name, kernel in pairs.items():
        assert kernel.dtype == torch.float64
        assert np.abs(kernel.numpy() - stored[name]).max() < 1e-6, name  # they were made by sampling


@pytest.mark.parametrize("radius", [0.8, 1, 3.3])
def test_pixels_weigh_their_area_under_the_circle(radius):
    kernel, reach = disc(radius), math.ceil(radius - 0.5)
    for y in range(reach + 1):
        for x in range(reach + 1):
            arcs = [math.sqrt(max(radius**2 - edge**2, 0)) for edge in (y - 0.5, y + 0.5)]
            area, _ = quad(
                lambda u, y=y: (
                    np.clip(math.sqrt(max(radius**2 - u**2, 0)), y - 0.5, y + 0.5)
                    - np.clip(-math.sqrt(max(radius**2 - u**2, 0)), y - 0.5, y + 0.5)
                ),
                x - 0.5,
                x + 0.5,
                points=[place for arc in [*arcs, radius] for place in (arc, -arc) if abs(place - x) < 0.5] or None,
                epsabs=1e-12,
                limit=400,
            )
            assert kernel[reach + y, reach + x].item() * math.pi * radius**2 == pytest.approx(area, abs=1e-8)


@pytest.mark.parametrize("radius", RADII)
def test_size_sum_and_symmetry(radius):
    size = 2 * max(math.ceil(radius - 0.5), 0) + 1
    whole, half = disc(radius), half_disc(radius)
    assert whole.shape == half.shape == translating_disk(radius).shape == (size, size)
    assert whole.sum() == pytest.approx(1, abs=1e-14)
    assert half.sum() == pytest.approx(1, abs=1e-14)
    assert translating_disk(radius).sum() == pytest.approx(0.5, abs=1e-14)
    assert torch.allclose(whole, whole.T, rtol=0, atol=1e-15)
    assert torch.equal(whole, whole.flip(0))
    assert torch.equal(whole, whole.flip(1))
    assert half[:, : size // 2].sum() == 0
    assert (whole >= 0).all()


@pytest.mark.parametrize("radius", RADII)
def test_two_halves_are_the_whole(radius):
    half = half_disc(radius)
    assert torch.allclose((half + half.flip(1)) / 2, disc(radius), rtol=0, atol=1e-15)


@pytest.mark.parametrize("radius", RADII)
def test_the_two_translating_disks_add_up_to_a_symmetric_kernel_of_sum_one(radius):
    left, right = translating_disk(radius), translating_disk(-radius)
    assert torch.equal(right, left.flip(1))
    assert (left + right).sum() == pytest.approx(1, abs=1e-14)
    assert torch.equal(left + right, (left + right).flip(1))


@pytest.mark.parametrize("radius", [2.3, -4, 6])
def test_a_translating_disk_is_the_sum_of_the_moved_discs_over_the_still_one(radius):
    still = torch.nn.functional.pad(disc(abs(radius)), [20, 20, 20, 20])
    reach = math.ceil(abs(radius) - 0.5)
    total = sum(still * still.roll(step if radius > 0 else -step, 1) for step in range(2 * reach + 2))
    expected = (0.5 * total / total.sum())[20:-20, 20:-20]
    assert torch.allclose(translating_disk(radius), expected, rtol=0, atol=1e-15)
    middle = expected[reach, reach - 1 : reach + 2]
    assert (middle.diff() * radius > 0).all()


@pytest.mark.parametrize(("kernel", "radius"), [(disc, -1), (half_disc, math.nan), (translating_disk, math.inf)])
def test_radii_that_are_none_are_refused(kernel, radius):
    with pytest.raises(ValueError, match="the radius of a disc is"):
        kernel(radius)


@pytest.mark.parametrize("window", [8, 7])
def test_windows_that_are_even_or_too_small_are_refused(window):
    with pytest.raises(ValueError, match=f"window is {window}, but must be odd and at least 9"):
        translating_disk(4, window)
