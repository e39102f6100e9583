"""Preparations that are killed at random moments, by a supervisor that forks them: a process of its own would import for seconds."""

import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import webdataset  # noqa: F401 - before the forks, as it takes seconds

from dualpixel.data import split_job
from dualpixel.data.joining import Part, join
from dualpixel.data.prepare import prepare
from dualpixel.data.registry import get_card


def contents(folder: Path) -> dict[str, str]:
    """Return name -> hash of all files of a prepared set, but for its lock."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main(card: Path, source: Path, top: Path, kills: int, seed: int) -> list[dict]:
    """Kill so many preparations, run each again, and tell what lay there in between and at the end."""
    split_job.SCENES_PER_SHARD = 2
    cv2.setNumThreads(1)

    def whole(out: Path) -> None:
        prepare(get_card(card), source, out, processes=1)

    def in_parts(out: Path) -> None:
        for number in (2, 1):
            prepare(get_card(card), source, out, processes=1, part=Part(number, 2))
        join(out)

    _run(whole, top / "warm")
    begun = time.monotonic()
    _run(whole, top / "undisturbed")
    length = time.monotonic() - begun
    expected, drawn, told = contents(top / "undisturbed"), random.Random(seed), []
    for kill in range(kills):
        work, out = (whole, in_parts)[kill % 2], top / str(kill)
        killed = _run(work, out, drawn.random() * length)
        found = contents(out) if out.exists() else {}
        named = {
            name: known for name, known in found.items() if not any(one.startswith(".") for one in Path(name).parts)
        }
        _run(work, out)
        told.append(
            {
                "killed": killed,
                "tars": sum(name.endswith(".tar") for name in named),
                "indices": sum(name.endswith("index.json") for name in named),
                "half_written": sorted(name for name, known in named.items() if expected.get(name) != known),
                "indices_without_shards": sorted(
                    name
                    for name in named
                    if name.endswith("index.json")
                    and not {one for one in expected if Path(one).parent == Path(name).parent} <= set(named)
                ),
                "same_in_the_end": contents(out) == expected,
            }
        )
    return told


def _run(work: Callable[[Path], None], out: Path, kill_after: float | None = None) -> bool:
    """Run in a process of its own; say whether it was killed."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work(out)
            status = 0
        finally:
            os._exit(status)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status)
    assert killed or os.WEXITSTATUS(status) == 0, f"{work} failed"
    return killed


if __name__ == "__main__":
    results = main(*map(Path, sys.argv[1:4]), *map(int, sys.argv[4:6]))
    print(json.dumps(results))
