import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from dualpixel.metrics import functional
from dualpixel.metrics.functional import mae, psnr, rmse_relative, ssim, ssim_gaussian

ALL = [psnr, ssim, mae, rmse_relative]


def as_batch(*images):
    return torch.stack([torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1) for image in images])


def sharp_and_blurry(height, width, seed=0):
    generator = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, width)[None, :, None] * np.ones((height, 1, 3))
    sharp = np.clip(ramp + 0.1 * generator.standard_normal((height, width, 3)), 0, 1)
    blurry = (sharp + np.roll(sharp, 1, 0) + np.roll(sharp, 1, 1) + np.roll(sharp, (1, 1), (0, 1))) / 4
    return blurry, sharp


def reference_ssim(prediction, target):
    return structural_similarity(
        prediction.astype(np.float64), target.astype(np.float64), channel_axis=2, data_range=1.0
    )


@pytest.fixture(scope="module")
def authors(reference):
    with np.load(reference / "dpdnet_data.npz") as arrays:
        return {name: arrays[name] for name in arrays.files if name.startswith("metric") or arrays[name].ndim == 0}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_scores_of_the_authors(authors, dtype, tolerance):
    prediction, target = (as_batch(authors[name]).to(dtype) for name in ("metric_pred", "metric_gt"))
    assert psnr(prediction, target).item() == pytest.approx(float(authors["psnr"]), rel=tolerance)
    assert ssim(prediction, target).item() == pytest.approx(float(authors["ssim"]), rel=tolerance)
    assert mae(prediction, target).item() == pytest.approx(float(authors["mae"]), rel=tolerance)
    expected = 100 * np.sqrt(float(authors["mse"]))
    assert rmse_relative(prediction, target).item() == pytest.approx(expected, rel=tolerance)


def flat(height, width):
    return np.full((height, width, 3), 0.9), np.full((height, width, 3), 0.5)


def bright_with_little_noise(height, width):
    generator = np.random.default_rng(1)
    return tuple(0.9 + 0.001 * generator.standard_normal((height, width, 3)) for _ in range(2))


def opposite_ramps(height, width):
    ramp = np.linspace(0, 1, width)[None, :, None] * np.ones((height, 1, 3))
    return ramp, 1 - ramp


