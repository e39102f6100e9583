"""Batches whose crops are all of one scene, as MDP's program makes them."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpixel import DualPixelError
from dualpixel.data import DualPixelData
from dualpixel.data.samplers import TrainingSampler


def test_the_order_of_mixed_samples_is_what_it_always_was():
    """Numbers of the program that knew no other order: a seeded stream must not change."""
    assert list(TrainingSampler(12, 4, seed=3)) == [
        (0, position) for position in (2, 6, 9, 0, 5, 11, 7, 8, 1, 10, 3, 4)
    ]  # fmt: skip


@given(
    scenes=st.integers(1, 12),
    together=st.integers(1, 8),
    visits=st.integers(1, 3),
    times=st.integers(1, 3),
    world=st.integers(1, 4),
    shape=st.sampled_from(["one run", "several runs", "a part of a run"]),
    start=st.integers(0, 100),
)
@settings(max_examples=150, deadline=None)
def test_runs_stay_whole_and_the_order_is_that_of_one_process(scenes, together, visits, times, world, shape, start):
    together = together * (world * times if shape == "a part of a run" else world)
    length = scenes * visits * together
    effective = {"one run": together, "several runs": together * times, "a part of a run": together // times}[shape]
    options = {"seed": 1, "steps_done": lambda: start, "together": together}
    if length < effective:
        return
    one = TrainingSampler(length, effective, **options)
    parts = [list(TrainingSampler(length, effective // world, rank, world, **options)) for rank in range(world)]
    batch, whole = effective // world, list(one)
    joined = [
        item
        for step in range(len(whole) // effective)
        for part in parts
        for item in part[step * batch : (step + 1) * batch]
    ]
    assert joined == whole
    epoch, done = divmod(start, one.steps)
    full = list(TrainingSampler(length, effective, seed=1, together=together, steps_done=lambda: epoch * one.steps))
    assert whole == full[done * effective :] and {number for number, _ in full} == {epoch}
    positions = [position for _, position in full]
    assert len(set(positions)) == len(positions) == length // effective * effective
    for first in range(0, len(positions) // together * together, together):
        assert positions[first] % together == 0
        assert positions[first : first + together] == list(range(positions[first], positions[first] + together))


def test_runs_come_in_another_order_every_epoch_and_for_every_seed():
    def first_of_runs(seed, epoch):
        sampler = TrainingSampler(400, 8, seed=seed, together=8, steps_done=lambda: epoch * 50)
        return [position // 8 for _, position in list(sampler)[::8]]

    orders = [first_of_runs(*which) for which in ((0, 0), (0, 1), (1, 0))]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert all(sum(map(int.__eq__, one, other)) < 8 for one, other in zip(orders, orders[1:] + orders[:1], strict=True))


def made(small_card, small_shards, **options):
    options = {"batch_size": 4, "crops_per_scene": 8, "crops_together": 4, "seed": 2, "num_workers": 0, **options}
    return DualPixelData(str(small_card), root=small_shards, crop_size=32, crops="random", **options)


def batches(data):
    return [(batch["key"], batch["index"].tolist(), batch["left"]) for batch in data.train_dataloader()]


def at(data, steps, rank=0, world=1):
    """Let a trainer tell where training stands, and which of how many processes this is."""
    total = SimpleNamespace(total=SimpleNamespace(processed=steps))
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=total))
    data.trainer = SimpleNamespace(
        fit_loop=loop, global_rank=rank, world_size=world, limit_train_batches=1.0, state=SimpleNamespace(fn="fit")
    )
    return data


def test_every_batch_is_of_one_scene_and_every_scene_is_visited(small_card, small_shards):
    found = batches(made(small_card, small_shards))
    assert len(found) == 8  # 4 scenes x 8 crops / 4
    assert all(len(set(keys)) == 1 for keys, *_ in found)
    visits = [keys[0] for keys, *_ in found]
    assert sorted(visits) == sorted(2 * [f"1P0A{number}" for number in (1000, 1002, 1004, 1006)])
    assert visits != sorted(visits)
    for _, _, left in found:  # four places of the scene, not one four times
        assert all(not torch.equal(one, other) for one, other in zip(left, left[1:], strict=False))
    mixed = [len(set(keys)) for keys, *_ in batches(made(small_card, small_shards, crops_together=1))]
    assert max(mixed) > 1


def test_the_crops_of_a_scene_are_those_of_the_mixed_stream(small_card, small_shards):
    crops = [
        {index: crop for _, indices, left in batches(made(small_card, small_shards, crops_together=together))
         for index, crop in zip(indices, left, strict=True)}
        for together in (1, 4)
    ]  # fmt: skip
    assert crops[0].keys() == crops[1].keys() == set(range(32))
    assert all(torch.equal(crop, crops[1][index]) for index, crop in crops[0].items())


def same(one, other):
    return len(one) == len(other) and all(
        a[:2] == b[:2] and torch.equal(a[2], b[2]) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_goes_on_in_mid_epoch_sees_what_was_to_come(small_card, small_shards, workers):
    whole = batches(at(made(small_card, small_shards), 8))  # the second epoch
    for done in (1, 3, 7):
        resumed = batches(at(made(small_card, small_shards, num_workers=workers), 8 + done))
        assert same(resumed, whole[done:])
    assert not same(whole, batches(made(small_card, small_shards)))


@pytest.mark.parametrize(("batch_size", "together", "scenes"), [(2, 4, 1), (4, 4, 2), (2, 2, 2), (1, 4, 1)])
def test_two_processes_share_the_batches_of_one(small_card, small_shards, batch_size, together, scenes):
    options = {"crops_together": together}
    alone = batches(made(small_card, small_shards, batch_size=2 * batch_size, **options))
    shares = [
        batches(at(made(small_card, small_shards, batch_size=batch_size, **options), 0, rank, 2)) for rank in (0, 1)
    ]
    assert len(alone) == len(shares[0]) == len(shares[1]) == 16 // batch_size
    spread = set()
    for (keys, indices, left), one, other in zip(alone, *shares, strict=True):
        assert keys == one[0] + other[0] and indices == one[1] + other[1]
        assert torch.equal(left, torch.cat([one[2], other[2]]))
        assert len(set(one[0])) == len(set(other[0])) == 1  # the batch of a process is of one scene in any case
        spread.add(len(set(keys)))
    assert max(spread) == scenes


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"crops": "windows"}, "crops_together 4 needs data.crops=random, found windows"),
        ({"crops_per_scene": 10}, "crops_per_scene 10 is not a multiple of data.crops_together 4"),
        ({"crops_together": 0}, "crops_together 0: must be at least 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_is_opened(small_card, options, said):
    options = {"crops": "random", "crops_per_scene": 8, "crops_together": 4, **options}
    with pytest.raises(DualPixelError, match=said):
        DualPixelData(str(small_card), root="nowhere", crop_size=32, **options)


@pytest.mark.parametrize(("batch_size", "world"), [(3, 1), (6, 1), (3, 2)])
def test_steps_that_would_tear_scenes_apart_are_refused(small_card, small_shards, batch_size, world):
    data = at(made(small_card, small_shards, batch_size=batch_size), 0, 0, world)
    with pytest.raises(DualPixelError, match=f"crops_together 4 .* steps of {batch_size} x {world} processes"):
        data.train_dataloader()


def test_samples_that_runs_do_not_fill_are_refused():
    with pytest.raises(DualPixelError, match="crops_together 4 does not go into 18 training samples"):
        TrainingSampler(18, 4, together=4)


def test_a_resumed_run_must_keep_as_many_together(small_card, small_shards):
    state = at(made(small_card, small_shards), 0).state_dict()
    assert state["crops_together"] == 4
    at(made(small_card, small_shards), 0).load_state_dict(state)
    mixed = at(made(small_card, small_shards, crops_together=1), 0)
    with pytest.raises(DualPixelError, match="trained with crops together 4, this run has 1"):
        mixed.load_state_dict(state)
    before = {name: value for name, value in mixed.state_dict().items() if name != "crops_together"}
    mixed.load_state_dict(before)  # a checkpoint of before there was a choice
    with pytest.raises(DualPixelError, match="trained with crops together 1, this run has 4"):
        at(made(small_card, small_shards), 0).load_state_dict(before)
