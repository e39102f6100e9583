"""A prepared training split whose shards hold scenes of any number and size, made quickly."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scenes import write_card

from dualpixel.data.index import SCHEMA, Index, fingerprint, save_index
from dualpixel.data.registry import get_card
from dualpixel.data.shards import SceneData, ShardFile, describe_shard


def make_uneven_set(
    top: Path, shards: Sequence[Sequence[tuple[int, int]]], fields: Sequence[str] = ("left", "right")
) -> tuple[Path, Path]:
    """Write a card and its training split; every scene is noise of its own.

    Args:
        top: gets the card and the folder ``set``.
        shards: for each shard the (height, width) of its scenes.
        fields: images of each scene.

    Returns:
        The card and the folder of the splits.
    """
    count = sum(map(len, shards))
    # the size of the card is that of its largest scene; no reader looks at it here
    largest = max(size for sizes in shards for size in sizes)
    counts = {"train": count, "test": 1}
    card_path = write_card(top / "uneven.yaml", counts, largest, preparation={}, fields=list(fields))
    card, folder = get_card(card_path), top / "set" / "train"
    noted, samples = [], []
    for number, sizes in enumerate(shards):
        path = folder / f"uneven-train-{number:06d}.tar"
        with ShardFile(path) as shard:
            for place, size in enumerate(sizes):
                random = np.random.default_rng([number, place])
                images = {field: random.integers(0, 65536, (*size, 3), np.uint16) for field in fields}
                shard.write(SceneData(f"train-{number:03d}-{place:03d}", images))
        described, found = describe_shard(path, number)
        noted.append(described)
        samples += found
    settings = {"windows": None, "bit_depth": 16, "complete": True}
    known = fingerprint(card.name, card.version, "train", settings, samples)
    save_index(folder, Index(SCHEMA, card.name, card.version, "train", settings, known, noted, samples))
    return card_path, top / "set"
