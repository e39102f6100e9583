import math

import numpy as np
import pytest
import torch

from dualpixel.optics import Camera, render, signed_blur, simulate
from dualpixel.optics.released import render_released


def tensor(array, dtype=torch.float64):
    """(H, W[, 3]) array to (1, 1 or 3, H, W)."""
    array = torch.from_numpy(np.asarray(array)).to(dtype)
    return (array[..., None] if array.ndim == 2 else array).permute(2, 0, 1)[None].contiguous()


def squares(image, blur, offset):
    """The renderer by its definition: integer squares of weight 1; image (C, H, W), blur (H, W)."""
    channels, height, width = image.shape
    views = []
    for side in (1, -1):
        total, count = np.zeros((channels, height, width)), np.zeros((height, width))
        for y in range(height):
            for x in range(width):
                n = max(1, math.floor(abs(blur[y, x]) + offset))
                rightwards = side * blur[y, x] >= 0
                rows = slice(y, y + n)
                columns = slice(x, x + n) if rightwards else slice(max(0, x - n + 1), x + 1)
                total[:, rows, columns] += image[:, y, x, None, None]
                count[rows, columns] += 1
        views.append(total / count)
    return views


def test_views_are_the_stored_ones(reference):
    stored = np.load(reference / "simulator.npz")
    camera = Camera(*stored["params"])
    for dtype, tolerance in ((torch.float64, 1e-6), (torch.float32, 1e-6)):
        views = simulate(tensor(stored["image"], dtype), tensor(stored["depth"], dtype), camera, mode="released")
        for name, view in zip(("left", "right"), views, strict=True):
            assert view.dtype == dtype
            assert (view - tensor(stored[f"released_{name}"])).abs().max() < tolerance


def test_sides_of_the_squares_are_the_stored_ones(reference):
    stored = np.load(reference / "simulator.npz")
    blur = signed_blur(tensor(stored["depth"]), Camera(*stored["params"]), mode="released")
    sides = (blur + 0.018).floor().clamp(min=1)
    assert torch.equal(sides, tensor(stored["released_n"]))
    assert sides.max() > 3  # else nothing is tested


@pytest.mark.parametrize("offset", [0.018, 0.5])
def test_views_are_means_of_squares(offset):
    generator = np.random.default_rng(0)
    image, blur = generator.random((2, 12, 14)), generator.uniform(-5, 5, (12, 14))
    views = render(torch.from_numpy(image)[None], torch.from_numpy(blur)[None, None], mode="released", offset=offset)
    for view, expected in zip(views, squares(image, blur, offset), strict=True):
        assert np.abs(view[0].numpy() - expected).max() < 1e-12


def test_the_disparity_of_a_square_is_one_less_than_its_side():
    image = torch.zeros(1, 1, 31, 31, dtype=torch.float64)
    image[0, 0, 15, 15] = 1
    columns = torch.arange(31, dtype=torch.float64)
    left, right = render(image, torch.full_like(image, 5.3), mode="released")
    places = [(view.sum(-2) * columns).sum() / view.sum() for view in (left, right)]
    assert places[0] - places[1] == pytest.approx(4)
    rows = [(view.sum(-1).flatten() * columns).sum() / view.sum() for view in (left, right)]
    assert rows[0] == rows[1] == pytest.approx(17)  # both slide down by half of that


def test_below_two_pixels_nothing_is_blurred():
    image = torch.rand(1, 3, 8, 9, dtype=torch.float64)
    blur = torch.linspace(-1.9, 1.9, 72, dtype=torch.float64).reshape(1, 1, 8, 9)
    for view in render(image, blur, mode="released"):
        assert torch.allclose(view, image, rtol=0, atol=1e-13)


def test_gradient_reaches_the_image_and_not_the_blur():
    image = torch.rand(1, 2, 6, 7, dtype=torch.float64, requires_grad=True)
    blur = torch.rand(1, 1, 6, 7, dtype=torch.float64) * 5
    assert torch.autograd.gradcheck(lambda one: render(one, blur, mode="released"), [image], fast_mode=True)
    blur.requires_grad_()
    render(image, blur, mode="released")[0].pow(2).sum().backward()
    assert blur.grad is None
    assert image.grad.abs().max() > 0


def test_an_offset_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="released: offset is nan"):
        render_released(torch.rand(1, 3, 4, 4), torch.rand(1, 1, 4, 4), offset=math.nan)
