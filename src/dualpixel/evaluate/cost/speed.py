"""How long a recipe takes for one batch, and how much memory."""

import resource
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from dualpixel.evaluate.cost.blocks import shared_out
from dualpixel.evaluate.forward_time import device_name
from dualpixel.recipes.base import Recipe

PASSES = {"cpu": (1, 3), "cuda": (3, 21)}
"""Kind of device -> passes to warm up, and passes that are timed: an odd number, so that the median is one of them."""
PRECISIONS = {"32-true": None, "16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}
"""Name that the trainer gives to a precision -> type of the numbers in convolutions and products."""
OUT_OF_MEMORY = ("allocate memory", "out of memory", "enough memory", "Storage size calculation overflowed")
"""What is said by errors that torch raises where a CPU's memory is used up; they have no class of their own."""


@dataclass(frozen=True)
class Speed:
    """What `measure` found.

    Args:
        kind: "cpu" or "cuda".
        device: name of the GPU, or of the processor with the number of threads.
        precision: of the numbers, as the trainer calls it; TF32 is torch's own choice on GPUs.
        warm_up: passes before those that were timed.
        passes: seconds of each timed pass, in order.
        before_bytes: held before the first pass: on a GPU what torch has allocated there (weights and input), on a CPU what is resident
            of the whole process, libraries and all.
        peak_bytes: the most that was held, `before_bytes` included.
        blocks: block -> seconds of one pass; see `measure`.
    """

    kind: str
    device: str
    precision: str
    warm_up: int
    passes: tuple[float, ...]
    before_bytes: int
    peak_bytes: int
    blocks: dict[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """The median pass."""
        return median(self.passes)


def measure(
    recipe: Recipe,
    batch: dict[str, Tensor],
    device: torch.device,
    precision: str = "32-true",
    depth: int = 0,
    passed: Callable[[], Any] = lambda: None,
) -> Speed:
    """Time passes without gradients behind a few to warm up (`PASSES`), and take their memory.

    Args:
        recipe: moved to `device` and put into eval mode.
        batch: what it is called with.
        device: the CPU or a CUDA GPU.
        precision: one of `PRECISIONS`.
        depth: levels of blocks that are timed each for itself, in further passes of which the median one is taken; 0 for none. On a GPU
            these are slower, since they wait for each block to end.
        passed: called behind each pass.

    Raises:
        Exception: whatever the recipe raises; `is_out_of_memory` says whether this is too large a batch.
    """
    on_gpu = device.type == "cuda"
    warm_up, repeats = PASSES[device.type]
    name = device_name(device)
    if not on_gpu:
        threads = torch.get_num_threads()
        name += f", {threads} thread{'s' if threads > 1 else ''}"
    kind = PRECISIONS[precision]
    if on_gpu and kind is None and torch.backends.cudnn.allow_tf32:
        precision += " with TF32 in convolutions"
    mixed = torch.autocast(device.type, kind) if kind else nullcontext()

    def now() -> float:
        if on_gpu:
            torch.cuda.synchronize(device)
        return time.perf_counter()

    def one_pass() -> float:
        begin = now()
        recipe(batch)
        seconds = now() - begin
        passed()
        return seconds

    recipe = recipe.to(device).eval()
    batch = {name: value.to(device) for name, value in batch.items()}
    before = _begin_to_watch(device)
    with torch.inference_mode(), mixed:
        passes = [one_pass() for _ in range(warm_up + repeats)][warm_up:]
        peak = torch.cuda.max_memory_allocated(device) if on_gpu else _resident("VmHWM")
        watched = []
        for _ in range(repeats if depth else 0):
            with shared_out(recipe.net, depth, now) as shares:
                one_pass()
            watched.append(shares)
    blocks = sorted(watched, key=lambda shares: shares.total())[repeats // 2] if watched else {}
    return Speed(device.type, name, precision, warm_up, tuple(passes), before, peak, dict(blocks))


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error says that the memory of a CPU or of a GPU is used up."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(said in str(error) for said in OUT_OF_MEMORY)


def _begin_to_watch(device: torch.device) -> int:
    """Let the peak begin anew; return what is held now."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    with suppress(OSError):  # not on Linux, or not allowed: then the peak is that since the process began
        Path("/proc/self/clear_refs").write_text("5")
    return _resident("VmRSS")


def _resident(field_name: str) -> int:
    """Return the resident bytes of this process: now, "VmRSS", or at most, "VmHWM"; elsewhere than on Linux always the most so far."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{field_name}:"):
                return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # bytes on macOS, KiB elsewhere
