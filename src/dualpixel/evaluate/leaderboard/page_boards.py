"""Leaderboards as plain data, which the page draws: columns, rows, and what may be plotted against what."""

import re
from collections.abc import Sequence
from math import isfinite
from typing import Any

from dualpixel.evaluate.grids import Cell
from dualpixel.evaluate.leaderboard.cells import (
    COSTS,
    comparison_cells,
    cost_cells,
    device,
    input_cells,
    macs_size,
    name_cells,
    operations_counted,
    printed_cells,
    rank_cell,
    score_cells,
    source,
)
from dualpixel.evaluate.leaderboard.grids import (
    comparison_headings,
    measured_facts,
    printed_groups,
    score_headings,
    title,
)
from dualpixel.evaluate.leaderboard.printed import UNKNOWN, PublishedBoard
from dualpixel.evaluate.leaderboard.tables import HIGHER_IS_BETTER, Leaderboard, Row
from dualpixel.evaluate.published import PublishedRow
from dualpixel.metrics.per_image import OVERALL
from dualpixel.terminal import one_line

ADDRESS = r"https?://[^\s\"'<>\\]+"
"""What a link may lead to."""
PARAMETERS = "parameters"
NAMES = ("rank", "recipe or method", "run or source")
DEVICE = COSTS.index("time") + 1
PAGE_COSTS = [*COSTS[:DEVICE], "device", *COSTS[DEVICE:]]
Data = dict[str, Any]


def measured_board(board: Leaderboard) -> Data:
    """Return a table of results, and the published rows that go with it.

    Returns:
        ``title``, ``dataset``, ``protocol``, ``measured``, ``facts``; ``columns`` with their ``heading``, whether they are ``number``
        and ``score``, their ``group`` if any, and whether ``descending`` is their natural order; ``ranked``, the place of the ranking
        column; ``rows`` with their ``kind``, ``cells`` (text; or value, text and whether it is the best) and ``costs`` (axis -> number);
        ``axes``, what a plot may have along its x axis; ``doubts`` and ``sources`` of the published rows.
    """
    rows = board.printed_alike
    groups = list(dict.fromkeys([*board.groups, *printed_groups(rows)]))
    made = _Table(board.columns, board.ranked_by, groups, comparison_headings(board), board.printed_columns)
    tables = [score_cells(board, group, board.columns) for group in (OVERALL, *groups)]
    for row, *scores in zip(board.rows, *tables, strict=True):
        compared = comparison_cells(row, board.ranked_by) if board.against else []
        link = row.entry.link
        extra = {"link": link} if link and re.fullmatch(ADDRESS, link) else {}
        costs = cost_cells(row)
        costs.insert(DEVICE, Cell(device(row.entry.result)) if costs[DEVICE - 1].text else Cell())
        made.add("measured", [rank_cell(row), *name_cells(row)], scores, compared, costs, _costs(row), **extra)
    if board.inputs:
        scores = [input_cells(board, group, board.columns) for group in (OVERALL, *groups)]
        made.add("input", [Cell("–"), Cell("unprocessed input"), Cell()], scores)
    for row in rows:
        made.add_published(row)
    about = board.about
    said = {"title": title(board), "dataset": one_line(about.dataset), "protocol": one_line(about.protocol)}
    return {**said, "measured": True, "facts": measured_facts(board), **made.data()}


def unmeasured_board(board: PublishedBoard) -> Data:
    """Return a table of published rows, as `measured_board` does."""
    made = _Table(board.columns, board.ranked_by, printed_groups(board.published), measured=False)
    for row in board.published:
        made.add_published(row)
    dataset, protocol = board.about.dataset or "no data set of ours", board.about.protocol or UNKNOWN
    said = {"title": board.title, "dataset": dataset, "protocol": protocol}
    return {**said, "measured": False, "facts": board.facts, **made.data()}


