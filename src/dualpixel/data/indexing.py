"""An index for tars that lie there already, and the windows that an index notes."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from dualpixel.data.card import Card, WindowRule
from dualpixel.data.index import SCHEMA, Index, fingerprint, load_index, save_index
from dualpixel.data.reading import open_member
from dualpixel.data.shards import describe_shard
from dualpixel.data.windows import sharpness, sharpness_rank, windows
from dualpixel.errors import DualPixelError
from dualpixel.terminal import progress


def note_windows(sharp: np.ndarray | None, size: tuple[int, int], rule: WindowRule | None) -> list[list[int]]:
    """Return (row, column, rank) of each window; rank 0 is the least sharp, or the scan order where there is no target."""
    if rule is None:
        return []
    positions = windows(*size, rule.size, rule.overlap)
    ranks = range(len(positions)) if sharp is None else sharpness_rank(sharpness(sharp, positions, rule.size))
    return [[int(row), int(column), int(rank)] for (row, column), rank in zip(positions, ranks, strict=True)]


def make_index(folder: Path, card: Card | None = None, rule: WindowRule | None = None) -> Index:
    """Make the index of one folder of tars that came from elsewhere.

    Args:
        folder: holds plain WebDataset tars with members ``KEY.FIELD.npy`` or ``KEY.FIELD.png``.
        card: names the set; None for the folder's name.
        rule: lay windows over the scenes; None keeps those noted in the tars.

    Raises:
        DualPixelError: no tars, or one that cannot be used.
    """
    tars = sorted(path for path in folder.glob("*.tar") if not path.name.startswith("."))
    if not tars:
        raise DualPixelError(f"{folder}: no .tar files to index")
    shards, samples = [], []
    with progress() as bar:
        task = bar.add_task(f"index {folder.name}", total=len(tars))
        for number, path in enumerate(tars):
            shard, found = describe_shard(path, number)
            if rule:
                for position, sample in enumerate(found):
                    sharp = open_member(path, sample.members["sharp"]) if "sharp" in sample.members else None
                    size = tuple(next(iter(sample.members.values())).shape[:2])
                    found[position] = replace(sample, windows=note_windows(sharp, size, rule))
            shards.append(shard)
            samples.extend(found)
            bar.advance(task)
    name, version = (card.name, card.version) if card else (folder.resolve().parent.name, "foreign")
    settings = {"windows": asdict(rule) if rule else None, "indexed": True}
    known = fingerprint(name, version, folder.name, settings, samples)
    save_index(folder, Index(SCHEMA, name, version, folder.resolve().name, settings, known, shards, samples))
    return load_index(folder)
