import json

import pytest
from made_results import made_result, save

from dualpixel.evaluate.published import PAPERS, published_rows
from dualpixel.evaluate.recipe_networks import network_of, network_tested
from dualpixel.evaluate.reproduction import compare_with_published, save_reproduction, show_reproduction
from dualpixel.paths import resource_names

GROUPS = ["indoor"] * 37 + ["outdoor"] * 39
DPDNET = {"views": "dual", "width": 1.0, "dropout": 0.4, "residual": False}
PRINTED = {"psnr": (27.48, 22.90), "ssim": (0.849, 0.726), "mae": (0.029, 0.052), "lpips": (0.189, 0.255)}
"""Indoor and outdoor means of DPDNet as its paper has them; the overall ones follow to the printed digits."""
NETWORKS = ("DPDNet", "DDDNet", "MDP", "DPANet", "K3DN")


def constant(scores, groups=GROUPS, **changes):
    """A result with one score for all images of a group."""
    columns = {name: [values[group == "outdoor"] for group in groups] for name, values in scores.items()}
    return made_result(columns, groups, **{"options": DPDNET, **changes})


def of_overall(scores, **changes):
    """A result with the same score for all images."""
    return made_result({name: [value] * 76 for name, value in scores.items()}, GROUPS, **changes)


def by_place(result):
    return {(one.row.paper, one.row.table.table, one.row.method): one for one in compare_with_published(result)}


def test_exact_digits_are_reproduced_in_every_group():
    found = by_place(constant(PRINTED))
    own = found["dpdnet", "1", "DPDNet"]
    assert own.verdict.startswith("reproduces to the printed digits, by dpdnet-16bit as well (whole images;")
    assert len(own.numbers) == 12 and {one.group for one in own.numbers} == {"indoor", "outdoor", "overall"}
    assert own.numbers[0].published == "27.48" and abs(own.numbers[0].difference) < 1e-9
    assert found["mdp", "2", "DPDNet"].obstacle is None


@pytest.mark.parametrize(
    ("psnr", "verdict"),
    [(25.1349, "reproduces"), (25.1251, "reproduces"), (25.1351, "differs in 1 of 3"), (25.14, "differs in 1 of 3")],
)
def test_a_unit_of_the_last_digit_is_not_reproduced(psnr, verdict):
    result = of_overall({"psnr": psnr, "ssim": 0.786, "mae": 0.041}, options=DPDNET)
    found = by_place(result)["mdp", "2", "DPDNet"]
    assert found.verdict.startswith(verdict)
    assert found.numbers[0].difference == pytest.approx(psnr - 25.13) and found.numbers[1].reproduced


def test_rows_by_another_protocol_are_named_and_not_judged():
    found = by_place(constant(PRINTED))
    unknown, half = found["dpanet", "I", "DPDNet"], found["dddnet", "1", "DPDNet"]
    assert unknown.verdict.startswith("not comparable: another or unknown protocol (whether they were measured again")
    assert half.verdict.startswith("not comparable: protocol dddnet-half (methods that learn are tuned on this set;")
    assert found["mdp", "2", "DPDNet on views of MDP"].verdict.startswith("not comparable: protocol mdp-views-16bit")
    other = by_place(constant(PRINTED, protocol="whole-8bit"))
    assert len(other) == len(found) and all(one.obstacle for one in other.values())
    order = [one.obstacle is None for one in compare_with_published(constant(PRINTED))]
    assert order == sorted(order, reverse=True) and True in order and False in order


def test_digits_in_another_unit_are_compared_in_ours():
    options = {"base_channels": 24, "residual_blocks": 2, "psf_blocks": 4, "srp_blocks": 1}
    result = of_overall(
        {"psnr": 26.74, "ssim": 0.825, "mae": 0.0352}, options=options, recipe="k3dn_tiny", protocol="k3dn-1152x1792"
    )
    found = by_place(result)["k3dn", "1", "K3DN Tiny"]
    assert [one.published for one in found.numbers] == ["26.74", "0.825", "0.0351"]
    assert [one.reproduced for one in found.numbers] == [True, True, False]


def test_a_network_that_differs_in_an_option_is_another_row():
    scores = {"psnr": 26.46, "ssim": 0.823, "mae": 0.036}
    unshared = {"share_encoder": False, "share_extractor": False}
    found = by_place(of_overall(scores, options=unshared, recipe="dpanet", protocol="dpanet-8bit"))
    assert list(found) == [("dpanet", "III", "#1 without shared weights")]
    assert found["dpanet", "III", "#1 without shared weights"].verdict.startswith("reproduces")
    assert not by_place(constant(PRINTED, options={**DPDNET, "width": 0.5}))
    assert not by_place(constant(PRINTED, options={**DPDNET, "residual": True}))


def test_the_same_network_trained_otherwise_is_named_as_such():
    result = of_overall(
        {"psnr": 26.41, "ssim": 0.821, "mae": 0.036}, options={}, recipe="dpanet", protocol="dpanet-8bit"
    )
    found = by_place(result)
    loss = found["dpanet", "III", "#3 MSE loss"]
    assert loss.verdict == "not comparable: the same network trained otherwise, by the mean squared error"
    assert all(one.reproduced for one in loss.numbers)
    assert found["dpanet", "I", "DPANet"].verdict.startswith("differs in 3 of 3")
    tuned = by_place(
        of_overall(
            {"psnr": 26.92, "ssim": 0.8, "rmse_relative": 5.0}, options={}, recipe="dddnet", protocol="dddnet-half"
        )
    )
    assert tuned["dddnet", "1", "DDDNet"].obstacle is None
    assert (
        "on DDD-syn, then on DPDD" in tuned["dddnet", "section 5.2, text", "DDDNet of DDD-syn, tuned on DPDD"].verdict
    )


