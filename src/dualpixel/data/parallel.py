"""Many independent pieces of work over several processes, whose news arrive while they run."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from dualpixel.errors import DualPixelError

Task = Callable[[Callable[[str], Any]], Any]
"""A piece of work: called with a function that it tells its news."""

_news: Any = None


def how_many(processes: int | None) -> int:
    """Return how many processes work: those that were asked for, or where nobody says one a core of ours, at most 8.

    Raises:
        DualPixelError: fewer than one was asked for.
    """
    if processes is not None and processes < 1:
        raise DualPixelError(f"--processes {processes}: must be at least 1")
    # a job of a cluster may use a few of the machine's cores only
    ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return processes or min(ours, 8)


def in_parallel(tasks: Sequence[Task], processes: int) -> Iterator[str]:
    """Run tasks, and yield what they tell.

    With one process, or one task, they run in this process one after the other, and what a task told is yielded when it is done.

    Args:
        tasks: picklable where there are several processes, such as `functools.partial` of a function of a module.
        processes: how many work at once.

    Raises:
        DualPixelError: a worker was killed. What a task raises is raised here, and tasks not yet begun are left out.
    """
    if processes == 1 or len(tasks) < 2:
        for task in tasks:
            told: list[str] = []
            task(told.append)
            yield from told
        return
    context = multiprocessing.get_context("spawn")  # OpenCV and torch threads do not survive a fork
    news = context.SimpleQueue()
    workers = min(processes, len(tasks))
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(news,)) as pool:
        waiting = {pool.submit(_run, task) for task in tasks}
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=0.1, return_when=FIRST_EXCEPTION)
                while not news.empty():
                    yield news.get()
                for future in done:
                    future.result()
        except BrokenProcessPool:
            raise DualPixelError("a worker process was killed; run the command again to go on") from None
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch add up in one order: the bytes must not depend on the number of cores, and every process has its own already."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _run(task: Task) -> None:
    task(_news.put)


def _begin(news: Any) -> None:
    """Note where news go, and end with the parent."""
    global _news
    _news = news
    end_with_parent()


def end_with_parent() -> None:
    """See that this process, where another one started it, ends with that one, also when that is killed."""
    parent = multiprocessing.parent_process()

    def follow() -> None:
        parent.join()
        os._exit(1)

    if parent is not None:
        threading.Thread(target=follow, daemon=True).start()
