"""An index for tars that lie there already, and the windows that an index notes."""

import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from dualpixel.data.card import Card, WindowRule
from dualpixel.data.fields import MAPS
from dualpixel.data.index import INDEX, SCHEMA, Index, Sample, check_shard_name, fingerprint, load_index, save_index
from dualpixel.data.reading import open_member
from dualpixel.data.shards import describe_shard
from dualpixel.data.windows import sharpness, sharpness_rank, windows
from dualpixel.errors import DualPixelError
from dualpixel.terminal import progress


def note_windows(sharp: np.ndarray | None, size: tuple[int, int], rule: WindowRule | None) -> list[list[int]]:
    """Return (row, column, rank) of each window; rank 0 is the least sharp, or the scan order where there is no target.

    Raises:
        DualPixelError: the least sharp windows are to be left out, and there is no target to tell them by.
    """
    if rule is None:
        return []
    if sharp is None and rule.discard:
        raise DualPixelError(
            f"windows with discard {rule.discard:g}: no sharp image tells which are the least sharp; set discard to 0"
        )
    positions = windows(*size, rule.size, rule.overlap)
    ranks = range(len(positions)) if sharp is None else sharpness_rank(sharpness(sharp, positions, rule.size))
    return [[int(row), int(column), int(rank)] for (row, column), rank in zip(positions, ranks, strict=True)]


def make_index(folder: Path, card: Card | None = None, rule: WindowRule | None = None) -> Index:
    """Make the index of one folder of tars that came from elsewhere.

    Args:
        folder: holds plain WebDataset tars with members ``KEY.FIELD.npy`` or ``KEY.FIELD.png``; its name is the split's.
        card: the card the tars belong to; None for a set that is named after the folder above.
        rule: lay these windows over the scenes; None takes the card's, and lays none where it has none.

    Raises:
        DualPixelError: no tars, one that cannot be used or that contradicts the card, or a folder written by `prepare`.
    """
    folder = folder.resolve()
    split = folder.name
    if (folder / INDEX).is_file() and "request" in load_index(folder).preparation:
        raise DualPixelError(
            f"{folder} was written by `data prepare` and has its index; remove it first to make another"
        )
    tars = sorted(path for path in folder.glob("*.tar") if not path.name.startswith("."))
    if not tars:
        raise DualPixelError(f"{folder}: no .tar files to index")
    for path in tars:
        check_shard_name(path.name, folder)
        if not path.is_file():
            raise DualPixelError(f"{path} is not a file; a shard is a plain tar")
    rule = rule or (card.preparation.windows.get(split) if card else None)
    shards, samples = [], []
    with progress() as bar:
        task = bar.add_task(f"index {split}", total=len(tars))
        for number, path in enumerate(tars):
            shard, found = describe_shard(path, number)
            shards.append(shard)
            samples.extend(_with_windows(path, sample, rule) for sample in found)
            bar.advance(task)
    if card is not None:
        _check_card(folder, card, samples)
    name, version = (
        (card.name, card.version) if card else (re.sub(r"[^A-Za-z0-9_-]", "_", folder.parent.name), "foreign")
    )
    settings = {
        "windows": asdict(rule) if rule else None,
        "complete": card is not None and card.split(split).is_complete(len(samples)),
    }
    known = fingerprint(name, version, split, settings, samples)
    save_index(folder, Index(SCHEMA, name, version, split, settings, known, shards, samples))
    return load_index(folder)


def _with_windows(path: Path, sample: Sample, rule: WindowRule | None) -> Sample:
    sharp = open_member(path, sample.members["sharp"]) if rule and "sharp" in sample.members else None
    height, width = next(iter(sample.members.values())).shape[:2]
    return replace(sample, windows=note_windows(sharp, (height, width), rule))


def _check_card(folder: Path, card: Card, samples: list[Sample]) -> None:
    for sample in samples:
        for name in card.fields:
            member = sample.members.get(name)
            wanted = "float32" if name in MAPS else f"uint{card.bit_depth}"
            if member is None or member.dtype != wanted or (card.size and tuple(member.shape[:2]) != card.size):
                found = "nothing" if member is None else f"{member.dtype} of {member.shape[0]}x{member.shape[1]}"
                size = f" of {card.size[0]}x{card.size[1]}" if card.size else ""
                raise DualPixelError(
                    f"{folder}: {name} of {sample.key} is {found}, the card {card.name} says {wanted}{size}"
                )
