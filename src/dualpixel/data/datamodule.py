"""The LightningDataModule: any prepared data set, on any number of processes, resumable at any step."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from dualpixel.data.augmentation import Augmentation
from dualpixel.data.cache import ShardCache
from dualpixel.data.card import Card
from dualpixel.data.crops import CropSize, check_crops_together, plain_crop_size
from dualpixel.data.index import INDEX
from dualpixel.data.loaders import Share, check_continued
from dualpixel.data.pairs import Photographs
from dualpixel.data.prepare import prepare
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.registry import get_card
from dualpixel.data.remote import RemoteFolder, prepared_root
from dualpixel.data.requests import NotThereError
from dualpixel.data.samplers import TrainingSampler
from dualpixel.data.simulated import SimulatedViews
from dualpixel.data.stream import EvaluationSamples, TrainingSamples, to_floats
from dualpixel.errors import DualPixelError


class DualPixelData(LightningDataModule):
    """Training crops and whole evaluation scenes of one data set.

    The order of samples depends on (seed, epoch), crops and flips on (seed, epoch, sample key): the stream is the same for any
    number of workers, and a resumed run continues it in mid-epoch. In evaluation every scene is seen exactly once over all
    processes.

    Args:
        dataset: name of a card of the registry, or the path of a card.
        root: folder with the prepared splits, or its address (``https://HOST/FOLDER``, ``s3://BUCKET/FOLDER``; gs, az and abfs too);
            by default ``$DUALPIXEL_SHARDS/NAME``, else ``shards/NAME``. The stream is the same wherever the shards lie.
        batch_size: training samples a process takes in one step; the effective batch is this times the number of processes.
        crop_size: side of the square training crop or [height, width], pixels; by default the card's window.
        crops: "windows" for the card's windows without the least sharp ones (as DPDNet was trained), "random" for random places.
        crops_per_scene: samples a scene gives in an epoch when `crops` is "random".
        crops_together: how many random crops of one scene come one after another, over all processes. As many as the effective
            batch make every step one of a single scene, as MDP was trained; 1 mixes all scenes. See `TrainingSampler`.
        shuffle_shards: how many shards are shuffled into each other at a time; None for all, which a root on a server allows only
            where the cache can hold all of its training shards.
        cache: folder on a local disk that keeps shards from servers, and that runs may share; by default ``shards`` in
            ``$DUALPIXEL_CACHE``, else in the user's cache folder.
        cache_gigabytes: how much that folder may hold at any time.
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
        root: str | Path | None = None,
        batch_size: int = 1,
        crop_size: CropSize | None = None,
        crops: Literal["windows", "random"] = "windows",
        crops_per_scene: int = 20,
        crops_together: int = 1,
        shuffle_shards: int | None = None,
        cache: Path | None = None,
        cache_gigabytes: float = 50.0,
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
        at_least = {
            "batch_size": 1,
            "evaluation_batch_size": 1,
            "crops_per_scene": 1,
            "num_workers": 0,
            "shuffle_shards": 1,
        }
        for name, least in at_least.items():
            value = locals()[name]
            if value is not None and value < least:
                raise DualPixelError(f"data.{name} {value}: must be at least {least}")
        self.card: Card = get_card(dataset)
        self.root = prepared_root(self.card.name, root)
        # one for all splits: they share its bound and its counts
        self.cache = ShardCache(cache, cache_gigabytes) if isinstance(self.root, RemoteFolder) else None
        self.batch_size, self.evaluation_batch_size = batch_size, evaluation_batch_size
        self.crop_size = None if crop_size is None else plain_crop_size(crop_size)
        check_crops_together(crops_together, crops, crops_per_scene)
        self.crops, self.crops_per_scene, self.crops_together = crops, crops_per_scene, crops_together
        self.shuffle_shards = shuffle_shards
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
        missing = [split for split in self._needed(stage) if not self._is_there(split)]
        if not missing:
            return
        if self.card.generated and isinstance(self.root, Path):
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
            self._splits[name] = PreparedSplit(self.root / name, self.cache)
            self.card.check_index(name, self._splits[name].index, self.root / name)
        return self._splits[name]

    def _is_there(self, name: str) -> bool:
        if isinstance(self.root, Path):
            return (self.root / name / INDEX).is_file()
        try:  # opened at once: on a server the index is fetched to see whether it is there
            self.split(name)
        except NotThereError:
            return False
        return True

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
        share = self._share()
        sampler = TrainingSampler(
            len(samples),
            self.batch_size,
            share.rank,
            share.world,
            self.seed,
            self._limit(len(samples), share.world),
            self._steps_done,
            self.crops_together,
            samples.shards(),
            self.shuffle_shards,
        )
        return share.training_loader(samples, sampler)

    def val_dataloader(self) -> DataLoader:
        """Return the validation loader of this process."""
        return self._evaluated(self.validation_samples())

    def test_dataloader(self) -> DataLoader:
        """Return the test loader of this process."""
        return self._evaluated(self.evaluation_samples(self.test_split))

    def predict_dataloader(self) -> DataLoader:
        """Return the loader of photographs, or of a split, of this process."""
        if self.predict_source:
            return self._evaluated(Photographs(self.predict_source, self._inputs))
        return self._evaluated(self.evaluation_samples(self.predict_split))

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
        return {
            "effective_batch": self.batch_size * self._share().world,
            "seed": self.seed,
            "crop_size": list(self.crop_size) if isinstance(self.crop_size, tuple) else self.crop_size,
            "crops": self.crops,
            "crops_per_scene": self.crops_per_scene,
            "crops_together": self.crops_together,
            "shuffle_shards": self.shuffle_shards,
            **asdict(self.augmentation),
            "fingerprint": self.fingerprint("train") if "train" in self._splits else "",
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Refuse to continue a run whose stream would be another one.

        Raises:
            DualPixelError: another effective batch, seed or data set than the checkpoint's.
        """
        if self.trainer is not None and self.trainer.state.fn == "fit":
            check_continued(state, self.state_dict())

    def _fields(self, split: str) -> list[str]:
        """Return the fields that batches of a split have."""
        stored = self.split(split).index.fields()
        return self.optics.provided(stored, f"{self.card.name} {split}") if self.optics else stored

    def _evaluated(self, samples: EvaluationSamples | Photographs) -> DataLoader:
        return self._share().evaluation_loader(samples, self.evaluation_batch_size)

    def _share(self) -> Share:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return Share(rank, world, self.num_workers)

    def _steps_done(self) -> int:
        return self.trainer.fit_loop.epoch_loop.batch_progress.total.processed if self.trainer else 0

    def _limit(self, length: int, world: int) -> int | None:
        limit = self.trainer.limit_train_batches if self.trainer else None
        if not limit or limit == 1.0 and isinstance(limit, float):
            return None
        return int(limit) if isinstance(limit, int) else max(1, int(limit * (length // (self.batch_size * world))))
