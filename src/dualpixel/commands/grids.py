"""Tables of cells on the terminal."""

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from dualpixel.terminal import console

if TYPE_CHECKING:  # that room imports torch
    from dualpixel.evaluate.grids import Grid


def show(grid: "Grid") -> None:
    """Print a table; what its cells say is shown as it is, whatever signs are in it."""
    table = Table(title=Text(grid.title), title_justify="left")
    for place, heading in enumerate(grid.headings):
        table.add_column(Text(heading), justify="right" if place in grid.numeric else "left")
    for row in grid.rows:
        table.add_row(*(Text(cell.text, style="bold" if cell.best else "") for cell in row))
    console().print(table)
