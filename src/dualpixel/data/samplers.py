"""Which sample comes when: an order that depends on the seed, the epoch and the samples seen, and on nothing else."""

import hashlib
from collections.abc import Callable, Iterator

import numpy as np
from torch.utils.data import Sampler

from dualpixel.errors import DualPixelError


def generator(*key: int | str) -> np.random.Generator:
    """Return a random generator that is named by its key, for example (seed, epoch, sample key).

    The same key gives the same numbers on every machine, in every process, whatever was drawn before.
    """
    digest = hashlib.blake2b("\0".join(map(str, key)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def shuffled(
    random: np.random.Generator,
    length: int,
    together: int = 1,
    shards: np.ndarray | None = None,
    window: int | None = None,
) -> np.ndarray:
    """Return all positions below `length` in a random order; see `TrainingSampler` for `together`, `shards` and `window`."""
    runs = random.permutation(length // together)
    if window is not None:
        known, shard = np.unique(shards[::together], return_inverse=True)
        windows = random.permutation(len(known)) // window
        runs = runs[np.argsort(windows[shard[runs]], kind="stable")]
    return (runs[:, None] * together + np.arange(together)).ravel()


class TrainingSampler(Sampler):
    """Endless shuffled epochs of (epoch, position) pairs, cut into equal shares over processes.

    The order of an epoch depends on (seed, epoch). A step takes the next ``batch_size * world`` samples of it; each process takes
    its own run of `batch_size` of them, so the union over processes is the same whatever their number, as long as the effective
    batch is. What does not fill a last step is left for other epochs to bring (each has its own order).

    With `together` above 1 it is runs of so many neighbouring samples that are shuffled, and that stay whole: the crops of one
    scene come one after another. A run is one step's samples where `together` is the effective batch, a part of them where it is
    less (one process's own where it is `batch_size`), and spans whole steps where it is more, as gradient accumulation wants it.

    With `window` it is the shards that are shuffled, and the samples within so many shards at a time: reading then needs few shards
    at once. A window of all shards gives the order without windows.

    Args:
        length: samples in an epoch.
        batch_size: samples a process takes in one step.
        rank, world: this process, and how many there are.
        seed: of the run.
        steps: steps in an epoch, where fewer than the samples would fill are wanted.
        steps_done: asked whenever an iteration begins: steps taken since training began, over all epochs. A resumed run gives
            the number its checkpoint holds, and gets the continuation of the same stream.
        together: how many neighbouring samples come one after another; `length` is a multiple of it.
        shards: number of the shard that each sample lies in; needed for `window` alone. Neighbours that stay together share one.
        window: how many shards are shuffled into each other; None for all.
        asked: whether `length` is what ``data.samples_per_epoch`` asks for, for messages.

    Raises:
        DualPixelError: too few samples for one step, or steps and runs of which neither is a multiple of the other.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        rank: int = 0,
        world: int = 1,
        seed: int = 0,
        steps: int | None = None,
        steps_done: Callable[[], int] = lambda: 0,
        together: int = 1,
        shards: np.ndarray | None = None,
        window: int | None = None,
        asked: bool = False,
    ) -> None:
        effective = batch_size * world
        full = length // effective
        if full == 0:
            said, mend = (
                (f"data.samples_per_epoch {length} does", "raise it, or ")
                if asked
                else (f"{length} training samples do", "")
            )
            raise DualPixelError(
                f"{said} not fill one step of {batch_size} x {world} processes; {mend}lower data.batch_size"
            )
        if length % together or (effective % together and together % effective):
            raise DualPixelError(
                f"data.crops_together {together} does not go into {length} training samples in steps of {batch_size} x {world} "
                "processes: the step must be a multiple of it, or it of the step; change "
                f"{'data.samples_per_epoch, ' if asked else ''}data.batch_size or data.crops_together"
            )
        self.length, self.batch_size, self.rank, self.world, self.seed = length, batch_size, rank, world, seed
        self.together, self.shards, self.window = together, shards, window
        self.steps = min(full, steps) if steps else full
        self.full, self.steps_done = full, steps_done

    def __len__(self) -> int:
        return self.full * self.batch_size  # of a whole epoch: it is from this that Lightning works out its limits

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, first = divmod(self.steps_done(), self.steps)
        visits = self.visits(epoch)
        for step in range(first, self.steps):
            start = (step * self.world + self.rank) * self.batch_size
            yield from map(tuple, visits[start : start + self.batch_size].tolist())

    def order(self, epoch: int) -> np.ndarray:
        """Return the positions of an epoch in the order in which all processes together take them."""
        random = generator(self.seed, "order", epoch)
        return shuffled(random, self.length, self.together, self.shards, self.window)

    def visits(self, epoch: int) -> np.ndarray:
        """Return (N, 2): how often each sample of an epoch was due before, and its position; in the order of `order`."""
        order = self.order(epoch)
        return np.stack([np.full_like(order, epoch), order], axis=1)

    def ahead(self) -> np.ndarray:
        """Return the positions that all processes together take from here on, to the end of the next epoch."""
        epoch, first = divmod(self.steps_done(), self.steps)
        effective = self.batch_size * self.world
        orders = [self.order(number)[: self.steps * effective] for number in (epoch, epoch + 1)]
        return np.concatenate(orders)[first * effective :]


NOT_COUNTED = -1
"""Position (and ``index`` in the batch) of the one sample that a process without any of its own looks at, and nobody scores."""


class EvaluationSampler(Sampler):
    """Positions rank, rank + world, rank + 2 world ...: every sample on exactly one process, none repeated to fill up.

    Where there are fewer samples than processes, a process without any gets one that does not count: Lightning skips the whole
    evaluation of an empty loader, and the other processes would wait for this one for ever.
    """

    def __init__(self, length: int, rank: int = 0, world: int = 1) -> None:
        self.length, self.world = length, world
        self.positions = range(rank, length, world) or ([NOT_COUNTED] if length else [])

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[int]:
        return iter(self.positions)

    def ahead(self) -> np.ndarray:
        """Return the positions that all processes together take."""
        return np.arange(self.length)
