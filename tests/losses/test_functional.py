import math

import pytest
import torch

from dualpixel.losses.functional import charbonnier, edge_charbonnier, frequency_l1


def images(height=5, width=6, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 2, 3, height, width, dtype=dtype, generator=generator).unbind()


def dot(size=6):
    """One bright pixel, away from the border."""
    image = torch.zeros(1, 1, size, size)
    image[..., 2, 3] = 1
    return image


def test_charbonnier_by_hand():
    prediction, target = torch.tensor([[3.0, 1.0]]), torch.tensor([[0.0, 1.0]])
    assert charbonnier(prediction, target, epsilon=4.0).item() == pytest.approx((5 + 4) / 2)


def test_charbonnier_is_nearly_the_mean_absolute_difference():
    prediction, target = torch.rand(2, 2, 3, 16, 16).unbind()
    difference = (prediction - target).abs().mean()
    assert 0 < charbonnier(prediction, target) - difference < 1e-3


def test_the_gradient_is_finite_everywhere_and_bounded():
    difference = torch.tensor([0.0, 1e-3, 1.0, -1.0], requires_grad=True)
    charbonnier(difference, torch.zeros(4)).backward()
    assert torch.allclose(difference.grad * 4, torch.tensor([0.0, 0.5**0.5, 1.0, -1.0]), atol=1e-5)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        charbonnier(torch.zeros(3), torch.zeros(3, 1))
    with pytest.raises(ValueError, match="epsilon=0"):
        charbonnier(torch.zeros(3), torch.zeros(3), epsilon=0)


def test_edges_of_one_pixel_by_hand():
    found = edge_charbonnier(dot(), torch.zeros(1, 1, 6, 6), epsilon=0.1)
    centre, neighbour = math.hypot(0.5, 0.1), math.hypot(1 / 16, 0.1)
    assert found.item() == pytest.approx((centre + 8 * neighbour + 27 * 0.1) / 36, abs=1e-7)


def test_edges_are_taken_of_each_channel_with_the_image_mirrored_at_its_border():
    prediction, target = torch.zeros(2, 1, 2, 3, 3).unbind()
    prediction[0, 1, 0, 0] = 1
    mirrored = torch.nn.functional.pad(prediction, (1, 1, 1, 1), mode="reflect")[0, 1]
    around = mirrored.unfold(0, 3, 1).unfold(1, 3, 1).sum((2, 3)) - prediction[0, 1]
    expected = ((around - 8 * prediction[0, 1]).abs() / 16).sum() / 18
    assert edge_charbonnier(prediction, target, epsilon=1e-9).item() == pytest.approx(expected.item(), abs=1e-6)


def test_edges_know_no_constant_and_no_slope_inside():
    prediction, target = images(8, 9)
    assert edge_charbonnier(prediction + 0.3, prediction, epsilon=0.01).item() == pytest.approx(0.01, rel=1e-6)
    shifted = edge_charbonnier(prediction + 0.3, target)
    assert shifted.item() == pytest.approx(edge_charbonnier(prediction, target).item(), abs=1e-12)
    slope = torch.linspace(0, 0.8, 9, dtype=torch.float64).expand_as(target)
    # at the two borders that mirror it, the slope of 0.1 is a kink: 3 neighbours on either side lie 0.1 higher, or lower
    expected = (7 * 1e-3 + 2 * math.hypot(6 * 0.1 / 16, 1e-3)) / 9
    assert edge_charbonnier(target + slope, target).item() == pytest.approx(expected, abs=1e-12)


def test_equal_images_differ_in_no_edge_and_no_frequency():
    image = images()[0]
    assert edge_charbonnier(image, image, epsilon=0.25).item() == 0.25
    assert frequency_l1(image, image).item() == 0


