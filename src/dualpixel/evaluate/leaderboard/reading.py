"""Results of leaderboards, read from files: each once, refused where they cannot have been measured."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dualpixel.errors import DualPixelError
from dualpixel.evaluate.leaderboard.tables import Entry
from dualpixel.evaluate.published import COLUMNS
from dualpixel.evaluate.result import RESULT, Result, load_result
from dualpixel.evaluate.sanity import EXACT, check_result
from dualpixel.metrics.per_image import OVERALL

MOST_COSTS = 10**18
MOST_SECONDS = 10**7


def find_results(paths: Iterable[Path]) -> list[Path]:
    """Return the result files of folders of runs, of runs, and those that are named themselves; each once, sorted."""
    found: dict[Path, Path] = {}
    for path in paths:
        below = f"results/*/*/{RESULT}"
        files = [path] if path.is_file() else [*path.glob(below), *path.glob(f"*/{below}")]
        found |= {file.resolve(): file for file in files}
    return sorted(found.values())


def collect(files: Iterable[Path]) -> tuple[list[Entry], list[str]]:
    """Read results.

    Args:
        files: as `find_results` returns them.

    Returns:
        The entries; and a line for each file that is no result or that `dualpixel.evaluate.sanity` refuses.
    """
    entries, left_out = [], []
    for file in files:
        try:
            result = _checked(load_result(file), file)
        except (DualPixelError, OverflowError) as error:  # whole numbers of a file may be too large for a float
            said = " ".join(str(error).split())
            left_out.append(said if str(file) in said else f"{file}: {said}")
            continue
        folder = run_of(file)
        entries.append(Entry(folder, folder.name, result, file))
    folders: dict[str, set[Path]] = {}
    for one in entries:
        folders.setdefault(one.run, set()).add(one.folder)
    return [
        replace(one, run=os.path.relpath(one.folder)) if len(folders[one.run]) > 1 else one for one in entries
    ], left_out


def run_of(file: Path) -> Path:
    """Return the folder of the run that a result belongs to; for a file taken out of its run a path of its own."""
    parents = file.resolve().parents
    if len(parents) > 3 and parents[2].name == "results":
        return parents[3]
    return parents[0] if file.name == RESULT else file.resolve().with_suffix("")


def _checked(result: Result, file: Path) -> Result:
    """Return a result with plain numbers, infinite ones as such; refuse what cannot have been measured."""
    for row in result.rows:
        if not isinstance(row.get("key"), str) or not isinstance(row.get("group"), str):
            raise DualPixelError(f"{file}: a row without key and group; run `test` again")
    keys = {row["key"] for row in result.rows}
    if not keys or len(keys) < len(result.rows) or OVERALL not in result.means:
        raise DualPixelError(f"{file}: no images, an image that stands twice, or no overall mean; run `test` again")
    if max(result.parameters, result.macs or 0) > MOST_COSTS:
        raise DualPixelError(f"{file}: no network has so many parameters or multiply-accumulates; run `test` again")
    if result.seconds is not None and not 0 < result.seconds < MOST_SECONDS:
        raise DualPixelError(f"{file}: no network takes {result.seconds} seconds for an image; run `test` again")
    rows = [{**row, **_numbers(row, file)} for row in result.rows]
    means = {group: _numbers(values, file) for group, values in result.means.items()}
    result = replace(result, rows=rows, means=means)
    check_result(result)
    for column, mean in means[OVERALL].items():
        if mean is not None and not _is_mean(mean, [row.get(column) for row in rows]):
            raise DualPixelError(f"{file}: overall {column} is not the mean of the images; run `test` again")
    return result


def _is_mean(mean: float, values: Sequence[float | None]) -> bool:
    if any(value is None or not math.isfinite(value) for value in values):
        return False
    return abs(math.fsum(values) / len(values) - mean) <= EXACT * abs(mean)


def _numbers(values: Mapping[str, Any], file: Path) -> dict[str, float | None]:
    """Return the known columns; what is no number in them is refused, but for infinity, which JSON has no sign for."""
    found: dict[str, float | None] = {}
    for column in COLUMNS:
        value = values.get(column)
        if value is not None and value != "inf" and type(value) not in (int, float):
            raise DualPixelError(f"{file}: {column} is {ascii(value)[:80]}, not a number; run `test` again")
        if column in values:
            found[column] = None if value is None else float(value)
    return found
