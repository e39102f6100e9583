import multiprocessing
import os
from functools import partial

import pytest
from parallel_tasks import die, fail, meet, work

from dualpixel import DualPixelError
from dualpixel.data.parallel import how_many, in_parallel


@pytest.mark.parametrize("processes", [1, 3])
def test_all_news_of_all_tasks_arrive(processes):
    told = list(in_parallel([partial(work, number) for number in range(7)], processes))
    assert sorted(told) == sorted(f"{number} {what}" for number in range(7) for what in ("begun", "done"))
    if processes == 1:
        assert told[:2] == ["0 begun", "0 done"]


def test_tasks_run_at_the_same_time_in_other_processes(tmp_path):
    told = set(in_parallel([partial(meet, tmp_path, number) for number in range(2)], 2))
    assert len(told) == 2 and all(one.startswith("2 ") for one in told) and f"2 {os.getpid()}" not in told


def test_one_task_runs_in_this_process():
    assert list(in_parallel([lambda tell: tell(str(os.getpid()))], 2)) == [str(os.getpid())]


@pytest.mark.parametrize("processes", [1, 2])
def test_what_a_task_raises_is_raised(processes):
    with pytest.raises(DualPixelError, match="the first is broken"):
        list(in_parallel([partial(fail, number) for number in range(4)], processes))
    assert not multiprocessing.active_children()


def test_a_killed_worker_is_said_in_words():
    with pytest.raises(DualPixelError, match="a worker process was killed; run the command again to go on"):
        list(in_parallel([partial(die, number) for number in range(2)], 2))


def test_fewer_processes_than_one_are_refused():
    assert how_many(3) == 3 and 1 <= how_many(None) <= 8
    for processes in (0, -1):
        with pytest.raises(DualPixelError, match=f"--processes {processes}: must be at least 1"):
            how_many(processes)


def test_a_job_of_a_cluster_uses_the_cores_that_it_was_given(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3, 11}, raising=False)
    assert how_many(None) == 3 and how_many(5) == 5
