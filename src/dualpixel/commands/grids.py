"""Tables of cells on the terminal."""

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from dualpixel.terminal import console

if TYPE_CHECKING:  # that room imports torch
    from dualpixel.evaluate.grids import Grid


NAME_LETTERS = 10
"""How many letters of a name are not folded."""


def show(grid: "Grid") -> None:
    """Print a table; what its cells say is shown as it is, whatever signs are in it.

    Where it is wider than the terminal, names are folded; no number is, nor is it cut: lines are longer than the terminal before that.
    """
    table = Table(title=Text(grid.title), title_justify="left")
    for place, heading in enumerate(grid.headings):
        words = [word for row in grid.rows for word in row[place].text.split()]
        longest = max(map(len, words), default=0)
        least = longest if place in grid.numeric else min(NAME_LETTERS, longest)
        justify = "right" if place in grid.numeric else "left"
        table.add_column(Text(heading), justify=justify, overflow="fold", min_width=least)
    for row in grid.rows:
        table.add_row(*(Text(cell.text, style="bold" if cell.best else "") for cell in row))
    console().print(table, crop=False)
