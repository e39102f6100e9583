"""Prepared sets that are damaged in every way: what is read is the same data, or one line says where the damage is."""

import json
import os
import random
import re
import shutil
import stat
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from servers import FolderServer
from tiny_shards import make_tiny_set, opened

from dualpixel import DualPixelError
from dualpixel.cli import _short
from dualpixel.data import checked_scenes, reading
from dualpixel.data.cache import ShardCache
from dualpixel.data.index import INDEX
from dualpixel.data.indexing import make_index
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.shards import SceneData, ShardFile
from dualpixel.data.verify import verify_split

SHARD_OR_INDEX = r"-\d{6}\.tar|\w\.tar|index\.json"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny_set(tmp_path_factory.mktemp("tiny"), shards=2)


@pytest.fixture(scope="module")
def packed(tiny, tmp_path_factory):
    """Shards with PNG members, whose index was made afterwards, with windows."""
    from dualpixel.data.index import WindowRule

    folder = tmp_path_factory.mktemp("packed") / "theirs" / "train"
    split = PreparedSplit(tiny[1] / "train")
    for number in range(2):
        with ShardFile(folder / f"{number}.tar", "png") as shard:
            for position in (2 * number, 2 * number + 1):
                images = {name: np.array(split.array(position, name)) // 256 * 256 for name in ("left", "right")}
                depth = np.linspace(1, 2, 20 * 28, dtype=np.float32).reshape(20, 28)
                shard.write(SceneData(f"scene{position}", {**images, "depth": depth}, "indoor"))
    make_index(folder, rule=WindowRule(8, 0.5))
    return folder


@pytest.fixture(params=["npy", "png"])
def whole(request, tiny, packed):
    return tiny[1] / "train" if request.param == "npy" else packed


def content(folder, cache=None):
    """All that a network could see of a split."""
    split = PreparedSplit(folder, cache)
    index = split.index
    rule = index.preparation.get("windows")
    return [
        (
            sample.key,
            sample.group,
            sample.windows,
            rule,
            name,
            split.array(position, name).tobytes(),
            split.size(position),
        )
        for position, sample in enumerate(index.samples)
        for name in index.fields()
    ]


def outcome(folder, right, cache=None):
    """ "same", or what the one line names; anything else fails the test."""
    try:
        found = content(folder, cache)
    except DualPixelError as error:
        said = str(error)
        assert len(said.splitlines()) <= 2 and len(said) < 600, said
        assert re.search(SHARD_OR_INDEX, said), said
        return "index" if INDEX in said else "key" if re.search(r" (train-\d{3}|scene\d)\b", said) else "shard"
    assert found == right
    return "same"


def altered(whole, tmp_path, name, change):
    folder = tmp_path / "altered"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    (folder / name).write_bytes(change((whole / name).read_bytes()))
    return folder


def flip(place, bit):
    def change(content):
        place_there = place % len(content)
        return content[:place_there] + bytes([content[place_there] ^ 1 << bit]) + content[place_there + 1 :]

    return change


@pytest.mark.parametrize(("count", "seed"), [(150, 0), pytest.param(3000, 1, marks=pytest.mark.slow)])
def test_a_flipped_bit_of_a_shard_changes_nothing_or_is_named_with_shard_and_key(whole, tmp_path, count, seed):
    drawn, right = random.Random(seed), content(whole)
    name = sorted(path.name for path in whole.glob("*.tar"))[0]
    members = [member for sample in PreparedSplit(whole).index.samples for member in sample.members.values()][:4]
    found = Counter()
    for number in range(count):
        member = drawn.choice(members)
        inside = (
            drawn.randrange(member.bytes) if number % 3 else -drawn.randrange(1, 700)
        )  # or in the headers before it
        folder = altered(whole, tmp_path, name, flip(member.offset + inside, drawn.randrange(8)))
        found[outcome(folder, right)] += 1
        assert (folder / name).read_bytes() == (whole / name).read_bytes() or verify_split(folder)
    assert set(found) == {"same", "key"} and found["key"] >= count // 2


@pytest.mark.parametrize(("count", "seed"), [(150, 0), pytest.param(5000, 1, marks=pytest.mark.slow)])
def test_a_flipped_bit_of_an_index_changes_nothing_or_is_named(whole, tmp_path, count, seed):
    drawn, right, found = random.Random(seed), content(whole), Counter()
    for _ in range(count):
        folder = altered(whole, tmp_path, INDEX, flip(drawn.randrange(1 << 30), drawn.randrange(8)))
        found[outcome(folder, right)] += 1
    assert found["index"] > count // 2 and set(found) <= {"same", "index", "key", "shard"}


def test_an_offset_that_is_off_by_a_pixel_is_seen_at_the_first_use(whole, tmp_path):
    for name, by in (("offset", 2), ("offset", -2)):
        noted = json.loads((whole / INDEX).read_text())
        noted["samples"][1]["members"]["left"][name] += by
        folder = altered(whole, tmp_path, INDEX, lambda _, noted=noted: json.dumps(noted).encode())
        assert outcome(folder, None) == "key"
        (fault,) = verify_split(folder)
        assert re.search(r"tar: .*(train-001|scene1)\b", fault)


@pytest.mark.parametrize("what", ["shard", "index"])
def test_what_is_cut_or_grown_is_named(whole, tmp_path, what):
    right, drawn = content(whole), random.Random(2)
    name = INDEX if what == "index" else sorted(path.name for path in whole.glob("*.tar"))[1]
    size = (whole / name).stat().st_size
    ends = [0, 1, size - 1, *(drawn.randrange(size) for _ in range(47))]
    found = Counter(outcome(altered(whole, tmp_path, name, lambda old, end=end: old[:end]), right) for end in ends)
    assert found == {what: 49, "same": 1} if what == "index" else found == {"shard": 50}  # the last byte is a new line
    for more in (b"\0", b"}", os.urandom(512)):
        assert outcome(altered(whole, tmp_path, name, lambda old, more=more: old + more), right) == what


def test_shards_that_were_exchanged_are_named(tiny, tmp_path):
    folder = shutil.copytree(tiny[1] / "train", tmp_path / "train")
    one, other = sorted(folder.glob("*.tar"))
    one.rename(folder / "x")
    other.rename(one)
    (folder / "x").rename(other)
    with pytest.raises(DualPixelError, match=r"000000.tar: the pixels of train-000 are not those of the index"):
        content(folder)


def test_an_index_of_another_split_is_named(tiny, tmp_path):
    folder = shutil.copytree(tiny[1] / "train", tmp_path / "set" / "train")
    shutil.copy(tiny[1] / "val" / INDEX, folder)
    with pytest.raises(DualPixelError, match="tiny-val-000000.tar is missing"):
        PreparedSplit(folder)
    for path in sorted((tiny[1] / "val").glob("*.tar")):
        shutil.copy(path, folder)
    with pytest.raises(DualPixelError, match="holds split val, the card tiny says train"):
        opened(tiny[0], folder.parent).train_dataloader()


def test_a_tar_of_others_that_is_damaged_gets_no_index_or_a_right_one(packed, tmp_path):
    drawn, right = random.Random(3), content(packed)
    found = Counter()
    for number in range(60):
        folder = altered(packed, tmp_path, "0.tar", flip(drawn.randrange(6000), drawn.randrange(8)))
        if number % 3 == 0:
            (folder / "0.tar").write_bytes((packed / "0.tar").read_bytes()[: drawn.randrange(6000)])
        (folder / INDEX).unlink()
        try:
            made = make_index(folder)
        except DualPixelError as error:
            assert "0.tar" in str(error) and len(str(error).splitlines()) == 1
            assert not (folder / INDEX).exists()
            found["refused"] += 1
        else:  # pixels that nothing vouched for: they are what they are, and no scene is missing
            assert len(made.samples) == len(right) // 3
            found["indexed"] += 1
    assert found["refused"] > 30


class TestChecking:
    """Each scene is hashed once on a machine, and again when anything about it has changed."""

    @pytest.fixture
    def folder(self, tiny, tmp_path):
        return shutil.copytree(tiny[1] / "train", tmp_path / "train")

    @pytest.fixture
    def hashed(self, monkeypatch):
        counted = []
        digest = checked_scenes.scene_digest
        monkeypatch.setattr(reading, "scene_digest", lambda arrays: counted.append(1) or digest(arrays))
        return counted

    def test_once_on_a_machine(self, folder, hashed):
        content(folder)
        assert len(hashed) == 4
        content(folder)
        split = PreparedSplit(folder)
        assert [split.array(0, "left").shape for _ in range(3)] and len(hashed) == 4

    @pytest.mark.parametrize("keep_times", [False, True])
    def test_again_when_a_file_of_the_same_size_took_its_place(self, folder, hashed, keep_times):
        content(folder)
        path = sorted(folder.glob("*.tar"))[0]
        about, old = path.stat(), path.read_bytes()
        path.write_bytes(flip(4000, 3)(old))
        if keep_times:
            os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
        with pytest.raises(DualPixelError, match="000000.tar: the pixels of train-000 are not"):
            content(folder)
        path.write_bytes(old)
        content(folder)
        assert len(hashed) == 4 + 1 + 4

    def test_again_with_another_index_and_after_a_month(self, folder, hashed, monkeypatch):
        content(folder)
        noted = json.loads((folder / INDEX).read_text())
        noted["samples"][0]["metadata"]["x"] = "y"
        (folder / INDEX).write_text(json.dumps(noted))
        content(folder)
        assert len(hashed) == 8
        later = time.time() + 31 * 86400
        monkeypatch.setattr(checked_scenes.time, "time", lambda: later)
        content(folder)
        assert len(hashed) == 12

    def test_always_and_never_as_the_environment_says(self, folder, hashed, monkeypatch):
        monkeypatch.setenv("DUALPIXEL_CHECK", "always")
        content(folder)
        content(folder)
        assert len(hashed) == 8
        monkeypatch.setenv("DUALPIXEL_CHECK", "never")
        content(folder)
        assert len(hashed) == 8
        monkeypatch.setenv("DUALPIXEL_CHECK", "onse")
        with pytest.raises(DualPixelError, match="did you mean 'once'"):
            PreparedSplit(folder)

    def test_in_each_process_where_no_notes_can_be_kept(self, folder, hashed, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.setenv("DUALPIXEL_CACHE", str(tmp_path / "file"))
        content(folder)
        content(folder)
        assert len(hashed) == 8

    def test_once_for_all_workers_that_begin_together(self, tiny, folder, tmp_path, monkeypatch):
        log, digest = tmp_path / "log", checked_scenes.scene_digest

        def noted(arrays):
            with log.open("a") as file:
                file.write("x")
            time.sleep(0.05)
            return digest(arrays)

        monkeypatch.setattr(reading, "scene_digest", noted)
        data = opened(tiny[0], folder.parent, num_workers=3, batch_size=2)
        assert len(list(data.train_dataloader())) == 8
        assert len(log.read_text()) == 4

    @pytest.mark.parametrize("workers", [0, 1])
    def test_a_worker_says_it_in_one_line(self, tiny, folder, workers):
        path = sorted(folder.glob("*.tar"))[1]
        path.write_bytes(flip(4000, 3)(path.read_bytes()))
        with pytest.raises(DualPixelError) as caught:
            list(opened(tiny[0], folder.parent, num_workers=workers, batch_size=2).train_dataloader())
        said = _short(str(caught.value))
        assert len(said.splitlines()) == 1 and f"{path}: the pixels of train-002 are not" in said

    def test_a_shard_that_is_replaced_under_a_run_is_not_mapped(self, folder):
        split = PreparedSplit(folder)
        split.array(0, "left")
        path = sorted(folder.glob("*.tar"))[1]
        beside = shutil.copy(path, folder / "x")
        Path(beside).replace(path)
        with pytest.raises(DualPixelError, match=r"000001.tar was altered since .* train-002"):
            split.array(2, "left")

    @pytest.mark.skipif(os.geteuid() == 0, reason="the superuser reads everything")
    def test_a_shard_that_may_not_be_read_is_named(self, folder):
        path = sorted(folder.glob("*.tar"))[0]
        path.chmod(0)
        with pytest.raises(DualPixelError, match="000000.tar: cannot be read .* train-000"):
            content(folder)

    def test_a_link_is_read_only_where_it_leads_to_the_right_pixels(self, folder, tmp_path):
        path = sorted(folder.glob("*.tar"))[0]
        elsewhere = shutil.move(path, tmp_path / "elsewhere.tar")
        path.symlink_to(elsewhere)
        assert len(content(folder)) == 8
        size = Path(elsewhere).stat().st_size
        (tmp_path / "secret").write_bytes(b"s" * size)
        path.unlink()
        path.symlink_to(tmp_path / "secret")
        with pytest.raises(DualPixelError, match="are not those of the index"):
            content(folder)

    @pytest.mark.parametrize("kind", ["fifo", "loop", "device", "folder"])
    def test_what_is_no_file_is_missing(self, folder, kind):
        path = sorted(folder.glob("*.tar"))[0]
        path.unlink()
        {
            "fifo": lambda: os.mkfifo(path),
            "loop": lambda: path.symlink_to(path),
            "device": lambda: path.symlink_to("/dev/zero"),
            "folder": path.mkdir,
        }[kind]()
        with pytest.raises(DualPixelError, match="000000.tar is missing"):
            PreparedSplit(folder)


class TestServers:
    """What comes from a server is right, or one line names shard and key."""

    @pytest.fixture
    def server(self, tiny):
        with FolderServer(tiny[1]) as running:
            yield running

    def test_an_altered_index_on_its_way_is_named(self, tiny, tmp_path):
        right, found = content(tiny[1] / "train"), Counter()
        top = tmp_path / "served"
        shutil.copytree(tiny[1] / "train", top / "train")
        old, drawn = (top / "train" / INDEX).read_bytes(), random.Random(4)
        with FolderServer(top) as server:
            for _ in range(40):
                (top / "train" / INDEX).write_bytes(flip(drawn.randrange(len(old)), drawn.randrange(8))(old))
                try:
                    found["same"] += content(f"{server.url}/train", ShardCache(tmp_path / "cache")) == right
                except DualPixelError as error:
                    assert "train/" in str(error) and len(str(error).splitlines()) == 1
                    found["named"] += 1
        assert found["named"] > 20 and sum(found.values()) == 40

    def test_a_cached_shard_that_is_altered_is_fetched_again(self, tiny, server, tmp_path):
        cache, right = ShardCache(tmp_path / "cache"), content(tiny[1] / "train")
        assert content(f"{server.url}/train", cache) == right and len(server.asked) == 2
        assert content(f"{server.url}/train", cache) == right and len(server.asked) == 2
        path = sorted((tmp_path / "cache").glob("*.tar"))[0]
        path.write_bytes(flip(4000, 3)(path.read_bytes()))
        assert content(f"{server.url}/train", cache) == right and len(server.asked) == 3
        os.utime(sorted((tmp_path / "cache").glob("*.tar"))[0])  # as if it had been written by somebody
        assert content(f"{server.url}/train", cache) == right and len(server.asked) == 3

    def test_a_shard_that_was_used_goes_after_one_that_was_not(self, tiny, server, tmp_path):
        cache = ShardCache(tmp_path / "cache")
        split = PreparedSplit(f"{server.url}/train", cache)
        for position in (0, 2, 0):
            split.array(position, "left")
        by_use = sorted((tmp_path / "cache").glob("*.tar"), key=lambda path: path.stat().st_atime_ns)
        assert by_use[-1].name.startswith(split.index.shards[0].sha256)
        assert all(stat.S_ISREG(path.stat().st_mode) for path in by_use)
