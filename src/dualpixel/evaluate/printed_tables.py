"""The layout of the files that hold what papers print, ``published_tables/PAPER.yaml``: papers, tables, parts of tables, rows."""

import re
from dataclasses import dataclass, field

from dualpixel.errors import DualPixelError
from dualpixel.evaluate.columns import COLUMNS
from dualpixel.evaluate.protocols import get_protocol
from dualpixel.evaluate.sanity import Printed
from dualpixel.hints import near

PAPERS = ("dpdnet", "dddnet", "mdp", "dpanet", "k3dn")
NOT_PRINTED = "-"
NUMBER = r"-?[0-9]+(\.[0-9]+)?"


@dataclass(frozen=True)
class PrintedRow:
    """One row of a table.

    Args:
        method: its name; that of a paper's own network where the row is that network.
        recipe: which networks of ours this is, each of them as names of files in ``recipes/``, later ones laid over earlier ones:
            ``dpanet + ablations/dpanet/03_mse``. Several where a paper leaves open which, or where two networks share a row. Empty for
            other programs.
        training: how its weights came about, where the same network stands in other rows on these data with other weights.
        scores: group, or "overall" -> the printed digits in the order of the table's columns, "-" where there are none.
        parameters_millions: of the network.
        operations_giga: what the paper calls FLOPs.
        operations_counted: what was counted, where that is known.
        seconds: part of the program, or "total" -> time.
        extra_data: whether the paper says that the method was trained on more data than the others.
        doubt: what speaks against the row.
    """

    method: str
    recipe: list[str] = field(default_factory=list)
    training: str | None = None
    scores: dict[str, str] = field(default_factory=dict)
    parameters_millions: str | None = None
    operations_giga: str | None = None
    operations_counted: str | None = None
    seconds: dict[str, str] = field(default_factory=dict)
    extra_data: bool = False
    doubt: str | None = None


@dataclass(frozen=True)
class TablePart:
    """Rows of a table that were measured alike.

    Args:
        protocol: id of ours, where the paper's is that; None where it is another one, or not known.
        protocol_said: how it was measured, as far as the paper, its authors or their program say.
        measured_by: the paper of `PAPERS` whose authors took the scores, be the method theirs or not; None where it is not known.
        rows: of the table.
        departs: in what the measurement is another one than by that protocol, or may be; None where nothing is known.
    """

    protocol: str | None
    protocol_said: str
    measured_by: str | None
    rows: list[PrintedRow]
    departs: str | None = None

    def __post_init__(self) -> None:
        if self.protocol is not None:
            get_protocol(self.protocol)
        if self.measured_by is not None:
            check_paper(self.measured_by)


@dataclass(frozen=True)
class PrintedTable:
    """A table, or those of its columns that are about one data set.

    Args:
        table: its number, or where in the text.
        dataset: name of our card; None where there is none.
        data: what was scored, in words.
        parts: its rows.
        columns: what stands in the scores of every row, by the names of `dualpixel.evaluate.columns`.
        size: (height, width) at which images were compared, None where unknown.
        bit_depth: of the stored images as the networks saw them, None where unknown.
        groups: group -> number of images, where the paper says it.
        ablation: whether the rows are variants of one method.
        printed_in: column -> unit of its digits as a factor to ours, where it is another one.
        operations_said: what the paper calls its operations.
    """

    table: str
    dataset: str | None
    data: str
    parts: list[TablePart]
    columns: list[str] = field(default_factory=list)
    size: tuple[int, int] | None = None
    bit_depth: int | None = None
    groups: dict[str, int] = field(default_factory=dict)
    ablation: bool = False
    printed_in: dict[str, str] = field(default_factory=dict)
    operations_said: str | None = None

    def __post_init__(self) -> None:
        for column in self.columns:
            if column not in COLUMNS:
                raise DualPixelError(f"table {self.table}: no column {column!r}; {near(column, COLUMNS)}")

    def scores(self, row: PrintedRow) -> dict[str, dict[str, Printed]]:
        """Return the scores of a row of this table by group and column.

        Raises:
            DualPixelError: more or fewer than the table has columns, or no numbers.
        """
        found = {}
        for group, line in row.scores.items():
            cells = line.split()
            if len(cells) != len(self.columns):
                raise DualPixelError(
                    f"table {self.table}, {row.method}, {group}: {len(cells)} scores for {len(self.columns)} columns"
                )
            printed = {name: cell for name, cell in zip(self.columns, cells, strict=True) if cell != NOT_PRINTED}
            found[group] = {name: _printed(cell, self.printed_in.get(name, "1")) for name, cell in printed.items()}
        return found


@dataclass(frozen=True)
class PublishedPaper:
    """The tables of one paper.

    Args:
        paper: its short name, one of `PAPERS`.
        title, authors, venue, year: where it was published.
        tables: all that hold results.
    """

    paper: str
    title: str
    authors: str
    venue: str
    year: int
    tables: list[PrintedTable]

    def __post_init__(self) -> None:
        check_paper(self.paper)


def _printed(cell: str, unit: str) -> Printed:
    if not re.fullmatch(NUMBER, cell):
        raise DualPixelError(
            f"{ascii(cell[:80])} is not a number as papers print it, such as 0.090, nor {NOT_PRINTED!r}"
        )
    return Printed(cell, unit)


def check_paper(name: str) -> None:
    """Refuse a name that is none of `PAPERS`."""
    if name not in PAPERS:
        raise DualPixelError(f"no tables of a paper {name!r}; {near(name, PAPERS)}")
