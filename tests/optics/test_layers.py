import math

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from dualpixel.optics import render, tiles
from dualpixel.optics.half_disc import half_disc_kernels
from dualpixel.optics.layers import quantise
from dualpixel.optics.translating_disk import translating_disk_kernels

COMPOSITED = {"halfdisc": half_disc_kernels, "translating_disk": translating_disk_kernels}
VARIANTS = [
    ("halfdisc", {}),
    ("halfdisc", {"occlusion": "normalised"}),
    ("translating_disk", {}),
    ("translating_disk", {"occlusion": "normalised", "step": 0.5}),
    ("butterworth", {}),
]
every_variant = pytest.mark.parametrize(("mode", "options"), VARIANTS)


def scene(batch=2, channels=3, height=21, width=33, largest=4.0, seed=0, dtype=torch.float64):
    """Return a random image, and a blur of a few patches: a random map made coarse."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(batch, channels, height, width, generator=generator, dtype=torch.float64)
    coarse = (torch.rand(batch, 1, height, width, generator=generator, dtype=torch.float64) * 2 - 1) * largest
    blur = coarse[..., ::5, ::5].repeat_interleave(5, 2).repeat_interleave(5, 3)[..., :height, :width]
    blur[..., ::7, :] = coarse[..., ::7, :]
    return image.to(dtype), blur.contiguous().to(dtype)


def layered(image: np.ndarray, layer: np.ndarray, kernels, normalised: bool) -> list[np.ndarray]:
    """The definition: blurred layers laid over one another, farthest first; image (C, H, W), layer (H, W)."""
    views = []
    for view in range(2):
        colours, coverage = np.zeros_like(image), np.zeros(layer.shape)
        for number in sorted(set(layer.flat)):
            kernel, mask = kernels(number)[view].numpy(), (layer == number).astype(float)
            blurred = np.stack([convolve2d(mask * channel, kernel, mode="same") for channel in image])
            blurred_mask = convolve2d(mask, kernel, mode="same")
            if normalised:
                so_far = np.maximum(convolve2d((layer <= number).astype(float), kernel, mode="same"), 1e-3)
                blurred, blurred_mask = blurred / so_far, blurred_mask / so_far
            colours = blurred + (1 - blurred_mask) * colours
            coverage = blurred_mask + (1 - blurred_mask) * coverage
        views.append(colours / np.maximum(coverage, 1e-6))
    return views


@pytest.mark.parametrize("mode", COMPOSITED)
@pytest.mark.parametrize("occlusion", ["plain", "normalised"])
@pytest.mark.parametrize("values", [1, 2**18])
def test_views_are_the_layers_laid_over_one_another(monkeypatch, mode, occlusion, values):
    monkeypatch.setattr(tiles, "VALUES_ON_CPU", values)
    image, blur = scene(height=83, width=70)
    views = render(image, blur, mode, occlusion=occlusion)
    layer = np.floor(blur[:, 0].numpy() + 0.5).astype(int)
    for index in range(2):
        expected = layered(image[index].numpy(), layer[index], COMPOSITED[mode], occlusion == "normalised")
        for view, slow in zip(views, expected, strict=True):
            assert np.abs(view[index].numpy() - slow).max() < 1e-11


@pytest.mark.parametrize("mode", COMPOSITED)
def test_near_layers_cover_far_ones(mode):
    image = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    image[..., 14:27] = 1
    blur = torch.full_like(image, -6.0)
    blur[..., 14:27] = 0
    for view in render(image, blur, mode):  # a sharp white bar hides what is behind it, and keeps its edges
        assert (view[..., 14:27] == 1).all()
    left, right = render(image, -blur, mode)  # a black blurred foreground veils the sharp white bar behind it
    assert 0.01 < left[..., 14].mean() < 0.9
    assert 0.01 < right[..., 26].mean() < 0.9


def test_normalised_occlusion_lets_a_blurred_background_go_on_behind_what_hides_it():
    image = torch.zeros(1, 1, 90, 90, dtype=torch.float64)
    image[..., 30:60, :] = 1
    beside = {}
    for occlusion in ("plain", "normalised"):
        for behind in (0, -8):
            blur = torch.full_like(image, behind)
            blur[..., 30:60, :] = 6
            beside[occlusion, behind] = render(image, blur, "halfdisc", occlusion=occlusion)[0][..., 26, 20:70].mean()
    assert beside["normalised", -8] == pytest.approx(beside["normalised", 0].item(), abs=1e-12)
    assert beside["plain", 0] == pytest.approx(beside["normalised", 0].item(), abs=1e-12)
    assert beside["plain", -8] > 1.2 * beside["plain", 0]


@every_variant
def test_gradient_to_the_image_is_that_of_finite_differences(mode, options):
    image, blur = scene(channels=2, height=19, width=23)
    image = image.requires_grad_()
    assert torch.autograd.gradcheck(lambda leaf: render(leaf, blur, mode, **options), image, fast_mode=True)


@every_variant
def test_gradient_of_a_large_frame_is_the_transposed_map(monkeypatch, mode, options):
    monkeypatch.setattr(tiles, "VALUES_ON_CPU", 1)
    image, blur = scene(batch=1, channels=1, height=150, width=170, largest=8)
    other = torch.rand_like(image)
    leaf = torch.zeros_like(image).requires_grad_()
    weights = [torch.rand_like(image) for _ in range(2)]
    sum(
        (view * weight).sum() for view, weight in zip(render(leaf, blur, mode, **options), weights, strict=True)
    ).backward()
    forward = sum(
        (view * weight).sum() for view, weight in zip(render(other, blur, mode, **options), weights, strict=True)
    )
    assert (leaf.grad * other).sum().item() == pytest.approx(forward.item(), rel=1e-12)


@every_variant
def test_the_blur_has_a_gradient_of_zeros(mode, options):
    image, blur = scene(batch=1, dtype=torch.float32)
    for trained in (False, True):
        blur = blur.detach().requires_grad_()
        left, right = render(image.requires_grad_(trained), blur, mode, **options)
        (left * right).sum().backward()
        assert torch.equal(blur.grad, torch.zeros_like(blur))
    assert image.grad.abs().max() > 0


@every_variant
def test_a_constant_image_stays_constant(mode, options):
    image, blur = scene(largest=12, height=80, width=90)
    for view in render(torch.full_like(image, 0.7), blur, mode, **options):
        assert torch.allclose(view, torch.full_like(image, 0.7), rtol=0, atol=1e-12)


@every_variant
def test_blur_of_the_other_sign_swaps_the_views_of_a_plane(mode, options):
    image, blur = scene()
    blur = torch.full_like(blur, 3.2)
    left, right = render(image, blur, mode, **options)
    other_left, other_right = render(image, -blur, mode, **options)
    assert torch.allclose(left, other_right, rtol=0, atol=1e-12)
    assert torch.allclose(right, other_left, rtol=0, atol=1e-12)
    assert (left - right).abs().max() > 0.1


@every_variant
def test_the_mirrored_scene_has_the_mirrored_and_exchanged_views(mode, options):
    image, blur = scene()
    left, right = render(image, blur, mode, **options)
    mirrored_left, mirrored_right = render(image.flip(-1), blur.flip(-1), mode, **options)
    assert torch.allclose(mirrored_left, right.flip(-1), rtol=0, atol=1e-11)
    assert torch.allclose(mirrored_right, left.flip(-1), rtol=0, atol=1e-11)


@every_variant
def test_a_near_point_lies_to_the_right_in_the_left_view(mode, options):
    image = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    image[0, 0, 20, 20] = 1
    columns = torch.arange(41, dtype=torch.float64)
    left, right = ((view.sum(-2) * columns).sum() for view in render(image, torch.full_like(image, 5), mode, **options))
    assert left > 21
    assert right < 19
    assert left + right == pytest.approx(40)


@every_variant
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 6e-4), (torch.bfloat16, 5e-3), (torch.float32, 1e-7)])
def test_low_precision_comes_out_as_it_went_in_and_is_summed_in_float64(mode, options, dtype, tolerance):
    image, blur = scene(batch=1, height=60, width=70, dtype=dtype)
    exact = render(image.double(), blur.double(), mode, **options)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        views = render(image.requires_grad_(), blur, mode, **options)
    for view, expected in zip(views, exact, strict=True):
        assert view.dtype == dtype
        assert (view.double() - expected).abs().max() < tolerance
    sum(view.sum() for view in views).backward()
    assert image.grad.dtype == dtype


@every_variant
def test_a_batch_is_its_images_one_by_one(mode, options):
    image, blur = scene(batch=3, height=70, width=90)
    blur[1] = blur[1] * 2
    views = render(image, blur, mode, **options)
    for index in range(3):
        alone = render(image[index : index + 1], blur[index : index + 1], mode, **options)
        for view, single in zip(views, alone, strict=True):
            assert torch.allclose(view[index : index + 1], single, rtol=0, atol=1e-12)


@every_variant
def test_memory_may_be_laid_out_in_any_way(mode, options):
    image, blur = scene()
    laid_out = (tensor.transpose(2, 3).contiguous().transpose(2, 3) for tensor in (image, blur))
    assert torch.equal(render(*laid_out, mode, **options)[0], render(image, blur, mode, **options)[0])


@every_variant
def test_one_pixel_will_do(mode, options):
    left, right = render(torch.full((1, 1, 1, 1), 0.5), torch.full((1, 1, 1, 1), 3.0), mode, **options)
    assert left.item() == right.item() == pytest.approx(0.5)


@every_variant
def test_radius_is_clamped(mode, options):
    image, blur = scene(largest=6)
    for view, held in zip(
        render(image, blur, mode, maximum_radius=2.0, **options),
        render(image, blur.clamp(-2, 2), mode, **options),
        strict=True,
    ):
        assert torch.equal(view, held)


@every_variant
@pytest.mark.parametrize("wrong", [0, -1.0, math.nan])
def test_maximum_radii_that_are_none_are_refused(mode, options, wrong):
    with pytest.raises(ValueError, match=f"maximum_radius is {wrong}"):
        render(*scene(), mode, maximum_radius=wrong, **options)


@every_variant
def test_a_blur_that_is_no_number_is_refused(mode, options):
    image, blur = scene(batch=1, height=9, width=10)
    blur[0, 0, 2, 3:5] = math.nan
    with pytest.raises(ValueError, match="2 of 90 blur radii are NaN or infinite"):
        render(image, blur, mode, **options)


@pytest.mark.parametrize("mode", COMPOSITED)
def test_an_unknown_occlusion_is_refused(mode):
    with pytest.raises(ValueError, match="occlusion is 'over'; allowed: plain, normalised"):
        render(*scene(), mode, occlusion="over")


def test_a_layer_is_the_nearest_step():
    blur = torch.tensor([-2.5, -0.51, -0.5, 0.49, 0.5, 1.5, 99]).view(1, 1, 1, 7)
    assert quantise(blur, 1.0, 16.0).tolist() == [[[-2, -1, 0, 0, 1, 2, 16]]]
    assert quantise(blur, 0.5, 16.0).tolist() == [[[-5, -1, -1, 1, 1, 3, 32]]]


@pytest.mark.gpu
@every_variant
def test_gpu_gives_what_the_cpu_gives(mode, options):
    image, blur = scene(height=60, width=70)
    leaves = [image.cuda().requires_grad_(), image.requires_grad_()]
    views = [render(leaf, blur.to(leaf.device), mode, **options) for leaf in leaves]
    for on_gpu, on_cpu in zip(*views, strict=True):
        assert torch.allclose(on_gpu.cpu(), on_cpu, rtol=0, atol=1e-12)
    for left, right in views:
        (left * right).sum().backward()
    assert torch.allclose(leaves[0].grad.cpu(), leaves[1].grad, rtol=0, atol=1e-11)
