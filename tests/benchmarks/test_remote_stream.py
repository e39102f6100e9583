"""Shards on a server beside shards on the disk, while a device computes; and how sixteen processes share what is fetched.

The server is this machine's loopback: it has no delay and costs processor time here, as a real one would not. A step is a pause, as
long as a device would compute; the processor is free meanwhile.
"""

import gc
import multiprocessing
import os
import statistics
import time
from collections import Counter
from pathlib import Path

import pytest
from servers import FolderServer
from tiny_shards import opened
from uneven_shards import make_uneven_set

pytestmark = pytest.mark.benchmark
FORK = multiprocessing.get_context("fork")
SHARDS, SIZE, PASSES, BATCH = 12, (560, 840), 5, 4
REACHED = 0.9
"""Share of the device's rate that the disk gives at least, where the device and not the processor sets the rate."""
CROPS = 5
"""For each scene: as many bytes are fetched for a sample as with 20 crops of scenes of 1120x1680."""
SAMPLES_A_SECOND = {"DPDNet": 300, "MDP": 122, "DDDNet": 71, "DPANet": 31}
"""What an accelerator is expected to train, 512x512."""


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """102 MB in shards of one scene."""
    return make_uneven_set(tmp_path_factory.mktemp("big"), [[SIZE]] * SHARDS, ("left", "right", "sharp"))


@pytest.fixture(scope="module")
def server_of_its_own(big):
    """A server in another process: its address, and a function that says its processor seconds."""
    mine, its = FORK.Pipe()

    def serve():
        with FolderServer(big[1]) as server:
            its.send(server.url)
            while its.recv():
                its.send(time.process_time())

    process = FORK.Process(target=serve, daemon=True)
    process.start()
    yield mine.recv(), lambda: mine.send(True) or mine.recv()
    mine.send(False)
    process.join()


def used(processes):
    """Processor seconds of all threads that these processes have."""
    files = (file for process in processes for file in Path(f"/proc/{process}/task").glob("*/schedstat"))
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9


def epoch(card, root, cache, pause):
    """Samples a second, processor seconds a sample, and how often was waited, all of it once the first batch is there."""
    others = set(multiprocessing.active_children())
    data = opened(
        card, root, cache=cache, batch_size=BATCH, crop_size=512, crops_per_scene=CROPS, shuffle_shards=2, num_workers=2
    )
    loader, steps, begin = data.train_dataloader(), 0, None
    for batch in loader:
        assert batch["sharp"].shape == (BATCH, 512, 512, 3)
        if begin is None:
            mine = [os.getpid(), *(child.pid for child in set(multiprocessing.active_children()) - others)]
            begin, before, waits = time.perf_counter(), used(mine), data.cache.waits if data.cache else 0
        time.sleep(pause)
        steps += 1
    seconds, busy = time.perf_counter() - begin, used(mine) - before
    waits = data.cache.waits - waits if data.cache else 0
    del loader, batch
    gc.collect()  # the reading processes end here
    assert steps == SHARDS * CROPS // BATCH
    return steps * BATCH / seconds, busy / ((steps - 1) * BATCH), waits


def test_a_server_is_hardly_slower_than_a_disk(big, server_of_its_own, tmp_path):
    url, server_seconds = server_of_its_own
    bytes_a_sample = sum(path.stat().st_size for path in (big[1] / "train").glob("*.tar")) / (SHARDS * CROPS)
    print(
        "\n| device's samples/s | fetches, MB/s | local samples/s | cold cache | warm cache | CPU ms a sample: local | cold | warm "
        "| server's | waits, cold |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    ratios = {}
    for name, wanted in SAMPLES_A_SECOND.items():
        found = {"local": [], "cold": [], "warm": []}
        served = []
        for turn in range(PASSES + 1):
            for side in found:
                root, cache = (big[1], None) if side == "local" else (url, tmp_path / f"{name}-{turn}")
                start = server_seconds()
                result = epoch(big[0], root, cache, BATCH / wanted)
                if side == "cold":
                    served.append((server_seconds() - start) / (SHARDS * CROPS))
                if turn:
                    found[side].append(result)
        rate, cpu, waits = (
            {side: statistics.median(one[place] for one in results) for side, results in found.items()}
            for place in range(3)
        )
        ratios[name] = {side: rate[side] / rate["local"] for side in ("cold", "warm")}
        print(
            f"| {name}, {wanted} | {bytes_a_sample * wanted / 1e6:.0f} | {rate['local']:.0f} | {ratios[name]['cold']:.2f} "
            f"| {ratios[name]['warm']:.2f} | {' | '.join(f'{1000 * cpu[side]:.1f}' for side in found)} "
            f"| {1000 * statistics.median(served):.1f} | {waits['cold']:g} |"
        )
        if rate["local"] < REACHED * wanted:
            print(
                f"| {name}: this machine is too slow to feed the device from its disk; the ratios are of processors | | | | |"
            )
            del ratios[name]
    assert "DPANet" in ratios and all(one["cold"] >= 0.9 and one["warm"] >= 0.9 for one in ratios.values())


def train(card, url, cache, gigabytes, rank, world, together, results):
    """What one of many processes does in an epoch, all of them keeping step."""
    options = {
        "cache": cache,
        "cache_gigabytes": gigabytes,
        "crop_size": 512,
        "crops_per_scene": 20,
        "shuffle_shards": 2,
    }
    data = opened(card, url, 0, rank, world, **options)
    loader, steps, waits = data.train_dataloader(), 0, []
    for _ in loader:
        together.wait(120)
        time.sleep(0.05)
        steps += 1
        waits.append(data.cache.waits)
    together.wait(120)
    results.put((rank, steps, len(loader), data.cache.fetched, data.cache.waits, waits[-1] - waits[0]))
    together.wait(120)


@pytest.mark.parametrize(("machines", "shards"), [(1, SHARDS), (1, 6), (2, SHARDS), (16, SHARDS)])
def test_sixteen_processes_share_what_is_fetched(big, tmp_path, machines, shards):
    world, results, together = 16, FORK.Queue(), FORK.Barrier(16)
    largest = max(path.stat().st_size for path in (big[1] / "train").glob("*.tar"))
    with FolderServer(big[1]) as server:
        ranks = [
            FORK.Process(
                target=train,
                args=(big[0], server.url, tmp_path / str(rank * machines // world), shards * largest / 1e9, rank, world,
                      together, results),
            )
            for rank in range(world)
        ]  # fmt: skip
        for rank in ranks:
            rank.start()
        found = sorted(results.get(timeout=120) for _ in ranks)
        for rank in ranks:
            rank.join()
        requests = Counter(server.names())
    _, steps, lengths, fetched, waits, late = zip(*found, strict=True)
    each = world // machines
    by_machine = [sum(fetched[first : first + each]) for first in range(0, world, each)]
    print(
        f"\n{machines} machines with {each} processes each and a cache of {shards} of {SHARDS} shards: {set(steps)} steps on every "
        f"process; shards fetched by process {sorted(fetched)}, by machine {by_machine}; requests of a shard "
        f"{min(requests.values())} to {max(requests.values())}, {requests.total()} in all; processes that waited for a shard: "
        f"{sum(map(bool, waits))}, after their first step {sum(map(bool, late))}"
    )
    assert set(steps) == set(lengths) == {SHARDS * 20 // world}
    if shards == SHARDS:
        assert set(requests.values()) == {machines} and by_machine == [SHARDS] * machines
    else:
        assert requests.total() <= SHARDS + shards  # what the next epoch begins with
