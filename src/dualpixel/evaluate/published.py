"""What the papers print: every row of their tables of results, with source and protocol, and what is doubtful about it.

The tables are files beside this one, ``published_tables/PAPER.yaml``, in the papers' own digits. They never become `Result` files:
rows of a leaderboard that come from here say so.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from dualpixel.data.schema import build
from dualpixel.evaluate.printed_tables import PAPERS, PrintedRow, PrintedTable, PublishedPaper, TablePart, check_paper
from dualpixel.evaluate.sanity import Printed, faults
from dualpixel.files import read_yaml

TABLES = Path(__file__).parent / "published_tables"
PUBLISHED_SPLIT = "test"
"""The split that all papers score."""
RENDERED = "-optics-"
"""Stands in the fingerprint of views that were rendered, of the photographs of the set or not: not what papers score."""


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
        check_paper(paper)
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
