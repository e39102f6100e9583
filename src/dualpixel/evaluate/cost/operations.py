"""Parameters and multiply-accumulates of a recipe."""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
import torchvision.ops  # noqa: F401 - makes torch.ops.torchvision known
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dualpixel.data.fields import IMAGES
from dualpixel.recipes.base import Recipe


def count_parameters(module: nn.Module) -> int:
    """Return the number of parameters, trained or not."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_parameters_for_inference(net: nn.Module) -> int:
    """Return the number of parameters of a network in its form for inference, where it has one (`cache`); of `count_parameters` else.

    What can be computed once is stored there in place of what it is computed from, and such stores are no parameters.
    """
    return count_parameters(copy.deepcopy(net).cache() if hasattr(net, "cache") else net)


def shapes_of_one_image(recipe: Recipe, height: int, width: int) -> dict[str, torch.Tensor]:
    """Return a batch of one image without values, with the fields that a recipe needs."""
    return {name: torch.empty(1, 3 if name in IMAGES else 1, height, width, device="meta") for name in recipe.inputs}


def count_macs(module: nn.Module, batch: dict[str, torch.Tensor]) -> int | None:
    """Count multiply-accumulates of convolutions, correlations and matrix products in one forward pass.

    A deformable convolution counts as a plain one of its shape, without the work of sampling.
    The pass runs on the meta device: shapes only, so that a full-size image costs neither time nor memory.

    Args:
        module: called with a batch; left as it is.
        batch: tensors of the shapes to be counted.

    Returns:
        Multiply-accumulates of the whole batch (half the operations that some tables print); None for a network whose way
        depends on the values it sees, which have none on the meta device.
    """
    parts = count_macs_by_operator(module, batch)
    return None if parts is None else sum(parts.values())


def count_macs_by_operator(
    module: nn.Module,
    batch: dict[str, torch.Tensor],
    also: dict[Any, Callable[..., int]] | None = None,
    part: str = "",
) -> dict[str, int] | None:
    """Count as `count_macs`, each operator for itself: "convolution", "deform_conv2d", "correlation" ... -> its share.

    Args:
        module: see `count_macs`.
        batch: see `count_macs`.
        also: operators that are to be counted beside the usual ones -> twice their multiply-accumulates, from the shapes
            of their arguments and, as `out_shape`, of their result.
        part: count within this part of the module only, such as "net.depth"; it has to be called, not only used.
    """
    shapes_only, shapes = on_meta(module, batch)
    with FlopCounterMode(display=False, custom_mapping=FORMULAS | (also or {})) as counter:
        if not follows_shapes(shapes_only, shapes):
            return None
    counts = counter.get_flop_counts().get(f"{type(module).__name__}.{part}" if part else "Global", {})
    return {str(operator).rpartition(".")[2]: operations // 2 for operator, operations in counts.items()}


def on_meta(module: nn.Module, batch: dict[str, torch.Tensor]) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """Return copies without values, in eval mode: a pass over them follows shapes only. Both originals are left alone."""
    trainer, module._trainer = getattr(module, "_trainer", None), None  # the copy must not copy the trainer
    try:
        shapes_only = copy.deepcopy(module).to("meta").eval()
    finally:
        module._trainer = trainer
    return shapes_only, {name: value.to("meta") for name, value in batch.items() if isinstance(value, torch.Tensor)}


def follows_shapes(shapes_only: nn.Module, shapes: dict[str, torch.Tensor]) -> bool:
    """Call the copies that `on_meta` returns; return whether that is possible: it is not where the way depends on values."""
    try:
        with torch.no_grad():
            shapes_only(shapes)
    except (NotImplementedError, RuntimeError):  # what torch raises when a value is asked of a tensor that has none
        return False
    return True


def _deformable_operations(features: torch.Size, weight: torch.Size, *_: Any, out_shape: torch.Size, **__: Any) -> int:
    return 2 * math.prod(out_shape) * math.prod(weight[1:])


FORMULAS = {torch.ops.torchvision.deform_conv2d: _deformable_operations}
"""Operations of operators that torch's counter takes for free."""
