"""What papers print of data or by protocols that nothing was measured of: tables of published rows alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dualpixel.evaluate.columns import COLUMNS
from dualpixel.evaluate.leaderboard.tables import RANKED_BY, Leaderboard
from dualpixel.evaluate.protocols import get_protocol
from dualpixel.evaluate.published import PUBLISHED_SPLIT, PublishedRow, published_rows
from dualpixel.metrics.per_image import OVERALL

UNKNOWN = "another or unknown protocol"


@dataclass(frozen=True)
class PublishedBoard:
    """One table without a measured result.

    Args:
        published: rows of one data set by one protocol; where that is not one of ours, rows of one printed table alone.
    """

    published: list[PublishedRow]

    @property
    def about(self) -> PublishedRow:
        """A row that says what all of them are about."""
        return self.published[0]

    @property
    def title(self) -> str:
        """What the table is about."""
        about = self.about
        if about.protocol:
            return f"{about.dataset or about.table.data} {PUBLISHED_SPLIT}, protocol {about.protocol}"
        return f"{about.dataset or about.table.data}, {UNKNOWN}: {about.citation}"

    @property
    def facts(self) -> list[str]:
        """What must be known beside it."""
        data = dict.fromkeys(row.table.data for row in self.published)
        about = self.about
        how = (
            get_protocol(about.protocol).description
            if about.protocol
            else "By another protocol than ours, or one that is not known: comparable within this printed table at most."
        )
        return [f"Data: {'; '.join(data)}.", how]

    @cached_property
    def columns(self) -> list[str]:
        """The scores that any row has."""
        return [name for name in COLUMNS if any(name in row.scores.get(OVERALL, {}) for row in self.published)]

    @cached_property
    def ranked_by(self) -> str | None:
        """The column by which they are sorted."""
        return next((name for name in RANKED_BY if name in self.columns), None)


def published_boards(boards: Sequence[Leaderboard]) -> list[PublishedBoard]:
    """Return the published rows that go with no table of results, those by protocols of ours first."""
    shown = {id(row) for board in boards for row in board.printed_alike}
    tables: dict[tuple[Any, ...], list[PublishedRow]] = {}
    for row in published_rows():
        if id(row) not in shown:
            printed_table = () if row.protocol else (row.table.data, row.citation)
            tables.setdefault((row.dataset, row.protocol, *printed_table), []).append(row)
    return sorted(map(PublishedBoard, tables.values()), key=lambda board: board.about.protocol is None)
