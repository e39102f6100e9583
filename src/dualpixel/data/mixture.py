"""Several data sets in one training: how many samples each gives, in which order they come, and what they must have in common."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from dualpixel.data.fields import IMAGES
from dualpixel.data.samplers import TrainingSampler, generator, shuffled
from dualpixel.data.simulated import Place
from dualpixel.data.stream import TrainingSamples
from dualpixel.errors import DualPixelError

WIDENED = np.uint16(257)
"""What an 8-bit value is multiplied by among 16-bit ones: v / 255 is 257 v / 65535, exactly."""


@dataclass(frozen=True)
class MixedSet:
    """A data set that is trained on beside the main one.

    Args:
        dataset: name of a card of the registry, or the path of a card.
        weight: how many of its samples come for each one of the main set. Either all further sets have one or none has; with none
            each gives as much as it has.
        root: folder with its prepared splits, or an address; by default ``$DUALPIXEL_SHARDS/NAME``, else ``shards/NAME``.
    """

    dataset: str
    weight: float | None = None
    root: str | Path | None = None

    def __post_init__(self) -> None:
        if self.weight is not None and not 0 < self.weight < math.inf:
            raise DualPixelError(
                f"weight {self.weight} of the mixed set {self.dataset}: must be positive; to leave a set out, drop it"
            )


def check_mix(mix: Sequence[MixedSet], names: Sequence[str]) -> None:
    """Refuse a mixture that cannot be meant.

    Args:
        mix: the further sets.
        names: of the cards of all sets, that of the main one first.

    Raises:
        DualPixelError: a set that is named twice, or weights for some of them only.
    """
    twice = [name for number, name in enumerate(names) if name in names[:number]]
    if twice:
        raise DualPixelError(
            f"data.mix: {twice[0]} is named twice; name each set once, data.dataset included, and give it a weight"
        )
    without = [name for name, one in zip(names[1:], mix, strict=True) if one.weight is None]
    if without and len(without) < len(mix):
        raise DualPixelError(
            f"data.mix: {without[0]} has no weight and others have one; give all a weight (samples for each one of {names[0]}), or none"
        )


def shares(mix: Sequence[MixedSet], lengths: Sequence[int]) -> list[Fraction]:
    """Return which part of the samples of a training each set gives, the main one first.

    Args:
        mix: the further sets.
        lengths: how many samples each set has, the main one first.
    """
    # as written: 0.1 is a tenth
    weights = [Fraction(1), *(Fraction(str(one.weight)) for one in mix if one.weight is not None)]
    parts = weights if len(weights) == len(lengths) else [Fraction(length) for length in lengths]
    return [part / sum(parts) for part in parts]


class MixedSamples(Dataset):
    """The training samples of several sets, one set behind the other.

    Where some sets have 8 bits and others 16, all samples have 16: then floats on the device do not depend on which samples share a
    batch.

    Args:
        parts: of each set.

    Raises:
        DualPixelError: crops of different sizes.
    """

    def __init__(self, parts: Sequence[TrainingSamples]) -> None:
        self.parts = list(parts)
        self.starts = np.cumsum([0, *map(len, self.parts)])
        sizes = {part.split.index.dataset: _seen(part) for part in self.parts}
        if len(set(sizes.values())) > 1:
            said = ", ".join("{} {}x{}".format(name, *size) for name, size in sizes.items())
            raise DualPixelError(
                f"data.mix: training crops must be of one size, found {said} pixels; set data.crop_size to one that fits all"
                + (", with its surroundings that are rendered" if self.parts[0].optics else "")
            )
        depths = [
            {name: {sample.members[name].dtype for sample in part.split.index.samples} for name in IMAGES if name in part.fields}
            for part in self.parts
        ]  # fmt: skip
        self.widened = {name for name in depths[0] if any("uint16" in one[name] for one in depths)}
        """Images that have 16 bits in some set."""

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, item: tuple[int, int] | int) -> dict[str, Any]:
        visit, position = item if isinstance(item, tuple) else (0, item)
        which = int(np.searchsorted(self.starts, position, "right")) - 1
        sample = self.parts[which][(visit, position - int(self.starts[which]))]
        for name in self.widened:
            if sample[name].dtype == np.uint8:
                sample[name] = sample[name] * WIDENED
        return {**sample, "index": position}


def _seen(part: TrainingSamples) -> tuple[int, int]:
    """Return height and width of what a sample of a set brings along: the crop, and what is rendered around it."""
    place = Place(0, 0, *part.crop)
    return part.optics.around(place, part.split.size(0))[2:] if part.optics else part.crop


@dataclass(frozen=True)
class Portion:
    """What a sampler knows of a set.

    Args:
        name: of the set; its order depends on it, and not on the other sets.
        length: how many samples it has.
        share: which part of all samples it gives, in (0, 1].
        shards: number of the shard that each sample lies in; needed for windows of shards alone.
    """

    name: str
    length: int
    share: Fraction
    shards: np.ndarray | None = None


class MixedSampler(TrainingSampler):
    """Endless epochs of several sets, each with its share; see `TrainingSampler`.

    Each set comes in an endless chain of its own random orders, one for each pass over it: order p depends on (seed, name, p).
    An epoch takes so many of the next samples of each chain that every set has had its share of all samples so far, up to less than one
    (a run of `together`). In which order sets take turns depends on (seed, epoch). So every sample of a set comes equally often,
    and all orders of the chosen samples are as likely; with `window` the samples of each set still come from few of its shards.

    Positions count through all sets. What goes with a position is the number of the pass over its set, not of the epoch: a
    sample that comes twice in an epoch is cropped in two ways.

    Args:
        portions: the sets.
        length: samples of an epoch; by default those of all sets together. What does not fill a step stays in the chains.
        batch_size, options: see `TrainingSampler`, but for `shards`.

    Raises:
        DualPixelError: too few samples for one step, steps and runs of which neither is a multiple of the other, or a set of which
            an epoch has less than one sample.
    """

    def __init__(self, portions: Sequence[Portion], length: int | None, batch_size: int, **options: Any) -> None:
        total = length or sum(one.length for one in portions)
        super().__init__(total, batch_size, asked=length is not None, **options)
        self.portions = list(portions)
        self.starts = np.cumsum([0, *(one.length for one in self.portions)])
        self.lengths = [one.length // self.together for one in self.portions]
        taken = self.steps * batch_size * self.world
        self.runs = -(-taken // self.together)  # where an epoch ends within a run, the rest of it is left out
        for one in self.portions:
            if one.share * self.runs < 1:
                raise DualPixelError(
                    f"data.mix: {one.name} gives {float(one.share):.2g} of {taken} samples in an epoch, which is less than one"
                    f"{f' run of {self.together}' if self.together > 1 else ''}; raise its weight or data.samples_per_epoch"
                )

    def given(self, epochs: int) -> list[int]:
        """Return how many runs each set gives in the first so many epochs: its share, rounded so that the sum is right."""
        wanted = [one.share * self.runs * epochs for one in self.portions]
        counts = [int(one) for one in wanted]
        rest = sorted(range(len(counts)), key=lambda which: counts[which] - wanted[which])
        for which in rest[: self.runs * epochs - sum(counts)]:
            counts[which] += 1
        return counts

    def order(self, epoch: int) -> np.ndarray:
        """Return the positions of an epoch in the order in which all processes together take them."""
        return self.visits(epoch)[:, 1]

    def visits(self, epoch: int) -> np.ndarray:
        """Return (N, 2): how often each sample of an epoch was due before, and its position; in the order of `order`."""
        before, after = self.given(epoch), self.given(epoch + 1)
        turns = np.repeat(np.arange(len(self.portions)), np.subtract(after, before))
        turns = generator(self.seed, "turns", epoch).permutation(turns)
        visits = np.empty((len(turns), self.together, 2), np.int64)
        for which in np.unique(turns).tolist():
            visits[turns == which] = self._chain(which, before[which], after[which])
        return visits.reshape(-1, 2)

    def _chain(self, which: int, first: int, last: int) -> np.ndarray:
        """Return (last - first, together, 2): runs of a set's chain."""
        one, length = self.portions[which], self.lengths[which]
        found = []
        for number in range(first // length, -(-last // length)):
            random = generator(self.seed, "order", one.name, number)
            order = shuffled(random, one.length, self.together, one.shards, self.window) + self.starts[which]
            found.append(np.stack([np.full_like(order, number), order], axis=1).reshape(length, self.together, 2))
        begun = first // length * length
        return np.concatenate(found)[first - begun : last - begun]
