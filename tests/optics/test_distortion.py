import math

import pytest
import torch

from dualpixel.optics.distortion import distort

IDENTITY = (0, 0, 0, 1)
BARREL = (0.02, 0.03, 0.05, 0.9)


@pytest.fixture(scope="module")
def image():
    return torch.rand(2, 3, 9, 14, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_identity_coefficients_change_nothing(image, interpolation, dtype):
    image = image.to(dtype)
    same = distort(image, IDENTITY, interpolation)
    assert same.dtype == dtype
    assert (same - image).abs().max() < (1e-12 if dtype == torch.float64 else 1e-30)


@pytest.mark.parametrize("size", [(61, 91), (91, 61)])
def test_a_pixel_shows_the_point_at_the_radius_of_the_polynomial(size):
    height, width = size
    unit = min(size) / 2
    # a picture of its own coordinates: what is shown at a pixel says where it came from
    rows = torch.arange(height).double()[:, None].expand(size)
    columns = torch.arange(width).double().expand(size)
    shown = distort(torch.stack([rows, columns])[None], BARREL)[0]
    for row, column in ((12, 20), (35, 40), (50, 33)):
        down, across = row - (height - 1) / 2, column - (width - 1) / 2
        r = math.hypot(down, across) / unit
        factor = 0.02 * r**3 + 0.03 * r**2 + 0.05 * r + 0.9
        expected = ((height - 1) / 2 + down * factor, (width - 1) / 2 + across * factor)
        assert shown[:, row, column].tolist() == pytest.approx(expected, abs=1e-9)


def test_outside_of_the_source_is_black():
    white = torch.ones(1, 1, 40, 60)
    shown = distort(white, (0, 0, 0, 2))[0, 0]  # half the size
    assert shown[20, 30] == 1 and shown[11:29, 16:44].min() == 1
    assert shown[:9].max() == shown[:, :14].max() == shown[31:].max() == shown[:, 46:].max() == 0


def test_a_map_goes_on_beyond_its_border_where_that_is_asked_for():
    depth = torch.arange(1.0, 31.0).reshape(1, 1, 5, 6)
    shown = distort(depth, (0, 0, 0, 3), "nearest", beyond="border")
    assert shown[0, 0, 2].tolist() == [13, 13, 14, 17, 18, 18]
    assert shown[0, 0, :, 0].tolist() == [1, 1, 13, 25, 25]


def test_images_and_maps_stay_aligned():
    generator = torch.Generator().manual_seed(1)
    depth = (torch.rand(1, 1, 8, 12, generator=generator) * 3).round().repeat_interleave(8, 2).repeat_interleave(8, 3)
    image = depth.expand(-1, 3, -1, -1) / 3
    shown, moved = distort(image, BARREL), distort(depth, BARREL, "nearest")
    assert set(moved.unique().tolist()) <= set(depth.unique().tolist())  # no depths made up
    inside = distort(torch.ones_like(depth), BARREL) == 1
    # they differ within a pixel of a jump only, and never by more than half of it
    assert (shown * 3 - moved).abs().max() <= depth.max() / 2 + 1e-5
    assert ((shown * 3 - moved).abs() < 1e-5).expand_as(shown)[inside.expand_as(shown)].double().mean() > 0.7
    assert not torch.equal(moved, depth)


def test_every_image_of_a_batch_is_distorted_alike(image):
    together = distort(image, BARREL)
    assert torch.equal(together[1:], distort(image[1:], BARREL))


def test_mirroring_and_distorting_commute(image):
    assert (distort(image, BARREL).flip(-1) - distort(image.flip(-1), BARREL)).abs().max() < 1e-12


def test_the_gradient_reaches_the_image(image):
    small = image[:, :1, :5, :6].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda one: distort(one, BARREL), [small])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"coefficients": (0, 0, 1)}, "four numbers"),
        ({"coefficients": (0, 0, math.nan, 1)}, "four numbers"),
        ({"interpolation": "cubic"}, "interpolation is 'cubic'; allowed: bilinear, nearest"),
        ({"beyond": "reflection"}, "beyond is 'reflection'; allowed: zeros, border"),
        ({"image": torch.zeros(3, 4, 4)}, r"\(3, 4, 4\)"),
        ({"image": torch.zeros(1, 3, 4, 4, dtype=torch.uint8)}, "uint8"),
    ],
)
def test_what_cannot_be_distorted_is_refused(image, change, said):
    with pytest.raises(ValueError, match=said):
        distort(**{"image": image, "coefficients": IDENTITY, **change})
