"""The cells of a leaderboard: whatever shows one gets the same digits, in the same words."""

from collections.abc import Iterator, Sequence
from decimal import Decimal

from dualpixel.evaluate.grids import Cell
from dualpixel.evaluate.leaderboard.tables import HIGHER_IS_BETTER, Leaderboard, Row
from dualpixel.evaluate.published import PublishedRow
from dualpixel.evaluate.report import HEADINGS
from dualpixel.evaluate.result import Result
from dualpixel.metrics.per_image import OVERALL
from dualpixel.terminal import one_line

HASH_DIGITS = 12
DEVICE_LETTERS = 80
VIEWS = ("views_", "left_", "right_", "coarse_")
COSTS = ["parameters", "MACs", "time", "weights", "code"]
"""Headings of `cost_cells`."""


def heading(column: str) -> str:
    """Return what stands above a column of scores."""
    for view in VIEWS:
        if column.startswith(view):
            return f"{view.rstrip('_')} {heading(column.removeprefix(view))}"
    return HEADINGS.get(column, column.upper())


def decimals(column: str) -> int:
    """Return how many digits of a score are shown behind the point."""
    return 3 if column.endswith("psnr") else 4


def device(result: Result) -> str:
    """Return what a result was measured on; of a processor also how many threads it had."""
    known = result.environment
    name = one_line(str(known.get("device_name") or known.get("device") or "an unknown device"))[:DEVICE_LETTERS]
    threads = known.get("threads")
    return f"{name}, {threads} threads" if known.get("device") == "cpu" and type(threads) is int else name


def rank_cell(row: Row) -> Cell:
    """Return the place of a row, a dash for none."""
    return Cell(str(row.rank or "–"), value=row.rank)


def name_cells(row: Row) -> list[Cell]:
    """Return recipe and run."""
    result = row.entry.result
    views = f" on views of {result.views_from.get('recipe', '?')}" if result.views_from else ""
    return [Cell(one_line(result.recipe + views)), Cell(one_line(row.entry.run))]


def score_cells(board: Leaderboard, group: str, columns: Sequence[str]) -> list[list[Cell]]:
    """Return the means of all rows; what reads the same as the best is best as well, and the ranking score has its interval."""
    table: list[list[Cell]] = [[] for _ in board.rows]
    for name in columns:
        digits = decimals(name)
        values = [row.entry.scores(name, group) for row in board.rows]
        known = [value for value in values if value is not None]
        pick = max if name.endswith(HIGHER_IS_BETTER) else min
        best = f"{pick(known):.{digits}f}" if known else None
        for row, cells, value in zip(board.rows, table, values, strict=True):
            text = "" if value is None else f"{value:.{digits}f}"
            interval = row.interval if name == board.ranked_by and group == OVERALL else None
            beside = f" ({interval[0]:.{digits}f} to {interval[1]:.{digits}f})" if interval else ""
            cells.append(Cell(text + beside, bool(text) and text == best, value))
    return table


def input_cells(board: Leaderboard, group: str, columns: Sequence[str]) -> list[Cell]:
    """Return the scores of the unprocessed input."""
    known = board.inputs.get(group, {})
    return [
        Cell(f"{known[name]:.{decimals(name)}f}", value=known[name]) if name in known else Cell() for name in columns
    ]


def comparison_cells(row: Row, column: str | None) -> list[Cell]:
    """Return the difference from the result that others are compared with, and its p-value."""
    one = row.comparison
    if one is None or column is None:
        return [Cell(), Cell()]
    mean, low, high = (f"{value:+.{decimals(column)}f}" for value in (one.difference, one.low, one.high))
    return [
        Cell(f"{mean} ({low} to {high})", value=one.difference),
        Cell(f"{one.p_value:.4f}", value=one.p_value),
    ]


def cost_cells(row: Row) -> list[Cell]:
    """Return what stands below `COSTS`."""
    result = row.entry.result
    size = f" at {macs_size(result)}" if result.macs_size else ""
    return [
        Cell(f"{result.parameters:,}", value=result.parameters),
        Cell(f"{result.macs / 1e9:,.2f} G{size}", value=result.macs) if result.macs else Cell(),
        Cell() if result.seconds is None else Cell(f"{result.seconds:.3g} s", value=result.seconds),
        Cell(result.weights_sha256[:HASH_DIGITS]),
        Cell(result.code),
    ]


def macs_size(result: Result) -> str:
    """Return the size for which multiply-accumulates were counted, as text."""
    return "x".join(map(str, result.macs_size or []))


def printed_cells(row: PublishedRow, group: str, columns: Sequence[str]) -> list[Cell]:
    """Return the scores of a published row in the paper's digits and our units."""
    printed = row.scores.get(group, {})
    return [
        Cell(f"{Decimal(one.text) * Decimal(one.unit):f}", value=one.value) if one else Cell()
        for one in map(printed.get, columns)
    ]


def source(row: PublishedRow) -> str:
    """Return where a published row stands, and how it differs from the others."""
    measured = f"; measured by the authors of {row.measured_by}" if row.measured_by not in (None, row.paper) else ""
    return row.citation + "".join(f", {mark}" for mark in _marks(row)) + measured + (", doubtful" if row.doubt else "")


def _marks(row: PublishedRow) -> Iterator[str]:
    if row.table.ablation:
        yield "ablation"
    if row.printed.extra_data:
        yield "more training data"
    if row.printed.training:
        yield row.printed.training
