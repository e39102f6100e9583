"""The cells of a leaderboard: whatever shows one gets the same digits, in the same words."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import PurePath

from dualpixel.evaluate.grids import Cell
from dualpixel.evaluate.leaderboard.tables import HIGHER_IS_BETTER, Leaderboard, Row, decimals
from dualpixel.evaluate.published import PublishedRow
from dualpixel.evaluate.recipe_networks import options_apart
from dualpixel.evaluate.report import HEADINGS
from dualpixel.evaluate.result import Result
from dualpixel.metrics.per_image import OVERALL
from dualpixel.terminal import one_line

HASH_DIGITS = 12
DEVICE_LETTERS = OPTIONS_LETTERS = FILE_LETTERS = 80
MOST_THREADS = 10**6
FULL_PRECISION = ("32-true", "32")
UNKNOWN_COUNT = "what was counted is not known"
VIEWS = ("views_", "left_", "right_", "coarse_")
COSTS = ["parameters", "MACs", "time", "weights", "code"]
"""Headings of `cost_cells`."""


def heading(column: str) -> str:
    """Return what stands above a column of scores."""
    for view in VIEWS:
        if column.startswith(view):
            return f"{view.rstrip('_')} {heading(column.removeprefix(view))}"
    return HEADINGS.get(column, column.upper())


def device(result: Result) -> str:
    """Return what a result was measured on; of a processor also how many threads it had, and the precision where it is not the full one."""
    known = result.environment
    name = one_line(str(known.get("device_name") or known.get("device") or "an unknown device"))[:DEVICE_LETTERS]
    threads, precision = known.get("threads"), one_line(str(known.get("precision") or ""))[:DEVICE_LETTERS]
    if known.get("device") == "cpu" and type(threads) is int and 0 < threads < MOST_THREADS:
        name += f", {threads} thread{'s' if threads > 1 else ''}"
    return f"{name}, precision {precision}" if precision and precision not in FULL_PRECISION else name


def rank_cell(row: Row) -> Cell:
    """Return the place of a row, a dash for none."""
    return Cell(str(row.rank or "–"), value=row.rank)


def name_cells(row: Row) -> list[Cell]:
    """Return recipe, with the options of the network that are other ones than in its file, and run."""
    result = row.entry.result
    apart = options_apart(result.recipe, result.options)
    said = ", ".join(f"{name} {value}" for name, value in apart.items())
    said = f"{said[:OPTIONS_LETTERS]}..." if len(said) > OPTIONS_LETTERS else said
    views = f" on views of {result.views_from.get('recipe', '?')}" if result.views_from else ""
    return [Cell(one_line(result.recipe + (f" ({said})" if said else "") + views)), Cell(one_line(row.entry.run))]


def score_cells(board: Leaderboard, group: str, columns: Sequence[str]) -> list[list[Cell]]:
    """Return the means of all rows; the ranking score has its interval.

    What reads the same as the best is best as well. Nothing is where the unprocessed input is no worse.
    """
    table: list[list[Cell]] = [[] for _ in board.rows]
    for name in columns:
        digits = decimals(name)
        values = [row.entry.scores(name, group) for row in board.rows]
        known = [value for value in values if value is not None]
        pick = max if name.endswith(HIGHER_IS_BETTER) else min
        best = f"{pick(known):.{digits}f}" if known else None
        unprocessed = board.inputs.get(group, {}).get(name)
        if best and unprocessed is not None:
            shown = f"{unprocessed:.{digits}f}"
            best = None if pick(float(shown), float(best)) == float(shown) else best
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
        Cell(
            f"{one_line(PurePath(result.weights_source).name)[:FILE_LETTERS]} {result.weights_sha256[:HASH_DIGITS]}".strip()
        ),
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


def operations_counted(row: PublishedRow) -> str:
    """Return what a paper's operations are, as far as that is known."""
    return row.printed.operations_counted or UNKNOWN_COUNT


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
    if row.part.departs:
        yield f"measured otherwise: {row.part.departs}"
