import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from command_line import main, refused
from killed_preparations import contents
from scenes import COUNTS

from dualpixel import DualPixelError
from dualpixel.data import split_job
from dualpixel.data.index import INDEX
from dualpixel.data.joining import Part, join
from dualpixel.data.prepare import prepare
from dualpixel.data.registry import get_card
from dualpixel.data.split_job import PARTS, PlannedSplit
from dualpixel.data.verify import verify_split

SHARDS = {"train": 2, "val": 1, "test": 3}
"""How many shards the small set has at two scenes a shard."""


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(split_job, "SCENES_PER_SHARD", 2)


@pytest.fixture
def write(small_card, small_source, tmp_path):
    def write(part=None, out="out", **options):
        return prepare(get_card(small_card), small_source, tmp_path / out, processes=1, part=part, **options)

    return write


@pytest.mark.parametrize("count", [1, 3, 7])
def test_parts_in_any_order_give_the_bytes_of_a_preparation_in_one_piece(write, count, capsys):
    parts = [Part(number, count) for number in range(1, count + 1)]
    random.Random(count).shuffle(parts)
    for part in parts:
        assert not list(write(part).rglob(INDEX))
    main(["data", "index", str(write(parts[0]))])
    said = capsys.readouterr().out
    assert contents(write()) == contents(write(out="whole")) and len(contents(write())) == 3 + sum(SHARDS.values())
    assert "dpdd_small test: 5 scenes in 3 shards" in said


def test_parts_at_the_same_time_give_the_same_bytes(write):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, [Part(number, 4) for number in (3, 1, 4, 2)]))
    join(write(Part(1, 4)))
    assert contents(write()) == contents(write(out="whole"))


def test_a_part_does_not_wait_for_another(write, monkeypatch):
    read, first_reads, second_is_done = split_job.scene_data, threading.Event(), threading.Event()

    def slow(card, reader, split, scene, rule):
        if threading.current_thread().name == "first":
            first_reads.set()
            assert second_is_done.wait(30)
        return read(card, reader, split, scene, rule)

    monkeypatch.setattr(split_job, "scene_data", slow)
    first = threading.Thread(target=write, args=(Part(1, 2),), name="first")
    first.start()
    assert first_reads.wait(30)
    out = write(Part(2, 2))
    with pytest.raises(DualPixelError, match=r"part 1/2 is missing \(missing: .*train: 1 of 2 shards, 2 of 4 scenes"):
        join(out)  # while the first is at work
    second_is_done.set()
    first.join()
    join(out)
    assert contents(out) == contents(write(out="whole"))


def test_two_jobs_of_one_part_share_its_shards(write, monkeypatch):
    read, seen = split_job.scene_data, []

    def noted(card, reader, split, scene, rule):
        seen.append((split, scene.key))
        return read(card, reader, split, scene, rule)

    monkeypatch.setattr(split_job, "scene_data", noted)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, [Part(1, 1)] * 2))
    assert len(seen) == len(set(seen)) == sum(COUNTS.values())
    join(write(Part(1, 1)))
    assert all(verify_split(write() / split) == [] for split in COUNTS)


def test_the_index_names_parts_that_are_missing_or_unfinished(write, capsys):
    out = write(Part(1, 3))
    first = [f"{name}: {shards} of" for name, shards in (("test", 2), ("train", 1), ("val", 1))]
    message = refused(capsys, "data", "index", str(out))
    assert (
        "parts 2/3, 3/3 are missing" in message
        and "run `data prepare` as before with --part 2/3 and so on, then" in message
    )
    assert all(one in message for one in first) and "test: 2 of 3 shards, 3 of 5 scenes" in message
    write(Part(3, 3))
    write(Part(2, 3))
    next((out / "test").glob("*-000002.tar")).unlink()
    with pytest.raises(DualPixelError, match=r"part 3/3 is unfinished \(missing: test: 1 of 3 shards, 1 of 5 scenes\)"):
        join(out)
    assert not list(out.rglob(INDEX))


