import json
from dataclasses import replace

import pytest
from made_results import made_result, save

import dualpixel
from dualpixel.evaluate.printed_tables import PAPERS
from dualpixel.evaluate.published import published_rows
from dualpixel.evaluate.recipe_networks import name_of, network_of, network_tested, unseen_overlays
from dualpixel.evaluate.reproduction import compare_with_published, save_reproduction, show_reproduction
from dualpixel.paths import resource_names

GROUPS = ["indoor"] * 37 + ["outdoor"] * 39
PRINTED = {"psnr": (27.48, 22.90), "ssim": (0.849, 0.726), "mae": (0.029, 0.052), "lpips": (0.189, 0.255)}
"""Indoor and outdoor means of DPDNet as its paper has them; the overall ones follow to the printed digits."""
NETWORKS = ("DPDNet", "DDDNet", "MDP", "DPANet", "K3DN")


def of_network(files, **options):
    """What a result says of the network of some files, with some options changed."""
    network = network_of(files)
    net = f"{network.net.__module__}.{network.net.__qualname__}"
    return {"recipe": name_of(files), "options": json.loads(network.options) | options, "net": net}


def constant(scores, groups=GROUPS, **changes):
    """A result with one score for all images of a group."""
    columns = {name: [values[group == "outdoor"] for group in groups] for name, values in scores.items()}
    return made_result(columns, groups, **of_network("dpdnet") | changes)


def of_overall(scores, files, count=76, groups=GROUPS, **changes):
    """A result of the network of some files with the same score for all images."""
    columns = {name: [value] * count for name, value in scores.items()}
    return made_result(columns, groups[:count], **of_network(files) | changes)


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
    result = of_overall({"psnr": psnr, "ssim": 0.786, "mae": 0.041}, "dpdnet")
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
    result = of_overall({"psnr": 26.74, "ssim": 0.825, "mae": 0.0352}, "k3dn_tiny", protocol="k3dn-1152x1792")
    found = by_place(result)["k3dn", "1", "K3DN Tiny"]
    assert [one.published for one in found.numbers] == ["26.74", "0.825", "0.0351"]
    assert [one.reproduced for one in found.numbers] == [True, True, False]


def test_a_network_that_differs_in_an_option_is_another_row():
    scores = {"psnr": 26.46, "ssim": 0.823, "mae": 0.036}
    found = by_place(of_overall(scores, "dpanet + ablations/dpanet/01_unshared", protocol="dpanet-8bit"))
    assert list(found) == [("dpanet", "III", "#1 without shared weights")]
    assert found["dpanet", "III", "#1 without shared weights"].verdict.startswith("reproduces")
    assert not by_place(constant(PRINTED, **of_network("dpdnet", width=0.5)))
    assert not by_place(constant(PRINTED, **of_network("dpdnet", residual=True)))


def test_rows_of_the_network_under_another_name_are_not_judged():
    scores = {"psnr": 26.41, "ssim": 0.821, "mae": 0.036}
    found = by_place(of_overall(scores, "dpanet", protocol="dpanet-8bit"))
    loss = found["dpanet", "III", "#3 MSE loss"]
    assert loss.verdict == "not comparable: the same network trained as dpanet_mse, this is dpanet"
    assert all(one.reproduced for one in loss.numbers)
    assert found["dpanet", "I", "DPANet"].verdict.startswith("differs in 3 of 3")

    first = by_place(of_overall(scores, "dpanet_mse", protocol="dpanet-8bit"))
    assert [place for place, one in first.items() if one.judged] == [("dpanet", "III", "#3 MSE loss")]
    own = first["dpanet", "III", "#3 MSE loss"].verdict
    assert own.startswith("reproduces") and "weights there: by the mean squared error, which the result" in own
    assert first["dpanet", "I", "DPANet"].obstacle == "the same network trained as dpanet, this is dpanet_mse"

    views = by_place(of_overall({"psnr": 25.35, "ssim": 0.763, "mae": 0.04}, "mdp_views"))
    assert views and not any(one.judged for one in views.values())


