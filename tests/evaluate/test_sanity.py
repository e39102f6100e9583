import math

import pytest
import torch

from dualpixel import DualPixelError
from dualpixel.evaluate.result import Result
from dualpixel.evaluate.sanity import (
    METRICS,
    Printed,
    check_result,
    deltas_out_of_order,
    faults,
    geometric_mean_too_large,
    identical_groups,
    mae_above_rmse,
    out_of_range,
    overall_apart_from_groups,
    rmse_below_psnr,
    ssim_equals_lpips,
)
from dualpixel.metrics import functional
from dualpixel.metrics.per_image import summarise

COUNTS = {"indoor": 37, "outdoor": 39}


def printed(**scores):
    return {name: Printed(text) for name, text in scores.items()}


def result(columns, groups):
    rows = [
        {"key": str(number), "group": group, **{name: float(column[number]) for name, column in columns.items()}}
        for number, group in enumerate(groups)
    ]
    return Result(
        schema=1, recipe="dpdnet", options={}, weights_sha256="0" * 64, weights_source="x.ckpt", dataset="dpdd",
        dataset_version="1", split="test", fingerprint="f" * 16, complete=True, protocol="dpdnet-16bit",
        protocol_description="", rows=rows, means=summarise(columns, groups), parameters=5, macs=None, macs_size=None,
        code="0", made="2026-01-01T00:00:00+00:00", environment={},
    )  # fmt: skip


@pytest.fixture
def measured():
    """Scores of 13 pairs of very different quality, in two groups and none."""
    random = torch.Generator().manual_seed(0)
    target = torch.rand(13, 3, 16, 16, generator=random)
    noise = torch.rand(13, 3, 16, 16, generator=random) * torch.logspace(-4, 0, 13)[:, None, None, None]
    image = (target + noise).clamp(0, 1)
    metrics = ("psnr", "ssim", "rmse_relative", "mae")
    columns = {name: getattr(functional, name)(image, target) for name in metrics}
    return columns, ["indoor"] * 5 + ["outdoor"] * 8


def test_a_printed_number_keeps_its_digits_its_unit_and_its_rounding():
    score = Printed("0.090")
    assert score.text == "0.090" and score.value == 0.09 and score.rounding == 0.0005
    assert Printed("0.351", "0.1").value == 0.0351 and Printed("0.351", "0.1").rounding == 0.00005
    assert Printed("27").rounding == 0.5 and Printed("25.13").rounding == 0.005
    assert Printed("0.09") != score


def test_measured_scores_have_no_faults(measured):
    columns, groups = measured
    check_result(result(columns, groups))
    assert faults(summarise(columns, groups), {"indoor": 5, "outdoor": 8}) == []
    # the inequality of PSNR and RMSE is far from an equality here: the check must not ask for one
    means = summarise(columns, groups)["overall"]
    assert means["rmse_relative"] > 2 * 100 * 10 ** (-means["psnr"] / 20)


def test_one_image_is_on_the_bound_of_psnr_and_rmse_and_has_no_fault(measured):
    columns = {name: column[3:4] for name, column in measured[0].items()}
    check_result(result(columns, [""]))


@pytest.mark.parametrize("group", ["overall", "indoor"])
@pytest.mark.parametrize(
    ("column", "change", "said"),
    [
        ("rmse_relative", 0.05, "RMSE_rel is"),
        ("mae", 10, "MAE is"),
        ("psnr", 0.01, "and not the mean of the groups'"),
        ("ssim", math.nan, "ssim is nan"),
        ("psnr", math.inf, "psnr is inf, outside of 0 to 120"),
    ],
)
def test_results_that_cannot_be_are_refused(measured, group, column, change, said):
    one = result(*measured)
    one.means[group][column] *= change
    with pytest.raises(DualPixelError, match="dpdnet on dpdd test, protocol dpdnet-16bit: no test can") as refused:
        check_result(one)
    assert said in str(refused.value) and str(refused.value).endswith("run `test` again")


def test_images_without_a_group_take_the_overall_score_out_of_the_groups(measured):
    columns, groups = measured
    groups[-1] = ""
    check_result(result(columns, groups))
    means = summarise(columns, groups)
    assert len(list(overall_apart_from_groups(means, {"indoor": 5, "outdoor": 7}))) == 4


def test_scores_that_were_not_measured_are_no_fault():
    means = {"overall": {"psnr": 25.0, "lpips": None, "rmse_relative": None}, "indoor": {"psnr": None, "lpips": None}}
    assert faults(means, {"indoor": 5, "overall": 9}) == []


def test_identical_groups_are_found_and_one_other_digit_is_enough():
    same = {"indoor": printed(psnr="25.50", ssim="0.788"), "outdoor": printed(psnr="25.50", ssim="0.788")}
    assert list(identical_groups(same)) == ["indoor and outdoor have identical scores"]
    assert not list(identical_groups({**same, "outdoor": printed(psnr="25.50", ssim="0.789")}))
    # a set with a single group repeats it in its overall score
    assert not list(identical_groups({"overall": same["indoor"], "indoor": same["indoor"]}))


