"""Getting shards from servers that fail in all the ways that servers do."""

import os
import sys
import time
from types import SimpleNamespace

import fsspec  # noqa: F401 - its table of file systems is changed below
import numpy as np
import pytest
from servers import FolderServer, bucket_server
from tiny_shards import make_tiny_set

from dualpixel import DualPixelError
from dualpixel.data import remote, requests
from dualpixel.data.index import INDEX, has_index, load_index
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.remote import RemoteFolder, RemoteShard, as_folder, fetch, prepared_root
from dualpixel.data.verify import verify_split


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny_set(tmp_path_factory.mktemp("tiny"), shards=3)[1]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    pauses = []
    monkeypatch.setattr(remote, "time", SimpleNamespace(sleep=pauses.append))
    monkeypatch.setattr(requests, "STALL_SECONDS", 0.3)
    return pauses


@pytest.fixture
def server(tiny):
    with FolderServer(tiny) as running:
        yield running


def first(url, split="train"):
    folder = as_folder(url) / split
    shard = load_index(folder).shards[0]
    return RemoteShard(str(folder / shard.name), shard.bytes, shard.sha256)


def got(shard, path):
    with path.open("ab+", buffering=0) as file:
        fetch(shard, file)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("faults", "starts"),
    [
        ([], [0]),
        ([("status", 500), ("status", 503), ("status", 429)], [0, 0, 0, 0]),
        ([("drop", 1000), ("drop", 500)], [0, 1000, 1500]),
        ([("drop", 0)], [0, 0]),
        ([("stall", 1000, 1.0)], [0, 1000]),
        ([("wrong",), ("wrong",)], [0, 0, 0]),
        ([("drop", 1000), ("wrong",)], [0, 1000, 0]),
    ],
)
def test_what_may_pass_is_tried_again_from_where_it_stopped(tiny, server, tmp_path, faults, starts, impatient):
    shard = first(server.url)
    server.faults[".tar"] = list(faults)
    path = tmp_path / "x.part"
    assert got(shard, path) == next((tiny / "train").glob("*000000.tar")).read_bytes()
    assert [start for _, start in server.asked] == starts
    assert len(impatient) == len(faults)


def test_a_server_that_gives_a_byte_now_and_then_is_left(tiny, server, tmp_path, impatient):
    shard = first(server.url)
    server.faults[".tar"] = [("trickle", 20.0)]
    before = time.monotonic()
    assert len(got(shard, tmp_path / "x.part")) == shard.bytes
    (_, start), (_, again) = server.asked
    assert start == 0 and 0 < again < 307 and len(impatient) == 1 and time.monotonic() - before < 10


def test_a_server_without_ranges_gives_the_whole_file_again(tiny, tmp_path):
    with FolderServer(tiny, ranges=False) as server:
        shard = first(server.url)
        server.faults[".tar"] = [("drop", 1000)]
        assert len(got(shard, tmp_path / "x.part")) == shard.bytes
        assert [start for _, start in server.asked] == [0, 1000]  # and not a third time


@pytest.mark.parametrize("beginning", [b"", b"?" * 100, b"?" * 100_000])
def test_a_beginning_is_gone_on_with_and_a_wrong_one_thrown_away(tiny, server, tmp_path, beginning):
    path, shard = tmp_path / "x.part", first(server.url)
    path.write_bytes(beginning)
    assert got(shard, path) == next((tiny / "train").glob("*000000.tar")).read_bytes()
    right = path.read_bytes()
    path.write_bytes(right[:2000])
    server.asked.clear()
    assert got(shard, path) == right and server.asked == [(shard.url.rpartition("/")[2], 2000)]


def test_pauses_grow_with_chance_and_stay_bounded(server, tmp_path, impatient, monkeypatch):
    monkeypatch.setattr(remote, "TRIES", 10)
    server.faults[".tar"] = [("status", 503)] * 9
    got(first(server.url), tmp_path / "x")
    shares = [pause / min(30.0, 0.5 * 2**number) for number, pause in enumerate(impatient)]
    assert len(set(shares)) == 9 and all(0.5 <= share <= 1 for share in shares)


@pytest.mark.parametrize(
    ("fault", "said"),
    [(("status", 500), "in 6 tries; the last time: the server answers with status 500"), (("wrong",), "wrong bytes")],
)
def test_after_all_tries_one_message_names_the_shard(server, tmp_path, fault, said):
    shard = first(server.url)
    server.faults[".tar"] = [fault] * 6
    with pytest.raises(DualPixelError, match=f"tiny-train-000000.tar: not got .*{said}"):
        got(shard, tmp_path / "x")
    assert len(server.asked) == 6


@pytest.mark.parametrize(("status", "said"), [(404, "no such file"), (403, "refused by the server with status 403")])
def test_what_will_not_pass_is_not_tried_again(server, tmp_path, status, said):
    shard = first(server.url)
    server.faults[".tar"] = [("status", status)]
    with pytest.raises(DualPixelError, match=said):
        got(shard, tmp_path / "x")
    assert len(server.asked) == 1


