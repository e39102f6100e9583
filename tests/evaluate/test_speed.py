from types import SimpleNamespace

import torch
from torch import nn

from dualpixel.evaluate import speed


class Ticking(nn.Module):
    """Each call moves a clock forward, the first one by far the most."""

    def __init__(self):
        super().__init__()
        self.clock, self.ticks, self.seen = 0.0, iter([100.0, 3.0, 1.0, 2.5]), []

    def forward(self, batch):
        self.clock += next(self.ticks)
        self.seen.append((torch.is_inference_mode_enabled(), self.training, sorted(batch)))


def test_the_time_is_the_median_of_three_after_a_warm_up(monkeypatch):
    module = Ticking()
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: module.clock))
    found = speed.measure(module, {"left": torch.zeros(1)}, torch.device("cpu"))
    assert (found.seconds, found.device) == (2.5, "cpu")
    assert module.seen == [(True, False, ["left"])] * 4


def test_the_peak_of_the_process_holds_what_a_pass_allocates():
    class Hungry(nn.Module):
        def forward(self, batch):
            return torch.ones(50 << 20).sum()  # 200 MiB

    assert speed.measure(Hungry(), {}, torch.device("cpu")).peak_bytes > 200 << 20
