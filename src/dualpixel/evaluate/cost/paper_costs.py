"""What papers print as the cost of their networks, by their own way of counting, where that way is known.

A published figure can only be compared with one counted alike; `dualpixel.evaluate.cost.operations` counts everything.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dualpixel.blocks.pyramid import PyramidExtractor
from dualpixel.blocks.residual import ConvolutionResidualBlock
from dualpixel.evaluate.cost.operations import (
    count_macs,
    count_macs_by_operator,
    count_parameters,
    count_parameters_for_inference,
    on_meta,
)
from dualpixel.nets.dddnet import DDDNet
from dualpixel.nets.dpanet import DPANet
from dualpixel.nets.dpdnet import DPDNet
from dualpixel.nets.k3dn import K3DN


@dataclass(frozen=True)
class PaperCost:
    """How one paper counts what a network costs. Which figures it prints stands in `dualpixel.evaluate.published`.

    Args:
        paper: whose tables, one of `dualpixel.evaluate.published.PAPERS`.
        size: height and width at which the printed figure fits.
        description: what is counted, and where.
        count: operations, from a module that takes a batch, and a batch.
        parameters: from a network.
        parameters_description: which of them are counted.
        said: what the count is called.
        parts: parts of the network, by name, that are shown each for itself, too.
    """

    paper: str
    size: tuple[int, int]
    description: str
    count: Callable[[nn.Module, dict[str, Tensor]], int]
    parameters: Callable[[nn.Module], int] = count_parameters
    parameters_description: str = "all parameters"
    said: str = "by the paper's own count"
    parts: tuple[str, ...] = ()


def dpdnet_operations(module: nn.Module, batch: dict[str, Tensor]) -> int:
    """Count DPDNet as the table of "K3DN" (Yang et al., CVPR 2023) does: two operations for each multiply-accumulate.

    DPDNet's own paper prints no cost. The table's 3150 G fit at 1120x1680, other than for the rows of K3DN itself (`k3dn_operations`).
    Its 31.03 M parameters are 31.035 M cut; those of the network for one image, 31.033 M, would be rounded.

    Args:
        module: called with a batch, a recipe around `DPDNet`; left as it is.
        batch: tensors of the shapes to be counted.

    Returns:
        Operations of the whole batch.
    """
    return 2 * (count_macs(module, batch) or 0)


def dpanet_operations(module: nn.Module, batch: dict[str, Tensor]) -> int:
    """Count as "Learning Dual-Pixel Alignment for Defocus Deblurring" (Li et al.) does, tables III and IV.

    Multiply-accumulates of ordinary convolutions, and one operation for each value that leaves an activation. Not seen:
    the convolutions that pad by themselves (`SameConvolution`), deformable convolutions, correlations, the ReLUs inside
    residual blocks, and the leaky ReLU behind a correlation.

    The paper does not name its counter. This is inferred: of several ways, the one that gives both printed figures,
    213.77 G and, for the baseline without alignment, 190.82 G at 256x256, to the last digit. It leaves out a third of the work.

    Args:
        module: called with a batch, a recipe around `DPANet`; left as it is.
        batch: tensors of the shapes to be counted.

    Returns:
        Operations of the whole batch.
    """
    shapes_only, shapes = on_meta(module, batch)
    counts: list[int] = []
    for layer in shapes_only.modules():
        if type(layer) is nn.Conv2d:
            layer.register_forward_hook(partial(_note, counts, layer.weight[0].numel()))
    for layer in _activated(shapes_only):
        layer.register_forward_hook(partial(_note, counts, 1))
    with torch.no_grad():
        shapes_only(shapes)
    return sum(counts)


def k3dn_operations(module: nn.Module, batch: dict[str, Tensor]) -> int:
    """Count as "K3DN" (Yang et al., CVPR 2023), table 1, does.

    Multiply-accumulates of all convolutions, linear layers, matrix products and local similarities, once each; two operations
    for each value that leaves a batch normalisation, four for each of a bilinear enlargement. A transposed convolution
    counts for each place of its input.

    The paper says FLOPs at 1120x1680. Its figures fit this count at 1152x1792, to which the authors' program resizes: 571.31, 1033.97 and
    3352.39 G against 571, 1033 and 3352. Its 3.00, 5.00 and 15.90 M parameters are 3.04, 4.97 and 15.92 M in the form for inference
    (3.09, 5.03 and 16.10 M in training), which fit where the printed ones are rounded to one digit behind the point. Which networks Tiny
    and Lightweight are is inferred from these figures.

    Args:
        module: called with a batch, a recipe around `K3DN`; left as it is.
        batch: tensors of the shapes to be counted.

    Returns:
        Operations of the whole batch.
    """
    parts = count_macs_by_operator(module, batch, _NORMALISATIONS | _ENLARGEMENTS)
    return sum(parts.values()) if parts else 0


def deblurnet_operations(module: nn.Module, batch: dict[str, Tensor]) -> int:
    """Count DDDNet as the table of "K3DN" (Yang et al., CVPR 2023) does: multiply-accumulates of `DeblurNet` alone.

    DDDNet's own paper prints neither parameters nor cost. The table's 6.40 M and 1661 G at 1120x1680 leave DepthNet out, which takes more
    work than DeblurNet does: 2346.7 G.

    Args:
        module: called with a batch, a recipe around `DDDNet`; left as it is.
        batch: tensors of the shapes to be counted.

    Returns:
        Operations of the whole batch.
    """
    operators = count_macs_by_operator(module, batch, part="net.deblur")
    return sum(operators.values()) if operators else 0


def _each_value(operations: int, *_: Any, out_shape: Any, **__: Any) -> int:
    # operators of several results have several shapes, the first is that of the values
    shape = out_shape if isinstance(out_shape, torch.Size) else out_shape[0]
    return 2 * operations * shape.numel()


_NORMALISATIONS = {
    operator: partial(_each_value, 2)
    for operator in (
        torch.ops.aten.native_batch_norm,
        torch.ops.aten._native_batch_norm_legit_no_training,
        torch.ops.aten.cudnn_batch_norm,
    )
}
_ENLARGEMENTS = {torch.ops.aten.upsample_bilinear2d: partial(_each_value, 4)}


def paper_cost(net: nn.Module) -> PaperCost | None:
    """Return how the paper counts that prints what a network costs; None where none does."""
    return next((cost for kind, cost in PAPER_COSTS.items() if isinstance(net, kind)), None)


def _activated(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers whose output has the shape of an activation that is counted; ours are partly functions, not modules."""
    for layer in module.modules():
        if isinstance(layer, PyramidExtractor):
            yield from (layer.stem1, layer.stem2, layer.stem3)
        elif isinstance(layer, ConvolutionResidualBlock):
            yield layer.conv
        elif isinstance(layer, nn.ReLU | nn.LeakyReLU):
            yield layer


