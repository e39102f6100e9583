"""Shards are fetched before they are read: in the background, in the order in which this run is going to read them."""

import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from dualpixel.data.cache import GIGABYTE, ShardCache
from dualpixel.data.remote import RemoteShard
from dualpixel.errors import DualPixelError

FETCHERS = 2
"""Threads that fetch, a shard each."""
RETRY_SECONDS = 0.2
"""How often is looked again after what could not be fetched yet: others are fetching it, or there was no room."""
CHUNK = 4096
NOT_FETCHED = -1
"""Number, in place of a shard's, of samples that lie on a disk of this machine."""


class Prefetcher:
    """Keeps the shards that are read now and next in a cache, as many as it may hold.

    All processes of a run look at the one order that they share, so they agree on what is wanted; a shard that one of them is
    fetching is left to it. Of several prefetchers of a process the one that was moved last acts: training waits while a validation runs.

    Args:
        shards: what the numbers of an order stand for.
        cache: where they go.
        behind: samples before the present position that may still be on their way through workers and other processes.
    """

    def __init__(self, shards: Sequence[RemoteShard], cache: ShardCache, behind: int) -> None:
        self.shards, self.cache, self.behind = shards, cache, behind
        self._order, self._distinct = np.empty(0, np.int64), 0
        self._position, self._moves, self._stopped = 0, 0, False
        self._failed: set[int] = set()
        self._touched: list[int] = []
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []

    def follow(self, order: np.ndarray) -> None:
        """Begin a new order.

        Args:
            order: number of the shard of each sample to come, over all processes; `NOT_FETCHED` where there is nothing to fetch.
        """
        with self._changed:
            distinct = len(np.unique(order[order != NOT_FETCHED]))
            self._order, self._distinct, self._position = order, distinct, 0
            self._failed.clear()

    def move(self, position: int) -> None:
        """Say that the sample at a position of the order is the next to be read."""
        self.cache.leader = self
        with self._changed:
            self._position = position
            self._moves += 1
            self._changed.notify_all()
        if not self._threads:  # daemons: a run that ends leaves unfinished files, which the next one goes on with
            self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(FETCHERS)]
            for thread in self._threads:
                thread.start()

    def close(self) -> None:
        """Stop, after the shards that are being fetched."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def wanted(self) -> list[int]:
        """Return the numbers of the shards that are read from here on, the next first, as many as fit into the cache."""
        with self._changed:
            order, start = self._order, max(0, self._position - self.behind)
        room, found = self.cache.bound, {}
        for first in range(start, len(order), CHUNK):
            numbers, places = np.unique(order[first : first + CHUNK], return_index=True)
            for number in numbers[np.argsort(places)].tolist():
                if number != NOT_FETCHED and number not in found:
                    room -= self.shards[number].bytes
                    if room < 0:
                        return list(found)
                    found[number] = None
            if len(found) == self._distinct:
                break
        return list(found)

    def _run(self) -> None:
        done, left = 0, True
        while True:
            with self._changed:
                moved = self._changed.wait_for(
                    lambda done=done: self._stopped or self._moves != done, RETRY_SECONDS if left else None
                )
                if self._stopped:
                    return
                done = self._moves
            if self.cache.leader is self:
                left = self._fetch_next()
            elif moved:
                left = True

    def _fetch_next(self) -> bool:
        """Fetch what is wanted and not there until there is nothing more to do for this thread; say whether some is left."""
        while True:
            wanted = self.wanted()
            if wanted != self._touched:
                self._touched = wanted
                for number in reversed(wanted):  # what other processes remove for want of room is what is read last
                    self.cache.touch(self.shards[number])
            keep = {self.shards[number].sha256 for number in wanted}
            missing = [number for number in wanted if not self.cache.has(self.shards[number])]
            if not any(self._fetch(number, keep) for number in missing):
                return bool(missing)

    def _fetch(self, number: int, keep: set[str]) -> bool:
        if number in self._failed:
            return False
        try:
            return self.cache.fetch(self.shards[number], keep, wait=False)
        except DualPixelError:  # the reader will meet it, and can say which sample it is needed for
            self._failed.add(number)
            return False


class ReadingAhead(Sampler):
    """A sampler that lets a prefetcher know what is read next.

    Args:
        sampler: a `TrainingSampler` or an `EvaluationSampler`.
        numbers: number of the shard that each sample lies in, or `NOT_FETCHED`.
        shards: what these numbers stand for.
        cache: where the shards go.
        behind: samples, over all processes, that may be on their way behind the sampler.
    """

    def __init__(
        self, sampler: Any, numbers: np.ndarray, shards: Sequence[RemoteShard], cache: ShardCache, behind: int
    ) -> None:
        self.sampler, self.numbers = sampler, numbers
        self.prefetcher = Prefetcher(shards, cache, behind)
        weakref.finalize(self, self.prefetcher.close)

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        self.prefetcher.follow(self.numbers[self.sampler.ahead()])
        for count, item in enumerate(self.sampler):
            self.prefetcher.move(count * self.sampler.world)
            yield item


def check_room(
    splits: Sequence[tuple[Sequence[RemoteShard], np.ndarray]],
    window: int | None,
    span: int,
    cache: ShardCache,
    where: str,
) -> None:
    """Refuse a cache that cannot hold what is read at a time: the window that is being read, and those that its steps reach into.

    Args:
        splits: the shards of each split that is read, and the number of the shard that each of its samples lies in.
        window: how many shards are shuffled into each other; None for all.
        span: samples that are on their way at a time.
        cache: where the shards go.
        where: names of the splits.

    Raises:
        DualPixelError: it is too small; the message says which number would do.
    """
    known = []
    for shards, numbers in splits:
        found, counts = np.unique(numbers, return_counts=True)
        known.append((sorted((shards[number].bytes for number in found), reverse=True), int(counts.min())))

    def needed(window: int) -> int:
        total = 0
        for sizes, samples in known:
            together = min(window, len(sizes))
            # samples of the smallest window there may be: the last of an epoch can have fewer shards
            least = (len(sizes) % together or together) * samples
            total += sum(sizes[: together * (1 + -(-span // least))])
        return total

    largest = max(len(sizes) for sizes, _ in known)
    most = max((size for size in range(1, largest + 1) if needed(size) <= cache.bound), default=0)
    need = sum(sum(sizes) for sizes, _ in known) if window is None else needed(window)
    if need <= cache.bound:
        return
    order = "in an order that mixes all shards" if window is None else f"in windows of {window} shards"
    instead = f", or data.shuffle_shards to {most} or less" if most else ""
    raise DualPixelError(
        f"{where} is read {order}, which needs {need / GIGABYTE:.6g} GB of shards at a time; the cache {cache.folder} may hold "
        f"{cache.bound / GIGABYTE:.6g}: set data.cache_gigabytes to {np.ceil(need / GIGABYTE * 1e6) / 1e6:.6g} or more{instead}"
    )
