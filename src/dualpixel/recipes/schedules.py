"""Schedules of the learning rate that ask the trainer how long training lasts."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class WarmupCosine(LambdaLR):
    """A linear rise to the optimizer's learning rate, then half a cosine down to zero; advances once a step.

    Args:
        optimizer: its learning rate is the highest.
        warmup: share of all steps in which the rate rises, in [0, 1).
        total_steps: steps of the whole training; None is filled in by the recipe, which asks the trainer.

    Raises:
        ValueError: `warmup` is out of range.
    """

    def __init__(self, optimizer: Optimizer, warmup: float = 0.1, total_steps: int | None = None) -> None:
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup={warmup}: must be at least 0 and below 1")
        self.warmup, self.total_steps = warmup, total_steps
        super().__init__(optimizer, self.factor)

    def factor(self, step: int) -> float:
        """Return the factor on the learning rate for the step that comes next, counted from 0."""
        total = self.total_steps or step + 1  # not yet known when the first rate is set
        rising = self.warmup * total
        if step < rising:
            return (step + 1) / (rising + 1)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1.0, total - rising))))