def test_a_connection_that_keeps_bringing_something_is_not_given_up(server, tmp_path):
    shard = first(server.url)
    step = shard.bytes // 9
    server.faults[".tar"] = [("drop", step)] * 8  # more than there are tries
    assert len(got(shard, tmp_path / "x")) == shard.bytes and len(server.asked) == 9


def test_a_server_that_is_not_there_is_named():
    with pytest.raises(DualPixelError, match="http://127.0.0.1:9/train/index.json: not got in 6 tries"):
        load_index(as_folder("http://127.0.0.1:9") / "train")


@pytest.mark.parametrize(
    "root",
    [
        "pipe:cat /etc/passwd", "file:///tmp", "simplecache::http://h/x", "reference://x", "github://a:secret@c/d", "ssh://h/x", "memory://x",
        "ftp://h/x", "http://user:secret@h/x", "s3://b/x?versionId=1", "http://h/a::file:///etc", "http:///x", "https://h/a b", "zip://a",
    ],
)  # fmt: skip
def test_other_protocols_and_chains_are_refused_in_a_line(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DualPixelError) as caught:
        load_index(as_folder(root) / "train")
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


def test_the_place_of_shards_may_be_an_address_in_the_environment(monkeypatch):
    monkeypatch.setenv("DUALPIXEL_SHARDS", "https://host/shards/")
    assert prepared_root("dpdd") == RemoteFolder("https://host/shards/dpdd")
    assert str(prepared_root("dpdd", "s3://bucket/x") / "train") == "s3://bucket/x/train"
    assert str(RemoteFolder("https://h/x") / "a#b%.tar") == "https://h/x/a%23b%25.tar"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('"tiny-train-000000.tar"', '"../x.tar"', "shard name '../x.tar' is not allowed"),
        ('"offset": ', '"offset": 9', "lies outside its shard"),
        ('"sha256": "', '"sha256": "../', "no SHA-256"),
        ("{", "{{", "not a JSON file"),
    ],
)
def test_an_index_of_a_stranger_is_checked_as_one_here_is(tiny, tmp_path, before, after, said):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / INDEX).write_text((tiny / "train" / INDEX).read_text().replace(before, after))
    with FolderServer(tmp_path) as server, pytest.raises(DualPixelError, match=said):
        PreparedSplit(f"{server.url}/train")


def test_an_index_that_is_too_large_is_not_read(server, monkeypatch):
    monkeypatch.setattr(remote, "JSON_BYTES", 1000)
    with pytest.raises(DualPixelError, match="larger than 1000 bytes"):
        load_index(as_folder(server.url) / "train")


def test_verify_says_what_a_server_has_wrong(tiny, server, tmp_path):
    assert verify_split(as_folder(server.url) / "train") == []
    server.faults["000001.tar"] = [("wrong",)] * 6
    server.faults["000002.tar"] = [("status", 404)]
    one, other = verify_split(as_folder(server.url) / "train")
    assert "000001.tar" in one and "wrong bytes" in one and "000002.tar" in other and "no such file" in other
    assert not has_index(as_folder(server.url) / "nothing")


def test_a_bucket_is_read_like_a_folder(tiny, tmp_path, monkeypatch):
    with bucket_server(tiny, "tiny", monkeypatch) as url:
        folder = as_folder(url) / "train"
        assert load_index(folder) == load_index(tiny / "train")
        assert verify_split(folder) == []
        assert not has_index(as_folder(url) / "nothing")
        path, shard = tmp_path / "x", first(url)
        path.write_bytes(next((tiny / "train").glob("*000000.tar")).read_bytes()[:777])
        assert got(shard, path) == next((tiny / "train").glob("*000000.tar")).read_bytes()
        monkeypatch.setenv("DUALPIXEL_CACHE", str(tmp_path / "cache"))
        there, here = PreparedSplit(folder), PreparedSplit(tiny / "train")
        for position in range(len(here)):
            assert np.array_equal(there.array(position, "left"), here.array(position, "left"))


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    monkeypatch.setattr(requests, "_systems", {})
    with pytest.raises(DualPixelError, match=r"s3:// needs a library: pip install 'dualpixel\[s3\]'"):
        load_index(as_folder("s3://bucket/x/train"))


def test_a_file_system_is_not_taken_over_by_a_forked_process(monkeypatch):
    monkeypatch.setattr(requests, "_systems", {})
    requests._system("s3://bucket/x")
    assert list(requests._systems) == [(os.getpid(), "s3")]


@pytest.mark.parametrize("address", ["http:/user:secret@host/shards", "s3:/bucket/shards"])
def test_an_address_with_one_slash_is_not_taken_for_a_folder(address, monkeypatch):
    protocol = address.partition(":")[0]
    said = f"^{protocol}:/...: an address has two slashes behind its protocol: {protocol}://PLACE/FOLDER$"
    with pytest.raises(DualPixelError, match=said):
        as_folder(address)
    monkeypatch.setenv("DUALPIXEL_SHARDS", address)
    with pytest.raises(DualPixelError, match=said):
        prepared_root("dpdd")
