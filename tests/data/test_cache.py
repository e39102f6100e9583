"""The folder of fetched shards: its bound, and processes that share it."""

import errno
import gc
import json
import multiprocessing
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from servers import FolderServer
from tiny_shards import bytes_in, make_tiny_set, shard_bytes

from dualpixel import DualPixelError
from dualpixel.data import cache as caching
from dualpixel.data import remote
from dualpixel.data.cache import GIGABYTE, ShardCache
from dualpixel.data.reading import PreparedSplit
from dualpixel.files import locked


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny_set(tmp_path_factory.mktemp("tiny"))[1]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(caching, "PATIENCE_SECONDS", 0.3)


@pytest.fixture
def server(tiny):
    with FolderServer(tiny) as running:
        yield running


def opened(server, folder, shards=3):
    """The training split by way of a cache that holds so many shards."""
    cache = ShardCache(folder, shards * shard_bytes(server.folder) / GIGABYTE)
    return PreparedSplit(f"{server.url}/train", cache), cache


def numbers(split):
    """Which shards are in the cache."""
    return [number for number, piece in enumerate(split.shards.pieces) if split.shards.cache.has(piece)]


def read(split, shard):
    return int(np.asarray(split.array(2 * shard, "left")).sum(dtype=np.int64))


def test_pixels_are_those_of_the_folder_and_every_shard_is_fetched_once(tiny, server, tmp_path):
    split, cache = opened(server, tmp_path, 6)
    here = PreparedSplit(tiny / "train")
    for _ in range(2):
        for position in range(len(here)):
            assert np.array_equal(split.array(position, "right"), here.array(position, "right"))
    assert sorted(server.names()) == sorted({*server.names()}) and len(server.names()) == 6
    assert (cache.waits, cache.fetched) == (6, 6)
    assert not split.array(0, "left").flags.writeable


def test_what_was_used_longest_ago_goes_first(server, tmp_path):
    split, cache = opened(server, tmp_path, 3)
    for shard in (0, 1, 2, 0, 3):
        read(split, shard)
    assert numbers(split) == [0, 2, 3] and bytes_in(tmp_path) <= cache.bound


def test_a_shard_that_is_looked_at_stays_and_counts(server, tmp_path):
    split, cache = opened(server, tmp_path, 3)
    views = [split.array(0, "left")[3:9, 2:5]]  # a part of a part holds the whole
    before = views[0].copy()
    for shard in range(1, 6):
        read(split, shard)
    assert 0 in numbers(split) and bytes_in(tmp_path) <= cache.bound
    assert np.array_equal(views[0], before)
    views += [split.array(2 * shard, "left") for shard in (1, 2)]
    with pytest.raises(
        DualPixelError, match="full of shards that other processes are reading; raise data.cache_gigabytes"
    ):
        split.array(6, "left")
    views.clear()
    gc.collect()
    read(split, 3)
    assert 3 in numbers(split)


def test_a_reader_waits_for_room_until_another_lets_go(server, tmp_path, monkeypatch):
    monkeypatch.setattr(caching, "PATIENCE_SECONDS", 20.0)
    split, _ = opened(server, tmp_path, 1)
    views = [split.array(0, "left")]
    threading.Timer(0.3, views.clear).start()
    read(split, 1)
    assert not views and numbers(split) == [1]


def test_what_prefetching_wants_kept_is_not_removed_for_it(server, tmp_path):
    split, cache = opened(server, tmp_path, 3)
    pieces = split.shards.pieces
    for shard in range(3):
        read(split, shard)
    assert not cache.fetch(pieces[3], {piece.sha256 for piece in pieces[:3]}, wait=False)
    assert numbers(split) == [0, 1, 2]
    assert cache.fetch(pieces[3], {pieces[0].sha256, pieces[2].sha256}, wait=False)
    assert numbers(split) == [0, 2, 3]


def test_a_shard_larger_than_the_bound_is_refused(server, tmp_path):
    split, _ = opened(server, tmp_path, 0.9)
    with pytest.raises(DualPixelError, match="raise data.cache_gigabytes"):
        read(split, 0)
    assert bytes_in(tmp_path) == 0 and not server.asked


