"""From mapped shards to batches: crops, flips, collation, and the step from stored integers to floats on the device."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from dualpixel.data.augmentation import Augmentation
from dualpixel.data.crops import CropSize, check_crop, check_margin, chosen_windows, sides_of
from dualpixel.data.fields import IMAGES, MAPS, MIRRORED
from dualpixel.data.images import DEPTHS
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.samplers import generator
from dualpixel.data.simulated import NEEDED, Place, SimulatedViews
from dualpixel.errors import DualPixelError

FULL_SCALE = {torch.uint8: 255.0, torch.uint16: 65535.0}


class TrainingSamples(Dataset):
    """Crops of a prepared split.

    Args:
        split: the prepared split.
        fields: which fields to read.
        crop_size: side of a square crop or (height, width), pixels; None for the whole window.
        crops: "windows": the windows of the index, the least sharp share left out, as published; a smaller `crop_size` takes a
            random part of each. "random": `crops_per_scene` places anywhere in each scene, new ones every epoch.
        crops_per_scene: samples a scene gives in an epoch when `crops` is "random".
        augmentation: flips and enlargement; None for none.
        seed: of the run. Crops, flips, enlargement and cameras depend on (seed, epoch, sample key) alone.
        optics: give what the views are rendered from, with some of the scene around each crop, in place of `fields`.
        name: stands before the keys where sets are mixed, since two of them may have the same keys; "" for nothing.
    """

    def __init__(
        self,
        split: PreparedSplit,
        fields: Sequence[str],
        crop_size: CropSize | None = None,
        crops: str = "windows",
        crops_per_scene: int = 20,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        optics: SimulatedViews | None = None,
        name: str = "",
    ) -> None:
        self.split, self.seed, self.optics = split, seed, optics
        self.before_keys = f"{name}/" if name else ""
        self.fields = list(NEEDED if optics else fields)
        self.augmentation = augmentation or Augmentation()
        where = f"{split.index.dataset} {split.index.split}"
        if crops == "windows":
            rule = split.index.preparation.get("windows")
            if not rule:
                raise DualPixelError(
                    f"{where} was prepared without windows; use data.crops=random, or `data index` with --window"
                )
            self.places = chosen_windows(split, rule["discard"])
            self.window: int | None = rule["size"]
        else:
            if crop_size is None:
                raise DualPixelError("data.crops=random needs data.crop_size")
            self.places = [(scene, number, None) for scene in range(len(split)) for number in range(crops_per_scene)]
            self.window = None
        size = crop_size or self.window
        check_crop(size, self.window, split, where)
        self.crop = sides_of(size)
        if optics and self.augmentation.enlarge > 1:
            raise DualPixelError(
                f"{where}: views cannot be rendered and enlarged; set data.enlarge to 1 (a range of data.optics.focal_length_m "
                "enlarges blur, too), or drop data.optics"
            )
        if optics:
            check_margin(size, optics.margin, split, where)

    def __len__(self) -> int:
        return len(self.places)

    def shards(self) -> np.ndarray:
        """Return the number of the shard that each sample lies in."""
        return np.array([self.split.index.samples[scene].shard for scene, *_ in self.places])

    def __getitem__(self, item: tuple[int, int] | int) -> dict[str, Any]:
        epoch, position = item if isinstance(item, tuple) else (0, item)
        scene, number, corner = self.places[position]
        sample = self.split.index.samples[scene]
        key = self.before_keys + sample.key
        random = generator(self.seed, epoch, f"{key}/{number}")
        height, width = (self.window, self.window) if corner else self.split.size(scene)
        row, column = corner or (0, 0)
        row += int(random.integers(height - self.crop[0] + 1))
        column += int(random.integers(width - self.crop[1] + 1))
        mirror, flip = random.random(2) < (self.augmentation.mirror, self.augmentation.flip)
        place = seen = Place(row, column, *self.crop)
        result: dict[str, Any] = {}
        if self.optics:
            seen = self.optics.around(place, self.split.size(scene))
            result["camera"] = self.optics.draw(random, *self.split.depth_range(scene))
            result["cut"] = place.within(seen, bool(mirror), bool(flip))
            result["frame"] = Place(0, 0, *self.split.size(scene)).within(place, bool(mirror), bool(flip))
        enlarge = self.augmentation.draw_enlargement(random, *self.crop)
        for name in self.fields:
            stored = MIRRORED.get(name, name) if mirror else name
            crop = enlarge(name, self.split.array(scene, stored)[seen.rows, seen.columns])
            result[name] = crop[:: -1 if flip else 1, :: -1 if mirror else 1]
        return {**result, "key": key, "group": sample.group, "index": position}


class EvaluationSamples(Dataset):
    """Whole scenes of a prepared split, in the order of its index; see `TrainingSamples` for the arguments.

    Args:
        split: the prepared split.
        as_windows: give the windows of the index in place of whole scenes (DPDNet logs its validation loss so).
        optics: give what the views are rendered from. Cameras depend on the scene's key alone, so every run is scored
            on the same views.
    """

    def __init__(self, split: PreparedSplit, as_windows: bool = False, optics: SimulatedViews | None = None) -> None:
        self.split, self.optics = split, optics
        where = f"{split.index.dataset} {split.index.split}"
        self.fields = optics.provided(split.index.fields(), where) if optics else split.index.fields()
        """What a batch will have, once it is on the device."""
        if as_windows and not split.index.preparation.get("windows"):
            raise DualPixelError(f"{where} was prepared without windows; evaluate whole scenes")
        self.places = chosen_windows(split, 0.0) if as_windows else [(scene, 0, None) for scene in range(len(split))]

    def __len__(self) -> int:
        return len(self.places)

    def shards(self) -> np.ndarray:
        """Return the number of the shard that each sample lies in."""
        return np.array([self.split.index.samples[scene].shard for scene, *_ in self.places])

    def key(self, position: int) -> str:
        """Return the name of a sample: the scene's key, with the number of the window behind it where there are windows."""
        scene, number, corner = self.places[position]
        return self.split.index.samples[scene].key + (f"-{number}" if corner else "")

    def group(self, position: int) -> str:
        """Return the group of a sample."""
        return self.split.index.samples[self.places[position][0]].group

    def __getitem__(self, position: int) -> dict[str, Any]:
        scene, _, corner = self.places[position]  # the last, for a position that is not counted
        size = self.split.size(scene)
        side = self.split.index.preparation["windows"]["size"] if corner else None
        place = seen = Place(*corner, side, side) if corner else Place(0, 0, *size)
        result: dict[str, Any] = {}
        if self.optics:
            seen = self.optics.around(place, size)
            key = self.split.index.samples[scene].key
            result["camera"] = self.optics.draw(generator("evaluation", key), *self.split.depth_range(scene))
            result["cut"], result["frame"] = place.within(seen), Place(0, 0, *size).within(place)
        for name in NEEDED if self.optics else self.fields:
            result[name] = self.split.array(scene, name)[seen.rows, seen.columns]
        return {**result, "key": self.key(position), "group": self.group(position), "index": position}


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack samples: arrays into tensors of their stored type (B, H, W, 3) or (B, H, W), the rest into lists, ``index`` into int64.

    Raises:
        DualPixelError: the samples differ in size.
    """
    batch: dict[str, Any] = {}
    for name, first in samples[0].items():
        values = [sample[name] for sample in samples]
        if not isinstance(first, np.ndarray):
            batch[name] = torch.tensor(values) if name == "index" else values
            continue
        if any(value.shape != first.shape for value in values):
            sizes = sorted({"x".join(map(str, value.shape[:2])) for value in values})
            raise DualPixelError(
                f"scenes of different sizes ({', '.join(sizes)}) cannot share a batch; set data.evaluation_batch_size to 1"
            )
        stacked = _room_for((len(values), *first.shape), first.dtype)
        for row, value in zip(stacked.numpy(), values, strict=True):
            row[...] = value  # the one copy: from the mapped shard (flipped or not) into the batch
        batch[name] = stacked
    return batch


def _room_for(shape: tuple[int, ...], dtype: np.dtype) -> Tensor:
    """Return an empty tensor; in a worker it lies in shared memory, or its way to the training process would be another copy."""
    kind = getattr(torch, str(dtype))
    if get_worker_info() is None:
        return torch.empty(shape, dtype=kind)
    storage = torch.UntypedStorage._new_shared(math.prod(shape) * dtype.itemsize)  # as torch's own default_collate does
    return torch.empty(0, dtype=kind).set_(storage, 0, shape)


def to_floats(batch: dict[str, Any]) -> dict[str, Any]:
    """Turn a stored batch into the batch of the contract, on whatever device it lies.

    Images (B, H, W, 3) uint8 or uint16 become (B, 3, H, W) float32 in [0, 1]; maps (B, H, W) become (B, 1, H, W) float32. Batches
    travel as stored since they are half the size, and the processor has better things to do than divide. A 16-bit value v becomes
    float32(v / 65535), from which round(65535 x) gives v back exactly, for all v.
    """
    result = dict(batch)
    for name, value in batch.items():
        if not isinstance(value, Tensor) or value.is_floating_point() and value.ndim == 4:
            continue
        if name in IMAGES:
            floats = value.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
            result[name] = floats.div_(FULL_SCALE[value.dtype])
        elif name in MAPS:
            result[name] = value.to(torch.float32).unsqueeze(1)
    return result


def to_stored(image: Tensor, bit_depth: int = 16) -> np.ndarray:
    """Turn (3, H, W) floats in [0, 1] into (H, W, 3) uint16 (or uint8), rounding to nearest.

    Differences: the DPDNet program truncates when it writes its results; rounding is unbiased and gives a stored value back exactly.
    """
    scaled = image.detach().double().clamp(0, 1).mul(2**bit_depth - 1).round()
    return scaled.permute(1, 2, 0).cpu().numpy().astype(DEPTHS[bit_depth])
