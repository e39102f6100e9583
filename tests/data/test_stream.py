import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import SIZE

from dualpixel import DualPixelError
from dualpixel.data import DualPixelData
from dualpixel.data.augmentation import Augmentation
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.samplers import NOT_COUNTED, EvaluationSampler, TrainingSampler, generator
from dualpixel.data.stream import EvaluationSamples, TrainingSamples, collate, to_floats, to_stored
from dualpixel.data.windows import select_windows

VIEWS = ["left", "right", "combined", "sharp"]


@pytest.fixture(scope="module")
def train(small_shards):
    return PreparedSplit(small_shards / "train")


def test_windows_are_those_of_the_authors(train):
    samples = TrainingSamples(train, ["sharp"])
    expected = []
    for position in range(len(train)):
        sharp = np.asarray(train.array(position, "sharp"))
        expected += [sharp[r : r + 64, c : c + 64] for r, c in select_windows(sharp, 64, 0.6, 0.3)]
    assert len(samples) == len(expected)
    for position, window in enumerate(expected):
        assert np.array_equal(samples[(0, position)]["sharp"], window)


def test_mirroring_exchanges_the_views(train):
    plain = TrainingSamples(train, VIEWS)
    mirrored = TrainingSamples(train, VIEWS, augmentation=Augmentation(mirror=1.0))
    flipped = TrainingSamples(train, VIEWS, augmentation=Augmentation(flip=1.0))
    for position in range(0, len(plain), 7):
        one, other, upside = plain[(0, position)], mirrored[(0, position)], flipped[(0, position)]
        assert not np.array_equal(one["left"], one["right"])
        assert np.array_equal(other["left"], one["right"][:, ::-1])
        assert np.array_equal(other["right"], one["left"][:, ::-1])
        for name in ("combined", "sharp"):
            assert np.array_equal(other[name], one[name][:, ::-1])
        for name in VIEWS:
            assert np.array_equal(upside[name], one[name][::-1])


def test_mirroring_reads_the_other_view_when_one_is_asked_for(train):
    only_left = TrainingSamples(train, ["left"], augmentation=Augmentation(mirror=1.0))
    both = TrainingSamples(train, ["left", "right"])
    assert np.array_equal(only_left[(0, 3)]["left"], both[(0, 3)]["right"][:, ::-1])


def test_half_the_samples_are_mirrored_and_the_choice_changes_with_the_epoch(train):
    samples = TrainingSamples(train, ["left"], 32, "random", 100, Augmentation(mirror=0.5), seed=3)
    plain = TrainingSamples(train, ["left"], 32, "random", 100, seed=3)
    same = [[np.array_equal(samples[(e, p)]["left"], plain[(e, p)]["left"]) for p in range(200)] for e in (0, 1)]
    assert 70 < sum(same[0]) < 130 and same[0] != same[1]


def test_random_crops_lie_anywhere_and_depend_on_seed_epoch_and_key_alone(train):
    samples = TrainingSamples(train, ["sharp"], 32, "random", 50, seed=1)
    again = TrainingSamples(train, ["sharp"], 32, "random", 50, seed=1)
    order = np.random.default_rng(0).permutation(len(samples))
    first = {int(p): samples[(4, int(p))]["sharp"].copy() for p in order}
    for position in range(len(samples)):
        assert np.array_equal(first[position], again[(4, position)]["sharp"])
    assert not np.array_equal(samples[(5, 0)]["sharp"], samples[(4, 0)]["sharp"])
    assert not np.array_equal(TrainingSamples(train, ["sharp"], 32, "random", 50, seed=2)[(4, 0)]["sharp"], first[0])


@given(
    length=st.integers(1, 200),
    batch=st.integers(1, 8),
    seed=st.integers(0, 5),
    start=st.integers(0, 60),
    world=st.sampled_from([2, 4]),
)
@settings(max_examples=50, deadline=None)
def test_the_order_is_the_same_for_any_number_of_processes_and_from_any_step(length, batch, seed, start, world):
    effective = batch * world
    if length < effective:
        with pytest.raises(DualPixelError, match="do not fill one step"):
            TrainingSampler(length, batch, 0, world, seed)
        return
    one = TrainingSampler(length, effective, seed=seed, steps_done=lambda: start)
    parts = [TrainingSampler(length, batch, rank, world, seed, steps_done=lambda: start) for rank in range(world)]
    assert len({len(part) for part in parts}) == 1  # equal steps on every process
    whole, shares = list(one), [list(part) for part in parts]
    steps = len(whole) // effective
    joined = [item for step in range(steps) for share in shares for item in share[step * batch : (step + 1) * batch]]
    assert joined == whole
    # what a run that was never stopped would have seen in this epoch
    epoch, done = divmod(start, one.steps)
    full = list(TrainingSampler(length, effective, seed=seed, steps_done=lambda: epoch * one.steps))
    assert whole == full[done * effective :]
    assert len({position for _, position in full}) == len(full)


