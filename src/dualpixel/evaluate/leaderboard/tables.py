"""Leaderboards: which results may stand in one table, and in which order.

A table is made of results on the same images by the same protocol: same data set, version, split, fingerprint, images, protocol and,
where results have them, settings of the protocol. Nothing else is ranked together. What papers print of the same data set by the same
protocol goes with a table, unranked.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from dualpixel.evaluate.columns import COLUMNS
from dualpixel.evaluate.comparable import not_whole, other_images
from dualpixel.evaluate.protocol import WORDS_ONLY
from dualpixel.evaluate.published import PublishedRow, published_rows
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
    def other_inputs(self) -> list[str]:
        """The first run and those where the input of any image has a score that reads otherwise than there; none where all agree."""
        keys = [row["key"] for row in self.about.rows]
        first: dict[str, tuple[Entry, list[float]]] = {}
        apart: dict[str, None] = {}
        for one in self.entries:
            for name in (INPUT + name for name in self.columns):
                if one.scores(name) is None:
                    continue
                scores = one.per_image(name, keys)
                base, known = first.setdefault(name, (one, scores))
                if scores != known and np.abs(np.subtract(scores, known)).max() > 10 ** -decimals(name):
                    apart |= {base.run: None, one.run: None}
        return [*apart]

    @cached_property
    def printed_alike(self) -> list[PublishedRow]:
        """What papers print of these images by this protocol; nothing beside a part of the set, or rendered views."""
        return [row for row in self._by_protocol() if not other_images(row, self.about)]

    @cached_property
    def printed_columns(self) -> list[str]:
        """The scores that published rows of `printed_alike` alone have."""
        printed = {name for row in self.printed_alike for name in row.means[OVERALL]}
        return [name for name in COLUMNS if name in printed and name not in self.columns]

    @cached_property
    def published(self) -> list[PublishedRow]:
        """Those of `printed_alike` with a score that the table has."""
        return [row for row in self.printed_alike if {*self.columns} & {*row.means[OVERALL]}]

    @cached_property
    def not_shown(self) -> dict[str, int]:
        """Protocol, or why else -> how many published rows of this data set do not stand here."""
        shown = {id(row) for row in self.published}
        alike = {id(row) for row in self._by_protocol()}
        names = []
        for row in self._printed():
            if id(row) not in shown:
                others = other_images(row, self.about) if id(row) in alike else None
                protocol = row.protocol or "another or unknown protocol"
                names.append(f"{protocol} ({others})" if others else protocol)
        return {name: names.count(name) for name in sorted({*names})}

    def _by_protocol(self) -> list[PublishedRow]:
        about = self.about
        return [] if not_whole(about) else [row for row in self._printed() if row.protocol == about.protocol]

    def _printed(self) -> list[PublishedRow]:
        return [row for row in published_rows(self.about.dataset) if row.means.get(OVERALL)]

    def _has(self, column: str) -> bool:
        return any(one.scores(column) is not None for one in self.entries)


def leaderboards(entries: Iterable[Entry], against: Path | None = None) -> list[Leaderboard]:
    """Put results into tables, sorted by data set, split, protocol and fingerprint.

    A result without settings of its protocol goes with those of the same id that have some, unless they differ.

    Args:
        entries: all results.
        against: resolved folder of the run that others are compared with, in the tables where it stands.
    """
    tables: dict[tuple[Any, ...], list[Entry]] = {}
    for one in entries:
        result = one.result
        images = tuple(sorted(row["key"] for row in result.rows))
        data = (result.dataset, result.split, result.protocol, result.fingerprint, result.dataset_version)
        tables.setdefault((*data, result.complete, images, settings_of(result)), []).append(one)
    for *about, settings in [*tables]:
        others = [] if settings else [one for one in tables if one[:-1] == tuple(about) and one[-1]]
        if len(others) == 1:
            tables[others[0]] += tables.pop((*about, settings))
    made = []
    for about in sorted(tables):
        base = next((one for one in tables[about] if one.folder == against), None)
        made.append(Leaderboard(tables[about], base))
    return made


def decimals(column: str) -> int:
    """Return how many digits of a score are shown behind the point."""
    return 3 if column.endswith("psnr") else 4


def settings_of(result: Result) -> str:
    """Return the settings of a result's protocol that decide on scores, as text; nothing where it has none."""
    if result.protocol_settings is None:
        return ""
    deciding = {name: value for name, value in result.protocol_settings.items() if name not in WORDS_ONLY}
    return json.dumps(deciding, sort_keys=True)
