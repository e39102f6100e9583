"""What papers print of a network that was just tested, beside what was measured: is it reproduced?

A published row counts for a result where it is the same network (`PrintedRow.recipe`) on the same data set. It is compared where the
recipe has the same name and it was taken by the same protocol: a number is reproduced where the measured one rounds to the printed
digits. Other rows are named with the reason why not. How its weights were trained a result says by the name of the recipe alone: where
the row's were trained by an overlay that the name does not tell, there is no verdict.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.table import Table

from dualpixel.evaluate.comparable import files_of, not_whole, obstacle, rows_of, why_nothing
from dualpixel.evaluate.published import PublishedRow
from dualpixel.evaluate.recipe_networks import name_of, network_tested, unseen_overlays
from dualpixel.evaluate.report import HEADINGS
from dualpixel.evaluate.result import Result
from dualpixel.evaluate.sanity import EXACT, Printed
from dualpixel.files import write_json
from dualpixel.terminal import console, one_line

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
        obstacle: why the numbers cannot be compared; None where they can.
        unseen: overlays that the row's weights were trained with and that a result does not tell: there is no verdict then.
    """

    row: PublishedRow
    numbers: tuple[Number, ...]
    obstacle: str | None
    unseen: tuple[str, ...] = ()

    @property
    def judged(self) -> bool:
        """Whether there is a verdict."""
        return not self.obstacle and not self.unseen

    @property
    def printed(self) -> int:
        """How many numbers the row prints, measured or not."""
        return sum(map(len, self.row.scores.values()))

    @property
    def verdict(self) -> str:
        """Whether the row is reproduced, in words."""
        if self.obstacle:
            return f"not comparable: {self.obstacle}"
        apart = sum(not one.reproduced for one in self.numbers)
        said = f"differs in {apart} of {len(self.numbers)} numbers" if apart else REPRODUCED
        if self.unseen:
            said = f"the numbers {'differ' if apart else 'agree'}; not judged, the result does not say whether its weights "
            said += f"were trained with {', '.join(self.unseen)}"
        if len(self.numbers) < self.printed:
            said += f" ({len(self.numbers)} of {self.printed} printed numbers were measured)"
        if self.row.printed.training:
            said += f"; weights there: {self.row.printed.training}, which the result does not say"
        if apart and self.row.part.departs:
            said = f"not comparable to the digit: measured otherwise, {self.row.part.departs}; {said}"
        return f"{said}, by {self.row.protocol} as well ({self.row.part.protocol_said})"


def compare_with_published(result: Result) -> list[Compared]:
    """Return the published rows of the tested network on the same data, those first that can be compared.

    Nothing where a part of the split was scored, another split than papers score, or views that were rendered.
    """
    network = network_tested(result.recipe, result.options, result.net)
    if network is None or not_whole(result):
        return []
    found = []
    for row in rows_of(network, result):
        numbers = tuple(_numbers(row, result))
        if numbers:
            overlays = [unseen_overlays(files) for files in files_of(row, network) if name_of(files) == result.recipe]
            unseen = tuple(min(overlays, key=len, default=()))
            found.append(Compared(row, numbers, obstacle(row, result, network), unseen))
    return sorted(found, key=lambda one: (one.obstacle is not None, not one.judged))


def show_reproduction(result: Result, compared: Sequence[Compared]) -> None:
    """Print what papers say beside what was measured, or why there is nothing to compare."""
    where = f"{result.dataset} {result.split}"
    if not compared:
        print(one_line(why_nothing(result)))
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
    nothing = None if rows else why_nothing(result)
    write_json(path.parent / REPRODUCTION, {"schema": SCHEMA, **about, "rows": rows, "why_nothing": nothing})


def _numbers(row: PublishedRow, result: Result) -> list[Number]:
    found = []
    for group, columns in row.scores.items():
        measured = result.means.get(group, {})
        for column, printed in columns.items():
            if measured.get(column) is not None:
                found.append(Number(group, column, printed, float(measured[column])))
    return found


def _as_plain(one: Compared) -> dict[str, Any]:
    row = one.row
    return {
        "published_in": row.citation,
        "method": row.method,
        "recipe": row.recipe,
        "protocol": row.protocol,
        "protocol_said": row.part.protocol_said,
        "departs": row.part.departs,
        "training": row.printed.training,
        "doubt": row.doubt,
        "comparable": one.judged,
        "printed_numbers": one.printed,
        "measured_numbers": len(one.numbers),
        "verdict": one.verdict,
        "numbers": [
            {
                "group": number.group,
                "column": number.column,
                "published": number.published,
                "measured": number.measured,
                "difference": number.difference,
                "reproduced": number.reproduced if one.judged else None,
            }
            for number in one.numbers
        ],
    }
