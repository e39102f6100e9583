"""The stream is the same wherever the shards lie, on any number of processes and workers, and after resuming at any step."""

import multiprocessing

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import FolderServer, bucket_server
from tiny_shards import CROPS_PER_SCENE, SCENES_PER_SHARD, make_tiny_set, opened

from dualpixel import DualPixelError
from dualpixel.data.prefetch import Prefetcher
from dualpixel.data.samplers import TrainingSampler

SHARDS = 5
EPOCH = SHARDS * SCENES_PER_SHARD * CROPS_PER_SCENE


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny_set(tmp_path_factory.mktemp("tiny"), SHARDS)


@pytest.fixture(scope="module")
def places(tiny, tmp_path_factory):
    """Where the set lies: here, behind HTTP, and in a bucket; with the folder of a cache."""
    patching, serving = pytest.MonkeyPatch.context(), FolderServer(tiny[1])
    with patching as patch, serving as server, bucket_server(tiny[1], "tiny", patch) as bucket:
        yield {"local": tiny[1], "http": server.url, "s3": bucket}, tmp_path_factory.mktemp("cache")


def batches(loader):
    return [
        (batch["key"], batch["index"].tolist(), [int(crop.sum(dtype=torch.int64)) for crop in batch["left"]])
        for batch in loader
    ]


def stream(card, root, cache, effective, world, start, **options):
    """What all processes read from a step on to the end of its epoch, joined step by step."""
    options = {"cache": cache, "batch_size": effective // world, "mirror": 0.5, **options}
    parts = [batches(opened(card, root, start, rank, world, **options).train_dataloader()) for rank in range(world)]
    assert len({len(part) for part in parts}) == 1
    return [tuple(sum(one, []) for one in zip(*step, strict=True)) for step in zip(*parts, strict=True)]


@given(
    place=st.sampled_from(["local", "http", "s3"]),
    world=st.sampled_from([1, 2, 4]),
    times=st.integers(1, 3),
    start=st.integers(0, 30),
    window=st.sampled_from([None, 1, 2, 3, 9]),
    together=st.sampled_from([1, 4]),
    seed=st.integers(0, 9),
)
@settings(max_examples=50, deadline=None)
def test_a_stream_is_that_of_one_process_with_local_shards(
    tiny, places, place, world, times, start, window, together, seed
):
    options = {"shuffle_shards": window, "crops_together": together, "seed": seed}
    effective = 4 * times if together == 1 else 4 * 2 ** (times - 1)
    steps = EPOCH // effective
    epoch, done = divmod(start, steps)
    right = stream(tiny[0], tiny[1], None, effective, 1, epoch * steps, **options)[done:]
    assert stream(tiny[0], places[0][place], places[1] / place, effective, world, start, **options) == right
    assert len(right) == steps - done


@pytest.mark.parametrize(
    ("place", "world", "start"), [("local", 2, 3), ("http", 1, 0), ("http", 4, 12), ("s3", 1, 5), ("s3", 2, 0)]
)
@pytest.mark.parametrize("window", [None, 2])
def test_workers_do_not_change_it(tiny, places, tmp_path, place, world, start, window):
    options = {"shuffle_shards": window, "seed": 1}
    right = stream(tiny[0], tiny[1], None, 8, 1, start, **options)
    assert stream(tiny[0], places[0][place], tmp_path, 8, world, start, num_workers=2, **options) == right


@pytest.mark.parametrize("place", ["http", "s3"])
def test_workers_that_are_spawned_fetch_for_themselves_and_count(tiny, places, tmp_path, place, monkeypatch):
    monkeypatch.setattr(Prefetcher, "move", lambda *_: None)
    data = opened(tiny[0], places[0][place], cache=tmp_path, batch_size=8, num_workers=1)
    loader = data.train_dataloader()
    loader.multiprocessing_context = multiprocessing.get_context("spawn")
    assert batches(loader) == batches(opened(tiny[0], tiny[1], batch_size=8).train_dataloader())
    assert data.cache.fetched == data.cache.waits == SHARDS


@pytest.mark.parametrize("place", ["http", "s3"])
@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_is_the_same_from_everywhere(tiny, places, tmp_path, place, workers):
    def scenes(root, rank):
        data = opened(tiny[0], root, 0, rank, 2, cache=tmp_path, num_workers=workers)
        return batches(data.test_dataloader()) + batches(data.val_dataloader())

    for rank in (0, 1):
        assert scenes(places[0][place], rank) == scenes(tiny[1], rank)


@given(
    shards=st.integers(1, 9),
    scenes=st.integers(1, 4),
    visits=st.sampled_from([2, 4]),
    together=st.sampled_from([1, 2]),
    window=st.integers(1, 10),
    seed=st.integers(0, 3),
    epoch=st.integers(0, 3),
)
@settings(max_examples=100, deadline=None)
def test_windows_take_shards_in_groups_and_every_sample_once(shards, scenes, visits, together, window, seed, epoch):
    lies = np.repeat(np.arange(shards), scenes * visits)
    whole = TrainingSampler(len(lies), 2, seed=seed, together=together).order(epoch)
    order = TrainingSampler(len(lies), 2, seed=seed, together=together, shards=lies, window=window).order(epoch)
    assert sorted(order) == list(range(len(lies)))
    if window >= shards:
        assert np.array_equal(order, whole)
    size = window * scenes * visits
    groups = [set(lies[order[first : first + size]]) for first in range(0, len(lies), size)]
    assert all(len(group) == window for group in groups[:-1])
    assert sum(map(len, groups)) == shards  # no shard in two of them
    assert all(order[first] + 1 == order[first + 1] for first in range(0, len(lies), 2)) or together == 1


def test_windows_differ_by_epoch_and_mix_the_samples_in_them():
    lies = np.repeat(np.arange(10), 20)
    sampler = TrainingSampler(200, 2, shards=lies, window=2)
    first, second = (lies[sampler.order(epoch)[::40]] for epoch in (0, 1))
    assert list(first) != list(second)
    inside = lies[sampler.order(0)[:40]]
    assert 10 < (inside[1:] != inside[:-1]).sum() < 30  # 19.5 are to be expected of a fair mix


def test_a_resumed_run_must_keep_its_windows(tiny):
    state = opened(tiny[0], tiny[1], shuffle_shards=2).state_dict()
    assert state["shuffle_shards"] == 2
    opened(tiny[0], tiny[1], shuffle_shards=2).load_state_dict(state)
    with pytest.raises(DualPixelError, match="trained with shuffle shards 2, this run has None"):
        opened(tiny[0], tiny[1]).load_state_dict(state)
    before = {name: value for name, value in state.items() if name != "shuffle_shards"}
    opened(tiny[0], tiny[1]).load_state_dict(before)  # a checkpoint of before there was a choice


def test_no_window_is_refused(tiny):
    with pytest.raises(DualPixelError, match="shuffle_shards 0: must be at least 1"):
        opened(tiny[0], tiny[1], shuffle_shards=0)


def test_a_split_that_a_server_lacks_is_not_prepared(tiny, places, tmp_path):
    data = opened(tiny[0], f"{places[0]['http']}/nowhere", cache=tmp_path)
    with pytest.raises(DualPixelError, match="'tiny' is not prepared: nothing at http://.*/nowhere/train/index.json"):
        data.ensure_prepared()