def test_a_shard_that_goes_away_before_the_index_is_named(write):
    split = PlannedSplit.load(write(Part(1, 1)) / "test")
    split.shard(1).unlink()
    with pytest.raises(DualPixelError, match="test-000001.tar is not written; prepare the set again, as before"):
        split.finish()
    with pytest.raises(
        DualPixelError, match=r"is not complete \(missing: test: 1 of 3 .*\); prepare it again, as before"
    ):
        join(split.folder)


def test_many_missing_parts_are_not_all_listed(write, capsys):
    message = refused(capsys, "data", "index", str(write(Part(1, 900))))
    assert "parts 2/900, 3/900, 4/900, 5/900, 6/900 are missing" in message  # the other parts have no shard to write


def test_another_number_of_parts_goes_on_with_what_is_written(write, monkeypatch):
    write(Part(1, 3))
    out = write(Part(2, 2))  # the shards 2, 4 and 6 of six, of which the fourth was written
    with pytest.raises(DualPixelError, match=r"part 1/2 is unfinished \(missing: test: 1 of 3 .*; val: 1 of 1"):
        join(out)
    written = {path: path.stat().st_mtime_ns for path in out.rglob("*.tar")}
    assert len(written) == 4
    assert contents(write()) == contents(write(out="whole"))  # all that was missing, in one piece
    assert all(path.stat().st_mtime_ns == time for path, time in written.items())


def test_a_killed_part_goes_on_where_it_stopped(write, monkeypatch):
    read = split_job.scene_data

    def interrupted(card, reader, split, scene, rule):
        if split == "test":
            raise KeyboardInterrupt
        return read(card, reader, split, scene, rule)

    monkeypatch.setattr(split_job, "scene_data", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(Part(1, 2))
    monkeypatch.setattr(split_job, "scene_data", read)
    out = write(Part(2, 2))
    (first,) = (out / "train").glob("*-000000.tar")
    written = first.stat().st_mtime_ns
    left_over = out / "test" / ".dpdd_small-test-000001.0123abcd.part.tar"
    left_over.write_bytes(b"of a kill")
    write(Part(1, 2))
    assert first.stat().st_mtime_ns == written and not left_over.exists()
    join(out)
    assert contents(out) == contents(write(out="whole"))


def test_parts_of_other_settings_are_refused(write):
    out = write(Part(1, 2))
    with pytest.raises(DualPixelError, match="holds parts made from other files or settings"):
        write(Part(2, 2), codec="png")
    assert PlannedSplit.load(out / "train").missing() == [1]


def test_parts_of_a_finished_set_have_nothing_to_do(write, capsys):
    out = write()
    before = contents(out)
    write(Part(1, 2))
    join(out)
    main(["data", "index", str(out)])
    assert contents(out) == before and capsys.readouterr().out.count("fingerprint") == 3
    next((out / "val").glob("*.tar")).unlink()
    with pytest.raises(DualPixelError, match="without --part to mend it"):
        write(Part(1, 2))
    assert contents(write()) == before


def test_a_join_that_was_killed_between_the_index_and_the_notes_is_cleared_up(write, monkeypatch):
    expected = contents(write(out="whole"))
    for again in (lambda: write(), lambda: join(write(Part(1, 1)))):
        out = write(Part(1, 1))
        with monkeypatch.context() as patched:
            patched.setattr(split_job.shutil, "rmtree", lambda path: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                join(out)
        assert len(list(out.glob(f"*/{PARTS}"))) == 3 and len(list(out.rglob(INDEX))) == 1
        again()
        assert contents(out) == expected
        split_job.shutil.rmtree(out)


@pytest.mark.parametrize("part", ["0/3", "4/3", "1", "1/0", "-1/3", "1/3/5", "1.5/3", "a/b", ""])
def test_parts_that_cannot_be_are_refused_in_one_line(small_card, capsys, part):
    if part:
        assert "must be i/n with i from 1 to n" in refused(capsys, "data", "prepare", str(small_card), f"--part={part}")
    with pytest.raises(DualPixelError, match="i from 1 to n, such as 1/8"):
        Part.parse(part)
    assert Part.parse("3/3") == Part(3, 3)


def test_settings_of_foreign_tars_are_refused_for_parts(write, small_card, capsys):
    out = write(Part(1, 1))
    assert "leave them out" in refused(capsys, "data", "index", str(out), "--card", str(small_card))
