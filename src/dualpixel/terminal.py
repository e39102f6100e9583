"""What is shown on the terminal: progress bars and tables where there is one, plain lines where there is none."""

import re
import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

STEERING = "[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
"""Signs that steer a terminal, or turn the direction of text."""
UNSAID = STEERING[:-1] + "\ud800-\udfff]"
"""Signs that are not shown: those, and halves of characters, which no file can hold."""


def one_line(text: str) -> str:
    """Return text from elsewhere in one line, without signs that steer a terminal."""
    return " ".join(re.sub(UNSAID, "?", text).split())


def warn(message: str) -> None:
    """Say what went wrong without ending anything, in a line on standard error."""
    print(f"warning: {one_line(message)}", file=sys.stderr, flush=True)


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
