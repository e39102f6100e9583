"""How long a recipe takes for one batch, and how much memory."""

import resource
import sys
import time
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn

REPEATS = 3


@dataclass(frozen=True)
class Speed:
    """What `measure` found.

    Args:
        seconds: median over the repeats.
        peak_bytes: the most that was allocated on a GPU; on a CPU the most that the whole process has held so far, libraries
            and all.
        device: where it ran, "cpu" or the name of the GPU.
    """

    seconds: float
    peak_bytes: int
    device: str


def measure(module: nn.Module, batch: dict[str, Tensor], device: torch.device) -> Speed:
    """Time passes without gradients: one to warm up, then three.

    Args:
        module: called with a batch; moved to `device` and put into eval mode.
        batch: what it is called with.
        device: the CPU or a CUDA GPU.
    """
    on_gpu = device.type == "cuda"
    module = module.to(device).eval()
    batch = {name: value.to(device) for name, value in batch.items()}
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    seconds = []
    with torch.inference_mode():
        for _ in range(1 + REPEATS):
            begin = time.perf_counter()
            module(batch)
            if on_gpu:
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - begin)
    name = torch.cuda.get_device_name(device) if on_gpu else "cpu"
    peak = torch.cuda.max_memory_allocated(device) if on_gpu else _peak_of_process()
    return Speed(median(seconds[1:]), peak, name)


def _peak_of_process() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # bytes on macOS, KiB on Linux