def opposite_halves(height, width):
    step = (np.arange(height) > height // 2)[:, None, None] * np.ones((1, width, 3))
    return step, 1 - step


@pytest.mark.parametrize("size", [(7, 7), (7, 40), (91, 64), (300, 401)])
@pytest.mark.parametrize("scene", [sharp_and_blurry, flat, bright_with_little_noise, opposite_ramps, opposite_halves])
def test_ssim_equals_scikit_image(scene, size):
    prediction, target = (image.astype(np.float32) for image in scene(*size))
    expected = reference_ssim(prediction, target)
    assert ssim(as_batch(prediction), as_batch(target)).item() == pytest.approx(expected, abs=1e-6)
    exact = ssim(as_batch(prediction).double(), as_batch(target).double()).item()
    assert exact == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("strip", [1, 64 * 17, 64 * 85, 1 << 20])
def test_ssim_does_not_depend_on_the_strips(monkeypatch, strip):
    prediction, target = sharp_and_blurry(91, 64)
    monkeypatch.setattr(functional, "_CPU_STRIP", strip)
    expected = reference_ssim(prediction, target)
    assert ssim(as_batch(prediction), as_batch(target)).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_ssim_takes_any_number_of_channels(channels):
    prediction, target = torch.rand(2, 2, channels, 20, 30, dtype=torch.float64, generator=torch.manual_seed(0))
    for row, score in enumerate(ssim(prediction, target).tolist()):
        images = (image[row].permute(1, 2, 0).numpy() for image in (prediction, target))
        assert score == pytest.approx(reference_ssim(*images), abs=1e-12)


@pytest.mark.parametrize("score", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_batch_is_scored_image_by_image(score, dtype):
    pairs = [sharp_and_blurry(24, 30, seed) for seed in range(3)]
    prediction, target = (as_batch(*images).to(dtype) for images in zip(*pairs, strict=True))
    together = score(prediction, target)
    assert together.shape == (3,)
    assert together.dtype == torch.float64
    alone = torch.cat([score(prediction[row : row + 1], target[row : row + 1]) for row in range(3)])
    assert torch.equal(together, alone)
    assert len(set(together.tolist())) == 3


@pytest.mark.parametrize("score", ALL)
def test_memory_layout_does_not_matter(score):
    prediction, target = (as_batch(image) for image in sharp_and_blurry(24, 30))
    other = score(prediction.contiguous(memory_format=torch.channels_last), target.contiguous())
    assert torch.allclose(other, score(prediction.contiguous(), target.contiguous()), rtol=1e-12, atol=0)


def test_identical_images():
    image = as_batch(sharp_and_blurry(24, 30)[0]).float()
    assert psnr(image, image).item() == float("inf")
    assert ssim(image, image).item() == 1.0
    assert mae(image, image).item() == 0.0
    assert rmse_relative(image, image).item() == 0.0


def test_closed_form():
    black = torch.zeros(1, 3, 8, 8)
    assert psnr(black + 0.1, black).item() == pytest.approx(20.0, abs=1e-6)
    assert mae(black + 0.1, black).item() == pytest.approx(0.1, abs=1e-8)
    assert rmse_relative(black + 0.1, black).item() == pytest.approx(10.0, abs=1e-6)
    constant = 0.01**2
    assert ssim(black + 0.1, black).item() == pytest.approx(constant / (0.1**2 + constant), abs=1e-8)


def test_relative_rmse_is_another_form_of_psnr():
    prediction, target = (as_batch(image) for image in sharp_and_blurry(24, 30))
    expected = 100 * 10 ** (-psnr(prediction, target) / 20)
    assert torch.allclose(rmse_relative(prediction, target), expected, rtol=1e-12)


@pytest.mark.parametrize("score", ALL)
def test_gradients(score, monkeypatch):
    monkeypatch.setattr(functional, "_CPU_STRIP", 1)
    generator = torch.Generator().manual_seed(1)
    prediction, target = (
        torch.rand(2, 1, 25, 8, dtype=torch.float64, generator=generator, requires_grad=True) for _ in range(2)
    )
    assert torch.autograd.gradcheck(score, (prediction, target), fast_mode=True)


@pytest.mark.parametrize("score", ALL)
def test_float32_gradients_reach_every_pixel(score):
    prediction, target = (as_batch(image).float() for image in sharp_and_blurry(24, 30))
    prediction.requires_grad_()
    score(prediction, target).sum().backward()
    assert prediction.grad.dtype == torch.float32
    assert prediction.grad.isfinite().all()
    assert (prediction.grad != 0).float().mean() > 0.9


@pytest.mark.parametrize("score", ALL)
def test_inputs_stay_as_they_are(score):
    prediction, target = (as_batch(image).float() for image in sharp_and_blurry(24, 30))
    copies = prediction.clone(), target.clone()
    with torch.inference_mode():
        score(prediction, target)
    assert torch.equal(prediction, copies[0])
    assert torch.equal(target, copies[1])


@pytest.mark.parametrize("score", ALL)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_scored_as_float32(score, dtype):
    prediction, target = (as_batch(image) for image in sharp_and_blurry(24, 30))
    prediction, target = prediction.to(dtype), target.float()
    assert torch.equal(score(prediction, target), score(prediction.float(), target))


@pytest.mark.parametrize("score", ALL)
def test_refused_images(score):
    image = torch.rand(1, 3, 8, 9)
    with pytest.raises(ValueError, match=r"\(1, 3, 8, 9\) and \(1, 3, 9, 8\)"):
        score(image, image.mT)
    with pytest.raises(ValueError, match=r"not \(3, 8, 9\)"):
        score(image[0], image[0])
    with pytest.raises(ValueError, match="at least one pixel"):
        score(image[:, :, :0], image[:, :, :0])
    with pytest.raises(ValueError, match="target is torch.uint8"):
        score(image, (image * 255).to(torch.uint8))


@pytest.mark.parametrize("size", [(11, 11), (24, 57)])
def test_ssim_with_a_gaussian_window_equals_scikit_image(size):
    pairs = [sharp_and_blurry(*size, seed) for seed in (0, 1)]
    found = ssim_gaussian(*(as_batch(*images) for images in zip(*pairs, strict=True)))
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    for score, (blurry, sharp) in zip(found, pairs, strict=True):
        expected = structural_similarity(blurry, sharp, channel_axis=2, data_range=1.0, **gaussian)
        assert score.item() == pytest.approx(expected, abs=1e-12)
        assert abs(expected - reference_ssim(blurry, sharp)) > 1e-4
    with pytest.raises(ValueError, match="10 x 40 pixels are smaller than the 11 x 11 window"):
        ssim_gaussian(torch.zeros(1, 3, 10, 40), torch.zeros(1, 3, 10, 40))


def test_ssim_refuses_images_smaller_than_its_window():
    image = torch.rand(1, 3, 6, 9)
    with pytest.raises(ValueError, match=r"6 x 9 .* 7 x 7"):
        ssim(image, image)


@pytest.mark.gpu
@pytest.mark.parametrize("score", ALL)
@pytest.mark.parametrize("scene", [sharp_and_blurry, opposite_halves])
def test_gpu_equals_cpu(score, scene):
    prediction, target = (as_batch(image).float() for image in scene(300, 401))
    on_gpu = score(prediction.cuda(), target.cuda())
    assert on_gpu.device.type == "cuda"
    assert torch.allclose(on_gpu.cpu(), score(prediction.double(), target.double()), rtol=1e-12, atol=0)
