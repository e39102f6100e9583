"""Adam with the epsilon of Keras."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class KerasAdam(torch.optim.Adam):
    r"""Adam whose epsilon is added to :math:`\sqrt{v}` before the bias correction, as Keras does.

    This is the order of operations at the end of section 2 of Kingma and Ba, ICLR 2015. With the moments m and v after
    t updates,

    .. math:: \theta \leftarrow \theta - \alpha \frac{\sqrt{1-\beta_2^t}}{1-\beta_1^t} \, \frac{m}{\sqrt{v} + \epsilon},

    which is PyTorch's update with :math:`\epsilon / \sqrt{1-\beta_2^t}` in place of its epsilon: 32 times the value
    at the first step, the same value after some thousands. The count t is one per parameter group, as Keras has one
    per optimizer. State and settings are saved and loaded as those of any optimizer, and `eps` is always the value
    given here.

    Args:
        params: parameters or parameter groups.
        lr: the learning rate :math:`\alpha`.
        betas: decay of the two moments.
        eps: Keras' epsilon; its default is 1e-7.
        foreach: PyTorch's choice of the implementation over lists of tensors.
        fused: PyTorch's choice of the fused implementation.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-7,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, foreach=foreach, fused=fused)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:  # a state saved by torch.optim.Adam holds the count per parameter only
            steps = [self.state.get(parameter, {}).get("step", 0) for parameter in group["params"]]
            group.setdefault("updates", int(max(steps, default=0)))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters once.

        Args:
            closure: evaluates the model again and returns the loss.

        Returns:
            What the closure returned, or None.
        """
        loss = None
        if closure is not None:  # gradients may come from the closure, and groups without any are not counted
            with torch.enable_grad():
                loss = closure()
        epsilons = [group["eps"] for group in self.param_groups]
        try:
            for group in self.param_groups:
                if any(parameter.grad is not None for parameter in group["params"]):
                    group["updates"] = group.get("updates", 0) + 1
                    group["eps"] /= (1 - group["betas"][1] ** group["updates"]) ** 0.5
            super().step()
        finally:
            for group, epsilon in zip(self.param_groups, epsilons, strict=True):
                group["eps"] = epsilon
        return loss
