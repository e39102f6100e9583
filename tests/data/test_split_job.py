import errno
import json
import os
import resource
import subprocess
import sys

import pytest
import webdataset
from command_line import TOP
from killed_preparations import contents
from killing import kill_when

from dualpixel import DualPixelError
from dualpixel.data import split_job
from dualpixel.data.index import INDEX
from dualpixel.data.prepare import prepare
from dualpixel.data.registry import get_card
from dualpixel.data.shards import ShardFile
from dualpixel.files import atomic, locked, room_for


@pytest.mark.parametrize("kills", [6, pytest.param(20, marks=pytest.mark.slow)])
def test_a_preparation_killed_at_any_moment_ends_in_the_same_bytes(small_card, small_source, tmp_path, kills):
    command = [sys.executable, TOP / "tests" / "killed_preparations.py", small_card, small_source, tmp_path, kills, 1]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert len(told) == kills
    # before the first shard, between shards, and late: the moments are spread over the run
    assert sum(kill["killed"] for kill in told) > kills / 2 and len({kill["tars"] for kill in told}) >= 3
    for kill in told:
        assert kill["half_written"] == kill["indices_without_shards"] == [] and kill["same_in_the_end"], kill


def test_workers_of_a_killed_preparation_leave_nothing_that_harms(small_card, small_source, small_shards, tmp_path):
    out = tmp_path / "out"
    arguments = ("data", "prepare", small_card, "--source", small_source, "--out", out, "--processes", 2)
    kill_when(lambda: [*out.rglob(".*.part.tar")], *arguments)
    assert not list(out.rglob(INDEX))
    assert contents(prepare(get_card(small_card), small_source, out, processes=1)) == contents(small_shards)


@pytest.fixture
def largest_file():
    """Limit the size of the files that this process and its children may write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_full_disk_is_one_error_and_leaves_nothing_half_written(
    small_card, small_source, small_shards, tmp_path, largest_file, processes
):
    largest_file(1 << 20)  # a scene of four 16-bit images has 0.7 MB, so every shard fails in its second
    out = tmp_path / "out"
    with pytest.raises(DualPixelError, match=r"-000000\.tar could not be written: File too large; make room") as raised:
        prepare(get_card(small_card), small_source, out, processes=processes)
    assert len(str(raised.value).splitlines()) == 1
    written = {path.name for path in out.rglob("*") if path.is_file()}
    assert written == {".lock", "plan.json", "000000.lock"}
    largest_file(resource.RLIM_INFINITY)
    assert contents(prepare(get_card(small_card), small_source, out, processes=1)) == contents(small_shards)


@pytest.mark.parametrize("place", ["scene", "end of the shard", "note", "index"])
def test_no_space_is_said_wherever_it_ends(small_card, small_source, tmp_path, monkeypatch, place):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def closed_and_full(writer):
        writer.tarstream.close()
        full()

    where = {
        "scene": (ShardFile, "write", full),
        "end of the shard": (webdataset.TarWriter, "close", closed_and_full),
        "note": (split_job, "write_note", full),
        "index": (split_job, "save_index", full),
    }
    monkeypatch.setattr(*where[place])
    with pytest.raises(DualPixelError, match="could not be written: No space left on device; make room"):
        prepare(get_card(small_card), small_source, tmp_path, processes=1)
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in left if ".part" in path.name or path.name == INDEX]
    assert len([path for path in left if path.suffix == ".tar"]) == {"note": 1, "index": 3}.get(place, 0)


def test_other_errors_of_files_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), room_for(tmp_path / "a"):
        (tmp_path / "missing").read_bytes()


def test_two_writers_of_one_file_never_write_to_one_temporary(tmp_path):
    with atomic(tmp_path / "a.txt") as first, atomic(tmp_path / "a.txt") as second:
        assert first != second and first.parent == second.parent == tmp_path
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "a.txt").read_text() == "first" and [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(("first", "second", "waits"), [(True, True, False), (True, False, True), (False, True, True)])
def test_a_folder_is_held_alone_or_together(tmp_path, first, second, waits):
    import threading

    held = threading.Event()

    def hold():
        with locked(tmp_path, shared=second):
            held.set()

    thread = threading.Thread(target=hold)
    with locked(tmp_path, shared=first):
        thread.start()
        assert held.wait(0.3) is not waits
    thread.join(10)
    assert held.is_set()


def test_a_file_system_without_locks_is_used_without_them(tmp_path, monkeypatch):
    def refuse(number):
        def flock(*_):
            raise OSError(number, os.strerror(number))

        return flock

    monkeypatch.setattr("fcntl.flock", refuse(errno.ENOLCK))
    with locked(tmp_path):
        pass
    monkeypatch.setattr("fcntl.flock", refuse(errno.EIO))
    with pytest.raises(OSError, match="Input/output"), locked(tmp_path):
        pass
