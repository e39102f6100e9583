"""Processes take equally many steps whatever the numbers of scenes, their sizes and the batches, and shards are fetched once for all."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import FolderServer
from tiny_shards import opened
from uneven_shards import make_uneven_set

from dualpixel.data.samplers import EvaluationSampler, TrainingSampler

WORLD = 16
SIZES = [(20, 28), (23, 17), (17, 41)]
SCENES = (3, 1, 5, 2, 1, 4, 3)
"""In each shard; 19 in all."""


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    shards = [[SIZES[(number + place) % 3] for place in range(count)] for number, count in enumerate(SCENES)]
    return make_uneven_set(tmp_path_factory.mktemp("uneven"), shards)


@given(
    scenes=st.lists(st.integers(1, 7), min_size=1, max_size=12),
    crops=st.integers(1, 9),
    batch=st.integers(1, 5),
    window=st.none() | st.integers(1, 13),
    limit=st.none() | st.integers(1, 6),
    done=st.integers(0, 9),
    seed=st.integers(0, 3),
)
@settings(max_examples=150, deadline=None)
def test_sixteen_processes_take_equally_many_steps(scenes, crops, batch, window, limit, done, seed):
    shards = np.repeat(np.arange(len(scenes)), np.array(scenes) * crops)
    effective = WORLD * batch
    if len(shards) < effective:
        shards = np.tile(shards, -(-effective // len(shards)))
    steps = min(len(shards) // effective, limit or len(shards))
    samplers = [
        TrainingSampler(len(shards), batch, rank, WORLD, seed, limit, lambda: done, shards=shards, window=window)
        for rank in range(WORLD)
    ]
    taken = [list(sampler) for sampler in samplers]
    assert {len(sampler) for sampler in samplers} == {len(shards) // effective * batch}
    assert {len(one) for one in taken} == {(steps - done % steps) * batch}
    assert {epoch for one in taken for epoch, _ in one} == {done // steps}
    every = [position for one in taken for _, position in one]
    assert len(set(every)) == len(every) and set(every) <= set(range(len(shards)))
    if done % steps == 0 and not limit:
        assert len(shards) - len(every) < effective  # no more is left out than does not fill a step


@given(
    scenes=st.lists(st.integers(1, 7), min_size=1, max_size=12),
    crops=st.integers(1, 9),
    window=st.integers(1, 13),
    span=st.integers(1, 60),
    seed=st.integers(0, 3),
)
@settings(max_examples=150, deadline=None)
def test_processes_are_at_few_shards_at_a_time(scenes, crops, window, span, seed):
    counts = np.array(scenes) * crops
    shards = np.repeat(np.arange(len(scenes)), counts)
    order = shards[TrainingSampler(len(shards), 1, seed=seed, shards=shards, window=window).order(seed)]
    smallest = (len(scenes) % window or window) * counts.min()  # samples of the smallest window there may be
    most = window * (1 + -(-span // smallest))
    assert max(len(set(order[first : first + span])) for first in range(len(order))) <= most


@given(scenes=st.integers(1, 70), world=st.integers(1, WORLD))
@settings(deadline=None)
def test_evaluation_differs_by_one_scene_at_most(scenes, world):
    shares = [list(EvaluationSampler(scenes, rank, world)) for rank in range(world)]
    counted = [position for share in shares for position in share if position >= 0]
    assert sorted(counted) == list(range(scenes))
    lengths = [len(share) for share in shares]
    assert max(lengths) - min(lengths) <= 1 and min(lengths) >= 1


@pytest.mark.parametrize(("batch", "crops", "window"), [(1, 3, 2), (3, 7, 1), (2, 5, 3), (1, 1, None)])
def test_sixteen_processes_of_one_machine_keep_step_and_fetch_each_shard_once(uneven, tmp_path, batch, crops, window):
    options = {"cache": tmp_path, "batch_size": batch, "crops_per_scene": crops, "shuffle_shards": window}
    with FolderServer(uneven[1]) as server:
        parts = [opened(uneven[0], server.url, 0, rank, WORLD, **options) for rank in range(WORLD)]
        loaders = [part.train_dataloader() for part in parts]
        assert {len(loader) for loader in loaders} == {sum(SCENES) * crops // (WORLD * batch)}
        steps = list(zip(*loaders, strict=True))
        until = time.monotonic() + 20
        while sum(part.cache.fetched for part in parts) < len(SCENES) and time.monotonic() < until:
            time.sleep(0.01)  # what the steps left out, and the next epoch needs
    assert len(steps) == len(loaders[0])
    seen = [
        tuple(one) for step in steps for part in step for one in zip(part["key"], part["index"].tolist(), strict=True)
    ]
    assert len(set(seen)) == len(seen) == len(steps) * WORLD * batch
    assert sorted(server.names()) == [f"uneven-train-{number:06d}.tar" for number in range(len(SCENES))]
    assert sum(part.cache.fetched for part in parts) == len(SCENES)
