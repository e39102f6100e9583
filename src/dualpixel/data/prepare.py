"""From the authors' files to shards: several processes, a progress bar, and a stopped run goes on where it stopped."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial as with_arguments
from pathlib import Path
from typing import Any

import numpy as np

from dualpixel.data.card import Card, WindowRule
from dualpixel.data.fields import MAPS
from dualpixel.data.images import DEPTHS
from dualpixel.data.index import INDEX, KEY, SCHEMA, Index, Sample, Shard, fingerprint, load_index, save_index
from dualpixel.data.indexing import note_windows
from dualpixel.data.parallel import how_many, in_parallel, one_thread
from dualpixel.data.readers import Reader, Scene, get_reader
from dualpixel.data.schema import build
from dualpixel.data.shards import Codec, SceneData, ShardFile, describe_shard
from dualpixel.errors import DualPixelError
from dualpixel.files import locked, read_json, write_json
from dualpixel.paths import shards_home
from dualpixel.terminal import progress

PARTS = ".parts"
SCENES_PER_SHARD = 8  # at DPDD's size 45 MB a scene: a shard of 360 MB is fetched, checked and cached as one piece


def prepare(
    card: Card,
    source: Path | None = None,
    out: Path | None = None,
    codec: Codec = "npy",
    processes: int | None = None,
    partial: bool = False,
) -> Path:
    """Prepare every split of a data set.

    Args:
        card: the data set.
        source: the folder with the authors' files; None for sets that are generated.
        out: folder that gets one sub-folder a split; None for ``$DUALPIXEL_SHARDS/NAME`` (else ``shards/NAME``).
        codec: "npy" (mapped into memory when read) or "png" (smaller, for exchange).
        processes: how many worker processes; None for one a core, at most 8.
        partial: accept fewer scenes than the card promises (noted in the fingerprint), and leave out splits without any.

    Returns:
        The folder written.

    Raises:
        DualPixelError: a file is missing, unreadable or of another depth or size; the folder holds shards made otherwise.
    """
    out = Path(out) if out else shards_home() / card.name
    source = Path(source) if source else None
    if source is None and not card.generated:
        raise DualPixelError(f"data prepare {card.name} needs --source FOLDER; {card.how_to_get()}")
    processes = how_many(processes)
    reader = get_reader(card, source)
    plans = plan(card, reader, partial)  # all are checked before one is written
    with locked(out):
        _write_splits(card, reader, plans, out, codec, processes)
    return out


def _write_splits(
    card: Card, reader: Reader, plans: dict[str, list[Scene]], out: Path, codec: Codec, processes: int
) -> None:
    jobs = [_begin(card, reader, split, scenes, out / split, codec) for split, scenes in plans.items()]
    jobs = [job for job in jobs if job is not None]
    with progress() as bar:
        tasks = {}
        for job in jobs:
            done = len(job.scenes) - sum(len(scenes) for scenes in job.missing().values())
            tasks[job.split] = bar.add_task(f"prepare {card.name} {job.split}", total=len(job.scenes), completed=done)
        todo = [with_arguments(job.write, *shard) for job in jobs for shard in job.missing().items()]
        for split in in_parallel(todo, processes):
            bar.advance(tasks[split])
    for job in jobs:
        job.finish()


@dataclass(frozen=True)
class SplitJob:
    """One split on its way into shards."""

    card: Card
    reader: Reader
    split: str
    scenes: list[Scene]
    folder: Path
    codec: Codec
    settings: dict[str, Any]
    request: str

    def shards(self) -> dict[int, list[Scene]]:
        """Return number -> scenes of every shard."""
        starts = range(0, len(self.scenes), SCENES_PER_SHARD)
        return {number: self.scenes[start : start + SCENES_PER_SHARD] for number, start in enumerate(starts)}

    def missing(self) -> dict[int, list[Scene]]:
        """Return number -> scenes of the shards that are not written yet, or were written for another request."""
        return {number: scenes for number, scenes in self.shards().items() if not self._is_written(number)}

    def write(self, number: int, scenes: list[Scene], written: Callable[[str], Any]) -> None:
        """Write one shard and its part of the index; call `written` with the split's name after each scene."""
        import cv2

        cv2.setNumThreads(1)  # one process a core already
        rule = self.card.preparation.windows.get(self.split)
        path = self._shard(number)
        with one_thread(), ShardFile(path, self.codec) as shard:
            for scene in scenes:
                shard.write(_scene_data(self.card, self.reader, self.split, scene, rule))
                written(self.split)
        described, samples = describe_shard(path, number)
        part = {"request": self.request, "shard": asdict(described), "samples": [asdict(sample) for sample in samples]}
        write_json(self._part(number), part)

    def finish(self) -> None:
        """Join the parts into ``index.json``."""
        parts = [read_json(self._part(number)) for number in self.shards()]
        shards = [build(Shard, part["shard"], "part") for part in parts]
        samples = [build(Sample, sample, "part") for part in parts for sample in part["samples"]]
        known = fingerprint(self.card.name, self.card.version, self.split, self.settings, samples)
        settings = {**self.settings, "request": self.request}
        save_index(
            self.folder, Index(SCHEMA, self.card.name, self.card.version, self.split, settings, known, shards, samples)
        )
        shutil.rmtree(self.folder / PARTS)

    def _is_written(self, number: int) -> bool:
        part, shard = self._part(number), self._shard(number)
        if not part.is_file():
            return False
        noted = read_json(part)
        return noted["request"] == self.request and _has_size(shard, noted["shard"]["bytes"])

    def _part(self, number: int) -> Path:
        return self.folder / PARTS / f"{number:06d}.json"

    def _shard(self, number: int) -> Path:
        return self.folder / f"{self.card.name}-{self.split}-{number:06d}.tar"


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