def test_only_what_was_measured_is_compared():
    views = {"views_psnr": 39.17, "views_ssim": 0.973}
    found = by_place(of_overall(views, options={}, recipe="mdp_views"))
    assert set(found) == {
        ("mdp", "3", "multi-task with L_C and L_D (MDP)"), ("mdp", "3", "multi-task without L_C and L_D"),
    }  # fmt: skip
    assert found["mdp", "3", "multi-task with L_C and L_D (MDP)"].verdict.startswith("reproduces")


def test_groups_of_other_sizes_are_not_judged():
    result = constant(PRINTED, groups=["indoor"] * 30 + ["outdoor"] * 46)
    verdict = by_place(result)["dpdnet", "1", "DPDNet"].verdict
    assert verdict == "not comparable: 30 indoor images here, 37 there"


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": "quickstart"}, {"split": "val"}, {"complete": False}, {"fingerprint": "0-optics-1"}, {"recipe": "of-mine"},
    ],
)  # fmt: skip
def test_where_papers_print_nothing_one_line_says_so(capsys, changes):
    result = constant(PRINTED, **changes)
    assert compare_with_published(result) == []
    show_reproduction(result, [])
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and said.startswith("no paper prints scores of this network")


def test_it_is_shown_with_value_difference_and_doubt(capsys):
    result = constant({**PRINTED, "psnr": (27.48, 22.80)})
    show_reproduction(result, compare_with_published(result))
    lines = [" ".join(line.replace("│", " ").split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "what papers print of this network on dpdd test; measured by protocol dpdnet-16bit"
    assert "outdoor PSNR 22.90 22.8000 -0.1000 *" in lines
    assert "Abuolaim and Brown, ECCV 2020, table 1: DPDNet indoor PSNR 27.48 27.4800 +0.0000" in lines
    assert any(line.startswith("differs in 2 of 12 numbers") for line in lines)
    assert "Yang, Pan, Liu and Liu, CVPR 2023, table 1: DPDNet overall PSNR 25.13 25.0784" in lines  # no difference
    assert (
        any("in doubt: " in line for line in lines) and lines[-1] == "* by more than the rounding of the printed digits"
    )


def test_it_is_written_beside_the_result(tmp_path):
    result = constant(PRINTED)
    path = save(tmp_path, "run", result)
    save_reproduction(path, result, compare_with_published(result))
    content = json.loads((path.parent / "reproduction.json").read_text())
    assert content["protocol"] == "dpdnet-16bit" and content["weights_sha256"] == result.weights_sha256
    first = content["rows"][0]
    assert first["published_in"] == "Abuolaim and Brown, ECCV 2020, table 1" and first["comparable"]
    assert first["numbers"][0] == {
        "group": "indoor", "column": "psnr", "published": "27.48", "measured": result.means["indoor"]["psnr"],
        "difference": pytest.approx(0, abs=1e-9), "reproduced": True,
    }  # fmt: skip
    assert content["rows"][-1]["numbers"][0]["reproduced"] is None
    save_reproduction(path, result, [])
    assert json.loads((path.parent / "reproduction.json").read_text())["rows"] == []


@pytest.mark.parametrize("paper", PAPERS)
def test_every_row_of_a_network_of_ours_says_which(paper):
    for row in published_rows(paper=paper):
        ours = row.method.startswith(NETWORKS) or (row.table.ablation and row.measured_by == paper)
        assert bool(row.recipe) == ours, (row.table.table, row.method)
        assert all(network_of(files) for files in row.recipe)


def test_every_ablation_has_its_row():
    named = {name for row in published_rows() for files in row.recipe for name in files.split(" + ")}
    without_a_row = {name for name in resource_names("recipes") if name.startswith("ablations/")} - named
    assert without_a_row == {
        "ablations/dddnet/short", "ablations/dddnet/signed", "ablations/mdp/code", "ablations/mdp/code_views",
    }  # fmt: skip


def test_networks_in_one_table_with_one_protocol_are_told_apart_or_their_training_is():
    """Else two rows would claim the same result: the network itself, repeated in another table, is the exception."""
    for paper in PAPERS:
        seen = {}
        for row in published_rows(paper=paper):
            if row.recipe and row.scores and not row.printed.training:
                place = (row.table.table, row.dataset, row.table.size, tuple(row.table.columns), row.protocol)
                for network in {network_of(files) for files in row.recipe}:
                    assert seen.setdefault((*place, network), row.method) == row.method or "views of MDP" in row.method


def test_options_of_older_results_have_their_defaults():
    assert network_tested("dpdnet", {"views": "dual"}) == network_of("dpdnet")
    assert network_tested("k3dn", {"cached": True}) == network_of("k3dn") == network_tested("k3dn_light", {})
    assert network_tested("dpdnet_single", {"views": "combined"}) == network_of("dpdnet_single") != network_of("dpdnet")
    assert network_tested("../../etc/passwd", {}) is None and network_tested("overlays/quickstart", {}) is None
