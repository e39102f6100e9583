import os
import re
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dualpixel.evaluate.cost import speed

CPU = torch.device("cpu")


class Ticking(nn.Module):
    """Each call moves a clock forward, the first one by far the most; half of it within its one block."""

    def __init__(self, clock, *ticks):
        super().__init__()
        self.seen, self.net = [], nn.Module()
        self.net.block = Half(clock)
        self.clock, self.ticks = clock, iter(ticks)

    def forward(self, batch):
        tick = next(self.ticks)
        self.clock.now += tick / 2
        self.net.block(tick)
        self.seen.append((torch.is_inference_mode_enabled(), self.training, sorted(batch)))


class Half(nn.Module):
    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def forward(self, tick):
        self.clock.now += tick / 2


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def test_the_time_is_the_median_of_three_after_a_warm_up(clock):
    module, passed = Ticking(clock, 100.0, 3.0, 1.0, 2.5), []
    found = speed.measure(module, {"left": torch.zeros(1)}, CPU, passed=lambda: passed.append(1))
    assert (found.passes, found.seconds, found.warm_up, found.blocks) == ((3.0, 1.0, 2.5), 2.5, 1, {})
    assert (found.kind, found.precision) == ("cpu", "32-true")
    assert re.fullmatch(r".+, (1 thread|\d+ threads)", found.device)
    assert module.seen == [(True, False, ["left"])] * 4 and len(passed) == 4


def test_the_time_of_blocks_is_that_of_the_median_one_of_three_more_passes(clock):
    found = speed.measure(Ticking(clock, 100.0, 3.0, 1.0, 2.5, 8.0, 6.0, 7.0), {}, CPU, depth=1)
    assert found.passes == (3.0, 1.0, 2.5)
    assert found.blocks == {"block": 3.5, "outside of blocks": 3.5}


class Hungry(nn.Module):
    def __init__(self, mebibytes):
        super().__init__()
        self.numbers = mebibytes << 18

    def forward(self, batch):
        return torch.ones(self.numbers).sum()


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak cannot be taken anew here")
def test_the_peak_is_that_of_these_passes_and_not_of_larger_ones_before():
    large, small = (speed.measure(Hungry(size), {}, CPU) for size in (300, 100))
    assert 295 << 20 < large.peak_bytes - large.before_bytes < 340 << 20
    assert 95 << 20 < small.peak_bytes - small.before_bytes < 140 << 20


def test_mixed_precision_is_what_the_pass_runs_in():
    kinds = []

    class Product(nn.Module):
        def forward(self, batch):
            kinds.append((batch["left"] @ batch["left"]).dtype)

    for precision in speed.PRECISIONS:
        speed.measure(Product(), {"left": torch.ones(4, 4)}, CPU, precision)
    assert kinds[::4] == [torch.float32, torch.float16, torch.bfloat16]


def test_memory_that_is_used_up_is_told_from_other_errors():
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 50)
    assert speed.is_out_of_memory(refused.value)
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 62)
    assert speed.is_out_of_memory(refused.value)
    assert speed.is_out_of_memory(MemoryError()) and speed.is_out_of_memory(torch.OutOfMemoryError())
    assert not speed.is_out_of_memory(RuntimeError("size mismatch"))


@pytest.mark.gpu
def test_on_a_gpu_the_peak_is_what_torch_has_allocated_there():
    class Doubling(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(1024, 1024, bias=False)  # 4 MiB

        def forward(self, batch):
            return batch["left"] * 2

    found = speed.measure(Doubling(), {"left": torch.ones(10 << 18)}, torch.device("cuda:0"), depth=1)
    assert found.before_bytes == 14 << 20 and found.peak_bytes == 24 << 20
    assert found.device == torch.cuda.get_device_name(0) and len(found.passes) == 21 and found.seconds > 0
