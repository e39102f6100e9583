"""Leaderboards: which results may stand in one table, and in which order.

A table is made of results on the same images by the same protocol: same data set, split, fingerprint, images and protocol. Nothing
else is ranked together. What papers print of the same data set by the same protocol goes with a table, unranked.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from dualpixel.evaluate.published import COLUMNS, PUBLISHED_SPLIT, RENDERED, PublishedRow, published_rows
from dualpixel.evaluate.result import Result
from dualpixel.evaluate.statistics import Comparison, compare, mean_interval
from dualpixel.metrics.per_image import OVERALL

RANKED_BY = ("psnr", "views_psnr", "geometric_mean", "abs_rel")
"""The first of these columns that a table has decides the rank."""
HIGHER_IS_BETTER = ("psnr", "ssim", "delta1", "delta2", "delta3")
"""Metrics; of all others the smallest score is the best."""
INPUT = "input_"


@dataclass(frozen=True)
class Entry:
    """One result of a leaderboard.

    Args:
        folder: of its run, resolved; of a run of W&B where its files were put.
        run: name of that, its path where several have the name.
        result: what was measured.
        file: the result file, beside which pictures of the images may lie.
        link: address of the run's page, where it has one.
    """

    folder: Path
    run: str
    result: Result
    file: Path | None = None
    link: str | None = None

    def scores(self, column: str, group: str = OVERALL) -> float | None:
        """Return a mean, None where there is none."""
        return self.result.means.get(group, {}).get(column)

    def per_image(self, column: str, keys: Sequence[str]) -> list[float]:
        """Return the scores of images in the order of `keys`, in a column that has a mean."""
        of_image = {row["key"]: row[column] for row in self.result.rows}
        return [of_image[key] for key in keys]


@dataclass(frozen=True)
class Row:
    """An entry in a table.

    Args:
        entry: the result.
        rank: its place by the ranking column, equal scores share one; None without such a score.
        interval: 95 % bootstrap interval of that score; None where a single image has no spread.
        comparison: with the entry that others are compared with, by the same column.
    """

    entry: Entry
    rank: int | None = None
    interval: tuple[float, float] | None = None
    comparison: Comparison | None = None


@dataclass(frozen=True)
class Leaderboard:
    """One table.

    Args:
        entries: results on the same images by the same protocol, in any order.
        against: the one of them that others are compared with; None for no comparison.
    """

    entries: list[Entry]
    against: Entry | None = None

    @cached_property
    def rows(self) -> list[Row]:
        """The entries with what is said about each, the best first; those without a score in the ranking column last."""
        column = self.ranked_by
        known = [one for one in self.entries if column and one.scores(column) is not None]
        if not known:
            return [Row(one) for one in self.entries]
        sign = -1 if column.endswith(HIGHER_IS_BETTER) else 1
        known.sort(key=lambda one: (sign * one.scores(column), one.run))
        ranks = [1]
        for place, (before, one) in enumerate(pairwise(known), 2):
            ranks.append(ranks[-1] if one.scores(column) == before.scores(column) else place)
        keys = sorted(row["key"] for row in self.about.rows)
        intervals: list[Any] = [None] * len(known)
        comparisons: list[Any] = [None] * len(known)
        if len(keys) > 1:
            table = np.array([one.per_image(column, keys) for one in known])
            intervals = [(float(low), float(high)) for low, high in mean_interval(table)]
            if self.against in known:
                comparisons = list(compare(table, table[known.index(self.against)]))
                comparisons[known.index(self.against)] = None
        rows = [Row(*one) for one in zip(known, ranks, intervals, comparisons, strict=True)]
        return rows + [Row(one) for one in self.entries if one.scores(column) is None]

    @property
    def about(self) -> Result:
        """A result that says what all of them were measured on."""
        return self.entries[0].result

    @cached_property
    def columns(self) -> list[str]:
        """The scores that any entry has; those of the input are a row of their own."""
        return [name for name in COLUMNS if not name.startswith(INPUT) and self._has(name)]

    @cached_property
    def ranked_by(self) -> str | None:
        """The column that decides."""
        return next((name for name in RANKED_BY if self._has(name)), None)

    @cached_property
    def groups(self) -> dict[str, int]:
        """Group -> number of images, where there are several."""
        names = [row["group"] for row in self.about.rows if row["group"]]
        counts = {name: names.count(name) for name in dict.fromkeys(names)}
        return counts if len(counts) > 1 else {}

    @cached_property
    def inputs(self) -> dict[str, dict[str, float]]:
        """Group -> column -> score of the unprocessed input in the place of the output, from the first entry that has it."""
        found: dict[str, dict[str, float]] = {}
        for group in (OVERALL, *self.groups):
            for name in self.columns:
                known = (one.scores(INPUT + name, group) for one in self.entries)
                score = next((value for value in known if value is not None), None)
                if score is not None:
                    found.setdefault(group, {})[name] = score
        return found

    @cached_property
    def printed_alike(self) -> list[PublishedRow]:
        """What papers print of this data set by this protocol; nothing beside a part of it, or rendered views."""
        about = self.about
        whole = about.complete and about.split == PUBLISHED_SPLIT and RENDERED not in about.fingerprint
        return [row for row in self._printed() if row.protocol == about.protocol] if whole else []

    @cached_property
    def published(self) -> list[PublishedRow]:
        """Those of `printed_alike` with a score that the table has."""
        return [row for row in self.printed_alike if {*self.columns} & {*row.means[OVERALL]}]

    @cached_property
    def not_shown(self) -> dict[str, int]:
        """Protocol, or "another or unknown protocol" -> how many published rows of this data set do not stand here."""
        shown = {id(row) for row in self.published}
        names = [row.protocol or "another or unknown protocol" for row in self._printed() if id(row) not in shown]
        return {name: names.count(name) for name in sorted({*names})}

    def _printed(self) -> list[PublishedRow]:
        return [row for row in published_rows(self.about.dataset) if row.means.get(OVERALL)]

    def _has(self, column: str) -> bool:
        return any(one.scores(column) is not None for one in self.entries)


def leaderboards(entries: Iterable[Entry], against: Path | None = None) -> list[Leaderboard]:
    """Put results into tables, sorted by data set, split, protocol and fingerprint.

    Args:
        entries: all results.
        against: resolved folder of the run that others are compared with, in the tables where it stands.
    """
    tables: dict[tuple[Any, ...], list[Entry]] = {}
    for one in entries:
        result = one.result
        images = tuple(sorted(row["key"] for row in result.rows))
        about = (result.dataset, result.split, result.protocol, result.fingerprint, result.complete, images)
        tables.setdefault(about, []).append(one)
    made = []
    for about in sorted(tables):
        base = next((one for one in tables[about] if one.folder == against), None)
        made.append(Leaderboard(tables[about], base))
    return made