def test_an_overlay_of_the_training_alone_gets_no_verdict():
    text = published_rows("dpdd", "dddnet")
    scratch = next(row for row in text if (row.table.table, row.method) == ("1", "DDDNet"))
    tuned = next(row for row in text if row.method == "DDDNet of DDD-syn, tuned on DPDD")
    scores = scratch.means["overall"]
    found = by_place(of_overall(scores, "dddnet", protocol="dddnet-half"))
    unseen = found["dddnet", "1", "DDDNet"]
    assert not unseen.judged and unseen.verdict.startswith(
        "the numbers agree; not judged, the result does not say whether its weights were trained with ablations/dddnet/scratch, by"
    )
    own = by_place(of_overall(tuned.means["overall"], "dddnet", protocol="dddnet-half"))[
        "dddnet", "section 5.2, text", "DDDNet of DDD-syn, tuned on DPDD"
    ]
    assert own.judged and own.verdict.startswith("reproduces to the printed digits; weights there: on DDD-syn, then on")
    apart = by_place(of_overall({**scores, "psnr": 20.0}, "dddnet", protocol="dddnet-half"))["dddnet", "1", "DDDNet"]
    assert apart.verdict.startswith("the numbers differ; not judged")


def test_only_what_no_result_tells_is_an_unseen_overlay():
    assert unseen_overlays("dddnet + ablations/dddnet/scratch + ablations/dddnet/no_reblur") == [
        "ablations/dddnet/scratch", "ablations/dddnet/no_reblur",
    ]  # fmt: skip
    assert unseen_overlays("mdp + ablations/mdp/table3_multi_plain") == ["ablations/mdp/table3_multi_plain"]
    for told in ("dddnet", "dpanet + ablations/dpanet/03_mse", "mdp + ablations/mdp/table3_single_deblur",
                 "mdp + ablations/mdp/table3_multi", "k3dn_light + ablations/k3dn/table5_128_kernels"):  # fmt: skip
        assert unseen_overlays(told) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"net": None}, "the result does not say of which class its network is, test again"),
        ({"net": "elsewhere.Copy"}, "its network is 'elsewhere.Copy', the paper's is DPDNet"),
        ({"options": {"views": "dual", "dropout": 0.4}}, "the result does not say all options of its network (residual, width)"),
        (of_network("dpdnet", width=0.5), "its options differ from the paper's: width 0.5, not 1.0"),
        ({"complete": False}, "a part of the split was scored"),
        ({"split": "val"}, "papers score the split test, this is val"),
        ({"fingerprint": "0-optics-1"}, "the views were rendered, those of papers were not"),
        ({"recipe": "of-mine"}, "'of-mine' is no recipe of ours"),
        ({"means": {"overall": {"loss": 1.0}}}, "none of their scores was measured (psnr, ssim, mae, lpips, rmse_relative)"),
    ],
)  # fmt: skip
def test_where_nothing_can_be_compared_the_true_reason_is_said(capsys, tmp_path, changes, reason):
    result = constant(PRINTED, **changes)
    assert compare_with_published(result) == []
    show_reproduction(result, [])
    assert capsys.readouterr().out == f"not compared with what papers print: {reason}\n"
    path = save(tmp_path, "run", result)
    save_reproduction(path, result, [])
    said = json.loads((path.parent / "reproduction.json").read_text())
    assert said["rows"] == [] and said["why_nothing"].endswith(reason)


@pytest.mark.parametrize("changes", [{"dataset": "quickstart"}, of_network("k3dn_single")])
def test_where_papers_print_nothing_one_line_says_so(capsys, changes):
    result = constant(PRINTED, **changes)
    assert compare_with_published(result) == []
    show_reproduction(result, [])
    said = capsys.readouterr().out
    assert said == f"no paper prints scores of this network ({result.recipe}) on all of {result.dataset} test\n"