def test_an_overall_score_is_the_mean_weighted_by_the_numbers_of_images_within_rounding():
    scores = {"indoor": printed(psnr="27.48"), "outdoor": printed(psnr="22.90"), "overall": printed(psnr="25.13")}
    assert not list(overall_apart_from_groups(scores, COUNTS))
    unweighted = {**scores, "overall": printed(psnr="25.19")}
    assert list(overall_apart_from_groups(unweighted, COUNTS)) == [
        "overall psnr is 25.19 and not the mean of the groups', 25.1247 to 25.1347"
    ]
    assert not list(overall_apart_from_groups(unweighted))  # the numbers of images are not known
    outside = {**scores, "overall": printed(psnr="22.13")}
    assert list(overall_apart_from_groups(outside)) == ["overall psnr is 22.13 and not between the groups' 22.8950 to 27.4850"]  # fmt: skip


def test_an_ssim_that_is_lpips_is_found():
    assert list(ssim_equals_lpips(printed(ssim="0.297", lpips="0.297"))) == ["SSIM and LPIPS are both 0.297"]
    assert not list(ssim_equals_lpips(printed(ssim="0.772", lpips="0.297")))
    assert not list(ssim_equals_lpips({"ssim": None, "lpips": None}))


def test_rmse_may_be_above_what_psnr_gives_and_below_it_by_rounding_alone():
    assert not list(rmse_below_psnr(printed(psnr="26.76", rmse_relative="4.59")))  # 4.592
    assert not list(rmse_below_psnr(printed(psnr="26.76", rmse_relative="9.00")))
    found = list(rmse_below_psnr(printed(psnr="26.76", rmse_relative="4.58")))
    assert found == ["RMSE_rel is 4.58, and at least 4.589 with a PSNR of 26.76"]


def test_an_mae_in_another_unit_is_found():
    rmse = Printed("6.39")
    assert not list(mae_above_rmse({"mae": Printed("0.471", "0.1"), "rmse_relative": rmse}))
    assert list(mae_above_rmse({"mae": Printed("0.471"), "rmse_relative": rmse})) == ["MAE is 0.471, above the RMSE of 6.39 %"]  # fmt: skip


def test_shares_within_larger_ratios_are_larger():
    assert not list(deltas_out_of_order(printed(delta1="0.936", delta2="0.998", delta3="0.998")))
    assert list(deltas_out_of_order(printed(delta1="0.936", delta2="0.989", delta3="0.980"))) == [
        "delta2 is 0.989, above the delta3 of 0.98"
    ]


def test_a_geometric_mean_is_not_above_that_of_the_columns():
    columns = printed(ai1="0.1000", ai2="0.2000", one_minus_abs_rho="0.4000")  # 0.2
    assert not list(geometric_mean_too_large({**columns, "geometric_mean": Printed("0.2001")}))
    found = list(geometric_mean_too_large({**columns, "geometric_mean": Printed("0.2010")}))
    assert found == ["the geometric mean is 0.201, and at most 0.2001 with these columns"]


@pytest.mark.parametrize(
    ("column", "text", "allowed"),
    [
        ("psnr", "251.3", "0 to 120"), ("ssim", "7.86", "-1 to 1"), ("mae", "41", "0 to 1"), ("input_mae", "41", "0 to 1"),
        ("lpips", "-0.223", "0 to 2"), ("coarse_delta3", "1.001", "0 to 1"), ("rmse", "-0.2", "0 to inf"), ("ai2", "1.2", "0 to 1"),
    ],
)  # fmt: skip
def test_values_out_of_range_are_found(column, text, allowed):
    found = list(out_of_range({"overall": {column: Printed(text)}}))
    assert found == [f"overall {column} is {float(text):g}, outside of {allowed}"]


def test_bounds_are_in_the_range():
    assert not list(out_of_range({"overall": printed(delta3="1.000", psnr="0.00", abs_rel="7.5")}))


def test_each_kind_of_image_is_checked_by_itself():
    views = {
        "views_psnr": 40.0,
        "views_rmse_relative": 0.9,
        "input_views_psnr": 20.0,
        "input_views_rmse_relative": 11.0,
    }
    assert [one.partition(":")[0] for one in faults({"overall": {**views, "psnr": 20.0}})] == ["overall views"]
    assert faults({"overall": {**views, "views_rmse_relative": 1.1}}) == []


def test_a_metric_is_told_from_one_whose_name_it_begins_with():
    assert METRICS.index("rmse_relative") < METRICS.index("rmse_log") < METRICS.index("rmse")
    scores = {
        "psnr": 20.0,
        "coarse_rmse": 0.1,
        "rmse": 0.1,
        "rmse_log": 0.1,
    }  # inverse depth, and no RMSE_rel of an image
    assert faults({"overall": scores}) == []