def _note(counts: list[int], operations: int, layer: nn.Module, inputs: Any, output: Tensor) -> None:
    counts.append(operations * output.numel())


PAPER_COSTS: dict[type[nn.Module], PaperCost] = {
    DPDNet: PaperCost(
        "k3dn",
        (1120, 1680),
        "two operations for each multiply-accumulate",
        dpdnet_operations,
        said="by K3DN's table",
    ),
    DPANet: PaperCost(
        "dpanet",
        (256, 256),
        "ordinary convolutions and activations only; inferred, see dualpixel.evaluate.cost.paper_costs",
        dpanet_operations,
    ),
    K3DN: PaperCost(
        "k3dn",
        (1152, 1792),
        "with batch normalisations and bilinear enlargements; see dualpixel.evaluate.cost.paper_costs",
        k3dn_operations,
        parameters=count_parameters_for_inference,
        parameters_description="in the form for inference",
    ),
    DDDNet: PaperCost(
        "k3dn",
        (1120, 1680),
        "multiply-accumulates of DeblurNet alone",
        deblurnet_operations,
        parameters=lambda net: count_parameters(net.deblur),
        parameters_description="of DeblurNet alone",
        said="by K3DN's table",
        parts=("depth", "deblur"),
    ),
}
"""Class of a network -> how the paper counts that prints its cost."""