class _Table:
    """Columns and rows of one table.

    Args:
        columns: scores of results.
        ranked_by: the one of them that decides.
        groups: of the scores that have columns of their own.
        compared: headings of the comparison.
        printed: scores that published rows alone have.
        measured: whether there are results, whose ranking score has intervals.
    """

    def __init__(
        self,
        columns: Sequence[str],
        ranked_by: str | None,
        groups: Sequence[str],
        compared: Sequence[str] = (),
        printed: Sequence[str] = (),
        measured: bool = True,
    ) -> None:
        self._columns, self._groups, self._compared, self._printed = columns, groups, compared, printed
        self._rows: list[Data] = []
        self._axes: dict[str, int] = {}
        self._doubts: list[str] = []
        self._sources: dict[str, None] = {}
        self._ranked = len(NAMES) + columns.index(ranked_by) if ranked_by else None
        plain = _score_columns(columns)
        self._head = [
            *({"heading": said, "number": said == "rank"} for said in NAMES),
            *_score_columns(columns, ranked_by if measured else None),
            *({"heading": said, "number": True, "descending": said != "p"} for said in compared),
            *({**score, "group": one_line(group)} for group in groups for score in plain),
            *({"heading": said, "number": said in COSTS[:DEVICE]} for said in PAGE_COSTS),
            *_score_columns(printed),
        ]

    def add(
        self,
        kind: str,
        names: list[Cell],
        scores: Sequence[list[Cell]],
        compared: list[Cell] | None = None,
        costs: list[Cell] | None = None,
        axes: dict[str, float] | None = None,
        printed: list[Cell] | None = None,
        **extra: Any,
    ) -> None:
        """Add a row: its scores are those of all images and of each group, `axes` name what it may be plotted against."""
        overall, *of_groups = scores
        cells = [
            *names,
            *overall,
            *(compared or [Cell()] * len(self._compared)),
            *(cell for group in of_groups for cell in group),
            *(costs or [Cell()] * len(PAGE_COSTS)),
            *(printed or [Cell()] * len(self._printed)),
        ]
        told = [
            one.text if one.value is None or not isfinite(one.value) else [one.value, one.text, *[1] * one.best]
            for one in cells
        ]
        places = {self._axes.setdefault(name, len(self._axes)): value for name, value in (axes or {}).items()}
        self._rows.append({"kind": kind, "cells": told, "costs": places, **extra})

    def add_published(self, row: PublishedRow) -> None:
        """Add a row that a paper prints."""
        extra = {}
        if row.doubt:
            self._doubts.append(f"{row.method} ({row.citation}): {row.doubt}")
            extra = {"doubt": len(self._doubts)}
        counted = f"; operations are {row.printed.operations_counted}" if row.printed.operations_counted else ""
        self._sources[f"{row.citation}: {row.part.protocol_said}{counted}"] = None
        names = [Cell("–"), Cell(row.method), Cell(source(row).removesuffix(", doubtful"))]
        scores = [printed_cells(row, group, self._columns) for group in (OVERALL, *self._groups)]
        costs, axes = _printed_costs(row)
        printed = printed_cells(row, OVERALL, self._printed)
        self.add("published", names, scores, None, costs, axes, printed, **extra)

    def data(self) -> Data:
        """Return all of it."""
        return {
            "columns": self._head,
            "ranked": self._ranked,
            "axes": list(self._axes),
            "rows": self._rows,
            "doubts": self._doubts,
            "sources": list(self._sources),
        }


def _score_columns(columns: Sequence[str], ranked_by: str | None = None) -> list[Data]:
    return [
        {"heading": said, "number": True, "score": True, "descending": name.endswith(HIGHER_IS_BETTER)}
        for name, said in zip(columns, score_headings(columns, ranked_by), strict=True)
    ]


def _costs(row: Row) -> dict[str, float]:
    """Return what a result may be plotted against; only numbers of the same axis are comparable."""
    result = row.entry.result
    costs = {PARAMETERS: result.parameters}
    if result.macs:
        size = macs_size(result)
        costs[f"multiply-accumulates at {size}" if size else "multiply-accumulates"] = result.macs
    if result.seconds is not None:
        costs[f"seconds per image on {device(result)}"] = result.seconds
    return costs


def _printed_costs(row: PublishedRow) -> tuple[list[Cell], dict[str, float]]:
    printed, axes = row.printed, {}
    cells = [Cell()] * len(PAGE_COSTS)
    if printed.parameters_millions:
        axes[PARAMETERS] = float(printed.parameters_millions) * 1e6
        cells[0] = Cell(f"{printed.parameters_millions} M", value=axes[PARAMETERS])
    if printed.operations_giga:
        counted = operations_counted(row)
        axes[f"operations as printed: {row.table.operations_said}; {counted}"] = float(printed.operations_giga) * 1e9
        cells[1] = Cell(
            f"{printed.operations_giga} G as printed: {counted}"
        )  # without a value: it is not sorted among ours
    if total := printed.seconds.get("total"):
        axes[f"seconds as printed by {row.citation}"] = float(total)
        cells[2] = Cell(f"{total} s as printed", value=float(total))
    return cells, axes
