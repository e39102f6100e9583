import math

import pytest
import torch

from dualpixel.optics import render
from dualpixel.optics.kernels import translating_disk


def test_what_is_in_focus_stays_as_it_is():
    image = torch.rand(2, 3, 40, 50, dtype=torch.float64)
    for view in render(image, torch.zeros_like(image[:, :1]), "translating_disk"):
        assert torch.equal(view, image)


@pytest.mark.parametrize(("step", "radius"), [(1.0, 4), (0.5, 3.5), (0.25, 3.75)])
def test_a_point_is_drawn_with_twice_the_kernel_of_the_rounded_radius(step, radius):
    image = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    image[0, 0, 20, 20] = 1
    left, right = render(image, torch.full_like(image, 3.7), "translating_disk", step=step)
    assert torch.allclose(left[0, 0], 2 * translating_disk(radius, 41), rtol=0, atol=1e-14)
    assert torch.allclose(right[0, 0], 2 * translating_disk(-radius, 41), rtol=0, atol=1e-14)


def test_smaller_steps_change_a_smooth_ramp_less_and_less():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 1, 60, 80, generator=generator, dtype=torch.float64)
    blur = torch.linspace(1, 7, 80, dtype=torch.float64).expand(1, 1, 60, 80)
    left = {step: render(image, blur, "translating_disk", step=step)[0] for step in (0.125, 0.25, 1.0, 4.0)}
    errors = [(left[step] - left[0.125]).square().mean().sqrt().item() for step in (0.25, 1.0, 4.0)]
    assert errors[0] < errors[1] < errors[2]


@pytest.mark.parametrize("step", [0, -1, math.nan])
def test_steps_that_are_none_are_refused(step):
    with pytest.raises(ValueError, match=f"step is {step}"):
        render(torch.rand(1, 1, 5, 5), torch.rand(1, 1, 5, 5), "translating_disk", step=step)
