import math

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import correlate

from dualpixel.optics import Camera, combine, render
from dualpixel.optics.butterworth import butterworth_kernels, render_butterworth_with_combined

SETS = {0: (4, 6, 5), 1: (5, 8, 6), 2: (7, 5, 8), 3: (10, 13, 12), 4: (22, 10, 30)}
OPTIONS = [(3, 2.5, 0.1), (6, 2, 0.2), (9, 2.5, 0.1)]


def recipe(radius, order, cutoff, beta):
    """The published recipe with OpenCV's own circle and Gaussian: left, right, combined."""
    size = 2 * radius + 1
    circle = cv2.circle(np.zeros((size, size)), (radius, radius), radius, 1, -1)
    y, x = np.mgrid[:size, :size] - radius
    raised = ((x**2 + y**2) / ((size - 1) / cutoff) ** 2) ** order
    profile = 1 - 1 / (1 + raised)
    profile = beta + (1 - beta) * (profile - profile.min()) / (profile.max() - profile.min())
    blur = round(size / 7) + 1
    blur += blur % 2 == 0
    padded = np.pad(profile * circle, blur // 2)
    combined = cv2.GaussianBlur(padded, (blur, blur), 0.3 * ((blur - 1) / 2 - 1) + 0.8)
    left = combined * np.linspace(0, 1, len(combined))
    right = np.rot90(left, 2)
    return [kernel / kernel.sum() for kernel in (left, right, combined)]


def picked(image, blur, options):
    """The definition: the whole image (C, H, W) correlated for each radius, pixels taken by radius; left and right."""
    radius = np.round(-np.clip(blur, -40, 40)).astype(int)
    radius[radius == 0] = 1
    views = np.zeros((2, *image.shape))
    for number in set(radius.flat):
        left, right, _ = recipe(abs(number), *options)
        for view, kernel in zip(views, (left, right) if number > 0 else (right, left), strict=True):
            whole = np.stack([correlate(channel, kernel, mode="mirror") for channel in image])
            view[:, radius == number] = whole[:, radius == number]
    return views


@pytest.mark.parametrize("options", OPTIONS)
def test_kernels_are_those_that_opencv_draws(options):
    for radius in (*range(1, 16), 23, 31, 40):
        for kernel, expected in zip(butterworth_kernels(radius, *options), recipe(radius, *options), strict=True):
            assert kernel.shape == expected.shape
            assert np.abs(kernel.numpy() - expected).max() < 1e-12


def test_kernels_are_the_stored_ones_to_the_bit(reference):
    stored = np.load(reference / "rdpd_extras.npz")
    names = [name for name in stored.files if name.startswith("kernel_")]
    assert len(names) == 8
    for name in names:
        order, cutoff, beta, radius = name.split("_")[1:]
        left, right, combined = butterworth_kernels(int(radius), int(order), float(cutoff), float(beta))
        assert np.array_equal(torch.stack([combined, left, right]).float().numpy(), stored[name])


@pytest.mark.parametrize("radius", [1, 5, 20])
def test_the_combined_kernel_is_the_mean_of_the_two(radius):
    left, right, combined = butterworth_kernels(radius)
    assert torch.equal(left, right.flip(0, 1))
    assert torch.allclose((left + right) / 2, combined, rtol=0, atol=1e-15)
    assert [kernel.sum().item() for kernel in (left, right, combined)] == pytest.approx([1, 1, 1], abs=1e-14)


@pytest.mark.parametrize("camera_set", SETS)
@pytest.mark.parametrize("sequence", [0, 2, 5])
def test_views_are_the_published_ones_within_one_grey_level(reference, camera_set, sequence):
    stored = np.load(reference / "rdpd_sim.npz")
    focal_length, f_number, focus = SETS[camera_set]
    camera = Camera(focal_length, 1, 2 * focal_length / f_number, focus)
    bins = 2000 / 250
    depth = ((stored["depth_m"] * bins).astype(int).clip(0, 1999) + 0.5) / bins
    order, cutoff, beta = stored[f"bw_seq{sequence}"].tolist()
    image = torch.from_numpy(stored["rgb"]).permute(2, 0, 1)[None] / 255.0
    blur = torch.from_numpy(camera.blur_radius(depth))[None, None]
    views = render_butterworth_with_combined(
        image.double(), blur, order=int(order), cutoff=cutoff, beta=beta, levels=255
    )
    for name, view in zip("lrc", views, strict=True):
        grey = (view[0].permute(1, 2, 0) * 255).round().int().numpy()
        difference = np.abs(grey - stored[f"set{camera_set}_seq{sequence}_{name}"])
        assert difference.max() <= 1
        assert (difference > 0).mean() < 5e-4


@pytest.mark.parametrize("options", OPTIONS)
def test_views_are_the_whole_image_filtered_and_picked_by_radius(options):
    generator = np.random.default_rng(0)
    image, blur = generator.random((3, 37, 45)), generator.uniform(-8, 8, (37, 45))
    blur[:20] = np.round(blur[:20, :1] / 5) * 5
    blur[0, :4] = 0, 0.5, -0.5, 2.5
    order, cutoff, beta = options
    views = render(
        torch.from_numpy(image)[None],
        torch.from_numpy(blur)[None, None],
        "butterworth",
        order=order,
        cutoff=cutoff,
        beta=beta,
    )
    for view, expected in zip(views, picked(image, blur, options), strict=True):
        assert np.abs(view[0].numpy() - expected).max() < 1e-12


def test_the_frame_may_be_smaller_than_the_kernel():
    generator = np.random.default_rng(1)
    image, blur = generator.random((1, 6, 9)), np.full((6, 9), -17.0)
    left, right = render(torch.from_numpy(image)[None], torch.from_numpy(blur)[None, None], "butterworth")
    expected = picked(image, blur, (3, 2.5, 0.1))
    assert np.abs(torch.cat([left, right])[:, 0].numpy() - expected[:, 0]).max() < 1e-12


def test_the_combined_view_is_the_mean_until_it_is_rounded():
    image, blur = torch.rand(1, 3, 20, 30, dtype=torch.float64), torch.full((1, 1, 20, 30), 3.0)
    left, right, combined = render_butterworth_with_combined(image, blur)
    assert torch.equal(combined, combine(left, right))
    rounded = render_butterworth_with_combined(image, blur, levels=255)
    for view, exact in zip(rounded, (left, right, combined), strict=True):
        assert (view - exact).abs().max() <= 0.5 / 255 + 1e-12
        assert torch.allclose(view * 255, (view * 255).round(), rtol=0, atol=1e-10)
    assert not torch.equal(rounded[2], combine(*rounded[:2]))


def test_no_blur_is_one_pixel_behind_the_focus_plane():
    image = torch.rand(1, 1, 12, 13)
    for view, behind in zip(
        render(image, torch.zeros_like(image), "butterworth"),
        render(image, -torch.ones_like(image), "butterworth"),
        strict=True,
    ):
        assert torch.equal(view, behind)


@pytest.mark.parametrize("radius", [0, -3])
def test_kernels_without_a_radius_are_refused(radius):
    with pytest.raises(ValueError, match=f"the radius of a kernel is {radius}"):
        butterworth_kernels(radius)


def test_radii_beyond_forty_are_forty():
    image, blur = torch.rand(1, 1, 30, 30), torch.full((1, 1, 30, 30), math.inf)
    assert torch.equal(render(image, blur, "butterworth")[0], render(image, blur.clamp(max=40), "butterworth")[0])
