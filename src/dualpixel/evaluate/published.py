"""What the papers print: every row of their tables of results, with source and protocol, and what is doubtful about it.

The tables are files beside this one, ``published_tables/PAPER.yaml``, in the papers' own digits. They never become `Result` files:
rows of a leaderboard that come from here say so.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from dualpixel.data.schema import build
from dualpixel.errors import DualPixelError
from dualpixel.evaluate.columns import IMAGE_METRICS, MAP_METRICS, MAP_PREFIXES, column_names
from dualpixel.evaluate.protocols import get_protocol
from dualpixel.evaluate.sanity import Printed, faults
from dualpixel.files import read_yaml
from dualpixel.hints import near
from dualpixel.recipes.outputs import OUTPUTS

PAPERS = ("dpdnet", "dddnet", "mdp", "dpanet", "k3dn")
TABLES = Path(__file__).parent / "published_tables"
PUBLISHED_SPLIT = "test"
"""The split that all papers score."""
RENDERED = "-optics-"
"""Stands in the fingerprint of views that were rendered, of the photographs of the set or not: not what papers score."""
NOT_PRINTED = "-"
NUMBER = r"-?[0-9]+(\.[0-9]+)?"
COLUMNS = (
    *column_names(OUTPUTS, IMAGE_METRICS, with_input=True),
    *(one for truth in MAP_METRICS for one in column_names((), (), False, tuple(MAP_PREFIXES[truth]), truth)),
)
"""The columns that results of ours can have."""


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
            _check_paper(self.measured_by)


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
        _check_paper(self.paper)


@dataclass(frozen=True)
class PublishedRow:
    """A row as leaderboards take it.

    Args:
        source: the paper.
        table: the table.
        part: the rows that were measured like this one.
        printed: the row as it stands there.
        scores: group, or "overall" -> column of `dualpixel.evaluate.columns` -> the printed number.
        published: always true; what is measured here has a `Result` instead.
    """

    source: PublishedPaper = field(repr=False)
    table: PrintedTable = field(repr=False)
    part: TablePart = field(repr=False)
    printed: PrintedRow
    scores: dict[str, dict[str, Printed]]
    published: bool = field(default=True, init=False)

    @property
    def paper(self) -> str:
        """Short name of the paper."""
        return self.source.paper

    @property
    def citation(self) -> str:
        """Where the row stands, for example ``Pan et al., CVPR 2021, table 2``."""
        said = self.table.table
        where = said if said.startswith("section") else f"table {said}"
        return f"{self.source.authors}, {self.source.venue} {self.source.year}, {where}"

    @property
    def method(self) -> str:
        """Name of the method."""
        return self.printed.method

    @property
    def dataset(self) -> str | None:
        """Name of our card of the data set."""
        return self.table.dataset

    @property
    def protocol(self) -> str | None:
        """Id of our protocol, None where the paper's is another one or not known."""
        return self.part.protocol

    @property
    def recipe(self) -> list[str]:
        """The networks of ours that this is, as names of files."""
        return self.printed.recipe

    @property
    def measured_by(self) -> str | None:
        """The paper whose authors took the scores."""
        return self.part.measured_by

    @property
    def doubt(self) -> str | None:
        """What speaks against the row."""
        return self.printed.doubt

    @property
    def means(self) -> dict[str, dict[str, float]]:
        """The scores as numbers in our units, as `Result.means` has them."""
        return {group: {name: one.value for name, one in columns.items()} for group, columns in self.scores.items()}

    @property
    def faults(self) -> list[str]:
        """What contradicts itself in the row (`dualpixel.evaluate.sanity`)."""
        return faults(self.scores, self.table.groups or None)


def published_rows(dataset: str | None = None, paper: str | None = None) -> list[PublishedRow]:
    """Return the rows that papers print, in the order of `PAPERS` and of their tables.

    Args:
        dataset: only those on the data set of this card; none for a card that is in no paper.
        paper: only those in this paper, by its short name.

    Raises:
        DualPixelError: there is no such paper.
    """
    if paper is not None:
        _check_paper(paper)
    rows = [row for name in PAPERS if paper in (None, name) for row in _stored_rows(name)]
    return [row for row in rows if dataset in (None, row.dataset)]


def load_published(path: Path) -> list[PublishedRow]:
    """Read and validate the tables of one paper.

    Raises:
        DualPixelError: not such a file; the message names the key.
    """
    return list(_rows(build(PublishedPaper, read_yaml(path), str(path))))


@cache
def _stored_rows(paper: str) -> tuple[PublishedRow, ...]:
    return tuple(load_published(TABLES / f"{paper}.yaml"))


def _rows(source: PublishedPaper) -> Iterator[PublishedRow]:
    for table in source.tables:
        for part in table.parts:
            for row in part.rows:
                yield PublishedRow(source, table, part, row, table.scores(row))


def _printed(cell: str, unit: str) -> Printed:
    if not re.fullmatch(NUMBER, cell):
        raise DualPixelError(
            f"{ascii(cell[:80])} is not a number as papers print it, such as 0.090, nor {NOT_PRINTED!r}"
        )
    return Printed(cell, unit)


def _check_paper(name: str) -> None:
    if name not in PAPERS:
        raise DualPixelError(f"no tables of a paper {name!r}; {near(name, PAPERS)}")