def _begin(card: Card, reader: Reader, split: str, scenes: list[Scene], folder: Path, codec: Codec) -> SplitJob | None:
    rule = card.preparation.windows.get(split)
    settings = {
        "windows": asdict(rule) if rule else None,
        "bit_depth": card.bit_depth,
        "complete": card.split(split).is_complete(len(scenes)),
    }
    # sizes and times of the files tell whether the source is still the one the shards were made from, without reading pixels
    stamps = [scene.stamp() for scene in scenes]
    content = json.dumps(
        [card.name, card.version, asdict(card.reader), settings, codec, SCENES_PER_SHARD, stamps], sort_keys=True
    )
    request = hashlib.sha256(content.encode()).hexdigest()[:16]
    if (folder / INDEX).is_file():
        index = load_index(folder)
        if index.preparation.get("request") == request:
            broken = [shard for shard in index.shards if not _has_size(folder / shard.name, shard.bytes)]
            if not broken:
                return None
            _reopen(folder, index, request)  # shards that were lost or cut are written again, the others are kept
            return SplitJob(card, reader, split, scenes, folder, codec, settings, request)
        raise DualPixelError(
            f"{folder} holds shards made from other files or settings (fingerprint {index.fingerprint}); "
            "remove that folder, or give another --out"
        )
    for left_over in folder.glob(".*.part.tar"):  # of a run that was killed
        left_over.unlink()
    return SplitJob(card, reader, split, scenes, folder, codec, settings, request)


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _reopen(folder: Path, index: Index, request: str) -> None:
    for number, shard in enumerate(index.shards):
        samples = [asdict(sample) for sample in index.samples if sample.shard == number]
        write_json(
            folder / PARTS / f"{number:06d}.json", {"request": request, "shard": asdict(shard), "samples": samples}
        )
    (folder / INDEX).unlink()


def _scene_data(card: Card, reader: Reader, split: str, scene: Scene, rule: WindowRule | None) -> SceneData:
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
    if len(set(sizes.values())) > 1 or (card.size and set(sizes.values()) != {card.size}):
        said = ", ".join(f"{name} {height}x{width}" for name, (height, width) in sizes.items())
        wanted = f"{card.size[0]}x{card.size[1]}, as the card says" if card.size else "one size"
        raise DualPixelError(f"{card.name} {split}: {scene.key} has mismatched sizes: {said}; expected {wanted}")
    noted = note_windows(arrays.get("sharp"), next(iter(sizes.values())), rule)
    return SceneData(scene.key, arrays, scene.group, scene.metadata, noted)
