"""One split on its way into shards: each shard is written on its own, by any process of any machine, and all of them are joined."""

import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dualpixel.data.card import Card, WindowRule
from dualpixel.data.fields import MAPS
from dualpixel.data.images import DEPTHS
from dualpixel.data.index import INDEX, KEY, SCHEMA, Index, Sample, Shard, fingerprint, save_index
from dualpixel.data.indexing import note_windows
from dualpixel.data.parallel import one_thread
from dualpixel.data.readers import Reader, Scene
from dualpixel.data.schema import build
from dualpixel.data.shards import Codec, SceneData, ShardFile, describe_shard
from dualpixel.errors import DualPixelError
from dualpixel.files import locked, read_json, remove_left_overs, room_for, write_json

PARTS = ".parts"
PLAN = "plan.json"
SCENES_PER_SHARD = 8  # at DPDD's size 45 MB a scene: a shard of 360 MB is fetched, checked and cached as one piece


@dataclass(frozen=True)
class PlannedShard:
    """A shard that is to be written: how many scenes it gets, and which part of the preparation writes it, counted from 1."""

    scenes: int
    part: int


@dataclass(frozen=True)
class Plan:
    """What a split is to become. Every part of a preparation notes the same one, and it is all that is needed to join them.

    Args:
        request: changes with the authors' files and with every setting.
        dataset: name of the card.
        version: version of the card.
        split: name of the split.
        preparation: as in the index.
        parts: into how many parts the preparation was divided last.
        shards: in their order.
    """

    request: str
    dataset: str
    version: str
    split: str
    preparation: dict[str, Any]
    parts: int
    shards: list[PlannedShard]


@dataclass(frozen=True)
class Note:
    """What lies beside a finished shard until all are finished: its part of the index, and the request it was written for."""

    request: str
    shard: Shard
    samples: list[Sample]


@dataclass(frozen=True)
class PlannedSplit:
    """A split that is being written: its folder and its plan. Beside each finished shard, a note in ``.parts`` describes it."""

    folder: Path
    plan: Plan

    @classmethod
    def load(cls, folder: Path) -> "PlannedSplit":
        """Read the plan in a folder.

        Raises:
            DualPixelError: there is none, or it is no plan.
        """
        path = folder / PARTS / PLAN
        plan = build(Plan, read_json(path), str(path))
        if not all(re.fullmatch(KEY, name) for name in (plan.dataset, plan.split)):  # they become parts of paths
            raise DualPixelError(f"{path}: not a plan of `data prepare`; remove the folder {folder / PARTS}")
        return cls(folder, plan)

    def save(self) -> None:
        """Note the plan in the folder.

        Raises:
            DualPixelError: no room, or a link where the folder of the notes should be.
        """
        path = self.folder / PARTS / PLAN
        if path.parent.is_symlink():
            raise DualPixelError(f"{path.parent} is a link, where a folder was expected; remove it")
        with room_for(path):
            write_json(path, asdict(self.plan))

    def missing(self) -> list[int]:
        """Return the numbers of the shards that are not written yet, or were written for another request."""
        return [number for number in range(len(self.plan.shards)) if not self.is_written(number)]

    def scenes_of(self, numbers: list[int]) -> int:
        """Count the scenes of some shards."""
        return sum(self.plan.shards[number].scenes for number in numbers)

    def is_written(self, number: int) -> bool:
        """Say whether a shard and its note are there."""
        note = self.note(number)
        if not note.is_file():
            return False
        noted = build(Note, read_json(note), str(note))
        return noted.request == self.plan.request and has_size(self.shard(number), noted.shard.bytes)

    def finish(self) -> Index:
        """Join the notes into ``index.json``; the folder must be held alone.

        Raises:
            DualPixelError: a shard is not written, or there is no room.
        """
        if missing := self.missing():
            raise DualPixelError(f"{self.shard(missing[0])} is not written; prepare the set again, as before")
        paths = [self.note(number) for number in range(len(self.plan.shards))]
        notes = [build(Note, read_json(path), str(path)) for path in paths]
        shards = [note.shard for note in notes]
        samples = [sample for note in notes for sample in note.samples]
        plan = self.plan
        known = fingerprint(plan.dataset, plan.version, plan.split, plan.preparation, samples)
        settings = {**plan.preparation, "request": plan.request}
        index = Index(SCHEMA, plan.dataset, plan.version, plan.split, settings, known, shards, samples)
        with room_for(self.folder / INDEX):
            save_index(self.folder, index)
        clear_up(self.folder)
        return index

    def note(self, number: int) -> Path:
        """Where a shard's piece of the index lies."""
        return self.folder / PARTS / f"{number:06d}.json"

    def shard(self, number: int) -> Path:
        """Where a shard lies."""
        return self.folder / f"{self.plan.dataset}-{self.plan.split}-{number:06d}.tar"


