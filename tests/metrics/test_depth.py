import math

import numpy as np
import pytest
import torch

from dualpixel.errors import DualPixelError
from dualpixel.metrics import depth
from dualpixel.metrics.depth import DepthScores, delta, depth_scores

NAMES = ["abs_rel", "sq_rel", "rmse", "rmse_log", "delta1", "delta2", "delta3"]


def plain_scores(p, g):
    ratio = np.maximum(g / p, p / g)
    return [
        np.mean(np.abs(g - p) / g),
        np.mean((g - p) ** 2 / g),
        np.sqrt(np.mean((g - p) ** 2)),
        np.sqrt(np.mean((np.log(g) - np.log(p)) ** 2)),
        *[np.mean(ratio < 1.25**power) for power in (1, 2, 3)],
    ]


def made_up_maps(count):
    generator = torch.Generator().manual_seed(5)
    truth = 0.5 + 9 * torch.rand(count, 1, 13, 17, generator=generator)
    return truth * (0.6 + torch.rand(truth.shape, generator=generator)), truth


def test_the_stored_scores(reference):
    with np.load(reference / "depth_metrics.npz") as arrays:
        estimate, truth = (torch.from_numpy(arrays[name])[None, None] for name in ("std_pred", "std_gt"))
        expected = arrays["std_metrics"]
    scores = depth_scores(estimate, truth)
    assert list(scores) == NAMES
    assert [score.item() for score in scores.values()] == pytest.approx(expected, rel=1e-6)


def test_each_image_of_a_batch_has_the_plain_scores():
    estimate, truth = made_up_maps(3)
    scores = depth_scores(estimate, truth)
    for name, column in scores.items():
        assert column.shape == (3,) and column.dtype == torch.float64
        power = [int(name[-1])] if name.startswith("delta") else []
        assert torch.equal(getattr(depth, name.rstrip("123"))(estimate, truth, *power), column)
    for image in range(3):
        expected = plain_scores(*(maps[image].double().numpy() for maps in (estimate, truth)))
        assert [column[image].item() for column in scores.values()] == pytest.approx(expected, rel=1e-12)
    assert 0 < scores["delta1"].max() < scores["delta2"].min() < 1


def test_a_perfect_map():
    truth = made_up_maps(1)[1]
    assert [score.item() for score in depth_scores(truth, truth).values()] == [0, 0, 0, 0, 1, 1, 1]


def test_a_ratio_at_the_bound_does_not_count():
    truth = torch.full((1, 1, 1, 4), 4.0)
    estimate = torch.tensor([5.0, 3.2, 4.99, 3.21], dtype=torch.float64).reshape(1, 1, 1, 4)
    assert delta(estimate, truth).item() == 0.5
    assert delta(estimate, truth, 2).item() == 1


def test_predictions_are_at_least_a_thousandth():
    estimate, truth = torch.tensor([[[[-3.0, 0.0, 1e-4, 2.0]]]]), torch.full((1, 1, 1, 4), 2.0)
    least = torch.tensor([[[[1e-3, 1e-3, 1e-3, 2.0]]]], dtype=torch.float64)
    found, expected = depth_scores(estimate, truth), depth_scores(least, truth)
    for name in NAMES:
        assert torch.equal(found[name], expected[name])
    assert found["rmse_log"].item() == pytest.approx(math.sqrt(3 / 4) * math.log(2000), rel=1e-12)
    assert found["delta3"].item() == 0.25


def test_unknown_truth_is_left_out():
    estimate, truth = made_up_maps(3)
    estimate[0, :, :5], truth[0, :, :5] = math.nan, math.nan  # nobody looks at an estimate there
    truth[1] = math.nan
    scores = depth_scores(estimate, truth)
    cut = depth_scores(estimate[:1, :, 5:], truth[:1, :, 5:])
    whole = depth_scores(estimate[2:], truth[2:])
    for name in NAMES:
        assert scores[name][0].item() == pytest.approx(cut[name].item(), rel=1e-14)
        assert scores[name][1].isnan()
        assert scores[name][2] == whole[name][0]


def test_a_prediction_of_nan_scores_nan():
    estimate, truth = made_up_maps(2)
    estimate[1, 0, 3, 3] = math.nan
    for score in depth_scores(estimate, truth).values():
        assert score.isnan().tolist() == [False, True]


@pytest.mark.parametrize(
    ("estimate", "truth", "message"),
    [
        (torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 3), "differ in shape"),
        (torch.ones(1, 3, 2, 2), torch.ones(1, 3, 2, 2), r"\(B, 1, H, W\), not \(1, 3, 2, 2\)"),
        (torch.ones(2, 2), torch.ones(2, 2), "shape"),
        (torch.ones(1, 1, 2, 2, dtype=torch.uint8), torch.ones(1, 1, 2, 2), "torch.uint8"),
        (torch.ones(1, 1, 1, 2), torch.tensor([[[[math.nan, -2.0]]]]), "smallest truth is -2"),
        (torch.ones(1, 1, 1, 2), torch.tensor([[[[1.0, 0.0]]]]), "smallest truth is 0"),
    ],
)
def test_refused_maps(estimate, truth, message):
    with pytest.raises(ValueError, match=message):
        depth_scores(estimate, truth)


def test_the_table():
    estimate, truth = made_up_maps(3)
    table = DepthScores(3)
    table.update(torch.tensor([2, 0]), estimate[[2, 0]], truth[[2, 0]])
    with pytest.raises(DualPixelError, match="never scored: images 1 of 3"):
        table.compute()
    table.update(torch.tensor([1]), estimate[1:2], truth[1:2])
    columns, expected = table.compute(), depth_scores(estimate, truth)
    assert list(columns) == [*NAMES, "seen"]
    assert all(torch.equal(columns[name], expected[name]) for name in NAMES)
