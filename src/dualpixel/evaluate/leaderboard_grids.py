"""A leaderboard as cells of text, and these as Markdown: whatever shows one gets the same digits."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from dualpixel import __version__
from dualpixel.data.schema import STEERING
from dualpixel.evaluate.leaderboard import HIGHER_IS_BETTER, Leaderboard, Row
from dualpixel.evaluate.published import PublishedRow
from dualpixel.evaluate.report import HEADINGS
from dualpixel.evaluate.statistics import RESAMPLES, SEED
from dualpixel.metrics.per_image import OVERALL

HASH_DIGITS = 12
VIEWS = ("views_", "left_", "right_", "coarse_")
NUMERIC = ("rank", "parameters", "MACs", "parameters (M)")
INTERVALS = (
    "Scores are means over images, the best of a column in bold. In brackets: 95 % of the means of as many images drawn anew from the "
    f"same ones (percentile bootstrap, {RESAMPLES:,} draws, seed {SEED}), which is too narrow for fewer than about 20 images; how scores "
    "change when a network is trained again it does not say. Results of different tables are not comparable."
)
COMPARED = (
    "Differences are the row's mean minus that of {}, image by image, with the same kind of interval; p is two-sided, of the sign-flip "
    "permutation test, and not corrected for the number of rows."
)


@dataclass(frozen=True)
class Cell:
    """What stands in one cell.

    Args:
        text: without any markup.
        best: whether it is to stand out.
    """

    text: str = ""
    best: bool = False


@dataclass(frozen=True)
class Grid:
    """A table of cells.

    Args:
        title: what it shows.
        headings: of the columns.
        rows: cells in the order of the headings.
        numeric: the columns that are numbers, by their place.
    """

    title: str
    headings: list[str]
    rows: list[list[Cell]]
    numeric: frozenset[int]


def title(board: Leaderboard) -> str:
    """Return what a table is about."""
    about = board.about
    return f"{_name(about.dataset)} {_name(about.split)}, protocol {_name(about.protocol)}"


def facts(board: Leaderboard) -> list[str]:
    """Return what must be known beside the table, in sentences."""
    about = board.about
    groups = ", ".join(f"{count} {_name(group)}" for group, count in board.groups.items())
    count = f"{len(about.rows)} image{'s' if len(about.rows) > 1 else ''}{f' ({groups})' if groups else ''}"
    said = [f"Data {_name(about.fingerprint)}, {count}. {_name(about.protocol_description)}".strip()]
    if not about.complete:
        said.append("These are not all images of the split.")
    others = [
        row.entry.run for row in board.rows if row.entry.result.protocol_description != about.protocol_description
    ]
    if others:
        said.append(f"The protocol was described in other words in: {', '.join(map(_name, others))}.")
    hidden = ", ".join(f"{number} of {_name(protocol)}" for protocol, number in board.not_shown.items())
    if hidden:
        said.append(f"Published rows on {_name(about.dataset)} that are not shown here: {hidden}.")
    return said


def ranking(board: Leaderboard) -> Grid:
    """Return the ranked results, and the unprocessed input below them."""
    columns = board.columns
    compared = [f"against {_name(board.against.run)}", "p"] if board.against else []
    scores = [_heading(name) + (" (95 %)" if name == board.ranked_by else "") for name in columns]
    table = _scores(board, OVERALL)
    rows = []
    for row, cells in zip(board.rows, table, strict=True):
        beside = [Cell(text) for text in _comparison(row, board.ranked_by)] if board.against else []
        rows.append([Cell(str(row.rank or "–")), *_names(row), *cells, *beside, *_costs(row)])
    if OVERALL in board.inputs:
        unranked = [Cell("–"), Cell("unprocessed input"), Cell()]
        rows.append([*unranked, *_input(board, OVERALL), *[Cell()] * (len(compared) + 4)])
    headings = ["rank", "recipe", "run", *scores, *compared, "parameters", "MACs", "weights", "code"]
    return Grid(title(board), headings, rows, _numeric(headings, [*scores, *compared]))


def group_means(board: Leaderboard, group: str) -> Grid:
    """Return the means of one group, in the order of the ranking."""
    scores = [_heading(name) for name in board.columns]
    rows = [[*_names(row), *cells] for row, cells in zip(board.rows, _scores(board, group), strict=True)]
    if group in board.inputs:
        rows.append([Cell("unprocessed input"), Cell(), *_input(board, group)])
    headings = ["recipe", "run", *scores]
    return Grid(f"{_name(group)}, {board.groups[group]} images", headings, rows, _numeric(headings, scores))


def published(board: Leaderboard) -> Grid:
    """Return what papers print, in their digits and our units."""
    scores = [_heading(name) for name in board.columns]
    rows = []
    for row in board.published:
        cells = [Cell(_digits(row, name)) for name in board.columns]
        rows.append([Cell(row.method), Cell(_source(row)), *cells, Cell(row.printed.parameters_millions or "")])
    headings = ["method", "source", *scores, "parameters (M)"]
    return Grid("published: not measured here, not ranked", headings, rows, _numeric(headings, scores))


def doubts(board: Leaderboard) -> list[str]:
    """Return what speaks against published rows of the table."""
    return [f"{row.method} ({row.citation}): {row.doubt}" for row in board.published if row.doubt]


def markdown(boards: Sequence[Leaderboard], left_out: Sequence[str] = ()) -> str:
    """Render tables as one Markdown file.

    Args:
        boards: the tables.
        left_out: lines about results that are in none of them.
    """
    count = sum(len(board.entries) for board in boards)
    lines = ["# Leaderboard", "", f"{count} results, by dualpixel {__version__}. {INTERVALS}", ""]
    bases = [board.against.run for board in boards if board.against]
    if bases:
        lines += [COMPARED.format(_escape(_name(bases[0]))), ""]
    for board in boards:
        lines += [f"## {_escape(title(board))}", ""]
        lines += [line for fact in facts(board) for line in (_escape(fact), "")]
        lines += [*_markdown(ranking(board)), ""]
        grids = [group_means(board, group) for group in board.groups] + ([published(board)] if board.published else [])
        for grid in grids:
            lines += [f"### {_escape(grid.title)}", "", *_markdown(grid), ""]
        lines += _listed(f"Doubtful: {doubt}" for doubt in doubts(board))
    if left_out:
        lines += ["## Left out", "", *_listed(left_out)]
    return "\n".join(lines).rstrip() + "\n"


def _markdown(grid: Grid) -> Iterator[str]:
    yield f"| {' | '.join(map(_escape, grid.headings))} |"
    yield f"|{'|'.join('---:' if place in grid.numeric else '---' for place in range(len(grid.headings)))}|"
    for row in grid.rows:
        cells = (f"**{_escape(cell.text)}**" if cell.best else _escape(cell.text) for cell in row)
        yield f"| {' | '.join(cells)} |"


def _listed(lines: Iterable[str]) -> list[str]:
    items = [f"- {_escape(_name(line))}" for line in lines]
    return [*items, ""] if items else []


def _scores(board: Leaderboard, group: str) -> list[list[Cell]]:
    """Return the cells of all rows; what reads the same as the best is best as well."""
    table: list[list[Cell]] = [[] for _ in board.rows]
    for name in board.columns:
        values = [row.entry.scores(name, group) for row in board.rows]
        known = [value for value in values if value is not None]
        pick = max if name.endswith(HIGHER_IS_BETTER) else min
        best = _number(pick(known), name) if known else None
        for row, cells, value in zip(board.rows, table, values, strict=True):
            text = "" if value is None else _number(value, name)
            interval = row.interval if name == board.ranked_by and group == OVERALL else None
            beside = f" ({' to '.join(_number(bound, name) for bound in interval)})" if interval else ""
            cells.append(Cell(text + beside, bool(text) and text == best))
    return table


def _input(board: Leaderboard, group: str) -> list[Cell]:
    known: Mapping[str, float] = board.inputs[group]
    return [Cell(_number(known[name], name) if name in known else "") for name in board.columns]


def _names(row: Row) -> list[Cell]:
    result = row.entry.result
    views = f" on views of {result.views_from.get('recipe', '?')}" if result.views_from else ""
    return [Cell(_name(result.recipe + views)), Cell(_name(row.entry.run))]


def _costs(row: Row) -> list[Cell]:
    result = row.entry.result
    size = f" at {'x'.join(map(str, result.macs_size))}" if result.macs_size else ""
    macs = f"{result.macs / 1e9:,.2f} G{size}" if result.macs else ""
    return [Cell(f"{result.parameters:,}"), Cell(macs), Cell(result.weights_sha256[:HASH_DIGITS]), Cell(result.code)]


def _comparison(row: Row, column: str | None) -> tuple[str, str]:
    one = row.comparison
    if one is None or column is None:
        return "", ""
    mean, low, high = (f"{value:+.{_decimals(column)}f}" for value in (one.difference, one.low, one.high))
    return f"{mean} ({low} to {high})", f"{one.p_value:.4f}"


def _digits(row: PublishedRow, column: str) -> str:
    printed = row.scores[OVERALL].get(column)
    return f"{Decimal(printed.text) * Decimal(printed.unit):f}" if printed else ""


def _source(row: PublishedRow) -> str:
    measured = f"; measured by the authors of {row.measured_by}" if row.measured_by not in (None, row.paper) else ""
    marks = [", ablation"] * row.table.ablation + [", more training data"] * row.printed.extra_data
    return row.citation + "".join(marks) + measured + (", doubtful" if row.doubt else "")


def _heading(column: str) -> str:
    for view in VIEWS:
        if column.startswith(view):
            return f"{view.rstrip('_')} {_heading(column.removeprefix(view))}"
    return HEADINGS.get(column, column.upper())


def _decimals(column: str) -> int:
    return 3 if column.endswith("psnr") else 4


def _number(value: float, column: str) -> str:
    return f"{value:.{_decimals(column)}f}"


def _numeric(headings: Sequence[str], scores: Sequence[str]) -> frozenset[int]:
    return frozenset(place for place, name in enumerate(headings) if name in NUMERIC or name in scores)


def _name(text: str) -> str:
    """Return text from a file in one line, without signs that steer a terminal."""
    return " ".join(re.sub(STEERING, "?", text).split())


def _escape(text: str) -> str:
    """Take their meaning from the signs of Markdown; an underscore within a word has none."""
    return re.sub(r"[\\|*`<>\[\]~&]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", text)
