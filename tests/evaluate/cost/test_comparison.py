from dataclasses import replace
from decimal import Decimal

import pytest
import torch

from dualpixel.evaluate.cost import comparison
from dualpixel.evaluate.cost.comparison import METHODS, agreement, comparisons, method_of
from dualpixel.evaluate.cost.speed import Speed
from dualpixel.evaluate.published import published_rows
from dualpixel.nets import K3DN, MDP, DDDNet, DPANet, DPDNet
from dualpixel.recipes import DDDNetRecipe, DPANetRecipe, DPDNetRecipe, K3DNRecipe, MDPRecipe

RECIPES = {DPDNet: DPDNetRecipe, DDDNet: DDDNetRecipe, MDP: MDPRecipe, DPANet: DPANetRecipe, K3DN: K3DNRecipe}
REPRODUCED = {
    # method: printed parameters, counted, same digits; printed operations, counted, size, same digits
    "DPDNet": (("31.03", 31.035151, "if cut"), ("3150", 3148.60, (1120, 1680), "to 3 digits")),
    "DDDNet": (("6.40", 6.402323, "yes"), ("1661", 1660.81, (1120, 1680), "yes")),
    "DPANet": (("63.98", 63.983859, "yes"), ("213.77", 213.77, (256, 256), "yes")),
    "Baseline without EAM and DAM": (("60.76", 60.756227, "yes"), ("190.82", 190.82, (256, 256), "yes")),
    "K3DN Tiny": (("3.00", 3.040358, "to 2 digits"), ("571", 571.31, (1152, 1792), "yes")),
    "K3DN Lightweight": (("5.00", 4.973254, "to 2 digits"), ("1033", 1033.97, (1152, 1792), "if cut")),
    "K3DN Large": (("15.90", 15.915030, "to 3 digits"), ("3352", 3352.39, (1152, 1792), "yes")),
}


def recipe_of(method, **options):
    kind, changed = METHODS[method]
    with torch.device("meta"):
        return RECIPES[kind](kind(**{**changed, **options}))


@pytest.mark.parametrize("method", METHODS)
def test_what_papers_print_is_reproduced(method):
    compared = comparisons(recipe_of(method))
    rows = [row.printed for row in published_rows() if row.method == method]
    printed = [one for row in rows for one in (row.parameters_millions, row.operations_giga, row.seconds.get("total"))]
    assert sorted(one.printed for one in compared) == sorted(one for one in printed if one is not None) != []
    found = {one.quantity: one for one in compared if one.quantity != "time"}
    assert set(found) == ({"parameters", "operations"} if method in REPRODUCED else set())
    if not found:
        return
    parameters, operations = found["parameters"], found["operations"]
    assert (parameters.printed, parameters.found, parameters.agreement) == REPRODUCED[method][0]
    assert parameters.unit == "M" and operations.unit == "G"
    said = (operations.printed, round(operations.found, 2), operations.found_at, operations.agreement)
    assert said == REPRODUCED[method][1]
    assert operations.difference_percent == pytest.approx(100 * (operations.found / float(operations.printed) - 1))
    assert abs(operations.difference_percent) < 0.1
    in_training = {"K3DN Tiny": "3.09", "K3DN Lightweight": "5.03", "K3DN Large": "16.10"}.get(method)
    if in_training:  # the reason why the parameters differ
        assert parameters.found_how == f"in the form for inference; all are {in_training} M"
        assert operations.printed_for == "FLOPs, images of 1120x1680"
    inferred = "inferred from these figures"
    assert (inferred in (operations.doubt or "")) is (method in ("K3DN Tiny", "K3DN Lightweight"))


def test_what_another_paper_prints_is_not_counted_in_this_ones_way(monkeypatch):
    (row,) = (row for row in published_rows(paper="k3dn") if row.method == "DDDNet" and row.printed.operations_giga)
    elsewhere = replace(row, source=replace(row.source, paper="dpanet"))
    monkeypatch.setattr(comparison, "published_rows", lambda: [elsewhere])
    found = {one.quantity: one for one in comparisons(recipe_of("DDDNet"))}
    assert {name: (one.printed, one.found, one.agreement) for name, one in found.items()} == {
        "parameters": ("6.40", None, None),
        "operations": ("1661", None, None),
    }


def test_a_printed_time_stands_beside_the_one_measured_at_its_size():
    recipe = recipe_of("DPDNet")
    (unknown,) = (one for one in comparisons(recipe) if one.quantity == "time")
    assert (unknown.printed, unknown.found) == ("0.5", None) and "TITAN X" in unknown.printed_for
    speed = Speed("cuda", "a GPU", "32-true", 1, (0.25, 0.75, 0.5), 0, 0)
    for speeds in ({(256, 256): speed}, {(1120, 1680): None}):
        assert [one.found for one in comparisons(recipe, speeds) if one.quantity == "time"] == [None]
    (known,) = (one for one in comparisons(recipe, {(1120, 1680): speed}) if one.quantity == "time")
    assert (known.found, known.found_at, known.found_how) == (0.5, (1120, 1680), "a GPU, 32-true")
    assert known.agreement is None and known.difference_percent is None


def test_the_time_of_mdp_is_shown_with_what_speaks_against_it():
    (time,) = comparisons(recipe_of("MDP"))
    assert (time.quantity, time.printed) == ("time", "0.5") and "2.46 times" in time.doubt


def test_a_network_is_that_of_a_paper_only_with_all_that_changes_its_cost():
    for method in METHODS:
        assert method_of(recipe_of(method).net) == method
    assert method_of(recipe_of("DPDNet", residual=True, dropout=0.0).net) == "DPDNet"
    assert method_of(recipe_of("DPDNet", width=0.5).net) is None
    assert method_of(recipe_of("DPANet", dam=False).net) is None
    assert method_of(recipe_of("K3DN Large", srp=False).net) is None
    assert method_of(recipe_of("DDDNet", shifts=[-4, -3, -2, -1, 0, 1, 2, 3]).net) is None
    assert method_of(torch.nn.Identity()) is None
    assert comparisons(recipe_of("DPANet", dam=False)) == []


@pytest.mark.parametrize(
    ("printed", "counted", "said"),
    [
        ("213.77", "213.770043", "yes"),
        ("1661", "1660.5", "yes"),
        ("6.40", "6.46", "no"),
        ("6.40", "6.44", "to 2 digits"),
        ("1033", "1033.999", "if cut"),
        ("3150", "3148.6", "to 3 digits"),
        ("3150", "3144.9", "no"),
        ("3000", "2951", "to 2 digits"),
        ("3000", "2499", "no"),
        ("0", "3", "no"),
    ],
)
def test_digits_are_the_same_when_rounded_or_cut(printed, counted, said):
    assert agreement(printed, Decimal(counted)) == said
