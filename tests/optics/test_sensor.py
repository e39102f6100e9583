import math

import pytest
import torch

from dualpixel.optics.sensor import Sensor, add_noise, imbalance_gain, vignetting_gain


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def views():
    return torch.rand(2, 2, 3, 8, 11, dtype=torch.float64, generator=seeded(1)).unbind()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_default_sensor_changes_nothing(views, dtype):
    left, right = (view.to(dtype) for view in views)
    exposed = Sensor().expose(left, right)
    assert torch.equal(exposed[0], left) and torch.equal(exposed[1], right)
    assert torch.equal(exposed[2], (left + right) / 2) and exposed[2].dtype == dtype


@pytest.mark.parametrize(("shot_noise", "read_noise", "level"), [(1e-2, 0, 0.5), (0, 0.05, 0.5), (2e-3, 0.02, 0.25)])
def test_noise_has_the_mean_and_the_variance_of_the_model(shot_noise, read_noise, level):
    count = 400_000
    noisy = add_noise(torch.full((1, 1, 1, count), level), shot_noise, read_noise, seeded()).double()
    variance = shot_noise * level + read_noise**2
    assert noisy.mean().item() == pytest.approx(level, abs=5 * math.sqrt(variance / count))
    assert noisy.var().item() == pytest.approx(variance, rel=0.02)


def test_photons_are_counted():
    electron = 0.01
    noisy = add_noise(torch.full((1, 1, 1, 200_000), 0.02, dtype=torch.float64), electron, generator=seeded())
    counts = noisy / electron
    assert (counts - counts.round()).abs().max() < 1e-9
    # two electrons expected: Poisson's share of empty pixels is exp(-2), of pixels with two 2 exp(-2)
    assert (counts.round() == 0).double().mean().item() == pytest.approx(math.exp(-2), rel=0.03)
    assert (counts.round() == 2).double().mean().item() == pytest.approx(2 * math.exp(-2), rel=0.03)


def test_values_below_black_count_no_photons():
    image = torch.full((1, 1, 2, 2), -0.1)
    assert torch.equal(add_noise(image, shot_noise=0.01, generator=seeded()), image)


def test_noise_is_of_its_generator_and_differs_between_the_views(views):
    sensor = Sensor(shot_noise=1e-3, read_noise=1e-2)
    first, again, other = (sensor.expose(views[0], views[0], seeded(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0], first[1])


def test_the_combined_image_is_the_mean_of_the_noisy_views_so_its_variance_is_halved():
    view = torch.full((1, 3, 300, 400), 0.4, dtype=torch.float64)
    left, right, combined = Sensor(shot_noise=4e-3, read_noise=0.03).expose(view, view, seeded())
    assert torch.equal(combined, (left + right) / 2)
    variance = 4e-3 * 0.4 + 0.03**2
    assert left.var().item() == pytest.approx(variance, rel=0.02)
    assert combined.var().item() == pytest.approx(variance / 2, rel=0.02)


def test_the_gradient_is_that_of_the_expected_value(views):
    image = views[0].clone().requires_grad_()
    add_noise(image, 1e-3, 1e-2, seeded()).sum().backward()
    assert torch.equal(image.grad, torch.ones_like(image))


def test_light_falls_off_with_the_fourth_power_of_the_cosine():
    gain = vignetting_gain(101, 201, focal_length_px=100)
    assert gain[50, 100] == 1
    assert gain[50, 200].item() == pytest.approx(math.cos(math.pi / 4) ** 4)  # 100 pixels off at f = 100
    assert gain[80, 60].item() == pytest.approx(math.cos(math.atan(0.5)) ** 4)  # a 3-4-5 triangle
    assert torch.equal(gain, gain.flip(0)) and torch.equal(gain, gain.flip(1))


def test_the_barrel_takes_its_share_from_the_corner():
    gain = vignetting_gain(400, 300, strength=0.3)
    assert gain[0, 0].item() == pytest.approx(0.7, abs=2e-3)  # the corner pixel's centre is half a pixel within
    assert gain[199, 149].item() == pytest.approx(1, abs=1e-5)
    assert gain.max() <= 1


def test_one_half_gains_what_the_other_loses():
    left, right = imbalance_gain(200, 0.2)
    assert torch.allclose(left + right, torch.full_like(left, 2), rtol=0, atol=1e-15)
    assert left[-1].item() == pytest.approx(1.2, abs=2e-3) and left[0].item() == pytest.approx(0.8, abs=2e-3)
    assert torch.allclose(right, left.flip(0), rtol=0, atol=1e-15)


def test_mirroring_the_scene_and_swapping_the_views_mirrors_the_exposure(views):
    sensor = Sensor(focal_length_px=20, vignetting=0.2, imbalance=0.3)
    left, right, combined = sensor.expose(*views)
    mirrored = sensor.expose(views[1].flip(-1), views[0].flip(-1))
    for one, two in zip(mirrored, (right, left, combined), strict=True):
        assert (one.flip(-1) - two).abs().max() < 1e-14


def test_a_crop_is_exposed_as_its_place_in_the_frame_is(views):
    sensor = Sensor(focal_length_px=20, vignetting=0.2, imbalance=0.3)
    crops = (view[..., 2:7, 3:9] for view in views)
    for whole, crop in zip(sensor.expose(*views), sensor.expose(*crops, frame=(-2, -3, 8, 11)), strict=True):
        assert torch.equal(whole[..., 2:7, 3:9], crop)


def test_noise_follows_the_light_that_is_left():
    white = torch.ones(1, 1, 200, 400, dtype=torch.float64)
    left = Sensor(shot_noise=0.01, imbalance=0.8).expose(white, white, seeded())[0]
    noise = left - imbalance_gain(400, 0.8)[0]
    dark, bright = noise[..., :20].var().item(), noise[..., -20:].var().item()
    assert dark == pytest.approx(0.01 * 0.24, rel=0.1) and bright == pytest.approx(0.01 * 1.76, rel=0.1)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"shot_noise": -1e-3}, "shot_noise is -0.001"),
        ({"read_noise": math.nan}, "read_noise is nan"),
        ({"read_noise": math.inf}, "read_noise is inf"),
        ({"focal_length_px": 0}, "focal_length_px is 0"),
        ({"vignetting": 1.1}, r"vignetting is 1.1, but must be in \[0, 1\]"),
        ({"imbalance": -2}, r"imbalance is -2, but must be in \[-1, 1\]"),
    ],
)
def test_values_out_of_range_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        Sensor(**settings)


def test_views_that_do_not_fit_are_refused(views):
    for left, right in ((views[0], views[1][..., :-1]), (views[0][0], views[1][0]), (views[0].int(), views[1].int())):
        with pytest.raises(ValueError, match="of one shape"):
            Sensor().expose(left, right)
