"""Leaderboards as one Markdown file."""

from collections.abc import Iterable, Sequence

from dualpixel import __version__
from dualpixel.evaluate.grids import escape, markdown_table
from dualpixel.evaluate.leaderboard.grids import (
    COMPARED,
    INTERVALS,
    doubts,
    facts,
    group_means,
    printed_groups,
    published,
    ranking,
    titles,
)
from dualpixel.evaluate.leaderboard.tables import Leaderboard
from dualpixel.terminal import one_line


def markdown(boards: Sequence[Leaderboard], left_out: Sequence[str] = ()) -> str:
    """Render tables as one Markdown file.

    Args:
        boards: the tables.
        left_out: lines about results that are in none of them.
    """
    count = sum(len(board.entries) for board in boards)
    lines = ["# Leaderboard", "", f"{count} results{_pointer(left_out)}, by dualpixel {__version__}. {INTERVALS}", ""]
    bases = [board.against.run for board in boards if board.against]
    if bases:
        lines += [COMPARED.format(escape(one_line(bases[0]))), ""]
    for board, title in zip(boards, titles(boards), strict=True):
        lines += [f"## {escape(title)}", ""]
        lines += [line for fact in facts(board) for line in (escape(fact), "")]
        lines += [*markdown_table(ranking(board)), ""]
        grids = [group_means(board, group) for group in board.groups]
        if board.published:
            grids += [published(board), *(published(board, group) for group in printed_groups(board.published))]
        for grid in grids:
            lines += [f"### {escape(grid.title)}", "", *markdown_table(grid), ""]
        lines += _listed(f"Doubtful: {doubt}" for doubt in doubts(board))
    if left_out:
        lines += ["## Left out", "", *_listed(left_out)]
    return "\n".join(lines).rstrip() + "\n"


def _pointer(left_out: Sequence[str]) -> str:
    return f" ([{len(left_out)} left out](#left-out))" if left_out else ""


def _listed(lines: Iterable[str]) -> list[str]:
    items = [f"- {escape(one_line(line))}" for line in lines]
    return [*items, ""] if items else []
