"""`leaderboard [RUNS ...] [--wandb ENTITY/PROJECT] [--out FILE.md|FILE.html] [--against RUN] [--publish ENTITY/PROJECT]`."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace
from rich.text import Text

from dualpixel.commands.arguments import parse
from dualpixel.commands.grids import show
from dualpixel.errors import DualPixelError
from dualpixel.files import atomic, room_for
from dualpixel.hints import near
from dualpixel.paths import cache_home
from dualpixel.running.wandb_access import split_project
from dualpixel.terminal import console, one_line

if TYPE_CHECKING:  # torch is imported only once there are results
    from dualpixel.evaluate.leaderboard.tables import Entry, Leaderboard

RUNS = "runs"
ENDINGS = (".md", ".html")
THUMBNAILS = 9
"""A page with twenty results of 76 photographs then has about 2 MB."""


def run(arguments: list[str]) -> None:
    """Rank the results of runs, one table for each data set, split and protocol.

    Args:
        arguments: what stands behind ``leaderboard``.

    Raises:
        DualPixelError: wrong arguments, no such run, no result, or a file that cannot be written.
    """
    parser = ArgumentParser(prog="dualpixel leaderboard", description=run.__doc__.split("\n")[0], exit_on_error=False)
    parser.add_argument(
        "runs",
        nargs="*",
        type=str,
        help=f"folders of runs, runs by path or name, or result files; by default {RUNS}, unless there is a --wandb",
    )
    parser.add_argument(
        "--wandb", action="append", type=str, metavar="ENTITY/PROJECT", help="rank the runs of this project as well"
    )
    parser.add_argument(
        "--out",
        action="append",
        type=str,
        help="also write all of it, groups as well, to this file: Markdown (.md), or a page (.html) with all published tables",
    )
    parser.add_argument(
        "--against", type=str, help="a run: differences from it and their p-values, in the tables where it stands"
    )
    parser.add_argument(
        "--publish", type=str, metavar="ENTITY/PROJECT", help="also log tables and written files to this W&B project"
    )
    parser.add_argument(
        "--thumbnails",
        type=int,
        default=THUMBNAILS,
        help="of how many images of each table a page shows pictures, from the worst to the best; 0 for none",
    )
    options = parse(parser, arguments)
    outs = [Path(name) for name in options.out or []]
    for out in outs:
        if out.suffix not in ENDINGS or out.is_dir():
            raise DualPixelError(
                f"--out {out}: name a file that ends in {' or '.join(ENDINGS)}, such as leaderboard.html"
            )
        _check_writable(out)
    if options.thumbnails < 0:
        raise DualPixelError(f"--thumbnails {options.thumbnails}: a number of images, 0 for no pictures")
    if options.publish:
        _check_publish(options.publish)  # before anything is read or written
    named = options.runs or ([] if options.wandb else [RUNS])
    paths = [_find(name, "") for name in named]
    against = _against(options)
    if against:
        paths.append(against)
    entries, left_out = _collect(paths, options.wandb or [], against)
    base = _base(options.against, against, entries) if options.against else None
    _show(entries, left_out, base, outs, options)


def _collect(paths: Sequence[Path], projects: Sequence[str], against: Path | None) -> tuple[list["Entry"], list[str]]:
    """Read the results of folders and of W&B projects, each once; say what is left out."""
    from dualpixel.evaluate.leaderboard.reading import collect, find_results, put_together

    files = find_results(paths)
    if not files and not projects:
        raise DualPixelError(f"no results in {', '.join(map(str, paths))}: `test` writes them")
    base = _folder_of(against) if against else None
    entries, left_out = collect(files)
    for project in projects:
        from dualpixel.evaluate.leaderboard.wandb_runs import runs_from_wandb

        found, said = runs_from_wandb(project, cache_home() / "wandb")
        entries += found
        left_out += said
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)
    if not entries and not projects:
        raise DualPixelError(f"none of {len(files)} results can be shown; see above")
    if not entries:
        raise DualPixelError(f"no results to show in {', '.join([*map(str, paths), *projects])}: `test` logs them")
    return put_together(entries, base), left_out


def _show(
    entries: list["Entry"], left_out: list[str], base: Path | None, outs: Sequence[Path], options: Namespace
) -> None:
    from dualpixel.evaluate.leaderboard import grids
    from dualpixel.evaluate.leaderboard.tables import leaderboards

    boards = leaderboards(entries, base)
    for board, title in zip(boards, grids.titles(boards), strict=True):
        show(replace(grids.summary(board), title=title))
        if board.published:
            show(grids.published(board, columns=grids.main_columns(board)))
        _say(*grids.facts(board), *(f"Doubtful: {doubt}" for doubt in grids.doubts(board)), "")
    bases = [board.against.run for board in boards if board.against]
    _say(grids.INTERVALS, *(grids.COMPARED.format(one_line(run)) for run in bases[:1]))
    if not outs:
        _say("Scores of groups and of views, costs and weights stand in the files that --out writes.")
    for out in outs:
        _write(out, _render(out, boards, left_out, options.thumbnails))
    if options.publish:
        from dualpixel.evaluate.leaderboard.wandb_leaderboard import publish

        print(publish(boards, outs, options.publish))


def _say(*sentences: str) -> None:
    for sentence in sentences:
        console().print(Text(sentence))


def _check_publish(project: str) -> None:
    from dualpixel.evaluate.leaderboard.wandb_leaderboard import why_offline

    split_project(project)
    why_offline()


def _check_writable(out: Path) -> None:
    """Refuse a file whose folder is none, or cannot be written to, before results are read."""
    folder = next(one for one in out.absolute().parents if one.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        said = "not writable" if folder.is_dir() else "not a folder"
        raise DualPixelError(f"--out {out}: cannot be written ({folder} is {said})")


def _render(out: Path, boards: Sequence["Leaderboard"], left_out: Sequence[str], thumbnails: int) -> str:
    if out.suffix == ".html":
        from dualpixel.evaluate.leaderboard.page import page

        return page(boards, left_out, thumbnails)
    from dualpixel.evaluate.leaderboard.markdown import markdown

    return markdown(boards, left_out)


def _write(out: Path, content: str) -> None:
    try:
        with room_for(out), atomic(out) as beside:
            beside.write_text(content, encoding="utf-8")
    except OSError as error:
        raise DualPixelError(f"--out {out}: cannot be written ({error.strerror})") from None
    print(f"written to {out}")


def _against(options: Namespace) -> Path | None:
    """Find the run that others are compared with among the folders; one of W&B is found when its project was read."""
    if not options.against:
        return None
    try:
        return _find(options.against, "--against ")
    except DualPixelError:
        if options.wandb:
            return None
        raise


def _base(name: str, path: Path | None, entries: Sequence["Entry"]) -> Path:
    """Return the folder of the run that others are compared with."""
    runs = sorted({one.run for one in entries})
    if path:
        base = _folder_of(path)
        if all(one.folder != base for one in entries):
            raise DualPixelError(f"--against {path}: no result of this run; {near(base.name, runs)}")
        return base
    folders = {one.folder for one in entries if one.run == name}
    if not folders:
        raise DualPixelError(f"--against {name}: no such run or folder; {near(name, runs)}")
    return folders.pop()


def _folder_of(path: Path) -> Path:
    from dualpixel.evaluate.leaderboard.reading import run_of

    return run_of(path) if path.is_file() else path.resolve()


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
    meant = near(name, sorted(known)) if known else f"no run is in {RUNS!r} here: name folders of runs"
    raise DualPixelError(f"{option}{name}: no such run or folder; {meant}")
