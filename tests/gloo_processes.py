"""Runs a script on several processes that reduce over gloo."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

BEGIN = """
import json, os, sys
import torch

rank, world, count, store, out = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=world)
"""
END = """
with open(out, "w") as file:
    json.dump(result, file)
torch.distributed.barrier()
os._exit(0)  # taking gloo down may hang in older versions of torch
"""


def run_processes(folder: Path, test: Path, script: str, world: int, count: int) -> list[dict]:
    """Run a script on `world` processes, each in a process group of its own that is killed when time is up.

    The script finds `rank`, `world` and `count`, may import `test`, a file of tests, as ``this_test``, and leaves a mapping `result`.
    """
    folder.mkdir()
    (folder / "this_test.py").write_bytes(test.read_bytes())
    paths = [str(folder), *[entry for entry in sys.path if entry]]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    outs = [folder / f"rank{rank}.json" for rank in range(world)]
    store = str(folder / "store")
    children = [
        subprocess.Popen(
            [sys.executable, "-c", BEGIN + script + END, str(rank), str(world), str(count), store, str(out)],
            env=environment,
            start_new_session=True,
        )
        for rank, out in enumerate(outs)
    ]
    try:
        assert [child.wait(timeout=120) for child in children] == [0] * world
    finally:
        for child in children:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
    return [json.loads(out.read_text()) for out in outs]
