import math

import numpy as np
import pytest
import torch

from dualpixel.optics import integral, render
from dualpixel.optics.rectangle import render_rectangle

VERTICAL, WEIGHT = ("sym", "down"), ("energy", "count")
every_variant = pytest.mark.parametrize(("vertical", "weight"), [(v, w) for v in VERTICAL for w in WEIGHT])


@pytest.fixture(scope="module")
def stored(reference):
    return dict(np.load(reference / "simulator.npz"))


def overlaps(first: float, last: float, size: int) -> np.ndarray:
    """Length of [first, last] within each pixel k, which covers [k - 1/2, k + 1/2]."""
    pixel = np.arange(size)
    return np.clip(np.minimum(last, pixel + 0.5) - np.maximum(first, pixel - 0.5), 0, None)


def rectangles(image: np.ndarray, radius: np.ndarray, vertical: str, weight: str) -> tuple[np.ndarray, np.ndarray]:
    """The renderer by its definition: all overlaps of all rectangles; image (C, H, W), radius (H, W)."""
    channels, height, width = image.shape
    colours, weights = np.zeros((2, channels, height, width)), np.zeros((2, height, width))
    for y in range(height):
        for x in range(width):
            r = radius[y, x]
            near, far = max(r, 0), min(r, 0)
            rows = overlaps(y - 0.5 - (abs(r) if vertical == "sym" else 0), y + 0.5 + abs(r), height)
            area = (1 + abs(r)) * (1 + (2 if vertical == "sym" else 1) * abs(r))
            for view, (first, last) in enumerate([(far, near), (-near, -far)]):
                share = np.outer(rows, overlaps(x - 0.5 + first, x + 0.5 + last, width))
                share = share / area if weight == "energy" else share
                weights[view] += share
                colours[view] += share * image[:, y, x, None, None]
    left, right = colours / weights[:, None]
    return left, right


def tensor(array, dtype=torch.float64):
    """(H, W[, 3]) array to (1, 1 or 3, H, W)."""
    array = torch.from_numpy(np.asarray(array)).to(dtype)
    return (array[..., None] if array.ndim == 2 else array).permute(2, 0, 1)[None].contiguous()


def scene(batch=2, channels=3, height=11, width=13, largest=4.0, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(batch, channels, height, width, generator=generator, dtype=torch.float64)
    blur = (torch.rand(batch, 1, height, width, generator=generator, dtype=torch.float64) * 2 - 1) * largest
    return image.to(dtype), blur.to(dtype)


@every_variant
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
def test_views_are_the_stored_ones(stored, vertical, weight, dtype, tolerance):
    views = render(
        tensor(stored["image"], dtype), tensor(stored["signed_radius"], dtype), vertical=vertical, weight=weight
    )
    for name, view in zip(("left", "right"), views, strict=True):
        assert view.dtype == dtype
        assert (view - tensor(stored[f"rect_{vertical}_{weight}_{name}"])).abs().max() < tolerance


@pytest.mark.parametrize(("vertical", "weight"), [("sym", "energy"), ("down", "count")])
def test_gradients_are_the_stored_ones(stored, vertical, weight):
    image, blur = tensor(stored["image"]).requires_grad_(), tensor(stored["signed_radius"]).requires_grad_()
    left, right = render(image, blur, vertical=vertical, weight=weight)
    ((left * tensor(stored["grad_weight_left"])).sum() + (right * tensor(stored["grad_weight_right"])).sum()).backward()
    assert (image.grad - tensor(stored[f"rect_{vertical}_{weight}_grad_image"])).abs().max() < 1e-6
    assert (blur.grad - tensor(stored[f"rect_{vertical}_{weight}_grad_radius"])).abs().max() < 1e-6


@every_variant
@pytest.mark.parametrize("band", [1, 20, integral.BAND])
def test_views_are_the_direct_overlap_sums(monkeypatch, vertical, weight, band):
    monkeypatch.setattr(integral, "BAND", band)
    image, blur = scene()
    blur[0, 0, 2, 3:6] = torch.tensor([0.0, 2.0, -3.0])
    blur[1, 0, 5, 5] = 30.0
    views = render(image, blur, vertical=vertical, weight=weight, maximum_radius=math.inf)
    for index in range(2):
        for view, direct in zip(
            views, rectangles(image[index].numpy(), blur[index, 0].numpy(), vertical, weight), strict=True
        ):
            assert np.abs(view[index].numpy() - direct).max() < 1e-12


@every_variant
def test_gradient_is_that_of_finite_differences(vertical, weight):
    image, blur = (
        leaf.requires_grad_() for leaf in scene(batch=1, channels=1, height=8, width=10, largest=3.0, seed=1)
    )
    assert torch.autograd.gradcheck(lambda i, b: render(i, b, vertical=vertical, weight=weight), (image, blur))


def test_gradient_of_a_batch_in_bands_is_that_of_finite_differences(monkeypatch):
    monkeypatch.setattr(integral, "BAND", 30)
    leaves = [leaf.requires_grad_() for leaf in scene(batch=2, channels=2, height=8, width=10, largest=3.0, seed=2)]
    assert torch.autograd.gradcheck(render, leaves, fast_mode=True)


@every_variant
def test_no_blur_is_the_identity_and_has_no_gradient_to_the_radius(vertical, weight):
    image, blur = scene()
    blur = torch.zeros_like(blur, requires_grad=True)
    left, right = render(image, blur, vertical=vertical, weight=weight)
    assert torch.allclose(left, image, rtol=0, atol=1e-13)
    assert torch.allclose(right, image, rtol=0, atol=1e-13)
    (left * torch.rand_like(left)).sum().backward()
    assert blur.grad.abs().max() == 0


@every_variant
def test_a_constant_image_stays_constant(vertical, weight):
    image, blur = scene(largest=9)
    for view in render(torch.full_like(image, 0.7), blur, vertical=vertical, weight=weight):
        assert torch.allclose(view, torch.full_like(image, 0.7), rtol=0, atol=1e-12)


@pytest.mark.parametrize("weight", WEIGHT)
def test_blur_of_the_other_sign_swaps_the_views(weight):
    image, blur = scene()
    left, right = render(image, blur, weight=weight)
    other_left, other_right = render(image, -blur, weight=weight)
    assert torch.allclose(left, other_right, rtol=0, atol=1e-12)
    assert torch.allclose(right, other_left, rtol=0, atol=1e-12)


@every_variant
def test_the_mirrored_scene_has_the_mirrored_and_exchanged_views(vertical, weight):
    image, blur = scene()
    left, right = render(image, blur, vertical=vertical, weight=weight)
    mirrored_left, mirrored_right = render(image.flip(-1), blur.flip(-1), vertical=vertical, weight=weight)
    assert torch.allclose(mirrored_left, right.flip(-1), rtol=0, atol=1e-12)
    assert torch.allclose(mirrored_right, left.flip(-1), rtol=0, atol=1e-12)


def test_a_near_point_lies_to_the_right_in_the_left_view_by_the_radius():
    image = torch.zeros(1, 1, 31, 31, dtype=torch.float64)
    image[0, 0, 15, 15] = 1
    columns = torch.arange(31, dtype=torch.float64)
    places = [(view.sum(-2) * columns).sum() / view.sum() for view in render(image, torch.full_like(image, 4.0))]
    assert places[0] - places[1] == pytest.approx(4)
    assert places[0] + places[1] == pytest.approx(30)


def test_down_shifts_both_views_down_by_half_the_radius():
    image = torch.zeros(1, 1, 31, 31, dtype=torch.float64)
    image[0, 0, 15, 15] = 1
    rows = torch.arange(31, dtype=torch.float64)[:, None]
    for vertical, row in (("sym", 15), ("down", 17.5)):
        for view in render(image, torch.full_like(image, -5.0), vertical=vertical):
            assert (view.sum(-1, keepdim=True) * rows).sum() / view.sum() == pytest.approx(row)


def test_radius_is_clamped_and_only_on_request_keeps_its_gradient():
    image, blur = scene(largest=6)
    held = blur.clamp(-2.5, 2.5)
    beyond = blur.abs() > 2.5
    gradients = {}
    for through in (False, True):
        leaf = blur.clone().requires_grad_()
        left, right = render(image, leaf, maximum_radius=2.5, gradient_beyond_maximum=through)
        for view, expected in zip((left, right), render(image, held), strict=True):
            assert torch.allclose(view, expected, rtol=0, atol=1e-12)
        (left * image.roll(1, -1)).sum().backward()
        gradients[through] = leaf.grad
    assert gradients[False][beyond].abs().max() == 0
    assert (gradients[True][beyond] != 0).all()
    assert torch.equal(gradients[True][~beyond], gradients[False][~beyond])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 6e-4), (torch.bfloat16, 5e-3), (torch.float32, 1e-7)])