def test_a_verdict_says_how_much_of_the_row_was_measured():
    result = constant({name: PRINTED[name] for name in ("psnr", "ssim", "mae")})
    own = by_place(result)["dpdnet", "1", "DPDNet"]
    assert own.verdict.startswith(
        "reproduces to the printed digits (9 of 12 printed numbers were measured), by dpdnet-16bit"
    )
    assert own.printed == 12
    assert "were measured" not in by_place(constant(PRINTED))["dpdnet", "1", "DPDNet"].verdict


def test_another_number_of_images_is_not_judged_where_a_table_has_no_groups():
    scores = {"psnr": 26.46, "ssim": 0.823, "mae": 0.036}
    found = by_place(of_overall(scores, "dpanet", count=75, protocol="dpanet-8bit"))
    assert found["dpanet", "I", "DPANet"].verdict == "not comparable: 75 images here, 76 in the whole split"


def test_a_group_that_is_not_there_is_an_obstacle():
    result = constant(PRINTED)
    bare = replace(
        result,
        rows=[{**row, "group": ""} for row in result.rows],
        means={"overall": result.means["overall"]},
    )
    found = by_place(bare)
    assert found["dpdnet", "1", "DPDNet"].verdict == "not comparable: no indoor images here, 37 there"
    assert found["mdp", "2", "DPDNet"].judged


def test_views_of_another_network_than_the_papers_are_not_judged():
    row = ("mdp", "2", "DPDNet on views of MDP")
    changes = {"protocol": "mdp-views-16bit"}
    assert by_place(constant(PRINTED, views_from={"recipe": "mdp"}, **changes))[row].judged
    other = by_place(constant(PRINTED, views_from={"recipe": "mdp_views"}, **changes))[row]
    assert other.verdict == "not comparable: the views were predicted by mdp_views, there by mdp"
    assert "an unknown network" in by_place(constant(PRINTED, **changes))[row].verdict


def test_only_what_was_measured_is_compared():
    views = {"views_psnr": 39.17, "views_ssim": 0.973}
    found = by_place(of_overall(views, "mdp"))
    assert set(found) == {
        ("mdp", "3", "multi-task with L_C and L_D (MDP)"), ("mdp", "3", "multi-task without L_C and L_D"),
    }  # fmt: skip
    own = found["mdp", "3", "multi-task with L_C and L_D (MDP)"]
    assert own.verdict.startswith("reproduces to the printed digits (2 of 4 printed numbers were measured)")
    assert not found["mdp", "3", "multi-task without L_C and L_D"].judged


def test_groups_of_other_sizes_are_not_judged():
    result = constant(PRINTED, groups=["indoor"] * 30 + ["outdoor"] * 46)
    verdict = by_place(result)["dpdnet", "1", "DPDNet"].verdict
    assert verdict == "not comparable: 30 indoor images here, 37 there"


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
    assert first["printed_numbers"] == first["measured_numbers"] == 12
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


@pytest.mark.parametrize("name", ["dpdnet", "dpdnet_single", "dddnet", "mdp", "dpanet", "k3dn", "k3dn_tiny"])
def test_what_a_recipe_tells_is_the_network_of_its_file(name):
    recipe = dualpixel.load(name)
    about = recipe.weights_metadata()
    assert about["recipe"] == name_of(name) == name
    assert network_tested(name, json.loads(about["options"]), about["net"]) == network_of(name)


def test_options_that_are_not_told_make_no_network():
    told = of_network("k3dn")
    assert network_tested(**told) == network_of("k3dn")
    assert network_tested(**{**told, "options": told["options"] | {"cached": True}}) == network_of("k3dn")
    assert network_tested(**{**told, "options": {}}) is None
    assert (
        network_tested("../../etc/passwd", {}, None) is None and network_tested("overlays/quickstart", {}, None) is None
    )
