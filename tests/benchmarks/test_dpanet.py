"""The full-size DPANet beside a straightforward port of it: time of a forward pass and of a training step, and peak memory."""

import multiprocessing
import re
from pathlib import Path

import pytest
import torch
from side_by_side import process_seconds
from straightforward import straightforward

from dualpixel.losses.functional import charbonnier
from dualpixel.nets import DPANet

pytestmark = pytest.mark.benchmark
TARGET, PASSES = 1.3, 2
SIZE = {"forward": 256, "training step": 128}


def views(size):
    return torch.rand(3, 1, 3, size, size, generator=torch.Generator().manual_seed(0)).unbind()


def run(net, way):
    left, right, sharp = views(SIZE[way])
    if way == "forward":
        with torch.inference_mode():
            return net(left, right)
    net.zero_grad()
    charbonnier(net(left, right), sharp).backward()
    return None


def resident(name):
    """Kibibytes that this process holds now (VmRSS), or held at most (VmHWM)."""
    return int(re.search(rf"{name}:\s*(\d+) kB", Path("/proc/self/status").read_text())[1])


def peak_mebibytes(plain, way, queue):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = DPANet()
    net = straightforward(net) if plain else net
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak begins anew
    before = resident("VmRSS")
    run(net, way)
    queue.put((resident("VmHWM") - before) / 1024)


def test_rate_and_memory_of_dpanet():
    torch.manual_seed(0)
    ours = DPANet()
    plain = straightforward(ours)
    assert (run(ours, "forward") - run(plain, "forward")).abs().max() < 1e-5
    sides = {(name, way): (lambda n=net, w=way: run(n, w)) for way in SIZE for name, net in (("ours", ours), ("plain", plain))}  # fmt: skip
    seconds = process_seconds(sides, passes=PASSES)
    context = multiprocessing.get_context("spawn")  # the peak is that of a process of its own
    print("\n| DPANet, batch 1, one thread | ours | straightforward | ratio |\n|---|---|---|---|")
    ratios = {}
    for way, size in SIZE.items():
        ratios[way] = seconds["plain", way] / seconds["ours", way]
        print(
            f"| {way} {size}x{size} | {seconds['ours', way]:.1f} s | {seconds['plain', way]:.1f} s | {ratios[way]:.2f} x |"
        )
        peaks = []
        for is_plain in (False, True):
            queue = context.Queue()
            process = context.Process(target=peak_mebibytes, args=(is_plain, way, queue))
            process.start()
            peaks.append(queue.get(timeout=300))
            process.join()
        print(
            f"| {way} {size}x{size}, memory | {peaks[0]:.0f} MiB | {peaks[1]:.0f} MiB | {peaks[1] / peaks[0]:.2f} x |"
        )
    assert ratios["training step"] >= TARGET
    assert ratios["forward"] >= 1.1