@pytest.mark.parametrize("gigabytes", [0, -1, float("nan")])
def test_a_bound_that_is_none_is_refused(tmp_path, gigabytes):
    with pytest.raises(DualPixelError, match="must be positive"):
        ShardCache(tmp_path, gigabytes)


def test_a_shard_that_cannot_be_got_is_named_with_the_sample(server, tmp_path):
    split, _ = opened(server, tmp_path)
    server.faults["000002.tar"] = [("wrong",)] * 6
    with pytest.raises(DualPixelError, match="tiny-train-000002.tar: not got in 6 tries.*for the sample train-004"):
        read(split, 2)
    assert bytes_in(tmp_path) == 0 and list(tmp_path.glob("*.part")) == []
    read(split, 2)  # it is right again


def test_what_was_begun_is_gone_on_with_by_the_next_process(server, tmp_path):
    split, _ = opened(server, tmp_path)
    server.faults["000000.tar"] = [("drop", 1000), *[("status", 500)] * 5]
    with pytest.raises(DualPixelError, match="status 500"):
        read(split, 0)
    server.asked.clear()
    read(opened(server, tmp_path)[0], 0)
    assert server.asked == [("tiny-train-000000.tar", 1000)]


def test_a_full_disk_is_one_message_and_leaves_nothing(server, tmp_path, monkeypatch):
    def full(file, block):
        file.write(block[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(remote, "_write", full)
    split, _ = opened(server, tmp_path)
    with pytest.raises(
        DualPixelError, match=r"cannot hold it \(No space left on device\); lower data.cache_gigabytes"
    ) as caught:
        read(split, 0)
    assert len(str(caught.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_file_that_was_cut_is_fetched_again(server, tmp_path):
    split, cache = opened(server, tmp_path)
    whole = read(split, 0)
    path = cache._path(split.shards.pieces[0])
    path.write_bytes(path.read_bytes()[:500])
    assert read(split, 0) == whole and cache.fetched == 2


def test_other_files_in_the_folder_are_left_alone(server, tmp_path):
    (tmp_path / "thesis.tar").write_bytes(b"x" * 100)
    split, _ = opened(server, tmp_path, 1)
    for shard in range(3):
        read(split, shard)
    assert (tmp_path / "thesis.tar").is_file() and numbers(split) == [2]


def test_threads_that_want_one_shard_fetch_it_once(server, tmp_path):
    server.delay = 0.2
    split, cache = opened(server, tmp_path)
    with ThreadPoolExecutor(6) as threads:
        assert len(set(threads.map(lambda _: read(split, 4), range(6)))) == 1
    assert server.names() == ["tiny-train-000004.tar"] and cache.fetched == 1


def read_all(url, folder, gigabytes, seed, out):
    split = PreparedSplit(url, ShardCache(folder, gigabytes))
    order = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(split)), 8)) if seed else range(len(split))
    sums = {split.index.samples[p].key: int(np.asarray(split.array(int(p), "left")).sum(dtype=np.int64)) for p in order}
    out.write_text(json.dumps([sums, split.shards.cache.fetched]))


def readers(server, folder, shards, seeds, top):
    """Let processes read everything; return what they read, and the largest size of the folder that was seen."""
    gigabytes = shards * shard_bytes(server.folder) / GIGABYTE
    outs = [top / f"{number}.json" for number in range(len(seeds))]
    running = [
        multiprocessing.get_context("fork").Process(
            target=read_all, args=(f"{server.url}/train", folder, gigabytes, seed, out)
        )
        for seed, out in zip(seeds, outs, strict=True)
    ]
    for process in running:
        process.start()
    largest = 0
    while any(process.is_alive() for process in running):
        largest = max(largest, bytes_in(folder))
    assert [process.exitcode for process in running] == [0] * len(running)
    return [json.loads(out.read_text()) for out in outs], largest


def test_a_process_that_is_forked_under_a_lock_does_not_keep_it(tmp_path):
    begun = multiprocessing.Event()
    with locked(tmp_path):
        child = multiprocessing.get_context("fork").Process(target=lambda: begun.set() or time.sleep(30))
        child.start()
        assert begun.wait(10)
    taken = threading.Thread(target=lambda: locked(tmp_path).__enter__(), daemon=True)
    taken.start()
    taken.join(5)
    child.kill()
    assert not taken.is_alive()


def test_processes_that_share_a_folder_fetch_each_shard_once(tiny, server, tmp_path):
    server.delay = 0.02
    found, _ = readers(server, tmp_path / "cache", 6, (0, 0, 0), tmp_path)
    assert sorted(server.names()) == sorted(path.name for path in (tiny / "train").glob("*.tar"))
    here = PreparedSplit(tiny / "train")
    right = {
        one.key: int(np.asarray(here.array(p, "left")).sum(dtype=np.int64)) for p, one in enumerate(here.index.samples)
    }
    assert all(sums == right for sums, _ in found) and sum(fetched for _, fetched in found) == 6


def test_processes_that_fight_for_a_small_folder_keep_to_its_bound_and_read_right(tiny, server, tmp_path):
    found, largest = readers(server, tmp_path / "cache", 3, (1, 2), tmp_path)
    assert 0 < largest <= 3 * shard_bytes(tiny)
    assert found[0][0] == found[1][0]
    assert sum(fetched for _, fetched in found) > 12  # there was a fight


def refuse(number):
    def refused(*arguments, **options):
        raise OSError(number, os.strerror(number))

    return refused


@pytest.mark.parametrize("number", [errno.EPERM, errno.EROFS])
def test_shards_of_a_cache_that_may_only_be_read_are_used_after_hashing(server, tmp_path, monkeypatch, number):
    split, cache = opened(server, tmp_path)
    whole, piece = read(split, 0), split.shards.pieces[0]
    path = cache._path(piece)
    os.utime(path, (1, 1))  # the mark is lost, so the bytes are what counts
    hashed = []
    monkeypatch.setattr(caching, "sha256", lambda file: hashed.append(file) or piece.sha256)
    monkeypatch.setattr(caching.os, "utime", refuse(number))
    monkeypatch.setattr(caching, "locked", refuse(number))
    cache.touch(piece)
    assert [read(split, 0), read(split, 0)] == [whole, whole] and hashed == [path, path]
    assert path.stat().st_mtime == 1 and (cache.waits, cache.fetched) == (1, 1)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_what_a_cache_that_may_only_be_read_lacks_is_one_message(server, tmp_path, monkeypatch, number):
    split, cache = opened(server, tmp_path)
    monkeypatch.setattr(caching, "locked", refuse(number))
    said = rf"the cache .* cannot hold it \({os.strerror(number)}\); a cache is one user's: make it yours, or name another data.cache"
    with pytest.raises(DualPixelError, match=rf"{said} \(for the sample train-004\)$"):
        read(split, 2)
    with pytest.raises(DualPixelError, match=f"{said}$"):
        cache.fetch(split.shards.pieces[2], wait=False)


def test_a_shard_that_may_not_be_opened_is_one_message(server, tmp_path, monkeypatch):
    split, _ = opened(server, tmp_path)
    read(split, 0)
    monkeypatch.setattr(caching.Path, "open", refuse(errno.EACCES))
    with pytest.raises(DualPixelError, match="Permission denied.*a cache is one user's.*for the sample train-000"):
        read(split, 0)


def test_another_user_reads_what_there_is_and_is_told_what_is_not(server, tmp_path, monkeypatch):
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    monkeypatch.chdir(tmp_path)  # whose parents the other may not enter
    tmp_path.chmod(0o755)
    split, cache = opened(server, "cache")
    whole = read(split, 0)
    out = os.open(tmp_path / "said", os.O_CREAT | os.O_RDWR)
    child = os.fork()
    if child == 0:
        try:
            os.setuid(65534)
            cache.touch(split.shards.pieces[0])
            here = read(split, 0)
            try:
                read(split, 1)
            except DualPixelError as fault:
                os.write(out, f"{here} {fault}".encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(out)
    said = (tmp_path / "said").read_text()
    assert said.startswith(f"{whole} {server.url}") and "a cache is one user's" in said and "train-002" in said