def test_the_amplitude_of_a_constant_and_of_a_wave_by_hand():
    zero = torch.zeros(1, 1, 4, 6)
    assert frequency_l1(zero + 0.5, zero).item() == pytest.approx(0.5 * 24**0.5 / 24)
    wave = torch.cos(2 * math.pi * torch.arange(6) / 6).expand_as(zero)  # two frequencies of half the amplitude each
    assert frequency_l1(wave, zero).item() == pytest.approx(2 * 0.5 * 24**0.5 / 24, abs=1e-7)
    assert frequency_l1(wave + 0.5, wave).item() == pytest.approx(0.5 * 24**0.5 / 24, abs=1e-7)


@pytest.mark.parametrize("width", [1, 2, 5, 6])
def test_every_frequency_counts_once(width):
    prediction, target = images(7, width)
    whole = (torch.fft.fft2(prediction, norm="ortho").abs() - torch.fft.fft2(target, norm="ortho").abs()).abs().mean()
    assert frequency_l1(prediction, target).item() == pytest.approx(whole.item(), abs=1e-12)


def test_noise_costs_the_same_at_all_sizes():
    generator = torch.Generator().manual_seed(3)
    costs = [
        frequency_l1(torch.randn(8, 3, size, size, generator=generator), torch.zeros(8, 3, size, size)).item()
        for size in (32, 256)
    ]
    assert costs == pytest.approx([math.pi**0.5 / 2] * 2, rel=0.02)  # the mean of a Rayleigh distribution of unit power


def test_what_is_moved_has_the_same_amplitudes_and_what_is_blurred_lower_ones():
    image = images(8, 8)[0]
    assert frequency_l1(image.roll((2, 3), (2, 3)), image).item() == pytest.approx(0, abs=1e-12)
    blurred = (image + image.roll(1, 3)) / 2
    amplitudes = [torch.fft.fft2(one, norm="ortho").abs() for one in (image, blurred)]
    expected = (amplitudes[0] - amplitudes[1]).mean()  # without the inner absolute value
    assert frequency_l1(blurred, image).item() == pytest.approx(expected.item(), abs=1e-12)
    assert expected > 0.05


@pytest.mark.parametrize("loss", [edge_charbonnier, frequency_l1])
def test_gradients_of_edges_and_amplitudes_are_those_of_finite_differences(loss):
    prediction, target = (image.requires_grad_() for image in images())
    assert torch.autograd.gradcheck(loss, (prediction, target))


@pytest.mark.parametrize("loss", [edge_charbonnier, frequency_l1])
def test_the_gradient_where_nothing_differs_or_all_is_black_is_zero(loss):
    for image in (images()[0], torch.zeros(1, 1, 4, 4)):
        prediction = image.clone().requires_grad_()
        loss(prediction, image).backward()
        assert torch.equal(prediction.grad, torch.zeros_like(image))


@pytest.mark.parametrize("loss", [edge_charbonnier, frequency_l1])
def test_sums_are_in_single_precision_under_autocast_and_of_half_precision(loss):
    prediction, target = images(dtype=torch.float32)
    expected = loss(prediction, target)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(prediction, target), expected)
    halved = loss(prediction.bfloat16(), target.bfloat16())
    assert halved.dtype == torch.float32
    assert torch.equal(halved, loss(prediction.bfloat16().float(), target.bfloat16().float()))


@pytest.mark.parametrize("loss", [edge_charbonnier, frequency_l1])
def test_images_that_do_not_fit_are_refused(loss):
    prediction, target = images()
    with pytest.raises(ValueError, match="differ in shape"):
        loss(prediction, target[..., :-1])
    with pytest.raises(ValueError, match=r"\(3, 5, 6\): \(B, C, H, W\)"):
        loss(prediction[0], target[0])
    with pytest.raises(ValueError, match=r"\(2, 3, 0, 6\)"):
        loss(prediction[:, :, :0], target[:, :, :0])


def test_edges_need_two_pixels_and_a_positive_epsilon():
    prediction, target = images()
    with pytest.raises(ValueError, match="at least 2 are needed"):
        edge_charbonnier(prediction[..., :1], target[..., :1])
    with pytest.raises(ValueError, match="epsilon=0"):
        edge_charbonnier(prediction, target, epsilon=0)
