"""Tables of cells, for whatever shows one: on a terminal, in Markdown, on a page."""

import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """What stands in one cell.

    Args:
        text: without any markup.
        best: whether it is to stand out.
        value: the number that the text says, unrounded; None where it says none.
    """

    text: str = ""
    best: bool = False
    value: float | None = None


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


def markdown_table(grid: Grid) -> Iterator[str]:
    """Yield the lines of a table in Markdown, without its title."""
    yield f"| {' | '.join(map(escape, grid.headings))} |"
    yield f"|{'|'.join('---:' if place in grid.numeric else '---' for place in range(len(grid.headings)))}|"
    for row in grid.rows:
        cells = (f"**{escape(cell.text)}**" if cell.best else escape(cell.text) for cell in row)
        yield f"| {' | '.join(cells)} |"


def escape(text: str) -> str:
    """Take their meaning from the signs of Markdown; an underscore within a word has none."""
    return re.sub(r"[\\|*`<>\[\]~&]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", text)
