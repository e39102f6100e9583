"""Parameters and multiply-accumulates of a recipe."""

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(module: nn.Module) -> int:
    """Return the number of parameters, trained or not."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(module: nn.Module, batch: dict[str, torch.Tensor]) -> int | None:
    """Count multiply-accumulates of convolutions and matrix products in one forward pass.

    The pass runs on the meta device: shapes only, so that a full-size image costs neither time nor memory.

    Args:
        module: called with a batch; left as it is.
        batch: tensors of the shapes to be counted.

    Returns:
        Multiply-accumulates of the whole batch (half the operations that some tables print); None for a network whose way
        depends on the values it sees, which have none on the meta device.
    """
    trainer, module._trainer = getattr(module, "_trainer", None), None  # the copy must not copy the trainer
    try:
        shapes_only = copy.deepcopy(module).to("meta").eval()
    finally:
        module._trainer = trainer
    shapes = {name: value.to("meta") for name, value in batch.items() if isinstance(value, torch.Tensor)}
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            shapes_only(shapes)
    except (NotImplementedError, RuntimeError):  # what torch raises when a value is asked of a tensor that has none
        return None
    return counter.get_total_flops() // 2
