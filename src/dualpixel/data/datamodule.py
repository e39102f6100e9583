"""The LightningDataModule: any prepared data set, on any number of processes, resumable at any step."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from dualpixel.data.augmentation import Augmentation
from dualpixel.data.cache import ShardCache
from dualpixel.data.crops import CropSize, plain_crop_size
from dualpixel.data.loaders import Share, check_continued
from dualpixel.data.mixture import MixedSet
from dualpixel.data.pairs import Photographs
from dualpixel.data.prepared import PreparedSet
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.remote import RemoteFolder
from dualpixel.data.simulated import SimulatedViews
from dualpixel.data.stream import EvaluationSamples, to_floats
from dualpixel.data.training import TrainingStream
from dualpixel.errors import DualPixelError


class DualPixelData(LightningDataModule):
    """Training crops of one data set or of several, and whole evaluation scenes of the main one.

    The order of samples depends on (seed, epoch), crops and flips on (seed, epoch, sample key): the stream is the same for any
    number of workers, and a resumed run continues it in mid-epoch. In evaluation every scene is seen exactly once over all
    processes.

    Args:
        dataset: name of a card of the registry, or the path of a card. With `mix` this is the main set: it alone is validated,
            tested and predicted.
        root: folder with the prepared splits, or its address (``https://HOST/FOLDER``, ``s3://BUCKET/FOLDER``; gs, az and abfs too);
            by default ``$DUALPIXEL_SHARDS/NAME``, else ``shards/NAME``. The stream is the same wherever the shards lie.
        mix: further sets that are trained on beside it, every one with all fields that the recipe needs. See `MixedSampler`.
        samples_per_epoch: training samples of an epoch over all processes; by default as many as all sets together have.
        batch_size: training samples a process takes in one step; the effective batch is this times the number of processes.
        crop_size: side of the square training crop or [height, width], pixels; by default the card's window.
        crops: "windows" for the card's windows without the least sharp ones (as DPDNet was trained), "random" for random places.
        crops_per_scene: samples a scene gives in an epoch when `crops` is "random".
        crops_together: how many random crops of one scene come one after another, over all processes. As many as the effective
            batch make every step one of a single scene, as MDP was trained; 1 mixes all scenes. See `TrainingSampler`.
        shuffle_shards: how many shards of a set are shuffled into each other at a time; None for all, which a root on a server allows only
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
        mix: list[MixedSet] | None = None,
        samples_per_epoch: int | None = None,
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
            "samples_per_epoch": 1,
        }
        for name, least in at_least.items():
            value = locals()[name]
            if value is not None and value < least:
                raise DualPixelError(f"data.{name} {value}: must be at least {least}")
        self.main = PreparedSet(dataset, root, optics)
        self.card, self.root = self.main.card, self.main.root
        further = [PreparedSet(one.dataset, one.root, optics, "the root of its entry in data.mix") for one in mix or ()]
        self.sets = [self.main, *further]
        self.training = TrainingStream(
            self.sets,
            mix or [],
            samples_per_epoch,
            batch_size,
            None if crop_size is None else plain_crop_size(crop_size),
            crops,
            crops_per_scene,
            crops_together,
            shuffle_shards,
            Augmentation(mirror, flip, enlarge, diagonal),
            int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed,
        )
        # one for all sets and splits: they share its bound and its counts
        remote = any(isinstance(one.root, RemoteFolder) for one in self.sets)
        self.cache = ShardCache(cache, cache_gigabytes) if remote else None
        for one in self.sets:
            one.cache = self.cache
        self.evaluation_batch_size = evaluation_batch_size
        self.validation, self.num_workers = validation, num_workers
        self.predict_source = [predict_source] if isinstance(predict_source, str) else predict_source
        self.predict_split, self.test_split = predict_split, test_split
        self.optics = optics
        self._training_fields: list[str] | None = None
        self._inputs: list[str] = []

    def ensure_prepared(self, stage: str = "fit") -> None:
        """Make a generated set, or say how to get a set that is missing. Cheap when all is there.

        Raises:
            DualPixelError: a needed split is not prepared; the message says how it is got.
        """
        for one in self.sets:
            one.ensure(self._needed(stage, one))

    def prepare_data(self) -> None:
        """Prepare a generated set on first use (called on one process only)."""
        stage = self.trainer.state.fn.value if self.trainer else "fit"
        self.ensure_prepared(stage)

    def setup(self, stage: str) -> None:
        """Open the splits a stage needs."""
        for one in self.sets:
            for split in self._needed(stage, one):
                one.split(split)

    def split(self, name: str) -> PreparedSplit:
        """Return a prepared split of the main set, opened once.

        Raises:
            DualPixelError: not prepared, empty, or truncated.
        """
        return self.main.split(name)

    def _needed(self, stage: str, one: PreparedSet) -> list[str]:
        if one is not self.main:
            return ["train"] if stage == "fit" else []
        if stage == "predict":
            return [] if self.predict_source else [self.predict_split]
        return {"fit": ["train", "val"], "validate": ["val"], "test": [self.test_split]}[stage]

    def require(self, stage: str, inputs: Sequence[str], targets: Sequence[str]) -> None:
        """Be told by the recipe which fields it needs; refuse what the data sets do not have.

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
        for one in self.sets:
            for name in self._needed(stage, one):
                one.check_fields(name, needed)

    def train_dataloader(self) -> DataLoader:
        """Return the training loader of this process."""
        limit = self.trainer.limit_train_batches if self.trainer else None
        return self.training.loader(self._training_fields, self._share(), limit, self._steps_done)

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
        return self.main.fingerprint(split)

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Make floats of stored integers, and views of depth where that is asked for, on the device."""
        batch = to_floats(batch)
        return self.optics(batch) if self.optics and "camera" in batch else batch

    def state_dict(self) -> dict[str, Any]:
        """Note what a resumed run must share with this one; where the stream stands is the trainer's own count of steps."""
        return self.training.state(self._share().world)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Refuse to continue a run whose stream would be another one.

        Raises:
            DualPixelError: another effective batch, seed, data set or mixture than the checkpoint's.
        """
        if self.trainer is not None and self.trainer.state.fn == "fit":
            check_continued(state, self.state_dict())

    def _evaluated(self, samples: EvaluationSamples | Photographs) -> DataLoader:
        return self._share().evaluation_loader(samples, self.evaluation_batch_size)

    def _share(self) -> Share:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return Share(rank, world, self.num_workers)

    def _steps_done(self) -> int:
        return self.trainer.fit_loop.epoch_loop.batch_progress.total.processed if self.trainer else 0
