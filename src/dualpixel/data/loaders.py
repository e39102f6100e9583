"""Loaders of this process's share of samples, read ahead where the shards lie on a server; and whether a stream goes on as it was."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from dualpixel.data.mixture import MixedSamples
from dualpixel.data.prefetch import NOT_FETCHED, ReadingAhead, check_room
from dualpixel.data.reading import RemoteShards
from dualpixel.data.remote import RemoteShard
from dualpixel.data.samplers import EvaluationSampler, TrainingSampler
from dualpixel.data.stream import EvaluationSamples, TrainingSamples, collate
from dualpixel.errors import DualPixelError

BATCHES_AHEAD = 2
"""Batches that a worker holds ready."""
BEFORE_THE_CHOICE = {"crops_together": 1, "shuffle_shards": None, "samples_per_epoch": None, "mix": {}}
"""What checkpoints do not hold that were written before it could be chosen."""


@dataclass(frozen=True)
class Share:
    """Which of how many processes this is, and the reading processes it has."""

    rank: int
    world: int
    workers: int

    def training_loader(self, samples: TrainingSamples | MixedSamples, sampler: TrainingSampler) -> DataLoader:
        """Return the loader of training samples."""
        return self._loader(
            samples, self._ahead(samples, sampler, sampler.batch_size, sampler.window), sampler.batch_size, True
        )

    def evaluation_loader(self, samples: Dataset, batch_size: int) -> DataLoader:
        """Return the loader of whole scenes, or of photographs."""
        sampler = EvaluationSampler(len(samples), self.rank, self.world)
        known = isinstance(samples, EvaluationSamples)
        return self._loader(samples, self._ahead(samples, sampler, batch_size, 1) if known else sampler, batch_size)

    def _ahead(
        self,
        samples: TrainingSamples | MixedSamples | EvaluationSamples,
        sampler: Any,
        batch_size: int,
        window: int | None,
    ) -> Any:
        parts = samples.parts if isinstance(samples, MixedSamples) else [samples]
        remote = [part for part in parts if isinstance(part.split.shards, RemoteShards)]
        if not remote:
            return sampler
        cache = remote[0].split.shards.cache  # all sets share one
        # the batches of workers, the one that is being used, and the one that another process may still be at
        span = (self.workers * BATCHES_AHEAD + 2) * batch_size * self.world
        where = " and ".join(f"{part.split.index.dataset} {part.split.index.split}" for part in remote)
        where = f"the mixture of {where}" if len(remote) > 1 else where
        check_room([(part.split.shards.pieces, part.shards()) for part in remote], window, span, cache, where)
        pieces: list[RemoteShard] = []
        numbers = []
        for part in parts:
            found = part.shards()
            numbers.append(found + len(pieces) if part in remote else np.full_like(found, NOT_FETCHED))
            pieces += part.split.shards.pieces if part in remote else []
        return ReadingAhead(sampler, np.concatenate(numbers), pieces, cache, span)

    def _loader(self, samples: Dataset, sampler: Any, batch_size: int, drop_last: bool = False) -> DataLoader:
        return DataLoader(
            samples,
            batch_size=batch_size,  # by keyword: Lightning makes the loader of `predict` anew from its arguments
            sampler=sampler,
            drop_last=drop_last,
            num_workers=self.workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.workers > 0,
            prefetch_factor=BATCHES_AHEAD if self.workers else None,
        )


def check_continued(noted: Mapping[str, Any], mine: Mapping[str, Any]) -> None:
    """Refuse to continue a run whose stream would be another one.

    Args:
        noted: what the checkpoint says of its stream.
        mine: what is so now.

    Raises:
        DualPixelError: they differ.
    """
    before = _in_words({**BEFORE_THE_CHOICE, **noted})
    for name, value in _in_words(mine).items():
        if before.get(name) != value:
            raise DualPixelError(
                f"the checkpoint was trained with {name} {before.get(name)}, this run has {value}; "
                "make them equal to resume, or start a new run from its weights by --model.init_from"
            )


def _in_words(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a stream by what they are called; those of each further set one by one, behind the names of all."""
    facts = {name.replace("_", " "): value for name, value in state.items() if name != "mix"}
    facts["mix"] = ", ".join(state["mix"]) or "none"
    for name, further in state["mix"].items():
        facts |= {f"{fact} of {name}": value for fact, value in further.items()}
    return facts
