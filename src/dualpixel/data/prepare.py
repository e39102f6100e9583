"""From the authors' files to shards: several processes or machines, a progress bar, and a stopped run goes on where it stopped."""

import hashlib
import json
import re
from dataclasses import asdict
from functools import partial as with_arguments
from pathlib import Path
from typing import Any

from dualpixel.data import split_job
from dualpixel.data.card import Card
from dualpixel.data.index import INDEX, KEY, Index, load_index
from dualpixel.data.joining import Part
from dualpixel.data.parallel import how_many, in_parallel
from dualpixel.data.readers import Reader, Scene, get_reader
from dualpixel.data.shards import Codec
from dualpixel.data.split_job import (
    PARTS,
    PLAN,
    Plan,
    PlannedShard,
    PlannedSplit,
    SplitJob,
    clear_up,
    has_size,
    write_note,
)
from dualpixel.errors import DualPixelError
from dualpixel.files import locked, remove_left_overs
from dualpixel.paths import local_folder, shards_home
from dualpixel.terminal import progress


def prepare(
    card: Card,
    source: Path | None = None,
    out: Path | None = None,
    codec: Codec = "npy",
    processes: int | None = None,
    partial: bool = False,
    part: Part | None = None,
) -> Path:
    """Prepare every split of a data set.

    Parts may run at the same time, on several machines that share the folder, and in any order; `dualpixel.data.joining.join`
    makes the indices when all are written. Shards and indices are the same, byte for byte, however the work was divided.

    Args:
        card: the data set.
        source: the folder with the authors' files, or their zip archive; None for sets that are generated.
        out: folder that gets one sub-folder a split; None for ``$DUALPIXEL_SHARDS/NAME`` (else ``shards/NAME``).
        codec: "npy" (mapped into memory when read) or "png" (smaller, for exchange).
        processes: how many worker processes; None for one a core, at most 8.
        partial: accept fewer scenes than the card promises (noted in the fingerprint), and leave out splits without any.
        part: write the shards of this part only, and no index; None for all of it.

    Returns:
        The folder written.

    Raises:
        DualPixelError: a file is missing, unreadable or of another depth or size; the folder holds shards made otherwise; no room.
    """
    out = local_folder(out) if out else shards_home() / card.name
    source = local_folder(source) if source else None
    if source is None and not card.generated and card.available:
        raise DualPixelError(f"data prepare {card.name} needs --source FOLDER; {card.how_to_get()}")
    processes = how_many(processes)
    reader = get_reader(card, source)
    plans = plan(card, reader, partial)  # all are checked before one is written
    with locked(out, shared=part is not None):
        _write_splits(card, reader, plans, out, codec, processes, part)
    return out


def _write_splits(
    card: Card,
    reader: Reader,
    scenes: dict[str, list[Scene]],
    out: Path,
    codec: Codec,
    processes: int,
    part: Part | None,
) -> None:
    size = split_job.SCENES_PER_SHARD
    planned = _begin(card, scenes, out, codec, part)
    todo, tasks = [], {}
    with progress() as bar:
        for one in planned:
            split = one.plan.split
            mine = [n for n, shard in enumerate(one.plan.shards) if part is None or shard.part == part.number]
            missing = [number for number in mine if not one.is_written(number)]
            total, left = one.scenes_of(mine), one.scenes_of(missing)
            said = f"prepare {card.name} {split}{f' part {part}' if part else ''}"
            tasks[split] = bar.add_task(said, total=total, completed=total - left, visible=total > 0)
            job = SplitJob(card, reader, codec, one)
            todo += [with_arguments(job.write, n, scenes[split][n * size : (n + 1) * size]) for n in missing]
        for split in in_parallel(todo, processes):
            bar.advance(tasks[split])
    if part is None:
        for one in planned:
            one.finish()