@dataclass(frozen=True)
class SplitJob:
    """A planned split, and how its shards are made. Worker processes are handed one for each shard, so it holds no scenes."""

    card: Card
    reader: Reader
    codec: Codec
    planned: PlannedSplit

    @property
    def split(self) -> str:
        """Name of the split."""
        return self.planned.plan.split

    def write(self, number: int, scenes: list[Scene], written: Callable[[str], Any]) -> None:
        """Write one shard and its note, unless another job does or did; call `written` with the split's name for each scene.

        Raises:
            DualPixelError: a scene is not what the card promises, or there is no room for the shard.
        """
        import cv2

        cv2.setNumThreads(1)  # one process a core already
        path, note = self.planned.shard(number), self.planned.note(number)
        with locked(note.parent, f"{note.stem}.lock"):
            if self.planned.is_written(number):  # by a second job of the same part
                for _ in scenes:
                    written(self.split)
                return
            remove_left_overs(path.parent, path.stem)
            with one_thread(), room_for(path), ShardFile(path, self.codec) as shard:
                for scene in scenes:
                    shard.write(self._read(scene))
                    written(self.split)
            described, samples = describe_shard(path, number)
            with room_for(note):
                write_note(note, self.planned.plan.request, described, samples)

    def _read(self, scene: Scene) -> SceneData:
        return scene_data(self.card, self.reader, self.split, scene, self.card.preparation.windows.get(self.split))


def write_note(path: Path, request: str, shard: Shard, samples: list[Sample]) -> None:
    """Note a shard that is written, and its samples."""
    write_json(path, asdict(Note(request, shard, samples)))


def clear_up(folder: Path) -> None:
    """Remove what a finished preparation, and those that were killed before it, leave in the folder of a split."""
    remove_left_overs(folder)
    if (folder / PARTS).is_symlink():  # of somebody who meant it to lead elsewhere
        (folder / PARTS).unlink()
    if (folder / PARTS).exists():
        shutil.rmtree(folder / PARTS)


def has_size(path: Path, size: int) -> bool:
    """Say whether a file is there and has so many bytes."""
    return path.is_file() and path.stat().st_size == size


def scene_data(card: Card, reader: Reader, split: str, scene: Scene, rule: WindowRule | None) -> SceneData:
    """Read a scene, and lay windows over it.

    Raises:
        DualPixelError: a file is unreadable, or the scene is not what the card promises.
    """
    arrays = reader.read(scene)
    missing = [name for name in card.fields if name not in arrays]
    if missing:
        raise DualPixelError(
            f"{card.name} {split}: {scene.key} has no {', '.join(missing)}; the card promises {', '.join(card.fields)}"
        )
    arrays = {name: arrays[name] for name in card.fields}
    for name, array in arrays.items():
        wanted = np.dtype(np.float32 if name in MAPS else DEPTHS[card.bit_depth])
        if array.dtype != wanted or array.ndim != (2 if name in MAPS else 3):
            raise DualPixelError(
                f"{card.name} {split}: {name} of {scene.key} is {array.shape} {array.dtype}, expected {wanted}"
            )
    sizes = {name: array.shape[:2] for name, array in arrays.items()}
    if len(set(sizes.values())) > 1:
        said = ", ".join(f"{name} {height}x{width}" for name, (height, width) in sizes.items())
        wanted = f"{card.size[0]}x{card.size[1]}, as the card says" if card.size else "one size"
        raise DualPixelError(f"{card.name} {split}: {scene.key} has mismatched sizes: {said}; expected {wanted}")
    size = next(iter(sizes.values()))
    if card.size and size != card.size:
        raise DualPixelError(
            f"{card.name} {split}: {scene.key} is {size[0]}x{size[1]} (height x width), the card says {card.size[0]}x{card.size[1]}; "
            "mend `size` in the card, or leave it out where sizes vary"
        )
    noted = note_windows(arrays.get("sharp"), size, rule)
    return SceneData(scene.key, arrays, scene.group, scene.metadata, noted)