def test_low_precision_comes_out_as_it_went_in_and_is_summed_in_float64(dtype, tolerance):
    image, blur = scene(batch=1, height=200, width=240, dtype=dtype)
    exact = render(image.double(), blur.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        views = render(image.requires_grad_(), blur.requires_grad_())
    for view, expected in zip(views, exact, strict=True):
        assert view.dtype == dtype
        assert (view.double() - expected).abs().max() < tolerance
    sum(view.sum() for view in views).backward()
    assert image.grad.dtype == blur.grad.dtype == dtype


def test_memory_may_be_laid_out_in_any_way():
    image, blur = scene()
    leaves = [tensor.transpose(2, 3).contiguous().transpose(2, 3).requires_grad_() for tensor in (image, blur)]
    left, _ = render(*leaves)
    assert torch.equal(left, render(image, blur)[0])
    left.sum().backward()
    assert torch.equal(
        render(image[..., 2:], blur[..., 2:])[1], render(image[..., 2:].clone(), blur[..., 2:].clone())[1]
    )
    channels_last = image.to(memory_format=torch.channels_last)
    assert torch.equal(render(channels_last, blur)[0], left)


def test_a_radius_that_is_no_number_shows_and_does_not_crash():
    image, blur = scene(batch=1)
    blur[0, 0, 5, 5] = math.nan
    left, right = render(image, blur)
    assert left.isnan().any()
    assert right.isnan().any()


def test_cpu_views_and_gradients_are_reproducible_to_the_bit():
    image, blur = scene(height=60, width=70)

    def once():
        leaves = image.clone().requires_grad_(), blur.clone().requires_grad_()
        left, right = render(*leaves)
        return left, right, *torch.autograd.grad((left * right).sum(), leaves)

    assert all(torch.equal(first, second) for first, second in zip(once(), once(), strict=True))


@pytest.mark.gpu
def test_gpu_gives_what_the_cpu_gives():
    image, blur = scene(height=60, width=70)
    for on_gpu, on_cpu in zip(render(image.cuda(), blur.cuda()), render(image, blur), strict=True):
        assert torch.allclose(on_gpu.cpu(), on_cpu, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"vertical": "up"}, "vertical is 'up'; allowed: sym, down"),
        ({"weight": "area"}, "weight is 'area'; allowed: energy, count"),
        ({"maximum_radius": 0}, "maximum_radius is 0"),
        ({"maximum_radius": math.nan}, "maximum_radius is nan"),
    ],
)
def test_options_that_do_not_exist_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        render_rectangle(*scene(), **options)
