"""Several data sets in one training: exact shares, one stream for any number of processes and workers, and resumed at any step."""

import hashlib
import random
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch
import yaml
from command_line import TOP, refused
from hypothesis import example, given, settings
from hypothesis import strategies as st
from servers import FolderServer
from tiny_shards import CROPS_PER_SCENE, SCENES_PER_SHARD, make_tiny_set, opened, shard_bytes

from dualpixel import DualPixelError
from dualpixel.cli import main
from dualpixel.data.cache import GIGABYTE
from dualpixel.data.mixture import MixedSampler, MixedSet, Portion, shares
from dualpixel.data.simulated import SimulatedViews
from dualpixel.data.stream import to_floats

VISITS = SCENES_PER_SHARD * CROPS_PER_SCENE
SHARDS = {"tiny": 5, "other": 3, "third": 2}
LENGTHS = [shards * VISITS for shards in SHARDS.values()]
DPDNET = str(TOP / "recipes" / "dpdnet.yaml")


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Card and root of each set; the second has 8 bits, and all have the same keys, and but for the bits the same scenes."""
    top = tmp_path_factory.mktemp("sets")
    return {
        name: make_tiny_set(top / name, shards, extra=shards, name=name, bit_depth=8 if name == "other" else 16)
        for name, shards in SHARDS.items()
        if not (top / name).mkdir()
    }


def mixed(sets, names=("other",), weights=(), steps=0, rank=0, world=1, roots=None, **options):
    """The main set ``tiny`` with further ones."""
    roots = {name: one[1] for name, one in sets.items()} | (roots or {})
    given = [
        MixedSet(str(sets[name][0]), weights[number] if weights else None, roots[name])
        for number, name in enumerate(names)
    ]
    return opened(sets["tiny"][0], roots["tiny"], steps, rank, world, **{"mix": given, "batch_size": 4} | options)


def batches(data):
    return [
        (batch["key"], batch["index"].tolist(), [int(crop.sum(dtype=torch.int64)) for crop in batch["left"]])
        for batch in data.train_dataloader()
    ]


def portions(lengths, weights=None, shards=None):
    mix = [MixedSet("x", weight) for weight in (weights or [None] * (len(lengths) - 1))]
    found = zip(lengths, shares(mix, lengths), shards or [None] * len(lengths), strict=True)
    return [Portion(f"set{number}", *one) for number, one in enumerate(found)]


@pytest.mark.parametrize(
    ("options", "digest"),
    [
        ({}, "7193619ab4ae29d5"),
        ({"crops_together": 4}, "73e09db1ea3af002"),
        ({"shuffle_shards": 2}, "ecf59a3df8ee46be"),
        ({"crops_together": 2, "shuffle_shards": 3}, "c23d99f1095d7e59"),
    ],
)
def test_the_stream_of_one_set_is_what_it_was_before_sets_could_be_mixed(sets, options, digest):
    """Digests of the program that knew one set only: order, keys and every pixel."""
    found = hashlib.blake2b(digest_size=8)
    for start in (0, 10, 13):
        data = opened(*sets["tiny"], start, batch_size=4, mirror=0.5, flip=0.5, seed=3, **options)
        for batch in data.train_dataloader():
            found.update(repr((batch["key"], batch["index"].tolist())).encode())
            found.update(batch["left"].numpy().tobytes())
            found.update(batch["right"].numpy().tobytes())
    assert found.hexdigest() == digest


@given(
    scenes=st.lists(st.integers(1, 30), min_size=2, max_size=4),
    weights=st.none() | st.lists(st.sampled_from([0.1, 0.3, 0.5, 1.0, 2.5, 7.0]), min_size=3, max_size=3),
    together=st.sampled_from([1, 4]),
    times=st.integers(1, 3),
    length=st.none() | st.integers(40, 120),
    seed=st.integers(0, 3),
)
@example(scenes=[1, 16, 24], weights=None, together=4, times=1, length=43, seed=0)  # an epoch without one of the sets
@settings(max_examples=100, deadline=None)
def test_shares_are_exact_and_every_sample_of_a_set_comes_equally_often(scenes, weights, together, times, length, seed):
    lengths = [4 * one for one in scenes]
    made = portions(lengths, weights and weights[: len(lengths) - 1])
    batch, length = 4 * times, length and 4 * length
    if (length or sum(lengths)) < batch:
        return
    options = {"seed": seed, "together": together}
    if any(one.share * ((length or sum(lengths)) // batch * batch // together) < 1 for one in made):
        with pytest.raises(
            DualPixelError, match=r"data.mix: set\d gives .* samples in an epoch, which is less than one"
        ):
            MixedSampler(made, length, batch, **options)
        return
    sampler = MixedSampler(made, length, batch, **options)
    starts, seen = np.cumsum([0, *lengths]), Counter()
    for epoch in range(10):
        visits = sampler.visits(epoch)
        assert len(visits) == sampler.steps * batch == (length or sum(lengths)) // batch * batch
        for visit, position in visits.tolist():
            assert seen[position] == visit  # the pass over its set, counted from 0
            seen[position] += 1
        for one, start in zip(made, starts, strict=False):
            counts = [seen[start + place] for place in range(one.length)]
            assert max(counts) - min(counts) <= 1
            assert abs(sum(counts) - one.share * len(visits) * (epoch + 1)) < together


def test_ten_epochs_of_two_to_one_are_two_to_one_to_the_sample():
    sampler = MixedSampler(portions([10, 50], [0.5]), 30, 6, seed=1)
    for epoch in range(10):
        assert Counter((sampler.order(epoch) >= 10).tolist()) == {False: 20, True: 10}
    assert [sampler.given(epochs) for epochs in (1, 10)] == [[20, 10], [200, 100]]
    uneven = MixedSampler(portions([10, 50], [0.1]), 30, 6)  # 27.27 and 2.73 an epoch
    assert [uneven.given(epochs) for epochs in (1, 2, 3, 11)] == [[27, 3], [55, 5], [82, 8], [300, 30]]


def test_shares_are_weights_as_they_are_written_or_numbers_of_samples():
    assert shares([MixedSet("x", 0.1), MixedSet("y", 0.3)], [5, 6, 7]) == [Fraction(n, 14) for n in (10, 1, 3)]
    assert shares([MixedSet("x"), MixedSet("y")], [5, 6, 7]) == [Fraction(n, 18) for n in (5, 6, 7)]


def test_without_weights_an_epoch_has_every_sample_once_in_an_order_of_its_own():
    sampler = MixedSampler(portions([40, 24, 16]), None, 8, seed=2)
    orders = [sampler.order(epoch).tolist() for epoch in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(80)) and orders[0] != orders[1]
    assert orders[0] != MixedSampler(portions([40, 24, 16]), None, 8, seed=3).order(0).tolist()
    which = np.searchsorted([40, 64], orders[0], "right")
    # well mixed: neighbours differ in 49.6 of 79 places on average
    assert 35 < (which[1:] != which[:-1]).sum() < 65


def test_a_set_has_an_order_of_its_own_whatever_is_mixed_with_it():
    def of_second(lengths, start, length):
        sampler = MixedSampler(portions(lengths), None, 4)
        order = np.concatenate([sampler.order(epoch) for epoch in range(3)])
        return (order[(order >= start) & (order < start + length)] - start).tolist()

    second = of_second([40, 40], 40, 40)
    assert second == of_second([8, 40, 24], 8, 40)
    assert second != of_second([40, 40], 0, 40)


@given(
    names=st.sampled_from([("other",), ("other", "third"), ("third", "other")]),
    weights=st.sampled_from([(), (0.5, 1.5), (3.0, 0.5)]),
    place=st.sampled_from(["local", "http", "both"]),
    world=st.sampled_from([1, 2, 4]),
    times=st.integers(1, 3),
    start=st.integers(0, 40),
    window=st.sampled_from([None, 1, 2]),
    together=st.sampled_from([1, 4]),
    length=st.sampled_from([None, 72]),
)
@settings(max_examples=40, deadline=None)
def test_a_stream_is_that_of_one_process_with_local_shards(
    sets, servers, names, weights, place, world, times, start, window, together, length
):
    urls, cache = servers
    roots = {"local": {}, "http": urls, "both": {"other": urls["other"]}}[place]
    effective = 4 * times if together == 1 else 4 * 2 ** (times - 1)
    options = {"shuffle_shards": window, "crops_together": together, "samples_per_epoch": length, "mirror": 0.5}
    steps = (length or sum(LENGTHS[list(SHARDS).index(name)] for name in ("tiny", *names))) // effective
    epoch, done = divmod(start, steps)
    right = batches(mixed(sets, names, weights, epoch * steps, batch_size=effective, **options))[done:]
    parts = [
        batches(
            mixed(
                sets, names, weights, start, rank, world, roots, cache=cache, batch_size=effective // world, **options
            )
        )
        for rank in range(world)
    ]
    assert [tuple(sum(one, []) for one in zip(*step, strict=True)) for step in zip(*parts, strict=True)] == right
    assert len(right) == steps - done


@pytest.fixture(scope="module")
def servers(sets, tmp_path_factory):
    """Addresses of the sets, each on a server of its own, and the folder of a cache."""
    running = {name: FolderServer(one[1]).__enter__() for name, one in sets.items()}
    yield {name: one.url for name, one in running.items()}, tmp_path_factory.mktemp("cache")
    for one in running.values():
        one.__exit__()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_goes_on_at_any_step_with_any_number_of_workers(sets, workers):
    names, weights, options = ("other", "third"), (1.5, 0.3), {"samples_per_epoch": 60, "flip": 0.5, "seed": 4}
    epochs = [batches(mixed(sets, names, weights, 15 * epoch, **options)) for epoch in range(4)]
    whole = sum(epochs, [])
    assert [len(epoch) for epoch in epochs] == [15] * 4
    for start in random.Random(workers).sample(range(60), 20 if workers == 0 else 3):
        resumed = batches(mixed(sets, names, weights, start, num_workers=workers, **options))
        assert resumed == whole[start : (start // 15 + 1) * 15]


def crops_by_pass(data, epochs):
    """(Pass over its set, position) -> the crop of the left view."""
    loader, found = data.train_dataloader(), {}
    for epoch in range(epochs):
        for visit, position in loader.sampler.visits(epoch).tolist():
            found[visit, position] = loader.dataset[(visit, position)]["left"].copy()
    return found


def test_samples_of_the_main_set_are_what_they_are_alone_and_others_have_crops_of_their_own(sets):
    options = {"mirror": 0.5, "flip": 0.5, "seed": 6}
    alone = crops_by_pass(opened(*sets["tiny"], batch_size=4, **options), 2)
    together = crops_by_pass(mixed(sets, ("third",), (2.0,), **options), 2)
    main_set = {place: crop for place, crop in together.items() if place[1] < LENGTHS[0]}
    assert len(main_set) > 30 and all(np.array_equal(crop, alone[place]) for place, crop in main_set.items())
    # third has the same keys, and even the same scenes: 16 of its crops would be equal if their draws were
    shared = [(visit, position) for visit, position in together if LENGTHS[0] <= position]
    same = [np.array_equal(together[one], alone.get((one[0], one[1] - LENGTHS[0]), 0)) for one in shared]
    assert len(same) > 60 and sum(same) < 4
    assert not any(np.array_equal(together[0, one], together[1, one]) for one in range(LENGTHS[0], LENGTHS[0] + 16))
    keys = {key for names, *_ in batches(mixed(sets, ("third",))) for key in names}
    assert {"train-000", "third/train-000"} <= keys


def test_eight_bits_among_sixteen_give_the_same_floats_to_the_last_bit(sets):
    loader = mixed(sets, ("other",)).train_dataloader()
    assert {batch["left"].dtype for batch in loader} == {torch.uint16}  # whatever samples meet in a batch
    samples = loader.dataset
    samples.parts[1].before_keys = ""  # the crops it has alone
    for batch in opened(*sets["other"], batch_size=4).train_dataloader():
        assert batch["left"].dtype == torch.uint8
        widened = np.stack([samples[(0, index + LENGTHS[0])]["left"] for index in batch["index"].tolist()])
        assert widened.dtype == np.uint16 and widened.max() > 60_000
        assert torch.equal(to_floats({"left": torch.from_numpy(widened)})["left"], to_floats(batch)["left"])
    every = torch.arange(256, dtype=torch.float32)
    assert torch.equal(every / 255, every * 257 / 65535)


def test_sets_of_eight_bits_alone_stay_so(sets, tmp_path):
    more = make_tiny_set(tmp_path, 2, name="more", bit_depth=8)
    data = opened(*sets["other"], batch_size=4, mix=[MixedSet(str(more[0]), root=more[1])])
    assert {batch["left"].dtype for batch in data.train_dataloader()} == {torch.uint8}


@given(window=st.integers(1, 4), weight=st.sampled_from([0.4, 1.0, 3.0]), seed=st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_windows_of_shards_hold_for_each_set(window, weight, seed):
    shards = [np.repeat(np.arange(count), 8) for count in (6, 4)]
    made = portions([48, 32], [weight], shards)
    sampler = MixedSampler(made, None, 4, seed=seed, window=window)
    seen = np.concatenate([sampler.visits(epoch) for epoch in range(4)])
    for start, lies in ((0, shards[0]), (48, shards[1])):
        mine = seen[(seen[:, 1] >= start) & (seen[:, 1] < start + len(lies))]
        for number in range(mine[-1, 0]):  # whole passes
            visited = lies[mine[mine[:, 0] == number][:, 1] - start]
            groups = [set(visited[first : first + window * 8].tolist()) for first in range(0, len(lies), window * 8)]
            assert all(len(group) == window for group in groups[:-1])
            assert sum(map(len, groups)) == lies[-1] + 1


@pytest.mark.parametrize("remote", [("other",), ("tiny", "third"), ("tiny", "other", "third")])
def test_shards_of_all_sets_are_read_ahead_and_those_on_this_machine_left_alone(sets, servers, tmp_path, remote):
    names, urls = ("other", "third"), {name: servers[0][name] for name in remote}
    data = mixed(sets, names, (1.0, 0.5), roots=urls, cache=tmp_path)
    ahead, samples = data.train_dataloader().sampler, data.train_dataloader().dataset
    assert len(ahead.prefetcher.shards) == sum(SHARDS[name] for name in remote)
    starts = np.cumsum([0, *LENGTHS])
    for position, number in enumerate(ahead.numbers.tolist()):
        which = int(np.searchsorted(starts, position, "right")) - 1
        name, split = list(SHARDS)[which], samples.parts[which].split
        if name in remote:
            shard = split.index.shards[samples.parts[which].shards()[position - starts[which]]]
            assert ahead.prefetcher.shards[number].url == f"{urls[name]}/train/{shard.name}"
        else:
            assert number == -1
    ahead.prefetcher.follow(ahead.numbers[ahead.sampler.ahead()])
    wanted = ahead.prefetcher.wanted()
    assert sorted(wanted) == list(range(len(ahead.prefetcher.shards)))
    assert batches(data) == batches(mixed(sets, names, (1.0, 0.5)))
    assert data.cache.fetched == len(wanted)


def test_a_cache_that_cannot_hold_a_window_of_every_set_is_refused_with_numbers_that_would_do(sets, servers, tmp_path):
    sizes = {name: shard_bytes(sets[name][1]) for name in ("tiny", "third")}
    options = {"cache": tmp_path, "batch_size": 1, "crops_per_scene": 8, "roots": servers[0]}
    all_of_them = 5 * sizes["tiny"] + 2 * sizes["third"]

    def loader(amount, **more):
        return mixed(sets, ("third",), cache_gigabytes=amount / GIGABYTE, **options, **more).train_dataloader()

    loader(all_of_them)
    with pytest.raises(
        DualPixelError, match="of tiny train and third train is read .* mixes all .*data.shuffle_shards to 2"
    ):
        loader(all_of_them - 1)
    loader(2 * (sizes["tiny"] + sizes["third"]), shuffle_shards=1)  # a window of each, and the next
    with pytest.raises(DualPixelError, match="in windows of 1 shards"):
        loader(2 * (sizes["tiny"] + sizes["third"]) - 1, shuffle_shards=1)


@pytest.mark.parametrize(
    ("mix", "said"),
    [
        ([{"dataset": "dldp", "weight": 0.0}], "weight 0.0 of the mixed set dldp: must be positive"),
        ([{"dataset": "dldp", "weight": float("nan")}], "weight nan of the mixed set dldp"),
        ([{"dataset": "dldp", "weight": 1.0}, {"dataset": "rdpd"}], "rdpd has no weight and others have one"),
        ([{"dataset": "dldp"}, {"dataset": "dldp"}], "dldp is named twice"),
        ([{"dataset": "tiny"}], "tiny is named twice"),
        ([{"dataset": "dldq"}], "did you mean 'dldp'"),
    ],
)
def test_mixtures_that_cannot_be_meant_are_refused_at_once(sets, mix, said):
    mix = [{**one, "dataset": str(sets["tiny"][0])} if one["dataset"] == "tiny" else one for one in mix]
    with pytest.raises(DualPixelError, match=said):
        opened(sets["tiny"][0], "nowhere", mix=[MixedSet(**one) for one in mix])


def test_sets_that_do_not_go_together_are_refused_before_the_first_batch(sets, small_card, small_shards, tmp_path):
    bare = make_tiny_set(tmp_path, 2, name="bare", fields=("left", "sharp"))

    def with_set(card, root, **options):
        return opened(*sets["tiny"], mix=[MixedSet(str(card), root=root)], **options)

    with pytest.raises(DualPixelError, match="needs left, right; bare train has no right .it has left, sharp."):
        with_set(*bare).require("fit", ["left", "right"], [])
    with_set(*bare).require("test", ["left", "right"], [])  # the main set alone is scored
    tiny = {"mix": [MixedSet(str(sets["tiny"][0]), root=sets["tiny"][1])]}
    with pytest.raises(DualPixelError, match="tiny train was prepared without windows"):
        opened(small_card, small_shards, crops="windows", **tiny).train_dataloader()
    with pytest.raises(DualPixelError, match="crop_size 24 is larger than the 20 pixels that tiny train offers"):
        opened(small_card, small_shards, crop_size=24, **tiny).train_dataloader()
    with pytest.raises(DualPixelError, match="third' is not prepared.*\n.*the root of its entry in data.mix"):
        with_set(sets["third"][0], tmp_path / "nowhere").ensure_prepared()
    with_set(sets["third"][0], tmp_path / "nowhere").ensure_prepared("test")
    with pytest.raises(DualPixelError, match="third gives 0.001 of 64 samples in an epoch, which is less than one"):
        mixed(sets, ("third",), (0.001,), samples_per_epoch=64).train_dataloader()
    with pytest.raises(DualPixelError, match="data.samples_per_epoch 0: must be at least 1"):
        mixed(sets, samples_per_epoch=0)
    with pytest.raises(
        DualPixelError, match="data.samples_per_epoch 1 does not fill one step of .*; raise it, or lower"
    ):
        mixed(sets, samples_per_epoch=1, batch_size=4).train_dataloader()
    with pytest.raises(DualPixelError, match="change data.samples_per_epoch, data.batch_size or data.crops_together"):
        mixed(sets, samples_per_epoch=10, batch_size=4, crops_together=4).train_dataloader()


def test_windows_of_two_sizes_need_a_common_crop_size(small_card, small_shards, small_source, tmp_path):
    from dualpixel.data.prepare import prepare
    from dualpixel.data.registry import get_card

    content = yaml.safe_load(small_card.read_text()) | {"name": "halved"}
    content["preparation"]["windows"]["train"]["size"] = 32
    card = tmp_path / "halved.yaml"
    card.write_text(yaml.safe_dump(content))
    root = prepare(get_card(card), small_source, tmp_path / "halved", processes=1)
    mix = {"mix": [MixedSet(str(card), 1.0, root)], "crops": "windows", "batch_size": 8}
    with pytest.raises(DualPixelError, match="must be of one size, found dpdd_small 64x64, halved 32x32 pixels"):
        opened(small_card, small_shards, crop_size=None, **mix).train_dataloader()
    samples = opened(small_card, small_shards, crop_size=32, **mix).train_dataloader().dataset
    assert [part.window for part in samples.parts] == [64, 32]
    assert samples[(0, 0)]["left"].shape == samples[(0, len(samples) - 1)]["left"].shape == (32, 32, 3)


def test_one_set_may_have_epochs_of_another_length(sets):
    data = opened(*sets["tiny"], batch_size=4, samples_per_epoch=24)
    seen = Counter(data.train_dataloader().sampler.visits(epoch)[place, 1] for epoch in range(5) for place in range(24))
    assert set(seen.values()) == {3} and len(seen) == 40  # 120 = 3 x 40


def test_views_are_rendered_for_all_sets_or_none(sets, tmp_path):
    for name in ("near", "far", "small"):
        (tmp_path / name).mkdir()
    fields = {"near": ("sharp", "depth"), "far": ("sharp", "depth"), "small": ("sharp", "depth")}
    sizes = {"near": (20, 28), "far": (20, 28), "small": (18, 28)}
    made = {
        name: make_tiny_set(tmp_path / name, 1, name=name, fields=fields[name], size=sizes[name]) for name in fields
    }
    optics = SimulatedViews(maximum_radius=2.0, pixel_pitch_m=1e-4)

    def with_set(name, own):
        return opened(*made["near"], batch_size=16, crop_size=16, optics=optics, mix=[MixedSet(str(own[0]), root=own[1])])  # fmt: skip

    data = with_set("far", made["far"])
    data.require("fit", ["left", "right"], ["sharp"])
    (batch,) = data.train_dataloader()
    rendered = data.on_after_batch_transfer(batch, 0)
    assert rendered["left"].shape == (16, 3, 16, 16) and (rendered["left"] != rendered["right"]).any()
    with pytest.raises(DualPixelError, match="of one size, found near 20x20, small 18x20 pixels.*surroundings"):
        with_set("small", made["small"]).train_dataloader()
    with pytest.raises(DualPixelError, match="renders from sharp and depth; third train has no sharp, depth"):
        with_set("third", sets["third"]).require("fit", ["left", "right"], ["sharp"])


def test_a_resumed_run_must_keep_its_mixture(sets):
    def made(names=("other", "third"), weights=(0.5, 2.0), **options):
        data = mixed(sets, names, weights, **options)
        data.setup("fit")
        return data

    state = made().state_dict()
    assert list(state["mix"]) == ["other", "third"] and len(state["mix"]["other"]["fingerprint"]) == 16
    made().load_state_dict(state)
    for other, said in (
        (made(("other",), (0.5,)), "trained with mix other, third, this run has other;"),
        (opened(*sets["tiny"], batch_size=4), "trained with mix other, third, this run has none;"),
        (made(weights=(0.5, 1.0)), "trained with weight of third 2.0, this run has 1.0;"),
        (made(weights=()), "trained with weight of other 0.5, this run has None;"),
        (made(samples_per_epoch=64), "trained with samples per epoch None, this run has 64;"),
    ):
        other.setup("fit")
        with pytest.raises(DualPixelError, match=said):
            other.load_state_dict(state)
    state["mix"]["other"]["fingerprint"] = "0123456789abcdef"
    with pytest.raises(DualPixelError, match="trained with fingerprint of other 0123456789abcdef, this run has"):
        made().load_state_dict(state)
    alone = opened(*sets["tiny"], batch_size=4)
    alone.setup("fit")
    before = {name: value for name, value in alone.state_dict().items() if name not in ("mix", "samples_per_epoch")}
    alone.load_state_dict(before)  # a checkpoint of before sets could be mixed
    with pytest.raises(DualPixelError, match="trained with mix none, this run has other, third"):
        made().load_state_dict(before)


def test_a_key_of_an_entry_that_does_not_exist_gets_a_near_match(capsys):
    for mix, said in (
        ("[{dataset: rdpd, wieght: 1}]", r"data.mix[0]: unknown key 'wieght'; did you mean 'weight'"),
        ("[{dataset: dldp}, {datset: rdpd}]", r"data.mix[1]: unknown key 'datset'; did you mean 'dataset'"),
        ("[{weight: 1}]", "data.mix[0]: the key 'dataset' is missing"),
        ("[rdpd]", "data.mix[0]: found 'rdpd' (str), expected a mapping of dataset, weight, root"),
        ("{dataset: rdpd}", "data.mix: found {'dataset': 'rdpd'}, expected a list of MixedSet"),
    ):
        assert said in refused(capsys, "fit", "--config", DPDNET, "--data.mix", mix)


def test_a_run_on_two_sets_that_is_stopped_ends_with_the_weights_of_one_that_is_not(tmp_path, capsys):
    fields = ("left", "right", "combined", "sharp")
    cards = {}
    for name, shards, bits in (("here", 3, 16), ("there", 2, 8)):
        (tmp_path / name).mkdir()
        cards[name] = make_tiny_set(tmp_path / name, shards, name=name, fields=fields, bit_depth=bits)
    content = {
        "model": {"init_args": {"net": {"init_args": {"width": 0.05}}, "optimizer": {"init_args": {"lr": 1e-3}}}},
        "data": {
            "init_args": {
                "dataset": str(cards["here"][0]), "root": str(cards["here"][1]), "batch_size": 4, "num_workers": 0,
                "mix": [{"dataset": str(cards["there"][0]), "weight": 0.5, "root": str(cards["there"][1])}],
                "samples_per_epoch": 28, "crops": "random", "crop_size": 16, "crops_per_scene": 4, "mirror": 0.5,
            }
        },
        "trainer": {"accelerator": "cpu", "devices": 1, "log_every_n_steps": 1, "limit_val_batches": 1},
        "panels": {"count": 0},
        "last": {"every_n_steps": 1},
    }  # fmt: skip
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(content))
    fit = ["fit", "--config", DPDNET, "--config", str(tmp_path / "two.yaml"), "--run.root", str(tmp_path / "runs")]
    main([*fit, "--run.name", "whole", "--trainer.max_epochs", "3"])
    main([*fit, "--run.name", "stopped", "--trainer.max_steps", "10"])  # in the second epoch of 7 steps
    kept = yaml.safe_load((tmp_path / "runs" / "stopped" / "config.yaml").read_text())
    assert kept["data"]["init_args"]["mix"] == content["data"]["init_args"]["mix"]
    go_on = [*fit, "--ckpt_path", str(tmp_path / "runs" / "stopped"), "--trainer.max_epochs", "3"]
    message = refused(capsys, *go_on, "--data.mix", "[]")
    assert "trained with mix there, this run has none" in message
    main([*go_on, "--trainer.max_steps", "-1"])
    whole, stopped = (
        torch.load(tmp_path / "runs" / name / "checkpoints" / "last.ckpt", weights_only=True)
        for name in ("whole", "stopped")
    )
    assert whole["global_step"] == stopped["global_step"] == 21
    assert whole["state_dict"].keys() == stopped["state_dict"].keys()
    assert all(torch.equal(value, stopped["state_dict"][name]) for name, value in whole["state_dict"].items())


def test_a_later_list_takes_nothing_from_an_earlier_one(tmp_path, capsys):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text(
        yaml.safe_dump({"data": {"init_args": {"mix": [{"dataset": "rdpd", "weight": 0.5, "root": "oth"}]}}})
    )
    second.write_text(yaml.safe_dump({"data": {"init_args": {"mix": [{"dataset": "dldp"}]}}}))
    recipe = ["fit", "--config", str(TOP / "recipes/dpdnet.yaml"), "--config", str(first)]
    for later in (["--config", str(second)], ["--data.mix", "[{dataset: dldp}]"]):
        with pytest.raises(SystemExit):
            main([*recipe, *later, "--print_config"])
        printed = yaml.safe_load(capsys.readouterr().out)
        assert printed["data"]["init_args"]["mix"] == [{"dataset": "dldp", "weight": None, "root": None}]
