"""Results of leaderboards, read from files: each once, refused where they cannot have been measured."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dualpixel.errors import DualPixelError
from dualpixel.evaluate.columns import COLUMNS
from dualpixel.evaluate.leaderboard.tables import Entry
from dualpixel.evaluate.result import RESULT, Result, load_result
from dualpixel.evaluate.sanity import EXACT, check_result
from dualpixel.metrics.per_image import OVERALL

MOST_COSTS = 10**18
MOST_SIDE = 10**6
MOST_LETTERS = 400
"""Of whatever a result has in one line: names, keys, groups."""
LINES = (
    "recipe",
    "weights_sha256",
    "weights_source",
    "dataset",
    "dataset_version",
    "split",
    "fingerprint",
    "protocol",
    "code",
    "net",
)
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
    return told_apart(entries), left_out


def put_together(entries: Iterable[Entry], base: Path | None = None) -> list[Entry]:
    """Return entries of several places, each result once and each run by a name of its own.

    Args:
        entries: of folders and of W&B.
        base: folder of a run whose entries are kept where others hold the same result; else the first ones are.

    Returns:
        The entries; of the same results one, with the address of a page where any has one.
    """
    found: dict[tuple[str, ...], list[Entry]] = {}
    for one in sorted(entries, key=lambda one: one.folder != base):
        result = one.result
        same = found.setdefault((result.weights_sha256, result.dataset, result.split, result.protocol, result.made), [])
        place = next((place for place, other in enumerate(same) if other.result == result), None)
        if place is None:
            same.append(one)
        else:
            same[place] = replace(same[place], link=same[place].link or one.link)
    return told_apart([one for same in found.values() for one in same])


def told_apart(entries: Sequence[Entry]) -> list[Entry]:
    """Return entries whose runs have names of their own: behind a name that several have stands the path, in W&B or of the folder."""
    folders: dict[str, set[Path]] = {}
    for one in entries:
        folders.setdefault(one.run, set()).add(one.folder)
    return [replace(one, run=_long_name(one)) if len(folders[one.run]) > 1 else one for one in entries]


def _long_name(entry: Entry) -> str:
    if entry.link:  # a run of W&B lies in ENTITY/PROJECT/ID
        return f"{entry.run} ({'/'.join(entry.folder.parts[-3:])})"
    return os.path.relpath(entry.folder)


def run_of(file: Path) -> Path:
    """Return the folder of the run that a result belongs to; for a file taken out of its run a path of its own."""
    parents = file.resolve().parents
    if len(parents) > 3 and parents[2].name == "results":
        return parents[3]
    return parents[0] if file.name == RESULT else file.resolve().with_suffix("")


def _checked(result: Result, file: Path) -> Result:
    """Return a result with plain numbers, infinite ones as such; refuse what cannot have been measured."""
    _check_lengths(result, file)
    for row in result.rows:
        if not isinstance(row.get("key"), str) or not isinstance(row.get("group"), str):
            raise DualPixelError(f"{file}: a row without key and group; run `test` again")
    keys = {row["key"] for row in result.rows}
    if not keys or len(keys) < len(result.rows) or OVERALL not in result.means:
        raise DualPixelError(f"{file}: no images, an image that stands twice, or no overall mean; run `test` again")
    if not all(0 < cost <= MOST_COSTS for cost in (result.parameters, 1 if result.macs is None else result.macs)):
        raise DualPixelError(
            f"{file}: no network has so many parameters or multiply-accumulates, or none; run `test` again"
        )
    size = result.macs_size
    if size is not None and not (len(size) == 2 and all(0 < side <= MOST_SIDE for side in size)):
        raise DualPixelError(f"{file}: macs_size is {ascii(size)[:80]}, not height and width; run `test` again")
    if result.seconds is not None and not 0 < result.seconds < MOST_SECONDS:
        raise DualPixelError(f"{file}: no network takes {result.seconds} seconds for an image; run `test` again")
    rows = [{**row, **_numbers(row, file)} for row in result.rows]
    means = {group: _numbers(values, file) for group, values in result.means.items()}
    result = replace(result, rows=rows, means=means)
    check_result(result)
    for group, values in means.items():
        of_group = [row for row in rows if group in (OVERALL, row["group"])]
        if not of_group:
            raise DualPixelError(
                f"{file}: means of {ascii(group)[:80]}, of which there are no images; run `test` again"
            )
        for column, mean in values.items():
            if mean is not None and not _is_mean(mean, [row.get(column) for row in of_group]):
                said = group if group == OVERALL else ascii(group)[:80]
                raise DualPixelError(f"{file}: {said} {column} is not the mean of the images; run `test` again")
    return result


def _check_lengths(result: Result, file: Path) -> None:
    texts = [(name, getattr(result, name) or "") for name in LINES]
    texts += [(f"views_from {name}", said) for name, said in (result.views_from or {}).items()]
    texts += [(name, row.get(name, "")) for row in result.rows for name in ("key", "group")]
    for name, said in texts:
        if isinstance(said, str) and len(said) > MOST_LETTERS:
            raise DualPixelError(
                f"{file}: {name[:40]} of {len(said)} letters, {MOST_LETTERS} at most; run `test` again"
            )


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
