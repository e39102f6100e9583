import math

import numpy as np
import pytest
import torch
from scipy.stats import rankdata, spearmanr

from dualpixel.data.images import read_image
from dualpixel.evaluate.dpd_disp import cut_border, prepare_dpd_disp_truth
from dualpixel.metrics.affine_invariant import (
    NAMES,
    affine_invariant_scores,
    ai1,
    ai2,
    fit_l1,
    fit_l2,
    one_minus_abs_rho,
)


def as_maps(*images):
    """8-bit maps (H, W) as (1, 1, H, W) in [0, 1]."""
    return [torch.from_numpy(np.ascontiguousarray(image))[None, None].double() / 255 for image in images]


def made_up_maps(count, levels=30):
    generator = torch.Generator().manual_seed(7)
    truth = torch.rand(count, 1, 13, 17, generator=generator)
    estimate = (1 - truth) * 0.7 + 0.2 * torch.rand(truth.shape, generator=generator)
    return (estimate * levels).round() / levels, (truth * levels).round() / levels


@pytest.fixture(scope="module")
def stored(reference):
    with np.load(reference / "depth_metrics.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.fixture(scope="module")
def example(shared):
    """The pair of maps that the published evaluation comes with, prepared."""
    folder = shared / "data" / "dpdisp_eval"
    estimate, truth = (read_image(folder / name, 8)[:, :, 0] for name in ("est.TIF", "gt.TIF"))
    return as_maps(cut_border(estimate), prepare_dpd_disp_truth(truth))


def test_the_stored_scores_of_a_crop(stored):
    estimate, truth = as_maps(stored["est_crop"], stored["gt_crop"])
    scores = affine_invariant_scores(estimate, truth)
    for name in ("ai1", "ai2", "one_minus_abs_rho"):
        assert scores[name].item() == pytest.approx(float(stored[name]), abs=1e-9)
    assert fit_l1(estimate, truth)[0].tolist() == pytest.approx(stored["ai1_affine"], abs=1e-7)
    assert fit_l2(estimate, truth)[0].tolist() == pytest.approx(stored["ai2_affine"], abs=1e-7)


def test_the_published_example(example, stored):
    assert example[0].shape == (1, 1, 1186, 2308)
    scores = {name: score.item() for name, score in affine_invariant_scores(*example).items()}
    for name in ("ai1", "ai2", "one_minus_abs_rho"):
        assert scores[name] == pytest.approx(float(stored[f"full_{name}"]), abs=1e-9)
    assert [round(scores[name], 5) for name in NAMES[:3]] == [0.02758, 0.04786, 0.05995]  # printed: 0.028, 0.048, 0.060
    assert scores["geometric_mean"] == pytest.approx(0.04293, abs=5e-6)
    assert scores["one_minus_abs_rho_average_ranks"] == pytest.approx(0.292, abs=5e-4)
    assert fit_l1(*example)[0].tolist() == pytest.approx([0.92172, 0.01160], abs=5e-6)
    assert fit_l2(*example)[0].tolist() == pytest.approx([0.94743, 0.00343], abs=5e-6)


def test_average_ranks_of_the_published_example_are_spearmans(example):
    estimate, truth = (maps[..., ::4, ::4] for maps in example)
    expected = 1 - abs(spearmanr(estimate.flatten(), truth.flatten()).statistic)
    assert one_minus_abs_rho(estimate, truth, average_ranks=True).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("levels", [4, 30, 10**7])
def test_both_ranks_against_scipy(levels):
    estimate, truth = made_up_maps(3, levels)
    dense = one_minus_abs_rho(estimate, truth)
    average = one_minus_abs_rho(estimate, truth, average_ranks=True)
    for image in range(3):
        e, g = estimate[image].flatten().numpy(), truth[image].flatten().numpy()
        ranks = [rankdata(values, method="dense") for values in (e, g)]
        assert dense[image].item() == pytest.approx(1 - abs(np.corrcoef(*ranks)[0, 1]), abs=1e-13)
        assert average[image].item() == pytest.approx(1 - abs(spearmanr(e, g).statistic), abs=1e-13)
    assert (dense == average).all() == (levels == 10**7)


def test_least_squares_against_numpy():
    estimate, truth = made_up_maps(3)
    for image in range(3):
        e, g = estimate[image].double().flatten().numpy(), truth[image].double().flatten().numpy()
        a, b = np.polyfit(e, g, 1)
        assert fit_l2(estimate, truth)[image].tolist() == pytest.approx([a, b], abs=1e-12)
        assert ai2(estimate, truth)[image].item() == pytest.approx(np.sqrt(np.mean((a * e + b - g) ** 2)), abs=1e-13)


def test_reweighting_five_times_against_numpy():
    estimate, truth = made_up_maps(1)
    e, g = (maps.double().flatten().numpy() for maps in (estimate, truth))
    weights = np.ones_like(e)
    for _ in range(1 + 5):
        a, b = np.polyfit(e, g, 1, w=np.sqrt(weights))
        weights = 1 / np.maximum(np.abs(a * e + b - g), 0.001)
    assert fit_l1(estimate, truth)[0].tolist() == pytest.approx([a, b], abs=1e-10)
    assert ai1(estimate, truth).item() == pytest.approx(np.abs(a * e + b - g).mean(), abs=1e-12)


def test_few_wrong_pixels_hardly_move_the_absolute_fit():
    estimate = torch.linspace(0, 1, 400, dtype=torch.float64).reshape(1, 1, 20, 20)
    truth = 0.5 * estimate + 0.2
    truth[0, 0, 0] = 1
    assert fit_l1(estimate, truth)[0].tolist() == pytest.approx([0.5, 0.2], abs=0.005)
    assert fit_l2(estimate, truth)[0, 0] < 0.42


def test_scale_offset_and_sign_of_the_estimate_change_nothing():
    estimate, truth = made_up_maps(2)
    scores, moved = (affine_invariant_scores(maps, truth) for maps in (estimate, 3 - 2 * estimate.double()))
    for name in NAMES:
        assert moved[name].tolist() == pytest.approx(scores[name].tolist(), abs=1e-10)
    exact = affine_invariant_scores(3 - 2 * truth.double(), truth)
    assert all(exact[name].max() < 1e-7 for name in NAMES)


def test_a_constant_estimate_is_the_mean_and_has_no_ranks():
    truth = made_up_maps(1)[1].double()
    estimate = torch.full_like(truth, 0.1)
    assert fit_l2(estimate, truth)[0].tolist() == pytest.approx([0, truth.mean().item()], abs=1e-14)
    assert ai2(estimate, truth).item() == pytest.approx(truth.std(correction=0).item(), rel=1e-12)
    assert fit_l1(estimate, truth)[0, 0] == 0
    assert ai1(estimate, truth) < (truth - truth.mean()).abs().mean() + 1e-12
    assert one_minus_abs_rho(estimate, truth).isnan()
    assert one_minus_abs_rho(truth, estimate, average_ranks=True).isnan()


def test_unknown_truth_is_left_out():
    estimate, truth = made_up_maps(3)
    estimate[0, :, :5], truth[0, :, :5] = math.nan, math.nan  # nobody looks at an estimate there
    truth[1] = math.nan
    scores = affine_invariant_scores(estimate, truth)
    cut = affine_invariant_scores(estimate[:1, :, 5:], truth[:1, :, 5:])
    whole = affine_invariant_scores(estimate[2:], truth[2:])
    for name in NAMES:
        assert scores[name][0].item() == pytest.approx(cut[name].item(), abs=1e-12)
        assert scores[name][1].isnan()
        assert scores[name][2] == whole[name][0]
    assert fit_l1(estimate, truth).isnan().tolist() == [[False] * 2, [True] * 2, [False] * 2]


def test_an_estimate_of_nan_scores_nan():
    estimate, truth = made_up_maps(2)
    estimate[1, 0, 3, 3] = math.nan
    for score in affine_invariant_scores(estimate, truth).values():
        assert score.isnan().tolist() == [False, True]


def test_the_geometric_mean():
    scores = affine_invariant_scores(*made_up_maps(2))
    for image in range(2):
        product = math.prod(scores[name][image].item() for name in ("ai1", "ai2", "one_minus_abs_rho"))
        assert scores["geometric_mean"][image].item() == pytest.approx(math.exp(math.log(product) / 3), rel=1e-12)


@pytest.mark.parametrize("score", [ai1, ai2, fit_l1, fit_l2, one_minus_abs_rho, affine_invariant_scores])
def test_refused_maps(score):
    with pytest.raises(ValueError, match="differ in shape"):
        score(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 3))
    with pytest.raises(ValueError, match=r"\(B, 1, H, W\), not \(1, 3, 2, 2\)"):
        score(torch.ones(1, 3, 2, 2), torch.ones(1, 3, 2, 2))
    with pytest.raises(ValueError, match="divide by full scale"):
        score(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2, dtype=torch.uint8))
