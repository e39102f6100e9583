import math
from dataclasses import replace

import pytest
import torch

from dualpixel.optics import (
    MODES,
    Camera,
    blur_of_disparity,
    combine,
    depth_of_blur,
    disparity_of_blur,
    mirror,
    point_spread_functions,
    render,
    signed_blur,
)

CAMERA = Camera(focal_length_m=0.035, focal_length_px=3000, aperture_px=1500, focus_distance_m=5)

every_mode = pytest.mark.parametrize("mode", MODES)


def centroid(kernel):
    columns = torch.arange(kernel.shape[-1]) - kernel.shape[-1] // 2
    return (kernel.sum(0) * columns).sum().item()


def test_combined_is_the_mean():
    left, right = torch.rand(2, 2, 3, 4, 5)
    assert torch.allclose(combine(left, right), torch.stack([left, right]).mean(0))


@every_mode
def test_the_combined_image_of_a_plane_is_blurred_by_the_mean_of_the_kernels(mode):
    image = torch.rand(1, 1, 61, 61, dtype=torch.float64)
    blur = torch.full_like(image, 4.0)
    kernel = combine(*point_spread_functions(4, mode, size=21))
    combined = combine(*render(image, blur, mode))
    expected = (image[0, 0, 20:41, 20:41] * kernel.flip(0, 1)).sum()
    assert combined[0, 0, 30, 30] == pytest.approx(expected.item(), abs=1e-12)
    assert torch.allclose(kernel, kernel.flip(1), rtol=0, atol=1e-15)


def test_mirror_flips_and_exchanges():
    left, right = torch.rand(2, 2, 3, 4, 5)
    mirrored_left, mirrored_right = mirror(left, right)
    assert torch.equal(mirrored_left[..., 0], right[..., -1])
    assert all(
        torch.equal(twice, once) for twice, once in zip(mirror(*mirror(left, right)), (left, right), strict=True)
    )
    assert torch.equal(mirrored_right, left.flip(-1))


@every_mode
@pytest.mark.parametrize("radius", [5, 2.6, -3, 0])
def test_point_spread_functions_are_a_mirrored_pair_of_sum_one(mode, radius):
    left, right = point_spread_functions(radius, mode)
    assert left.dtype == torch.float64
    assert left.shape[0] % 2 == 1
    assert left.sum() == pytest.approx(1, abs=1e-12)
    assert right.sum() == pytest.approx(1, abs=1e-12)
    assert torch.allclose(left, right.flip(1), rtol=0, atol=1e-13)
    border = torch.cat([kernel[[0, -1]].flatten() for kernel in (left, right, left.T, right.T)])
    assert border.max() > 0 or len(left) == 1
    assert (left >= 0).all()


def test_point_spread_function_of_the_rectangle_is_the_rectangle():
    left, right = point_spread_functions(2, "rect")
    assert left.shape == (5, 5)
    assert torch.allclose(left[:, 2:], torch.full((5, 3), 1 / 15, dtype=torch.float64))
    assert left[:, :2].sum() == 0


def test_point_spread_functions_have_the_size_and_the_options_asked_for():
    left, _ = point_spread_functions(2, "rect", size=11, vertical="down")
    assert left.shape == (11, 11)
    assert left[:5].sum() == 0
    small, _ = point_spread_functions(9, "halfdisc", maximum_radius=3)
    assert small.shape == (7, 7)


@pytest.mark.parametrize("size", [3, 6])
def test_sizes_that_are_even_or_too_small_are_refused(size):
    with pytest.raises(ValueError, match=f"size is {size}, but must be odd and at least 5"):
        point_spread_functions(2, "rect", size=size)


@every_mode
@pytest.mark.parametrize("radius", [1, 2, 7, 15, -1, -6])
def test_disparity_is_the_distance_of_the_centroids(mode, radius):
    left, right = point_spread_functions(radius, mode)
    disparity = disparity_of_blur(torch.tensor([float(radius)], dtype=torch.float64), mode).item()
    assert disparity == pytest.approx(centroid(left) - centroid(right), abs=1e-10)


@pytest.mark.parametrize(
    ("mode", "shape", "tolerance"),
    [
        ("rect", lambda r: r, 1e-12),
        ("halfdisc", lambda r: 8 / (3 * math.pi) * (r + 0.5), 0.11),
        ("translating_disk", lambda r: r**2 / (r + 3 * math.pi / 16) * 3 * math.pi / 16, 0.11),
        ("butterworth", lambda r: 0.6 * r, 0.4),
        ("released", lambda r: r - 1, 1e-12),
    ],
)
def test_disparity_is_about_that_of_the_shape(mode, shape, tolerance):
    for radius in (1, 2, 4, 8, 16):
        disparity = disparity_of_blur(torch.tensor(float(radius)), mode).item()
        assert disparity == pytest.approx(shape(radius), abs=tolerance)


