"""`leaderboard [RUNS ...] [--out FILE.md] [--against RUN]`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser
from rich.table import Table
from rich.text import Text

from dualpixel.commands.arguments import parse
from dualpixel.errors import DualPixelError
from dualpixel.files import atomic, room_for
from dualpixel.hints import near
from dualpixel.terminal import console

if TYPE_CHECKING:  # torch is imported only once there are results
    from dualpixel.evaluate.leaderboard_grids import Grid

RUNS = "runs"
ENDING = ".md"


def run(arguments: list[str]) -> None:
    """Rank the results of runs, one table for each data set, split and protocol.

    Args:
        arguments: what stands behind ``leaderboard``.

    Raises:
        DualPixelError: wrong arguments, no such run, no result, or a file that cannot be written.
    """
    parser = ArgumentParser(prog="dualpixel leaderboard", description=run.__doc__.split("\n")[0], exit_on_error=False)
    parser.add_argument(
        "runs", nargs="*", type=str, help=f"folders of runs, runs by path or name, or result files; by default {RUNS}"
    )
    parser.add_argument(
        "--out", type=str, help=f"also write all of it, groups as well, to this Markdown file ({ENDING})"
    )
    parser.add_argument(
        "--against", type=str, help="a run: differences from it and their p-values, in the tables where it stands"
    )
    options = parse(parser, arguments)
    out = Path(options.out) if options.out else None
    if out and (out.suffix != ENDING or out.is_dir()):
        raise DualPixelError(f"--out {out}: name a Markdown file, such as leaderboard{ENDING}")
    paths = [_find(name, "") for name in options.runs or [RUNS]]
    against = _find(options.against, "--against ") if options.against else None
    _show([*paths, *([against] if against else [])], out, against)


def _show(paths: list[Path], out: Path | None, against: Path | None) -> None:
    from dualpixel.evaluate import leaderboard, leaderboard_grids

    files = leaderboard.find_results(paths)
    if not files:
        raise DualPixelError(f"no results in {', '.join(map(str, paths))}: `test` writes them")
    entries, left_out = leaderboard.collect(files)
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)
    if not entries:
        raise DualPixelError(f"none of {len(files)} results can be shown; see above")
    base = None
    if against:
        base = leaderboard.run_of(against) if against.is_file() else against.resolve()
        if all(one.folder != base for one in entries):
            raise DualPixelError(
                f"--against {against}: no result of this run; {near(base.name, sorted({one.run for one in entries}))}"
            )
    boards = leaderboard.leaderboards(entries, base)
    for board in boards:
        _print(leaderboard_grids.ranking(board))
        if board.published:
            _print(leaderboard_grids.published(board))
        for fact in leaderboard_grids.facts(board):
            console().print(Text(fact))
        console().print()
    if out:
        content = leaderboard_grids.markdown(boards, left_out)
        try:
            with room_for(out), atomic(out) as beside:
                beside.write_text(content, encoding="utf-8")
        except OSError as error:
            raise DualPixelError(f"--out {out}: cannot be written ({error.strerror})") from None
        print(f"written to {out}")


def _print(grid: "Grid") -> None:
    table = Table(title=Text(grid.title), title_justify="left")
    for place, heading in enumerate(grid.headings):
        table.add_column(Text(heading), justify="right" if place in grid.numeric else "left")
    for row in grid.rows:
        table.add_row(*(Text(cell.text, style="bold" if cell.best else "") for cell in row))
    console().print(table)


def _find(name: str, option: str) -> Path:
    """Find a path, or a run by its name."""
    for path in (Path(name), Path(RUNS) / name):
        if path.exists():
            return path
    if name == RUNS:
        raise DualPixelError(f"no folder {RUNS!r} here: `fit` and `test` make it; or name folders of runs")
    parent = Path(name).parent
    known = {str(path) for path in parent.iterdir()} if parent.is_dir() and parent != Path() else set()
    known |= {path.name for path in Path(RUNS).iterdir() if path.is_dir()} if Path(RUNS).is_dir() else set()
    raise DualPixelError(f"{option}{name}: no such run or folder; {near(name, sorted(known))}")
