"""The LightningDataModule: any prepared data set, on any number of processes, resumable at any step."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from dualpixel.data.augmentation import Augmentation
from dualpixel.data.card import Card
from dualpixel.data.crops import CropSize, check_crops_together, plain_crop_size
from dualpixel.data.index import INDEX
from dualpixel.data.pairs import Photographs
from dualpixel.data.prepare import prepare
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.registry import get_card
from dualpixel.data.samplers import EvaluationSampler, TrainingSampler
from dualpixel.data.simulated import SimulatedViews
from dualpixel.data.stream import EvaluationSamples, TrainingSamples, collate, to_floats
from dualpixel.errors import DualPixelError
from dualpixel.paths import shards_home


class DualPixelData(LightningDataModule):
    """Training crops and whole evaluation scenes of one data set.

    The order of samples depends on (seed, epoch), crops and flips on (seed, epoch, sample key): the stream is the same for any
    number of workers, and a resumed run continues it in mid-epoch. In evaluation every scene is seen exactly once over all
    processes.

    Args:
        dataset: name of a card of the registry, or the path of a card.
        root: folder with the prepared splits; by default ``$DUALPIXEL_SHARDS/NAME``, else ``shards/NAME``.
        batch_size: training samples a process takes in one step; the effective batch is this times the number of processes.
        crop_size: side of the square training crop or [height, width], pixels; by default the card's window.
        crops: "windows" for the card's windows without the least sharp ones (as DPDNet was trained), "random" for random places.
        crops_per_scene: samples a scene gives in an epoch when `crops` is "random".
        crops_together: how many random crops of one scene come one after another, over all processes. As many as the effective
            batch make every step one of a single scene, as MDP was trained; 1 mixes all scenes. See `TrainingSampler`.
        mirror: probability of mirroring left to right, which exchanges the views.
        flip: probability of flipping upside down.
        enlarge: largest factor by which training crops are enlarged at random; 1 for none.
        diagonal: take what is kept of an enlarged crop on its diagonal only, as DPANet's published program does.
        validation: "scenes" for whole images, "windows" for the card's validation windows.
        evaluation_batch_size: scenes a process takes in one step of validation and test; more than 1 needs scenes of one size.
        num_workers: reading processes for each training process.
        predict_source: files or folders for `predict` (see `dualpixel.data.pairs`); by default the scenes of `predict_split`.
        predict_split: the split that `predict` runs over when no files are given.
        test_split: the split that `test` scores.
        seed: of the stream; by default the run's own.
        optics: render the views of every sample anew, from its sharp image and its depth, by a camera drawn from these
            ranges: one set with depth gives endless dual-pixel data. Views that are stored are not used then.

    Raises:
        DualPixelError: unknown data set, not prepared, or a field the recipe needs is not there.
    """

    def __init__(
        self,
        dataset: str,
        root: Path | None = None,
        batch_size: int = 1,
        crop_size: CropSize | None = None,
        crops: Literal["windows", "random"] = "windows",
        crops_per_scene: int = 20,
        crops_together: int = 1,
        mirror: float = 0.0,
        flip: float = 0.0,
        enlarge: float = 1.0,
        diagonal: bool = False,
        validation: Literal["scenes", "windows"] = "scenes",
        evaluation_batch_size: int = 1,
        num_workers: int = 2,
        predict_source: list[str] | str | None = None,
        predict_split: str = "test",
        test_split: str = "test",
        seed: int | None = None,
        optics: SimulatedViews | None = None,
    ) -> None:
        super().__init__()
        at_least = {"batch_size": 1, "evaluation_batch_size": 1, "crops_per_scene": 1, "num_workers": 0}
        for name, least in at_least.items():
            value = locals()[name]
            if value < least:
                raise DualPixelError(f"data.{name} {value}: must be at least {least}")
        self.card: Card = get_card(dataset)
        self.root = Path(root) if root else shards_home() / self.card.name
        self.batch_size, self.evaluation_batch_size = batch_size, evaluation_batch_size
        self.crop_size = None if crop_size is None else plain_crop_size(crop_size)
        check_crops_together(crops_together, crops, crops_per_scene)
        self.crops, self.crops_per_scene, self.crops_together = crops, crops_per_scene, crops_together
        self.augmentation = Augmentation(mirror, flip, enlarge, diagonal)
        self.validation, self.num_workers = validation, num_workers
        self.predict_source = [predict_source] if isinstance(predict_source, str) else predict_source
        self.predict_split, self.test_split = predict_split, test_split
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        self.optics = optics
        self._splits: dict[str, PreparedSplit] = {}
        self._training_fields: list[str] | None = None
        self._inputs: list[str] = []

    def ensure_prepared(self, stage: str = "fit") -> None:
        """Make a generated set, or say how to get a set that is missing. Cheap when all is there.

        Raises:
            DualPixelError: a needed split is not prepared; the message says how it is got.
        """
        missing = [split for split in self._needed(stage) if not (self.root / split / INDEX).is_file()]
        if not missing:
            return
        if self.card.generated:
            prepare(self.card, out=self.root)
            return
        self.card.split(missing[0])
        raise DualPixelError(
            f"data set {self.card.name!r} is not prepared: nothing at {self.root / missing[0] / INDEX}\n"
            f"{self.card.how_to_get()}  (or name a prepared folder by --data.root)"
        )

    def prepare_data(self) -> None:
        """Prepare a generated set on first use (called on one process only)."""
        stage = self.trainer.state.fn.value if self.trainer else "fit"
        self.ensure_prepared(stage)

    def setup(self, stage: str) -> None:
        """Open the splits a stage needs."""
        for split in self._needed(stage):
            self.split(split)

    def split(self, name: str) -> PreparedSplit:
        """Return a prepared split, opened once.

        Raises:
            DualPixelError: not prepared, empty, or truncated.
        """
        if name not in self._splits:
            self.card.split(name)
            self._splits[name] = PreparedSplit(self.root / name)
            self.card.check_index(name, self._splits[name].index, self.root / name)
        return self._splits[name]

    def _needed(self, stage: str) -> list[str]:
        if stage == "predict":
            return [] if self.predict_source else [self.predict_split]
        return {"fit": ["train", "val"], "validate": ["val"], "test": [self.test_split]}[stage]

    def require(self, stage: str, inputs: Sequence[str], targets: Sequence[str]) -> None:
        """Be told by the recipe which fields it needs; refuse what the data set does not have.

        Args:
            stage: "fit", "validate", "test" or "predict".
            inputs: needed always.
            targets: what the loss is taken from, needed in training and validation; a test scores what is there.

        Raises:
            DualPixelError: a field is missing.
        """
        self._inputs = list(inputs)
        needed = [*inputs, *(targets if stage in ("fit", "validate") else ())]
        self._training_fields = list(dict.fromkeys([*inputs, *targets]))
        for name in self._needed(stage):
            has = self._fields(name)
            missing = [field for field in needed if field not in has]
            if missing:
                raise DualPixelError(
                    f"the recipe needs {', '.join(needed)}; {self.card.name} {name} has no {', '.join(missing)} (it has {', '.join(has)}): "
                    "choose another data set or recipe"
                )

    def train_dataloader(self) -> DataLoader:
        """Return the training loader of this process."""
        split = self.split("train")
        fields = self._training_fields or self._fields("train")
        samples = TrainingSamples(
            split, fields, self.crop_size, self.crops, self.crops_per_scene, self.augmentation, self.seed, self.optics
        )
        rank, world = self._place()
        steps = self._limit(len(samples), world)
        sampler = TrainingSampler(
            len(samples), self.batch_size, rank, world, self.seed, steps, self._steps_done, self.crops_together
        )
        return self._loader(samples, sampler, self.batch_size, drop_last=True)

    def val_dataloader(self) -> DataLoader:
        """Return the validation loader of this process."""
        return self._evaluation_loader(self.validation_samples())

    def test_dataloader(self) -> DataLoader:
        """Return the test loader of this process."""
        return self._evaluation_loader(self.evaluation_samples(self.test_split))

    def predict_dataloader(self) -> DataLoader:
        """Return the loader of photographs, or of a split, of this process."""
        if self.predict_source:
            return self._evaluation_loader(Photographs(self.predict_source, self._inputs))
        return self._evaluation_loader(self.evaluation_samples(self.predict_split))

    def validation_samples(self) -> EvaluationSamples:
        """Return what validation sees, with every field there is: whole scenes, or windows where they were asked for."""
        return EvaluationSamples(self.split("val"), self.validation == "windows", self.optics)

    def evaluation_samples(self, split: str) -> EvaluationSamples:
        """Return the whole scenes of a split, with every field there is."""
        return EvaluationSamples(self.split(split), optics=self.optics)

    def fingerprint(self, split: str) -> str:
        """Return what names the pixels of a split: that of its shards, and of the optics that render them."""
        found = self.split(split).index.fingerprint
        return f"{found}-optics-{self.optics.fingerprint()}" if self.optics else found

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Make floats of stored integers, and views of depth where that is asked for, on the device."""
        batch = to_floats(batch)
        return self.optics(batch) if self.optics and "camera" in batch else batch

    def state_dict(self) -> dict[str, Any]:
        """Note what a resumed run must share with this one; where the stream stands is the trainer's own count of steps."""
        _, world = self._place()
        return {
            "effective_batch": self.batch_size * world,
            "seed": self.seed,
            "crop_size": list(self.crop_size) if isinstance(self.crop_size, tuple) else self.crop_size,
            "crops": self.crops,
            "crops_per_scene": self.crops_per_scene,
            "crops_together": self.crops_together,
            **asdict(self.augmentation),
            "fingerprint": self.fingerprint("train") if "train" in self._splits else "",
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Refuse to continue a run whose stream would be another one.

        Raises:
            DualPixelError: another effective batch, seed or data set than the checkpoint's.
        """
        if self.trainer is None or self.trainer.state.fn != "fit":
            return
        state = {"crops_together": 1, **state}  # checkpoints of before there was a choice
        for name, mine in self.state_dict().items():
            if state.get(name) != mine:
                raise DualPixelError(
                    f"the checkpoint was trained with {name.replace('_', ' ')} {state.get(name)}, this run has {mine}; "
                    "make them equal to resume, or start a new run from its weights by --model.init_from"
                )

    def _fields(self, split: str) -> list[str]:
        """Return the fields that batches of a split have."""
        stored = self.split(split).index.fields()
        return self.optics.provided(stored, f"{self.card.name} {split}") if self.optics else stored

    def _evaluation_loader(self, samples: Dataset) -> DataLoader:
        return self._loader(samples, EvaluationSampler(len(samples), *self._place()), self.evaluation_batch_size)

    def _loader(self, samples: Dataset, sampler: Any, batch_size: int, drop_last: bool = False) -> DataLoader:
        return DataLoader(
            samples,
            batch_size=batch_size,  # by keyword: Lightning makes the loader of `predict` anew from its arguments
            sampler=sampler,
            drop_last=drop_last,
            num_workers=self.num_workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
        )

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _steps_done(self) -> int:
        return self.trainer.fit_loop.epoch_loop.batch_progress.total.processed if self.trainer else 0

    def _limit(self, length: int, world: int) -> int | None:
        limit = self.trainer.limit_train_batches if self.trainer else None
        if not limit or limit == 1.0 and isinstance(limit, float):
            return None
        return int(limit) if isinstance(limit, int) else max(1, int(limit * (length // (self.batch_size * world))))
