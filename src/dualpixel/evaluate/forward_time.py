"""How long a recipe takes for the images of a test, while the test runs."""

import platform
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

PROCESSORS = Path("/proc/cpuinfo")


class ForwardClock:
    """Times every call of a recipe, and nothing that a protocol does before or after it.

    It is to be made after all other hooks of the recipe: its own are the last before the call and the first after it.

    Args:
        recipe: what is called. Calls of copies of it are not timed.
        device: where it runs.

    Attributes:
        seconds: of the last call, until its results are there.
        hooks: what is to be removed in the end.
    """

    def __init__(self, recipe: nn.Module, device: torch.device) -> None:
        self.seconds = 0.0
        self._begun = 0.0

        # functions, which a copy of the recipe shares: it is not to take this clock with it
        def before(module: nn.Module, _: tuple) -> None:
            if module is recipe:
                self._begun = _now(device)

        def after(module: nn.Module, *_: object) -> None:
            if module is recipe:
                self.seconds = _now(device) - self._begun

        self.hooks: list[RemovableHandle] = [
            recipe.register_forward_pre_hook(before),
            recipe.register_forward_hook(after, prepend=True),
        ]


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu" or not PROCESSORS.is_file():
        return platform.processor() or platform.machine()
    lines = (line.partition(":") for line in PROCESSORS.read_text(encoding="utf-8", errors="replace").splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == "model name"), platform.machine())


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # a GPU is asked to compute, and has not done so when the call returns
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()
