import math

import pytest
import torch
from skimage import data
from torch.nn.functional import interpolate

from dualpixel.losses.depth import reblur_loss, root_norm, share_beyond
from dualpixel.optics import render
from dualpixel.optics.render import MODES

HEIGHT, WIDTH = 64, 96


def images(number, shape=(2, 3, 12, 14), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(number, *shape, dtype=torch.float64, generator=generator).unbind()


def scene(largest=3.0, **shape):
    """Image, blur, and the two views they make."""
    (image,) = images(1, **shape)
    generator = torch.Generator().manual_seed(9)
    noise = torch.rand(image[:, :1].shape, dtype=torch.float64, generator=generator)
    blur = (2 * noise - 1) * largest
    return (image, blur, *render(image, blur))


def test_the_norm_by_hand():
    prediction, target = torch.zeros(1, 3, 1, 2, dtype=torch.float64), torch.zeros(1, 3, 1, 2, dtype=torch.float64)
    prediction[0, :, 0, 0] = torch.tensor([1.0, 2.0, 2.0])
    assert root_norm(prediction, target, epsilon=1e-20).item() == pytest.approx(3 / 2)
    assert root_norm(prediction, target, epsilon=16.0).item() == pytest.approx((5 + 4) / 2)


def test_the_norm_of_equal_images_is_the_root_of_epsilon_and_has_a_gradient_of_zero():
    (image,) = images(1)
    prediction = image.clone().requires_grad_()
    loss = root_norm(prediction, image)
    loss.backward()
    assert loss.item() == pytest.approx(1e-3) and prediction.grad.abs().max() == 0


def test_a_colour_error_counts_by_its_length():
    prediction, target = images(2)
    whole = root_norm(prediction, target, epsilon=1e-12).item()
    assert root_norm(3 * prediction, 3 * target, epsilon=1e-12).item() == pytest.approx(3 * whole)
    grey = root_norm(target + 0.1, target, epsilon=1e-12).item()
    assert grey == pytest.approx(0.1 * math.sqrt(3))


@pytest.mark.parametrize(
    ("shape", "epsilon", "said"), [((2, 3, 12, 13), 1e-6, "differ|one shape"), ((2, 3, 12, 14), 0.0, "epsilon=0.0: must be positive")]
)  # fmt: skip
def test_images_that_do_not_fit_and_a_sharp_norm_are_refused_in_words(shape, epsilon, said):
    (image,) = images(1)
    with pytest.raises(ValueError, match=said):
        root_norm(image, torch.zeros(shape, dtype=torch.float64), epsilon)


@pytest.mark.parametrize("mode", MODES)
def test_what_the_views_were_rendered_from_reproduces_them(mode):
    image, blur, *_ = scene()
    left, right = render(image, blur, mode)
    assert reblur_loss(image, blur, left, right, mode).item() == pytest.approx(2e-3, abs=1e-9)
    assert reblur_loss(image, blur, right, left, mode).item() > 0.05
    assert reblur_loss(image + 0.1, blur, left, right, mode).item() > 2 * 0.1


def test_both_views_count_and_their_losses_are_added():
    image, blur, left, right = scene()
    shifted = left + torch.tensor([0.2, 0.0, 0.0]).view(3, 1, 1), right + torch.tensor([0.0, 0.3, 0.4]).view(3, 1, 1)
    assert reblur_loss(image, blur, shifted[0], right, epsilon=1e-16).item() == pytest.approx(0.2, abs=1e-6)
    assert reblur_loss(image, blur, *shifted, epsilon=1e-16).item() == pytest.approx(0.2 + 0.5, abs=1e-6)


def test_gradients_to_image_and_blur_are_those_of_finite_differences():
    image, blur, left, right = scene(shape=(1, 2, 8, 9))
    leaves = [(image * 0.9).requires_grad_(), (blur + 0.123).requires_grad_()]
    assert torch.autograd.gradcheck(lambda i, b: reblur_loss(i, b, left, right, margin=1), leaves)


def test_the_options_of_the_mode_are_its_own():
    image, blur, *_ = scene()
    left, right = render(image, blur, vertical="down", weight="count")
    assert reblur_loss(image, blur, left, right).item() > 0.05
    found = reblur_loss(image, blur, left, right, vertical="down", weight="count").item()
    assert found == pytest.approx(2e-3, abs=1e-9)
    with pytest.raises(TypeError, match="vertical"):
        reblur_loss(image, blur, left, right, "halfdisc", vertical="down")


@pytest.mark.parametrize("mode", sorted(set(MODES) - {"rect"}))
def test_a_mode_without_a_gradient_to_the_blur_trains_the_image_alone(mode):
    image, blur, left, right = scene()
    with pytest.raises(ValueError, match=f"'{mode}' has no gradient with respect to the blur.*use 'rect', or detach"):
        reblur_loss(image, blur.requires_grad_(), left, right, mode)
    image = image.requires_grad_()
    reblur_loss(image, blur.detach(), left, right, mode).backward()
    assert image.grad.abs().max() > 0


def test_an_unknown_mode_is_refused_by_the_renderer():
    image, blur, left, right = scene()
    with pytest.raises(ValueError, match="no rendering mode 'rekt'; did you mean 'rect'"):
        reblur_loss(image, blur.requires_grad_(), left, right, "rekt")


@pytest.mark.parametrize("mode", ["rect", "released"])
@pytest.mark.parametrize("maximum", [2.0, 20.0])
def test_blur_is_clamped_and_the_share_beyond_is_told(mode, maximum):
    image, blur, *_ = scene(largest=25.0)
    held = blur.clamp(-maximum, maximum)
    options = {"maximum_radius": math.inf} if mode == "rect" else {}
    left, right = render(image, held, mode, **options)
    assert reblur_loss(image, blur, left, right, mode, maximum).item() == pytest.approx(2e-3, abs=1e-9)
    assert share_beyond(blur, maximum).item() == pytest.approx((held != blur).double().mean().item())
    assert abs(share_beyond(blur, maximum).item() - (1 - maximum / 25)) < 0.06


def test_clamped_blur_has_no_gradient_unless_asked_for():
    image, blur, left, right = scene()
    beyond = blur.abs() > 1.5
    for through in (False, True):
        leaf = blur.clone().requires_grad_()
        reblur_loss(image, leaf, right, left, maximum_radius=1.5, gradient_beyond_maximum=through).backward()
        assert bool((leaf.grad[beyond] != 0).any()) == through and (leaf.grad[~beyond] != 0).all()
    assert not share_beyond(leaf, 1.5).requires_grad


def test_a_blur_of_exactly_zero_has_no_gradient():
    image, blur, left, right = scene()
    leaf = torch.zeros_like(blur, requires_grad=True)
    reblur_loss(image, leaf, left, right).backward()
    assert leaf.grad.abs().max() == 0


def test_light_from_outside_a_crop_is_missed_at_its_border_alone():
    image, blur = textured(), torch.full((1, 1, HEIGHT, WIDTH), 5.0)
    left, right = render(image, blur)
    crop = (..., slice(12, 52), slice(16, 80))
    parts = [tensor[crop] for tensor in (image, blur, left, right)]
    assert reblur_loss(*parts, margin=5).item() == pytest.approx(2e-3, abs=1e-5)
    assert reblur_loss(*parts, margin=4).item() > 2.1e-3
    assert reblur_loss(*parts).item() > 1e-2
    with pytest.raises(ValueError, match="a margin of 20 pixels leaves nothing of 40x64"):
        reblur_loss(*parts, margin=20)


def test_an_image_of_low_precision_is_rendered_in_single():
    image, blur, left, right = (tensor.float() for tensor in scene())
    low = image.bfloat16()
    found = reblur_loss(low, blur, left, right)
    assert found.dtype == torch.float32 and found.item() == reblur_loss(low.float(), blur, left, right).item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert reblur_loss(image, blur, left, right).item() == pytest.approx(2e-3, abs=1e-5)


def textured():
    """A piece of a photograph with detail everywhere, (1, 3, HEIGHT, WIDTH)."""
    piece = data.astronaut()[20 : 20 + HEIGHT, 180 : 180 + WIDTH]
    return torch.from_numpy(piece).permute(2, 0, 1)[None].float() / 255


def slanted():
    """Blur from behind the focus plane to before it."""
    return torch.linspace(-4, 4, WIDTH).expand(1, 1, HEIGHT, WIDTH)


def layered():
    """A background, a middle, and a small thing before it."""
    blur = torch.full((1, 1, HEIGHT, WIDTH), -3.0)
    blur[..., WIDTH // 3 :] = 1
    blur[..., 20:50, 56:] = 4
    return blur


def descend(left, right, image, steps, iterations, seed=0):
    """Recover the blur as a bilinear map of one node per step, finer by and by; the image too if that requires it."""
    generator = torch.Generator().manual_seed(seed)
    nodes = 0.5 * torch.randn(1, 1, HEIGHT // steps[0], WIDTH // steps[0], generator=generator)
    first = interpolate(nodes, (HEIGHT, WIDTH), mode="bilinear")
    for step in steps:
        nodes = interpolate(nodes, (HEIGHT // step, WIDTH // step), mode="bilinear").requires_grad_()
        groups = [{"params": [nodes], "lr": 0.1}]
        if image.requires_grad:
            groups.append({"params": [image], "lr": 0.01})
        optimizer = torch.optim.Adam(groups)
        for _ in range(iterations):
            optimizer.zero_grad()
            blur = interpolate(nodes, (HEIGHT, WIDTH), mode="bilinear")
            reblur_loss(image, blur, left, right).backward()
            optimizer.step()
        nodes = nodes.detach()
    return first, interpolate(nodes, (HEIGHT, WIDTH), mode="bilinear")


def judge(found, blur):
    """Mean and median error in pixels, and the share of the right sign where there is blur of at least a pixel."""
    error = (found - blur).abs()
    signs = (found.sign() == blur.sign())[blur.abs() >= 1]
    return error.mean().item(), error.median().item(), signs.double().mean().item()


@pytest.mark.parametrize(("truth", "mean", "median", "signs"), [(slanted, 0.1, 0.02, 0.99), (layered, 0.6, 0.1, 0.85)])
def test_descent_on_the_blur_alone_recovers_it_with_its_sign(truth, mean, median, signs):
    image, blur = textured(), truth()
    before, after = descend(*render(image, blur), image, steps=(16, 8, 4), iterations=100)
    start, found = judge(before, blur), judge(after, blur)
    print(truth.__name__, start, found)
    assert start[0] > 1.9 and start[2] < 0.65
    assert found[0] < mean and found[1] < median and found[2] > signs


@pytest.mark.parametrize("sign", [1, -1])
def test_the_sign_is_in_the_views_but_no_way_leads_downhill_through_zero(sign):
    image, blur = textured(), torch.full((1, 1, HEIGHT, WIDTH), 3.0 * sign)
    left, right = render(image, blur)

    def loss(radius):
        return reblur_loss(image, torch.full_like(blur, radius * sign), left, right, margin=4).item()

    right_sign = [loss(radius) for radius in (0.5, 1, 2, 3)]
    assert right_sign == sorted(right_sign, reverse=True) and right_sign[-1] == pytest.approx(2e-3, abs=1e-5)
    wrong_sign = [loss(radius / 2) for radius in range(-8, 0)]
    assert min(wrong_sign) > 30 * right_sign[-1] and 0 < wrong_sign.index(min(wrong_sign)) < len(wrong_sign) - 1
    assert loss(0) > max(right_sign[0], *wrong_sign[4:])


def psnr(found, image):
    return -10 * (found - image).square().mean().log10().item()


@pytest.mark.parametrize(
    ("seed", "steps", "iterations", "most", "gain"),
    [(0, (16,), 150, 0.3, 2), *(pytest.param(seed, (16, 8), 600, 0.1, 6, marks=pytest.mark.slow) for seed in range(4))],
)
def test_descent_recovers_blur_and_image_together(seed, steps, iterations, most, gain):
    image, blur = textured(), slanted()
    left, right = render(image, blur)
    unknown = ((left + right) / 2).requires_grad_()
    start = psnr(unknown.detach(), image)
    _, found = descend(left, right, unknown, steps, iterations, seed)
    print(start, psnr(unknown.detach(), image), judge(found, blur))
    mean, median, signs = judge(found, blur)
    assert mean < most and median < most / 4 and signs > 0.97
    assert psnr(unknown.detach(), image) > start + gain
