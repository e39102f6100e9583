"""What papers print of a network that was just tested, beside what was measured: is it reproduced?

A published row counts for a result where it is the same network (`PrintedRow.recipe`) on the same data set. It is compared where it
was taken by the same protocol: a number is reproduced where the measured one rounds to the printed digits. Other rows are named with
the reason why not.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.table import Table

from dualpixel.evaluate.published import PUBLISHED_SPLIT, RENDERED, PublishedRow, published_rows
from dualpixel.evaluate.recipe_networks import network_of, network_tested
from dualpixel.evaluate.report import HEADINGS
from dualpixel.evaluate.result import Result
from dualpixel.evaluate.sanity import EXACT, Printed
from dualpixel.files import write_json
from dualpixel.metrics.per_image import OVERALL
from dualpixel.terminal import console

REPRODUCTION = "reproduction.json"
SCHEMA = 1
REPRODUCED = "reproduces to the printed digits"


@dataclass(frozen=True)
class Number:
    """One printed number and its measured counterpart.

    Args:
        group: of images, or "overall".
        column: of `dualpixel.evaluate.columns`.
        printed: as it stands in the paper.
        measured: in our unit.
    """

    group: str
    column: str
    printed: Printed
    measured: float

    @property
    def published(self) -> str:
        """The printed digits in our unit."""
        return str(Decimal(self.printed.text) * Decimal(self.printed.unit))

    @property
    def difference(self) -> float:
        """Measured less published."""
        return self.measured - self.printed.value

    @property
    def reproduced(self) -> bool:
        """Whether the measured number rounds to the printed digits."""
        return abs(self.difference) <= self.printed.rounding + EXACT


@dataclass(frozen=True)
class Compared:
    """A published row beside a result.

    Args:
        row: what the paper prints.
        numbers: those that were measured, too.
        obstacle: why no verdict can be given; None where one is.
    """

    row: PublishedRow
    numbers: tuple[Number, ...]
    obstacle: str | None

    @property
    def verdict(self) -> str:
        """Whether the row is reproduced, in words."""
        if self.obstacle:
            return f"not comparable: {self.obstacle}"
        apart = sum(not one.reproduced for one in self.numbers)
        said = f"differs in {apart} of {len(self.numbers)} numbers" if apart else REPRODUCED
        return f"{said}, by {self.row.protocol} as well ({self.row.part.protocol_said})"


def compare_with_published(result: Result) -> list[Compared]:
    """Return the published rows of the tested network on the same data, those first that can be compared.

    Nothing where a part of the split was scored, another split than papers score, or views that were rendered.
    """
    network = network_tested(result.recipe, result.options)
    whole = result.complete and result.split == PUBLISHED_SPLIT and RENDERED not in result.fingerprint
    if network is None or not whole:
        return []
    found = []
    for row in published_rows(result.dataset):
        if network in [network_of(files) for files in row.recipe]:
            numbers = tuple(_numbers(row, result))
            if numbers:
                found.append(Compared(row, numbers, _obstacle(row, result)))
    return sorted(found, key=lambda one: one.obstacle is not None)


def show_reproduction(result: Result, compared: Sequence[Compared]) -> None:
    """Print what papers say beside what was measured, or that they say nothing."""
    where = f"{result.dataset} {result.split}"
    if not compared:
        print(f"no paper prints scores of this network ({result.recipe}) on all of {where}")
        return
    title = f"what papers print of this network on {where}; measured by protocol {result.protocol}"
    table = Table(title=title, title_justify="left")
    for heading in ("published in", "images", "score", "published", "measured", "difference"):
        table.add_column(heading, justify="right" if heading in ("published", "measured", "difference") else "left")
    for one in compared:
        table.add_section()
        for place, number in enumerate(one.numbers):
            same_protocol = one.row.protocol == result.protocol
            table.add_row(
                "" if place else f"{one.row.citation}: {one.row.method}",
                number.group,
                HEADINGS.get(number.column, number.column.upper()),
                number.published,
                f"{number.measured:.4f}",
                f"{number.difference:+.4f}{'' if number.reproduced else ' *'}" if same_protocol else "",
            )
        table.add_row(one.verdict + (f"; in doubt: {one.row.doubt}" if one.row.doubt else ""))
    console().print(table)
    if any(not number.reproduced for one in compared for number in one.numbers if one.row.protocol == result.protocol):
        print("* by more than the rounding of the printed digits")


def save_reproduction(path: Path, result: Result, compared: Sequence[Compared]) -> None:
    """Write what `show_reproduction` prints beside a result, as JSON.

    Args:
        path: the result file.
        result: what it holds.
        compared: its published rows; none is written down as well.
    """
    about = {name: getattr(result, name) for name in ("recipe", "weights_sha256", "dataset", "split", "protocol")}
    rows = [_as_plain(one) for one in compared]
    write_json(path.parent / REPRODUCTION, {"schema": SCHEMA, **about, "rows": rows})


def _numbers(row: PublishedRow, result: Result) -> list[Number]:
    found = []
    for group, columns in row.scores.items():
        measured = result.means.get(group, {})
        for column, printed in columns.items():
            if measured.get(column) is not None:
                found.append(Number(group, column, printed, float(measured[column])))
    return found


def _obstacle(row: PublishedRow, result: Result) -> str | None:
    counts = {**Counter(image["group"] for image in result.rows), OVERALL: len(result.rows)}
    printed = row.table.groups | ({OVERALL: sum(row.table.groups.values())} if row.table.groups else {})
    others = [group for group, count in printed.items() if group in counts and counts[group] != count]
    if row.protocol != result.protocol:
        protocol = f"protocol {row.protocol}" if row.protocol else "another or unknown protocol"
        return f"{protocol} ({row.part.protocol_said})"
    if row.printed.training:
        return f"the same network trained otherwise, {row.printed.training}"
    if others:
        return f"{counts[others[0]]} {others[0]} images here, {printed[others[0]]} there"
    return None


def _as_plain(one: Compared) -> dict[str, Any]:
    row = one.row
    return {
        "published_in": row.citation,
        "method": row.method,
        "recipe": row.recipe,
        "protocol": row.protocol,
        "protocol_said": row.part.protocol_said,
        "training": row.printed.training,
        "doubt": row.doubt,
        "comparable": one.obstacle is None,
        "verdict": one.verdict,
        "numbers": [
            {
                "group": number.group,
                "column": number.column,
                "published": number.published,
                "measured": number.measured,
                "difference": number.difference,
                "reproduced": number.reproduced if one.obstacle is None else None,
            }
            for number in one.numbers
        ],
    }
