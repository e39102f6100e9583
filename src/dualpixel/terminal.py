"""What is shown on the terminal: progress bars and tables where there is one, plain lines where there is none."""

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def console() -> Console:
    """Return a console on standard output; written to a file it has room for whole tables."""
    return Console(width=None if sys.stdout.isatty() else 160)


def progress() -> Progress:
    """Return a progress bar on standard error; add tasks with `add_task` and `advance` them."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), refresh_per_second=4)
