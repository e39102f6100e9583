import numpy as np
import pytest
import torch

from dualpixel.optics import render
from dualpixel.optics.half_disc import half_disc_kernels
from dualpixel.optics.kernels import half_disc


def tensor(array):
    """(H, W[, 3]) array to (1, 1 or 3, H, W) float64."""
    array = torch.from_numpy(np.asarray(array)).double()
    return (array[..., None] if array.ndim == 2 else array).permute(2, 0, 1)[None].contiguous()


def test_views_are_the_stored_ones(reference):
    stored = np.load(reference / "simulator.npz")
    views = render(tensor(stored["image"]), tensor(stored["signed_radius"]), "halfdisc")
    for name, view in zip(("left", "right"), views, strict=True):
        assert (view - tensor(stored[f"halfdisc_{name}"])).abs().max() < 1e-6


def test_what_is_in_focus_stays_as_it_is():
    image = torch.rand(2, 3, 40, 50, dtype=torch.float64)
    for radius in (0, 0.49, -0.5):
        for view in render(image, torch.full_like(image[:, :1], radius), "halfdisc"):
            assert torch.equal(view, image)


def test_a_point_is_drawn_as_half_a_disc_of_the_rounded_radius():
    image = torch.zeros(1, 1, 31, 31, dtype=torch.float64)
    image[0, 0, 15, 15] = 1
    left, right = render(image, torch.full_like(image, 3.7), "halfdisc")
    expected = torch.nn.functional.pad(half_disc(4.5), [11, 11, 11, 11])
    # the frame is wide enough for every kernel around the point to lie within
    assert torch.allclose(left[0, 0], expected, rtol=0, atol=1e-14)
    assert torch.allclose(right[0, 0], expected.flip(1), rtol=0, atol=1e-14)


def test_the_kernels_of_a_layer_exchange_across_the_focus_plane():
    near, far, focused = (half_disc_kernels(layer) for layer in (3, -3, 0))
    assert torch.equal(near, far.flip(0))
    assert torch.equal(near[0], near[1].flip(1))
    assert focused.tolist() == [[[1.0]], [[1.0]]]


def test_there_is_no_step_to_choose():
    with pytest.raises(TypeError, match="step"):
        render(torch.rand(1, 1, 5, 5), torch.rand(1, 1, 5, 5), "halfdisc", step=0.5)
