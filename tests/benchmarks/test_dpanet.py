"""The full-size DPANet beside a straightforward port of it: time of a forward pass and of a training step, and peak memory."""

from functools import partial

import pytest
import torch
from side_by_side import extra_mebibytes, process_seconds
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


def prepared(plain, way):
    torch.manual_seed(0)
    net = DPANet()
    return partial(run, straightforward(net) if plain else net, way)


def test_rate_and_memory_of_dpanet():
    torch.manual_seed(0)
    ours = DPANet()
    plain = straightforward(ours)
    assert (run(ours, "forward") - run(plain, "forward")).abs().max() < 1e-5
    sides = {(name, way): partial(run, net, way) for way in SIZE for name, net in (("ours", ours), ("plain", plain))}  # fmt: skip
    seconds = process_seconds(sides, passes=PASSES)
    print("\n| DPANet, batch 1, one thread | ours | straightforward | ratio |\n|---|---|---|---|")
    ratios = {}
    for way, size in SIZE.items():
        ratios[way] = seconds["plain", way] / seconds["ours", way]
        print(
            f"| {way} {size}x{size} | {seconds['ours', way]:.1f} s | {seconds['plain', way]:.1f} s | {ratios[way]:.2f} x |"
        )
        peaks = [extra_mebibytes(prepared, plain, way) for plain in (False, True)]
        print(
            f"| {way} {size}x{size}, memory | {peaks[0]:.0f} MiB | {peaks[1]:.0f} MiB | {peaks[1] / peaks[0]:.2f} x |"
        )
    assert ratios["training step"] >= TARGET
    assert ratios["forward"] >= 1.1