def plan(card: Card, reader: Reader, partial: bool) -> dict[str, list[Scene]]:
    """List the scenes of all splits, and check that they are what the card promises.

    Args:
        card: the data set.
        reader: of the card, with its source.
        partial: accept fewer scenes than the card promises, and leave out splits without any.

    Returns:
        Split -> scenes, of the splits that have any.

    Raises:
        DualPixelError: scenes are missing, or have names that cannot be keys.
    """
    plans = {split: reader.scenes(split) for split in card.splits}
    empty = [split for split, scenes in plans.items() if not scenes]
    if empty and (not partial or len(empty) == len(plans)):
        found = ", ".join(f"{len(scenes)} {split}" for split, scenes in plans.items())
        leave_out = "" if len(empty) == len(plans) else "; or leave it out by --partial"
        raise DualPixelError(
            f"{card.name}: the split {empty[0]!r} is empty below {reader.source} ({found}); {reader.when_empty()}{leave_out}"
        )
    plans = {split: scenes for split, scenes in plans.items() if scenes}
    for split, scenes in plans.items():
        if not card.split(split).is_complete(len(scenes)) and not partial:
            raise DualPixelError(
                f"{card.name}: {len(scenes)} scenes in {split!r}, the card promises {card.split(split).scenes}; "
                "complete the download, or give --partial"
            )
        keys = [scene.key for scene in scenes]
        if len(set(keys)) != len(keys) or not all(re.fullmatch(KEY, key) for key in keys):
            raise DualPixelError(
                f"{card.name}: the keys of {split!r} are not unique names of 1 to 60 letters, digits, '-' and '_'"
            )
    return plans


def _begin(
    card: Card, scenes: dict[str, list[Scene]], out: Path, codec: Codec, part: Part | None
) -> list[PlannedSplit]:
    """Note the plans of the splits that are not prepared yet, and return them."""
    count = part.count if part else 1
    planned, before = [], 0
    for split, found in scenes.items():
        sizes = [len(found[start : start + split_job.SCENES_PER_SHARD]) for start in _starts(found)]
        # dealt like cards, over all splits, so that the parts have about as much to do
        shards = [PlannedShard(size, (before + number) % count + 1) for number, size in enumerate(sizes)]
        before += len(shards)
        settings = _settings(card, split, found)
        request = _request(card, settings, codec, found)
        one = PlannedSplit(out / split, Plan(request, card.name, card.version, split, settings, count, shards))
        if _is_open(one, part):
            one.save()
            planned.append(one)
    return planned


def _starts(scenes: list[Scene]) -> range:
    return range(0, len(scenes), split_job.SCENES_PER_SHARD)


def _settings(card: Card, split: str, scenes: list[Scene]) -> dict[str, Any]:
    rule = card.preparation.windows.get(split)
    return {
        "windows": asdict(rule) if rule else None,
        "bit_depth": card.bit_depth,
        "complete": card.split(split).is_complete(len(scenes)),
    }


def _request(card: Card, settings: dict[str, Any], codec: Codec, scenes: list[Scene]) -> str:
    # sizes and times of the files tell whether the source is still the one the shards were made from, without reading pixels
    stamps = [scene.stamp() for scene in scenes]
    content = [card.name, card.version, asdict(card.reader), settings, codec, split_job.SCENES_PER_SHARD, stamps]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _is_open(planned: PlannedSplit, part: Part | None) -> bool:
    """Say whether shards of a split are still to be written; refuse to mix them with those of other files or settings."""
    folder, request = planned.folder, planned.plan.request
    if (folder / INDEX).is_file():
        index = load_index(folder)
        if index.preparation.get("request") != request:
            raise DualPixelError(
                f"{folder} holds shards made from other files or settings (fingerprint {index.fingerprint}); "
                "remove that folder, or give another --out"
            )
        whole = all(has_size(folder / shard.name, shard.bytes) for shard in index.shards)
        if part is not None:
            if not whole:
                raise DualPixelError(f"{folder}: shards were lost or cut; run the command without --part to mend it")
        elif whole:
            clear_up(folder)
        else:
            _reopen(planned, index)  # shards that were lost or cut are written again, the others are kept
        return not whole
    if part is None:
        remove_left_overs(folder)
    elif (folder / PARTS / PLAN).is_file() and PlannedSplit.load(folder).plan.request != request:
        raise DualPixelError(
            f"{folder} holds parts made from other files or settings; give all parts the same, or remove that folder"
        )
    return True


def _reopen(planned: PlannedSplit, index: Index) -> None:
    for number, shard in enumerate(index.shards):
        samples = [sample for sample in index.samples if sample.shard == number]
        write_note(planned.note(number), planned.plan.request, shard, samples)
    planned.save()  # before the index goes: what is neither planned nor prepared would not be missed
    (planned.folder / INDEX).unlink()
