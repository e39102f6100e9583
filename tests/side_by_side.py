"""Times of several ways to do one thing, taken in turns in one run on one thread, so that a slow spell of a shared machine hits all."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch


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
