"""Leaderboards as one Markdown file."""

import re
from collections.abc import Iterable, Iterator, Sequence

from dualpixel import __version__
from dualpixel.evaluate.leaderboard import Leaderboard
from dualpixel.evaluate.leaderboard_cells import one_line
from dualpixel.evaluate.leaderboard_grids import (
    COMPARED,
    INTERVALS,
    Grid,
    doubts,
    facts,
    group_means,
    printed_groups,
    published,
    ranking,
    title,
)


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
        lines += [COMPARED.format(_escape(one_line(bases[0]))), ""]
    for board in boards:
        lines += [f"## {_escape(title(board))}", ""]
        lines += [line for fact in facts(board) for line in (_escape(fact), "")]
        lines += [*_markdown(ranking(board)), ""]
        grids = [group_means(board, group) for group in board.groups]
        if board.published:
            grids += [published(board), *(published(board, group) for group in printed_groups(board.published))]
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
    items = [f"- {_escape(one_line(line))}" for line in lines]
    return [*items, ""] if items else []


def _escape(text: str) -> str:
    """Take their meaning from the signs of Markdown; an underscore within a word has none."""
    return re.sub(r"[\\|*`<>\[\]~&]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", text)
