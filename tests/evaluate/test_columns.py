import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from dualpixel import DualPixelError
from dualpixel.evaluate.columns import check_monitor, column_names, score_images, score_maps, scored_maps

METRICS = ("psnr", "ssim", "mae", "lpips")
VIEWS = ("left", "right")


@pytest.fixture
def images():
    """Targets, outputs that are off by different amounts, and an input."""
    random = torch.Generator().manual_seed(0)
    targets = {name: torch.rand(2, 3, 24, 20, generator=random) for name in ("sharp", *VIEWS)}
    amounts = {"sharp": 0.3, "left": 0.1, "right": 0.02}
    outputs = {
        name: (image + amounts[name] * torch.randn(image.shape, generator=random)).clamp(0, 1)
        for name, image in targets.items()
    }
    return outputs, targets, (targets["left"] + targets["right"]) / 2


def array(image):
    return image.permute(1, 2, 0).double().numpy()


def test_columns_of_a_sharp_image_keep_their_names_and_their_order():
    plain = ["psnr", "ssim", "mae", "lpips"]
    assert column_names(("sharp",), METRICS, True) == [*plain, *(f"input_{name}" for name in plain)]
    assert column_names(("sharp",), METRICS, False) == plain


def test_columns_of_views_follow_without_lpips():
    views = [f"{prefix}_{name}" for prefix in ("left", "right", "views") for name in ("psnr", "ssim", "mae")]
    inputs = ["input_views_psnr", "input_views_ssim", "input_views_mae"]
    assert column_names(VIEWS, METRICS, True) == [*views, *inputs]
    both = column_names(("sharp", *VIEWS), METRICS, True)
    assert both[:8] == column_names(("sharp",), METRICS, True) and both[8:] == [*views, *inputs]
    assert column_names(VIEWS, ("psnr",), False) == ["left_psnr", "right_psnr", "views_psnr"]
    assert column_names((), METRICS, True) == []


def test_the_best_checkpoint_is_chosen_by_what_is_scored():
    for monitor, outputs in (
        ("val/psnr", ("sharp",)),
        ("val/views_psnr", VIEWS),
        ("val/indoor/psnr", ("sharp", *VIEWS)),
        ("val/loss", VIEWS),
        ("train/psnr", VIEWS),
    ):
        check_monitor(monitor, outputs, METRICS[:3])
    for monitor, outputs, said in (
        ("val/psnr", VIEWS, "--best.monitor val/views_psnr$"),
        ("val/indoor/ssim", VIEWS, "--best.monitor val/views_psnr$"),
        ("val/left_mae", ("sharp",), "--best.monitor val/psnr$"),
        ("val/psnr", (), "--best.monitor val/loss$"),
    ):
        with pytest.raises(DualPixelError, match=f"{monitor} cannot decide.*{said}"):
            check_monitor(monitor, outputs, METRICS[:3])


def test_each_output_is_scored_against_its_own_target(images):
    outputs, targets, blurry = images
    scores = score_images(outputs, targets, blurry, METRICS, perceptual=lambda image, target: image.mean((1, 2, 3)))
    assert list(scores) == column_names(("sharp", *VIEWS), METRICS, True)
    for row in range(2):
        for name, prefix in (("sharp", ""), ("left", "left_"), ("right", "right_")):
            made, wanted = array(outputs[name][row]), array(targets[name][row])
            psnr = peak_signal_noise_ratio(wanted, made, data_range=1)
            assert float(scores[prefix + "psnr"][row]) == pytest.approx(psnr, abs=1e-6)
            ssim = structural_similarity(wanted, made, channel_axis=-1, data_range=1)
            assert float(scores[prefix + "ssim"][row]) == pytest.approx(ssim, abs=1e-6)
            assert float(scores[prefix + "mae"][row]) == pytest.approx(np.abs(made - wanted).mean(), abs=1e-7)
        of_input = [
            peak_signal_noise_ratio(array(targets[name][row]), array(blurry[row]), data_range=1) for name in VIEWS
        ]
        assert float(scores["input_views_psnr"][row]) == pytest.approx(sum(of_input) / 2, abs=1e-6)
    assert torch.equal(scores["lpips"], outputs["sharp"].mean((1, 2, 3)))
    assert torch.equal(scores["input_lpips"], blurry.mean((1, 2, 3)))


def test_the_score_of_both_views_is_the_mean_of_decibels_not_of_errors(images):
    outputs, targets, blurry = images
    scores = score_images(outputs, targets, blurry, METRICS)
    for name in ("psnr", "ssim", "mae"):
        assert torch.equal(scores[f"views_{name}"], (scores[f"left_{name}"] + scores[f"right_{name}"]) / 2)
    assert float((scores["left_psnr"] - scores["right_psnr"]).abs().min()) > 5  # so the two means differ
    assert "lpips" not in scores


def test_without_an_input_only_outputs_are_scored(images):
    outputs, targets, _ = images
    views = {name: outputs[name] for name in VIEWS}
    assert list(score_images(views, targets, None, METRICS)) == column_names(VIEWS, METRICS, False)


USUAL = ["abs_rel", "sq_rel", "rmse", "rmse_log", "delta1", "delta2", "delta3"]


def test_maps_follow_the_images_in_columns_of_their_own():
    assert scored_maps("blur", {"sharp", "blur", "coarse"}) == ("blur", "coarse")
    assert scored_maps("blur", {"sharp", "blur"}) == scored_maps("disparity", {"blur", "coarse"}) == ("blur",)
    assert scored_maps(None, {"blur"}) == scored_maps("blur", {"sharp"}) == ()
    both = column_names(("sharp",), ("psnr", "rmse_relative"), False, ("blur", "coarse"), "blur")
    assert both == ["psnr", "rmse_relative", *USUAL, *(f"coarse_{name}" for name in USUAL)]
    affine = ["ai1", "ai2", "one_minus_abs_rho", "one_minus_abs_rho_average_ranks", "geometric_mean"]
    assert column_names((), (), True, ("blur",), "disparity") == affine


def test_each_map_has_its_own_scores():
    truth = torch.tensor([2.0, 4.0]).view(2, 1, 1, 1).expand(2, 1, 5, 6)
    scores = score_maps({"blur": truth + 1, "coarse": truth * 2}, "blur", truth, ["a", "b"])
    assert list(scores) == column_names((), (), False, ("blur", "coarse"), "blur")
    assert scores["abs_rel"].tolist() == [0.5, 0.25] and scores["coarse_abs_rel"].tolist() == [1, 1]
    assert scores["rmse"].tolist() == [1, 1] and scores["coarse_rmse"].tolist() == [2, 4]
    with pytest.raises(DualPixelError, match="a, b: relative errors .* goes down to -0.5 pixels"):
        score_maps({"blur": truth}, "blur", truth - 2.5, ["a", "b"])


def test_relative_rmse_is_a_column_of_images_and_views(images):
    outputs, targets, blurry = images
    scores = score_images(outputs, targets, blurry, ("psnr", "rmse_relative"))
    assert list(scores) == column_names(("sharp", *VIEWS), ("psnr", "rmse_relative"), True)
    expected = 100 * 10 ** (-scores["psnr"] / 20)
    assert torch.allclose(scores["rmse_relative"], expected, rtol=1e-12)
