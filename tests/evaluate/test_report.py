import pytest

from dualpixel.evaluate.report import best_validation, show
from dualpixel.evaluate.result import Result

MEANS = {
    "psnr": 25.0,
    "ssim": 0.75,
    "lpips": None,
    "input_psnr": 24.0,
    "input_ssim": 0.7,
    "input_lpips": None,
    "loss": 1.0,
}
VIEWS = {"left_psnr": 39.0, "right_psnr": 41.0, "views_psnr": 40.0, "input_views_psnr": 35.0}


def result(means, **changes):
    rows = [{"key": "a", "group": "indoor"}, {"key": "b", "group": "indoor"}]
    values = {
        "schema": 1, "recipe": "mdp", "options": {}, "weights_sha256": "0" * 64, "weights_source": "x.ckpt", "dataset": "dpdd",
        "dataset_version": "1", "split": "test", "fingerprint": "f" * 16, "complete": True, "protocol": "dpdnet-16bit",
        "protocol_description": "", "rows": rows, "means": {"overall": means, "indoor": means}, "parameters": 5, "macs": None,
        "macs_size": None, "code": "0", "made": "", "environment": {},
    }  # fmt: skip
    return Result(**{**values, **changes})


def table(capsys):
    """The lines of the table: first cell -> the numbers in it."""
    lines = [line.replace("│", " ").replace("┃", " ").split() for line in capsys.readouterr().out.splitlines()]
    return {" ".join(line[: line.index("2")]): line[line.index("2") + 1 :] for line in lines if "2" in line}


def test_each_output_has_a_row_of_the_same_columns(capsys):
    show(result({**MEANS, **VIEWS}), None)
    assert table(capsys) == {
        "overall input": ["24.0000", "0.7000"],
        "overall output": ["25.0000", "0.7500"],
        "overall views = input": ["35.0000"],
        "overall views": ["40.0000"],
        "overall left": ["39.0000"],
        "overall right": ["41.0000"],
    }


def test_views_alone_have_no_row_of_a_sharp_image(capsys):
    show(result({**VIEWS, "loss": 1.0}), None)
    assert list(table(capsys)) == ["overall views = input", "overall views", "overall left", "overall right"]


def test_the_network_that_predicted_the_views_is_named(capsys):
    show(result(MEANS, views_from={"recipe": "mdp", "weights_sha256": "", "source": "w.safetensors"}), None)
    assert "predicted by mdp, w.safetensors" in capsys.readouterr().out


def test_the_best_validation_is_that_of_the_sharp_image():
    history = {
        10: {**MEANS, **VIEWS},
        20: {**MEANS, **VIEWS, "psnr": 26.0},
        30: {**MEANS, "psnr": 25.5, "views_psnr": 50.0},
    }
    said = "best validation PSNR 26.00 dB (step 20), blurred input 24.00 dB: gain +2.00 dB"
    assert best_validation(history) == (20, said)


def test_the_best_validation_of_views_is_compared_with_the_input_as_both():
    history = {0: {**VIEWS, "loss": 1.0}, 7: {**VIEWS, "views_psnr": 34.5}}
    said = "best validation PSNR of the views 40.00 dB, both views = input 35.00 dB: gain +5.00 dB"
    assert best_validation(history) == (0, said)
    assert best_validation({7: {"views_psnr": 34.5}}) == (7, "best validation PSNR of the views 34.50 dB (step 7)")


@pytest.mark.parametrize("history", [{}, {5: {"loss": 0.1}}, {5: {"psnr": None}}])
def test_without_a_score_there_is_no_best_validation(history):
    assert best_validation(history) is None


def test_what_leaderboards_refuse_is_said_when_it_is_measured(capsys):
    rows = [{"key": "a", "group": "indoor", "psnr": 25.0}, {"key": "b", "group": "indoor", "psnr": 25.0}]
    show(result({"psnr": 25.0}, rows=rows, seconds=0.1234, environment={"device_name": "Abacus"}), None)
    said = capsys.readouterr().out
    assert "contradicts" not in said and ", 0.123 s an image on Abacus; data" in said
    show(result({"psnr": "inf"}, rows=rows), None)
    said = capsys.readouterr().out
    assert "warning: this result contradicts itself: overall psnr is inf, outside of 0 to 120" in said
    assert said.strip().endswith("; leaderboards leave it out")
    one = result({"psnr": 25.0}, rows=rows)
    one.means["overall"] = {"psnr": 26.0}
    show(one, None)
    assert "overall psnr is 26 and not the mean of the groups', 25.0000 to 25.0000" in capsys.readouterr().out


def test_maps_have_a_table_of_their_own(capsys):
    maps = {"abs_rel": 0.5, "rmse": 1.5, "rmse_log": 0.25, "delta1": 0.625, "delta2": 0.875, "delta3": 1.0}
    maps |= {f"coarse_{name}": value + 2 for name, value in maps.items()}
    show(result({"psnr": 25.0, "rmse_relative": 5.5, **maps}, protocol="ddd-syn"), None)
    said = capsys.readouterr().out
    first, second = said.split("protocol ddd-syn: predicted blur")
    assert "PSNR" in first and "RMSE %" in first and "5.5000" in first and "1.5000" not in first
    assert "ABS_REL" in second and "RMSE %" not in second
    lines = [line.replace("│", " ").split() for line in second.splitlines()]
    assert ["overall", "blur", "2", "0.5000", "1.5000", "0.2500", "0.6250", "0.8750", "1.0000"] in lines
    assert ["overall", "coarse", "2", "2.5000", "3.5000", "2.2500", "2.6250", "2.8750", "3.0000"] in lines


def test_maps_alone_have_one_table(capsys):
    show(result({"ai1": 0.03, "one_minus_abs_rho": None, "geometric_mean": None}, protocol="dpd-disp"), None)
    said = capsys.readouterr().out
    assert said.count("dpd-disp") == 1 and "AI(1)" in said and "1-|rho|" in said and "PSNR" not in said


def test_a_mean_of_maps_that_is_not_there_has_its_reason_in_a_line(capsys):
    maps = {"abs_rel": None, "rmse": None}
    rows = [{"key": key, "group": "", "psnr": 20.0, **maps} for key in "ab"]
    show(result({"psnr": 20.0, **maps}, protocol="ddd-syn", rows=rows), None)
    said = capsys.readouterr().out
    assert (
        "predicted blur has no mean: 2 of 2 images have no score (a and 1 more): the data know no pixel there" in said
    )
    assert "ABS_REL" not in said and "PSNR" in said
    rows[1] |= {"abs_rel": 0.5, "rmse": 1.0}
    show(result({"psnr": 20.0, **maps}, protocol="ddd-syn", rows=rows), None)
    assert "1 of 2 images have no score (a): " in capsys.readouterr().out
    rows[0] |= rows[1]
    show(result({"psnr": 20.0, "abs_rel": 0.5, "rmse": 1.0}, protocol="ddd-syn", rows=rows), None)
    assert "has no mean" not in capsys.readouterr().out
