"""A prepared set of many small shards, made quickly, and a loader of it as a trainer would ask for it."""

from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from scenes import write_card

from dualpixel.data import DualPixelData
from dualpixel.data.index import SCHEMA, Index, fingerprint, save_index
from dualpixel.data.registry import get_card
from dualpixel.data.shards import SceneData, ShardFile, describe_shard

SIZE = (20, 28)
SCENES_PER_SHARD = 2
CROPS_PER_SCENE = 4


def make_tiny_set(
    top: Path,
    shards: int = 6,
    extra: int = 0,
    name: str = "tiny",
    fields: tuple[str, ...] = ("left", "right"),
    bit_depth: int = 16,
    size: tuple[int, int] = SIZE,
) -> tuple[Path, Path]:
    """Write a card and its train, val and test splits; every scene is noise of its own.

    Args:
        top: gets the card and the folder ``set``.
        shards: of each split, with `SCENES_PER_SHARD` scenes.
        extra: bytes by which the metadata of each scene makes its shard longer.
        name: of the card; sets of different names have the same keys.
        fields: images, and depth between 1 and 2 metres.
        bit_depth: of the images.
        size: of the scenes.

    Returns:
        The card and the folder of the splits.
    """
    scenes = shards * SCENES_PER_SHARD
    card_path = write_card(
        top / f"{name}.yaml",
        {"train": scenes, "val": scenes, "test": scenes},
        size,
        preparation={},
        fields=list(fields),
        bit_depth=bit_depth,
    )
    card = get_card(card_path)
    for split in card.splits:
        folder = top / "set" / split
        noted, samples = [], []
        for number in range(shards):
            path = folder / f"{name}-{split}-{number:06d}.tar"
            with ShardFile(path) as shard:
                for place in range(SCENES_PER_SHARD):
                    scene = number * SCENES_PER_SHARD + place
                    random = np.random.default_rng([scene, *split.encode()])
                    images = random.integers(0, 2**bit_depth, (len(fields), *size, 3), f"uint{bit_depth}")
                    content = dict(zip(fields, images, strict=True))
                    if "depth" in content:
                        content["depth"] = random.uniform(1, 2, size).astype(np.float32)
                    shard.write(SceneData(f"{split}-{scene:03d}", content, metadata={"x": "." * extra}))
            described, found = describe_shard(path, number)
            noted.append(described)
            samples += found
        settings = {"windows": None, "bit_depth": bit_depth, "complete": True}
        known = fingerprint(card.name, card.version, split, settings, samples)
        save_index(folder, Index(SCHEMA, card.name, card.version, split, settings, known, noted, samples))
    return card_path, top / "set"


def opened(card: Path, root: object, steps: int = 0, rank: int = 0, world: int = 1, **options: object) -> DualPixelData:
    """A data module, and a trainer that says where training stands and which of how many processes this is."""
    options = {"num_workers": 0, "crops": "random", "crop_size": 16, "crops_per_scene": CROPS_PER_SCENE} | options
    data = DualPixelData(str(card), root=root, **options)
    total = SimpleNamespace(total=SimpleNamespace(processed=steps))
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=total))
    data.trainer = SimpleNamespace(
        fit_loop=loop, global_rank=rank, world_size=world, limit_train_batches=1.0, state=SimpleNamespace(fn="fit")
    )
    return data


def shard_bytes(root: Path, split: str = "train") -> int:
    """The size of the largest shard of a split."""
    return max(path.stat().st_size for path in (root / split).glob("*.tar"))


def bytes_in(folder: Path) -> int:
    """What the shards of a cache take on the disk, finished or not, while others write and remove them."""
    total = 0
    for path in folder.glob("*-*"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total
