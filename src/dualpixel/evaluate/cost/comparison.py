"""What papers print as the cost of a network beside what is counted, each figure counted as that paper does."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_FLOOR, ROUND_HALF_UP, Decimal
from typing import Any

from torch import nn

from dualpixel.evaluate.cost.operations import count_parameters, shapes_of_one_image
from dualpixel.evaluate.cost.paper_costs import PaperCost, paper_cost
from dualpixel.evaluate.cost.speed import Speed
from dualpixel.evaluate.published import PublishedRow, published_rows
from dualpixel.nets.dddnet import DDDNet
from dualpixel.nets.dpanet import DPANet
from dualpixel.nets.dpdnet import DPDNet
from dualpixel.nets.k3dn import K3DN, VARIANTS
from dualpixel.nets.mdp import MDP
from dualpixel.recipes.base import Recipe

METHODS: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "DPDNet": (DPDNet, {}),
    "DPDNet-Single": (DPDNet, {"views": "combined"}),
    "DDDNet": (DDDNet, {}),
    "MDP": (MDP, {}),
    "DPANet": (DPANet, {}),
    "Baseline without EAM and DAM": (DPANet, {"eam": False, "dam": False}),
    "K3DN Tiny": (K3DN, VARIANTS["k3dn_tiny"]),
    "K3DN Lightweight": (K3DN, VARIANTS["k3dn_light"]),
    "K3DN Large": (K3DN, VARIANTS["k3dn"]),
}
"""Method of `dualpixel.evaluate.published` -> its network, and the options in which it differs from that class's defaults."""
INFERRED = {
    name: "which network this is was inferred from these figures, so that they prove nothing"
    for name in ("K3DN Tiny", "K3DN Lightweight")
}
"""Method whose network is not published -> what that means for its figures."""
OF_NO_COST = ("residual", "dropout", "checkpointing", "truncate", "identity_srp", "zero_init_offsets", "cached")
"""Options that leave alone what a pass costs."""
GIGA, MILLION = Decimal(10) ** 9, Decimal(10) ** 6


@dataclass(frozen=True)
class Comparison:
    """One printed figure.

    Args:
        citation: paper and table.
        method: the row.
        quantity: "parameters", "operations" or "time".
        unit: "M", "G" or "s".
        printed: the digits.
        printed_for: what the paper says that it is for.
        found: the figure counted, or measured here, in the same unit; None where it was not.
        found_at: height and width, where they matter.
        found_how: what was counted, or where it was measured.
        difference_percent: of the counted figure from the printed one; None for times, whose devices differ.
        agreement: whether the counted figure is the printed one, see `agreement`; None for times.
        doubt: what speaks against the comparison.
    """

    citation: str
    method: str
    quantity: str
    unit: str
    printed: str
    printed_for: str
    found: float | None
    found_at: tuple[int, int] | None
    found_how: str
    difference_percent: float | None = None
    agreement: str | None = None
    doubt: str | None = None


def method_of(net: nn.Module) -> str | None:
    """Return the name under which papers print a network, whatever its weights; None where none does."""
    for method, (kind, options) in METHODS.items():
        if type(net) is not kind:
            continue
        defaults = {name: one.default for name, one in inspect.signature(kind).parameters.items()}
        wanted = {name: value for name, value in (defaults | options).items() if name not in OF_NO_COST}
        if all(_plain(net.options[name]) == _plain(value) for name, value in wanted.items()):
            return method
    return None


def comparisons(recipe: Recipe, speeds: Mapping[tuple[int, int], Speed | None] | None = None) -> list[Comparison]:
    """Return each figure that a paper prints for the network of a recipe, with ours, at the size at which it is printed or fits.

    Args:
        recipe: counted on the meta device; left as it is.
        speeds: (height, width) -> what was measured there.
    """
    method = method_of(recipe.net)
    rows = [row for row in published_rows() if row.method == method]
    return [one for row in rows for one in _of_row(recipe, row, speeds or {})]


