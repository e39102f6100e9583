"""Shards arrive before they are read, and the cache never grows beyond its bound meanwhile."""

import gc
import threading
import time

import numpy as np
import pytest
from servers import FolderServer
from tiny_shards import CROPS_PER_SCENE, SCENES_PER_SHARD, bytes_in, make_tiny_set, opened, shard_bytes

from dualpixel import DualPixelError
from dualpixel.data import remote
from dualpixel.data.cache import GIGABYTE, ShardCache
from dualpixel.data.prefetch import Prefetcher
from dualpixel.data.remote import RemoteShard

SHARDS = 8
BATCH = 2
STEPS_PER_SHARD = SCENES_PER_SHARD * CROPS_PER_SCENE // BATCH


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny_set(tmp_path_factory.mktemp("tiny"), SHARDS)


@pytest.fixture
def server(tiny):
    with FolderServer(tiny[1]) as running:
        yield running


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.01)


def by_way_of(tiny, server, folder, shards, **options):
    gigabytes = shards * shard_bytes(tiny[1]) / GIGABYTE
    return opened(tiny[0], server.url, cache=folder, cache_gigabytes=gigabytes, batch_size=BATCH, **options)


class Watcher(threading.Thread):
    """Looks at the size of a folder all the time."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.folder, self.largest, self.looks, self.ended = folder, 0, 0, False

    def run(self):
        while not self.ended:
            total = bytes_in(self.folder)
            self.largest, self.looks = max(self.largest, total), self.looks + 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.ended = True
        self.join()


@pytest.mark.parametrize(("workers", "window"), [(0, 1), (2, 1)])
def test_nothing_waits_after_the_first_shard_and_the_bound_holds(tiny, server, tmp_path, workers, window):
    server.delay = 0.05
    data = by_way_of(tiny, server, tmp_path, 3, shuffle_shards=window, num_workers=workers)
    loader, waits = data.train_dataloader(), []
    with Watcher(tmp_path) as watcher:
        for _ in loader:
            time.sleep(0.2 / STEPS_PER_SHARD)  # a step takes longer than its part of the server's delay
            waits.append(data.cache.waits)
    assert len(waits) == SHARDS * STEPS_PER_SHARD
    assert waits[-1] == waits[0] <= max(1, workers)  # all of them for the first shard
    assert watcher.looks > 100 and 2 * shard_bytes(tiny[1]) < watcher.largest <= data.cache.bound
    assert len(server.names()) <= SHARDS + 2  # each once, and what the next epoch begins with


def test_the_next_epoch_begins_without_waiting(tiny, server, tmp_path):
    server.delay = 0.05
    data = by_way_of(tiny, server, tmp_path, 3, shuffle_shards=1)
    loader = data.train_dataloader()
    for epoch in range(2):
        data.trainer.fit_loop.epoch_loop.batch_progress.total.processed = epoch * SHARDS * STEPS_PER_SHARD
        for _ in loader:
            time.sleep(0.2 / STEPS_PER_SHARD)
    assert data.cache.waits == 1


def test_what_is_wanted_soon_is_not_thrown_out_for_what_is_wanted_later(tiny, server, tmp_path):
    data = by_way_of(tiny, server, tmp_path, 3, shuffle_shards=1)
    split, loader = data.split("train"), data.train_dataloader()
    (last,) = {int(shard) for shard in loader.sampler.numbers[loader.sampler.sampler.order(0)[-1:]]}
    view = split.array(SCENES_PER_SHARD * last, "left")  # somebody looks at it all the time
    server.asked.clear()
    for _ in loader:
        time.sleep(0.1 / STEPS_PER_SHARD)
    assert view.shape and len(server.names()) <= SHARDS - 1 + 2  # each once, and the beginning of the next epoch


def test_without_windows_a_set_that_fits_is_fetched_once_for_all_epochs(tiny, server, tmp_path):
    data = by_way_of(tiny, server, tmp_path, SHARDS)
    for _ in range(3):
        for _ in data.train_dataloader():
            pass
    assert sorted(server.names()) == sorted({*server.names()}) and len(server.names()) == SHARDS


def test_workers_and_processes_share_one_download_of_each_shard(tiny, server, tmp_path):
    server.delay = 0.02
    parts = [by_way_of(tiny, server, tmp_path, SHARDS, rank=rank, world=2, num_workers=2) for rank in (0, 1)]
    for _ in zip(*(part.train_dataloader() for part in parts), strict=True):
        pass
    assert len(server.names()) == len(set(server.names())) == SHARDS


def test_windows_keep_downloads_to_one_of_each_shard_on_two_processes(tiny, server, tmp_path):
    parts = [
        by_way_of(tiny, server, tmp_path, 6, rank=rank, world=2, shuffle_shards=2, num_workers=0) for rank in (0, 1)
    ]
    for _ in zip(*(part.train_dataloader() for part in parts), strict=True):
        time.sleep(0.01)
    names = server.names()
    assert len(set(names)) == SHARDS and len(names) <= SHARDS + 4  # the beginning of the next epoch


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_reads_ahead_in_the_order_of_the_index(tiny, server, tmp_path, workers):
    server.delay = 0.03
    data = by_way_of(tiny, server, tmp_path, 6, num_workers=workers)
    keys, waits = [], []
    for batch in data.test_dataloader():
        keys += batch["key"]
        waits.append(data.cache.waits)
        time.sleep(0.08)
    assert keys == [f"test-{number:03d}" for number in range(SHARDS * SCENES_PER_SHARD)]
    assert (
        waits[-1] == waits[4] and len(server.names()) == SHARDS
    )  # 2 workers have 4 scenes on their way from the beginning


def test_validation_does_not_stop_training_from_finding_its_shards(tiny, server, tmp_path):
    data = by_way_of(tiny, server, tmp_path, 3, shuffle_shards=1)
    training = iter(data.train_dataloader())
    for _ in range(STEPS_PER_SHARD):
        next(training)
    assert len(list(data.val_dataloader())) == SHARDS * SCENES_PER_SHARD
    assert len(list(training)) == (SHARDS - 1) * STEPS_PER_SHARD


def test_a_shard_that_cannot_be_prefetched_is_an_error_only_for_its_reader(tiny, server, tmp_path):
    server.faults["000003.tar"] = [("wrong",)] * 100
    data = by_way_of(tiny, server, tmp_path, SHARDS, shuffle_shards=1)
    seen = []
    with pytest.raises(DualPixelError, match="tiny-train-000003.tar: not got .*for the sample train-00[67]"):
        for batch in data.train_dataloader():
            seen += batch["key"]
    assert "train-006" not in seen and "train-007" not in seen


def test_threads_end_with_their_loader(tiny, server, tmp_path):
    before = threading.active_count()
    data = by_way_of(tiny, server, tmp_path, SHARDS)
    loader = data.train_dataloader()
    prefetcher = loader.sampler.prefetcher
    next(iter(loader))
    threads = prefetcher._threads
    assert len(threads) == 2
    del loader, data
    gc.collect()
    for thread in threads:
        thread.join(5)
    assert not any(thread.is_alive() for thread in threads) and threading.active_count() <= before + 20


def wanted(order, position, bound, behind=0):
    shards = [RemoteShard(f"http://h/{number}.tar", 10, "0" * 63 + str(number)) for number in range(5)]
    cache = ShardCache.__new__(ShardCache)
    cache.bound = bound
    prefetcher = Prefetcher(shards, cache, behind)
    prefetcher.follow(np.array(order))
    prefetcher._position = position
    return prefetcher.wanted()


def test_what_is_wanted_comes_in_the_order_of_reading_as_far_as_there_is_room():
    order = [0, 0, 1, 0, 2, 2, 3, 4, 1]
    assert wanted(order, 0, 100) == [0, 1, 2, 3, 4]
    assert wanted(order, 0, 39) == [0, 1, 2]
    assert wanted(order, 4, 100) == [2, 3, 4, 1]
    assert wanted(order, 4, 100, behind=1) == [0, 2, 3, 4, 1]
    long = [number // 5000 % 5 for number in range(30_000)]
    assert wanted(long, 12_000, 30) == [2, 3, 4]


@pytest.mark.parametrize(
    ("shards", "options", "said"),
    [
        (7, {}, "in an order that mixes all shards.*data.shuffle_shards to 3 or less"),
        (5, {"shuffle_shards": 3}, "in windows of 3 shards.*or data.shuffle_shards to 2 or less"),
        (1.5, {"shuffle_shards": 1}, "set data.cache_gigabytes to 6.2e-05 or more$"),
    ],
)
def test_a_cache_too_small_for_the_order_is_refused_before_training(tiny, server, tmp_path, shards, options, said):
    with pytest.raises(DualPixelError, match=said):
        by_way_of(tiny, server, tmp_path, shards, **options).train_dataloader()
    assert not server.asked


def test_many_samples_on_their_way_need_more_windows(tiny, server, tmp_path):
    by_way_of(tiny, server, tmp_path, 2, shuffle_shards=1).train_dataloader()
    with pytest.raises(
        DualPixelError, match="windows of 1 shards"
    ):  # 4 processes x 2 x (2 x 2 + 2) samples, 8 in a shard
        by_way_of(tiny, server, tmp_path, 6, shuffle_shards=1, world=4, num_workers=2).train_dataloader()
    by_way_of(tiny, server, tmp_path, 7, shuffle_shards=1, world=4, num_workers=2).train_dataloader()
