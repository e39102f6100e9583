"""What a network is trained on: crops of one prepared set or of several, in an order that a resumed run continues."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch.utils.data import DataLoader

from dualpixel.data.augmentation import Augmentation
from dualpixel.data.crops import CropSize, check_crops_together
from dualpixel.data.fields import FIELDS
from dualpixel.data.loaders import Share
from dualpixel.data.mixture import MixedSampler, MixedSamples, MixedSet, Portion, check_mix, shares
from dualpixel.data.prepared import PreparedSet
from dualpixel.data.samplers import TrainingSampler
from dualpixel.data.stream import TrainingSamples


@dataclass(frozen=True)
class TrainingStream:
    """The training samples of a run; see `dualpixel.data.datamodule.DualPixelData` for what is not said here.

    Args:
        sets: the sets, the main one first. The training split of each is read.
        mix: how the further ones were asked for.

    Raises:
        DualPixelError: a mixture that cannot be meant, or crops that cannot be kept together.
    """

    sets: Sequence[PreparedSet]
    mix: Sequence[MixedSet]
    samples_per_epoch: int | None
    batch_size: int
    crop_size: CropSize | None
    crops: str
    crops_per_scene: int
    crops_together: int
    shuffle_shards: int | None
    augmentation: Augmentation
    seed: int

    def __post_init__(self) -> None:
        check_mix(self.mix, [one.card.name for one in self.sets])
        check_crops_together(self.crops_together, self.crops, self.crops_per_scene)

    def loader(
        self, fields: Sequence[str] | None, share: Share, limit: int | float | None, steps_done: Callable[[], int]
    ) -> DataLoader:
        """Return the loader of one process.

        Args:
            fields: which to read; None for all that every set has.
            share: which process this is.
            limit: the trainer's limit on the steps of an epoch: their number, or the part of a whole epoch.
            steps_done: see `TrainingSampler`.

        Raises:
            DualPixelError: settings that the sets cannot serve; the message names the set.
        """
        fields = fields or [name for name in FIELDS if all(name in one.fields("train") for one in self.sets)]
        parts = [
            TrainingSamples(
                one.split("train"),
                fields,
                self.crop_size,
                self.crops,
                self.crops_per_scene,
                self.augmentation,
                self.seed,
                one.optics,
                one.card.name if number else "",  # the samples of the main set are what they are without others
            )
            for number, one in enumerate(self.sets)
        ]
        lengths = [len(part) for part in parts]
        length = self.samples_per_epoch or sum(lengths)
        options = {
            "batch_size": self.batch_size,
            "rank": share.rank,
            "world": share.world,
            "seed": self.seed,
            "steps": self._steps(length, limit, share.world),
            "steps_done": steps_done,
            "together": self.crops_together,
            "window": self.shuffle_shards,
        }
        if len(parts) == 1 and self.samples_per_epoch is None:
            return share.training_loader(parts[0], TrainingSampler(length, shards=parts[0].shards(), **options))
        portions = [
            Portion(one.card.name, len(part), portion, part.shards())
            for one, part, portion in zip(self.sets, parts, shares(self.mix, lengths), strict=True)
        ]
        return share.training_loader(MixedSamples(parts), MixedSampler(portions, self.samples_per_epoch, **options))

    def state(self, world: int) -> dict[str, Any]:
        """Return what a resumed run must share with this one.

        Args:
            world: how many processes there are.
        """
        # a set that was not opened was not trained on
        names = {one.card.name: one.fingerprint("train") if one.is_open("train") else "" for one in self.sets}
        fingerprint, *further = names.values()
        return {
            "effective_batch": self.batch_size * world,
            "seed": self.seed,
            "crop_size": list(self.crop_size) if isinstance(self.crop_size, tuple) else self.crop_size,
            "crops": self.crops,
            "crops_per_scene": self.crops_per_scene,
            "crops_together": self.crops_together,
            "shuffle_shards": self.shuffle_shards,
            **asdict(self.augmentation),
            "samples_per_epoch": self.samples_per_epoch,
            "fingerprint": fingerprint,
            "mix": {
                name: {"weight": one.weight, "fingerprint": found}
                for name, one, found in zip(list(names)[1:], self.mix, further, strict=True)
            },
        }

    def _steps(self, length: int, limit: int | float | None, world: int) -> int | None:
        if not limit or limit == 1.0 and isinstance(limit, float):
            return None
        return int(limit) if isinstance(limit, int) else max(1, int(limit * (length // (self.batch_size * world))))