@given(length=st.integers(0, 50), world=st.integers(1, 8))
def test_evaluation_gives_every_sample_to_exactly_one_process(length, world):
    shares = [list(EvaluationSampler(length, rank, world)) for rank in range(world)]
    assert sorted(position for share in shares for position in share if position != NOT_COUNTED) == list(range(length))
    for rank, share in enumerate(shares):  # nobody is left without a batch while others have one
        assert share == ([NOT_COUNTED] if rank >= length > 0 else list(range(rank, length, world)))


def _keys(data, epochs=1):
    result = []
    for _ in range(epochs):
        for batch in data.train_dataloader():
            result.append((batch["key"], batch["index"].tolist(), batch["left"].sum(dtype=torch.int64).item()))
    return result


def test_the_stream_does_not_depend_on_the_number_of_workers(small_card, small_shards):
    options = {"root": small_shards, "batch_size": 3, "mirror": 0.5, "flip": 0.5, "crop_size": 48, "seed": 5}
    streams = [_keys(DualPixelData(str(small_card), num_workers=workers, **options)) for workers in (0, 2)]
    assert streams[0] == streams[1] and len(streams[0]) > 10


def test_a_worker_collates_into_memory_that_the_training_process_shares(monkeypatch):
    samples = [
        {"left": np.full((4, 5, 3), one, np.uint16)[::-1], "blur": np.full((4, 5), -one, np.float32), "key": str(one)}
        for one in (3, 65535)
    ]
    alone = collate(samples)
    monkeypatch.setattr("dualpixel.data.stream.get_worker_info", lambda: "one")
    batch = collate(samples)
    for name in ("left", "blur"):
        assert batch[name].is_shared() and not alone[name].is_shared()
        assert batch[name].dtype == alone[name].dtype and torch.equal(batch[name], alone[name])
    assert batch["left"].is_contiguous() and batch["left"].shape == (2, 4, 5, 3)


def test_16_bits_survive_to_floats_and_back():
    values = np.arange(65536, dtype=np.uint16).repeat(3).reshape(1, 256, 256, 3)
    batch = to_floats(collate([{"left": values[0], "key": "a", "group": "", "index": 0}]))
    assert batch["left"].shape == (1, 3, 256, 256) and batch["left"].dtype == torch.float32
    assert batch["left"].min() == 0 and batch["left"].max() == 1
    assert np.array_equal(to_stored(batch["left"][0]), values[0])


def test_8_bits_and_maps_become_floats_of_the_contract():
    sample = {
        "left": np.full((4, 6, 3), 255, np.uint8), "blur": np.full((4, 6), -2.5, np.float32), "key": "a", "group": "g", "index": 7,
    }  # fmt: skip
    batch = to_floats(collate([sample, sample]))
    assert batch["left"].shape == (2, 3, 4, 6) and (batch["left"] == 1).all()
    assert batch["blur"].shape == (2, 1, 4, 6) and (batch["blur"] == -2.5).all()
    assert batch["index"].tolist() == [7, 7] and batch["group"] == ["g", "g"]


def test_scenes_of_different_sizes_cannot_share_a_batch():
    samples = [{"left": np.zeros((size, 4, 3), np.uint8), "key": "", "group": "", "index": 0} for size in (4, 5)]
    with pytest.raises(DualPixelError, match="different sizes .4x4, 5x4."):
        collate(samples)


def test_evaluation_gives_whole_scenes_or_the_unfiltered_windows(small_shards):
    split = PreparedSplit(small_shards / "val")
    whole = EvaluationSamples(split)
    assert len(whole) == 2 and whole[0]["sharp"].shape == (*SIZE, 3)
    parts = EvaluationSamples(split, as_windows=True)
    assert len(parts) == sum(len(sample.windows) for sample in split.index.samples)
    assert parts[1]["sharp"].shape == (64, 64, 3) and parts.key(1).endswith("-1")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"crop_size": 100}, "larger than the 64 pixels"),
        ({"crops": "random"}, "needs data.crop_size"),
        ({"crops": "random", "crop_size": 145}, "larger than the 144 pixels"),
        ({"batch_size": 10_000}, "do not fill one step"),
    ],
)
def test_settings_that_cannot_work_are_refused(small_card, small_shards, options, said):
    with pytest.raises(DualPixelError, match=said):
        DualPixelData(str(small_card), root=small_shards, num_workers=0, **options).train_dataloader()


def test_probabilities_are_checked(small_card):
    with pytest.raises(DualPixelError, match="mirror 1.5"):
        DualPixelData(str(small_card), mirror=1.5)


def test_a_field_the_data_set_lacks_is_refused_in_words(small_card, small_shards):
    data = DualPixelData(str(small_card), root=small_shards)
    with pytest.raises(DualPixelError, match="has no depth .it has left, right, combined, sharp."):
        data.require("fit", ["left", "right"], ["sharp", "depth"])


def test_generators_are_named_by_their_key():
    assert generator(1, "a").random() == generator(1, "a").random()
    assert len({generator(*key).random() for key in [(1, "a"), (1, "b"), (2, "a"), ("1a",), (1, "a", 0)]}) == 5
