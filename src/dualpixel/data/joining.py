"""A preparation in parts, for job arrays: which part writes what, and one index when all have written."""

import re
from dataclasses import dataclass
from pathlib import Path

from dualpixel.data.index import INDEX, Index, load_index
from dualpixel.data.split_job import PARTS, PLAN, PlannedSplit, clear_up
from dualpixel.errors import DualPixelError
from dualpixel.files import locked

LISTED = 12


@dataclass(frozen=True)
class Part:
    """One part of a preparation.

    Args:
        number: which, counted from 1.
        count: how many there are.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Part":
        """Read ``i/n``.

        Raises:
            DualPixelError: not two whole numbers, or i not from 1 to n.
        """
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        part = cls(int(found[1]), int(found[2])) if found else None
        if part is None or not 1 <= part.number <= part.count:
            raise DualPixelError(f"--part {text}: must be i/n with i from 1 to n, such as 1/8 (SLURM: --array=1-8)")
        return part

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def is_in_parts(folder: Path) -> bool:
    """Say whether `data prepare` writes, or wrote, in a folder: that of a set, or that of one of its splits."""
    return any((one / PARTS / PLAN).is_file() for one in [folder, *_splits(folder)]) or any(
        "request" in load_index(split).preparation for split in _splits(folder) if (split / INDEX).is_file()
    )


def join(folder: Path) -> list[Index]:
    """Make the indices of a set whose parts are all written; splits that have theirs keep it.

    Args:
        folder: of the set, as `data prepare` named it, or of one split.

    Returns:
        The index of each split.

    Raises:
        DualPixelError: shards are missing; the message names the parts that write them.
    """
    folder = folder.resolve()
    one = (folder / PARTS / PLAN).is_file()
    top = folder.parent if one else folder
    splits = [folder] if one else _splits(folder)
    _check_parts(folder, splits)  # before the lock: who asks too early is told so, in place of waiting for the jobs
    with locked(top):
        _check_parts(folder, splits)
        return [_finished(split) for split in splits]


def _finished(split: Path) -> Index:
    if not (split / INDEX).is_file():
        return PlannedSplit.load(split).finish()
    if (split / PARTS).is_dir():  # of a join that was killed
        clear_up(split)
    return load_index(split)


def _splits(folder: Path) -> list[Path]:
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [one for one in found if (one / PARTS / PLAN).is_file() or (one / INDEX).is_file()]


def _check_parts(folder: Path, splits: list[Path]) -> None:
    planned = [PlannedSplit.load(split) for split in splits if not (split / INDEX).is_file()]
    missing = {one.plan.split: one.missing() for one in planned}
    if not any(missing.values()):
        return
    plans = [one.plan for one in planned]
    todo = {plan.shards[number].part for plan in plans for number in missing[plan.split]}
    begun = {
        shard.part
        for plan in plans
        for number, shard in enumerate(plan.shards)
        if shard.part in todo and number not in missing[plan.split]
    }
    counts = "; ".join(
        f"{one.plan.split}: {len(missing[one.plan.split])} of {len(one.plan.shards)} shards, "
        f"{one.scenes_of(missing[one.plan.split])} of {one.scenes_of(list(range(len(one.plan.shards))))} scenes"
        for one in planned
        if missing[one.plan.split]
    )
    parts = plans[0].parts
    if parts == 1:
        raise DualPixelError(f"{folder} is not complete (missing: {counts}); prepare it again, as before")
    said = [
        f"part{'s' * (len(those) > 1)} {_list(those, parts)} {'is' if len(those) == 1 else 'are'} {what}"
        for those, what in ((todo - begun, "missing"), (begun, "unfinished"))
        if those
    ]
    raise DualPixelError(
        f"{folder}: {', '.join(said)} (missing: {counts}); "
        f"run `data prepare` as before with --part {min(todo)}/{parts}{' and so on' if len(todo) > 1 else ''}, then this again"
    )


def _list(parts: set[int], count: int) -> str:
    shown = [f"{part}/{count}" for part in sorted(parts)[:LISTED]]
    return ", ".join(shown) + (f" and {len(parts) - LISTED} more" if len(parts) > LISTED else "")