def agreement(printed: str, counted: Decimal) -> str:
    """Return "yes" where a number has the printed digits when it is rounded, and "no" where it has not.

    In between: "if cut", where its further digits are left out instead, and "to N digits", where the zeros that the printed number
    ends with are not counted as digits: 3150 for 3148.6.
    """
    number = Decimal(printed)
    if _to(number, counted, ROUND_HALF_UP) == number:
        return "yes"
    digits, exponent = list(number.as_tuple().digits), int(number.as_tuple().exponent)
    while len(digits) > 1 and digits[-1] == 0:
        digits.pop()
        exponent += 1
        if _to(Decimal((0, (1,), exponent)), counted, ROUND_HALF_UP) == number:
            return f"to {len(digits)} digits"
    return "if cut" if _to(number, counted, ROUND_FLOOR) == number else "no"


def _of_row(recipe: Recipe, row: PublishedRow, speeds: Mapping[tuple[int, int], Speed | None]) -> Iterator[Comparison]:
    printed, cost = row.printed, paper_cost(recipe.net)
    if cost is not None and cost.paper != row.paper:
        cost = None  # another paper counts in another way
    if printed.parameters_millions is not None:
        yield _parameters(recipe.net, row, printed.parameters_millions, cost)
    if printed.operations_giga is not None:
        yield _operations(recipe, row, printed.operations_giga, cost)
    for part, seconds in printed.seconds.items():
        if part == "total":
            yield _time(row, seconds, speeds)


def _operations(recipe: Recipe, row: PublishedRow, printed: str, cost: PaperCost | None) -> Comparison:
    about = {"printed_for": row.table.operations_said or "", "doubt": INFERRED.get(row.method)}
    if cost is None:
        return Comparison(row.citation, row.method, "operations", "G", printed, **_not_counted(), **about)
    return Comparison(
        row.citation, row.method, "operations", "G", printed,
        found_at=cost.size,
        found_how=row.printed.operations_counted or cost.description,
        **_beside(printed, Decimal(cost.count(recipe, shapes_of_one_image(recipe, *cost.size))) / GIGA),
        **about,
    )  # fmt: skip


def _parameters(net: nn.Module, row: PublishedRow, printed: str, cost: PaperCost | None) -> Comparison:
    about = {"printed_for": "", "doubt": INFERRED.get(row.method)}
    if cost is None:
        return Comparison(row.citation, row.method, "parameters", "M", printed, **_not_counted(), **about)
    count, everything = cost.parameters(net), count_parameters(net)
    others = f"; all are {everything / 1e6:.2f} M" if count < everything else ""
    return Comparison(
        row.citation, row.method, "parameters", "M", printed,
        found_at=None,
        found_how=cost.parameters_description + others,
        **_beside(printed, Decimal(count) / MILLION),
        **about,
    )  # fmt: skip


def _not_counted() -> dict[str, Any]:
    return {"found": None, "found_at": None, "found_how": "how this paper counts is not known"}


def _beside(printed: str, count: Decimal) -> dict[str, Any]:
    return {
        "found": float(count),
        "difference_percent": float(100 * (count / Decimal(printed) - 1)),
        "agreement": agreement(printed, count),
    }


def _time(row: PublishedRow, printed: str, speeds: Mapping[tuple[int, int], Speed | None]) -> Comparison:
    size = row.table.size
    speed = speeds.get(size) if size else None
    said = f"an image of {size[0]}x{size[1]}; {row.part.protocol_said}" if size else row.part.protocol_said
    return Comparison(
        row.citation, row.method, "time", "s", printed,
        printed_for=said,
        found=speed.seconds if speed else None,
        found_at=size if speed else None,
        found_how=f"{speed.device}, {speed.precision}" if speed else "not measured; see --time",
        doubt=row.doubt,
    )  # fmt: skip


def _to(like: Decimal, number: Decimal, rounding: str) -> Decimal:
    return number.quantize(Decimal((0, (1,), like.as_tuple().exponent)), rounding)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | list) else value