@pytest.mark.parametrize("mode", ["rect", "halfdisc", "translating_disk", "butterworth"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_blur_of_disparity_is_the_inverse(mode, dtype):
    blur = torch.linspace(-23, 23, 93, dtype=dtype).reshape(1, 1, 3, 31)
    disparity = disparity_of_blur(blur, mode)
    assert disparity.dtype == dtype
    assert disparity.shape == blur.shape
    assert (disparity.flatten().diff() > 0).all()
    assert torch.allclose(
        blur_of_disparity(disparity, mode), blur, rtol=0, atol=1e-4 if dtype == torch.float32 else 1e-12
    )


def test_blur_of_a_released_disparity_is_the_side_of_the_square():
    disparity = torch.tensor([-4.0, 0.0, 3.0])
    blur = blur_of_disparity(disparity, "released")
    assert blur.tolist() == [-5, 0, 4]
    assert torch.equal(disparity_of_blur(blur, "released"), disparity)
    assert disparity_of_blur(torch.tensor(3.99), "released") == 3
    assert disparity_of_blur(torch.tensor(3.99), "released", offset=0) == 2


def test_options_of_the_kernels_reach_the_disparity():
    blur = torch.tensor([10.0])
    plain, other = disparity_of_blur(blur, "butterworth"), disparity_of_blur(blur, "butterworth", order=9, beta=0.2)
    assert (plain - other).abs() > 0.01
    assert blur_of_disparity(other, "butterworth", order=9, beta=0.2).item() == pytest.approx(10)


@pytest.mark.parametrize("mode", ["rect", "halfdisc"])
def test_disparity_has_a_gradient_to_the_blur(mode):
    blur = torch.tensor([-3.3, 0.4, 2.7], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda leaf: disparity_of_blur(leaf, mode), blur)
    assert torch.autograd.gradcheck(lambda leaf: blur_of_disparity(leaf, mode), blur)


@pytest.mark.parametrize("function", [disparity_of_blur, blur_of_disparity])
def test_modes_of_which_no_disparity_is_known_are_refused(function):
    with pytest.raises(ValueError, match="no disparity is known for mode 'disc'; allowed: rect, released, halfdisc"):
        function(torch.ones(2), "disc")


@pytest.mark.parametrize("mode", ["rect", "released"])
@pytest.mark.parametrize("scale", [1.0, 0.2])
def test_depth_is_found_again_from_its_blur(mode, scale):
    camera = replace(CAMERA, depth_scale=scale)
    depth = torch.logspace(-1, 4, 60, dtype=torch.float64).view(1, 1, 6, 10)
    depth[..., -1] = math.inf
    blur = signed_blur(depth, camera, mode)
    assert torch.allclose(depth_of_blur(blur, camera, mode), depth, rtol=1e-11, atol=0)
    near = depth.clamp(max=2)
    found = depth_of_blur(signed_blur(near, camera, mode).float(), camera, mode)
    assert found.dtype == torch.float64 and torch.allclose(found, near, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_blur_is_the_focus_the_blur_of_infinity_is_infinite_and_below_it_is_nothing(dtype):
    farthest = torch.tensor(CAMERA.blur_radius(math.inf), dtype=dtype)
    assert farthest.item() == pytest.approx(-26.43 * 0.2, rel=5e-4)
    above, below = (torch.nextafter(farthest, farthest + sign) for sign in (1, -1))
    found = depth_of_blur(
        torch.stack([torch.zeros_like(farthest), farthest, above, below, farthest * 0 + math.nan]), CAMERA
    )
    assert found[0].item() == pytest.approx(5, rel=1e-12)
    assert found[1].isposinf() and 1e7 < found[2] < math.inf
    assert found[3:].isnan().all()
    assert depth_of_blur(torch.tensor(math.inf, dtype=dtype), CAMERA) == 0


def test_the_gradient_of_depth_is_finite_everywhere_and_that_of_the_lens_where_there_is_depth():
    farthest = CAMERA.blur_radius(math.inf)
    blur = torch.tensor([3.0, 0.0, -5.0, farthest, -9.0], dtype=torch.float64, requires_grad=True)
    depth_of_blur(blur, CAMERA)[:3].sum().backward()
    # d = k / (r - r_inf), so d' = -d^2 / k with k = A F / 2
    k = CAMERA.aperture_px / 2 * CAMERA.sensor_distance_m
    expected = [-(CAMERA.depth(radius) ** 2) / k for radius in (3.0, 0.0, -5.0)]
    assert blur.grad.tolist() == pytest.approx([*expected, 0, 0], rel=1e-9)
    blur.grad = None
    depth_of_blur(blur, CAMERA).sum().backward()
    assert blur.grad.isfinite().all() and (blur.grad[3:] == 0).all()


def test_depth_from_blur_needs_a_focus_that_is_a_number_but_for_released():
    near = replace(CAMERA, focus_distance_m="near")
    with pytest.raises(ValueError, match="focused 'near'"):
        depth_of_blur(torch.ones(1), near)
    assert depth_of_blur(torch.tensor([13.125]), near, "released").item() == pytest.approx(750 * 0.035 / 13.125)
