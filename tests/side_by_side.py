"""Times of several ways to do one thing, taken in turns in one run on one thread, so that a slow spell of a shared machine hits all.

And the memory that one way takes, in a process of its own.
"""

import multiprocessing
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from command_line import TOP


def process_seconds(sides: Mapping[str, Callable[[], object]], passes: int = 5) -> dict[str, float]:
    """Return the median processor seconds of each side; every side runs once beforehand, uncounted."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for turn in range(passes + 1):
            for name, side in sides.items():
                start = time.process_time()
                side()
                if turn:
                    seconds[name].append(time.process_time() - start)
    finally:
        torch.set_num_threads(threads)
    return {name: statistics.median(times) for name, times in seconds.items()}


def extra_mebibytes(prepare: Callable[..., Callable[[], object]], *arguments: Any) -> float:
    """Return by how much memory grows at most while something runs, beyond what is held before.

    Args:
        prepare: called with `arguments` in a fresh process of one thread; what it returns is then run, and measured.
        *arguments: of `prepare`; like it they are pickled.
    """
    sys.path.append(str(TOP))  # the process imports the module of `prepare` by the name that pytest gives it
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
            return fresh.submit(_measure, prepare, arguments).result()
    finally:
        sys.path.remove(str(TOP))


def _measure(prepare: Callable[..., Callable[[], object]], arguments: tuple[Any, ...]) -> float:
    torch.set_num_threads(1)
    run = prepare(*arguments)
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak begins anew
    before = _resident("VmRSS")
    run()
    return (_resident("VmHWM") - before) / 1024


def _resident(name: str) -> int:
    """Return the kibibytes that this process holds now (VmRSS), or held at most (VmHWM)."""
    return int(re.search(rf"{name}:\s*(\d+) kB", Path("/proc/self/status").read_text())[1])
