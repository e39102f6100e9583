"""What each block of a network costs: parameters, multiply-accumulates, time. Shares add up to the whole exactly."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dualpixel.evaluate.cost.operations import FORMULAS, follows_shapes, on_meta
from dualpixel.recipes.base import Recipe

OUTSIDE = "outside of blocks"
"""What the network or its recipe does by itself, such as padding, and parameters that belong to no block."""


def parameters_by_block(net: nn.Module, depth: int = 1) -> dict[str, int]:
    """Return the parameters of each block; one that several blocks share is counted for the first of them.

    Args:
        net: the network.
        depth: levels of submodules that are told apart. What is deeper belongs to the block that holds it, and a block with parameters
            beside those of its parts has a line for itself.
    """
    counts: Counter[str] = Counter()
    for name, parameter in net.named_parameters():
        counts[_block(name.split(".")[:-1], depth)] += parameter.numel()
    return dict(counts)


def macs_by_block(recipe: Recipe, batch: dict[str, Tensor], depth: int = 1) -> dict[str, int] | None:
    """Return the multiply-accumulates of each block, counted as `dualpixel.evaluate.cost.operations.count_macs` does.

    A block that is used several times counts as often. An operation belongs to the innermost module that is called meanwhile, so that
    a block that lends its weights to another one does not work itself.

    Args:
        recipe: left as it is.
        batch: tensors of the shapes to be counted.
        depth: see `parameters_by_block`.

    Returns:
        Block -> its share of the whole batch's; None where the network's way depends on the values it sees.
    """
    shapes_only, shapes = on_meta(recipe, batch)
    counter = FlopCounterMode(display=False, custom_mapping=FORMULAS)
    with counter, shared_out(shapes_only.net, depth, counter.get_total_flops) as operations:
        if not follows_shapes(shapes_only, shapes):
            return None
    return {block: count // 2 for block, count in operations.items()}


@contextmanager
def shared_out(net: nn.Module, depth: int, reading: Callable[[], Any]) -> Iterator[Counter[str]]:
    """Share out what a reading, such as that of a clock, grows by, to the blocks that are computed meanwhile.

    Args:
        net: called within the context; its modules have hooks until it ends.
        depth: see `parameters_by_block`.
        reading: a number that only grows. It is asked wherever the computation passes from one block to another.

    Yields:
        Block -> its share; complete when the context has ended. The sum is what the reading has grown by.
    """
    shares: Counter[str] = Counter()
    stack, last = [OUTSIDE], reading()

    def charge(block: str) -> None:
        nonlocal last
        now = reading()
        shares[block] += now - last
        last = now

    def enter(block: str) -> None:
        if stack[-1] != block:
            charge(stack[-1])
        stack.append(block)

    def leave(*_: Any) -> None:
        block = stack.pop()
        if stack[-1] != block:
            charge(block)

    handles = []
    for name, module in net.named_modules():
        block = _block(name.split(".") if name else [], depth)
        handles.append(module.register_forward_pre_hook(lambda *_, block=block: enter(block)))
        handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield shares
    finally:
        for handle in handles:
            handle.remove()
        charge(OUTSIDE)


def _block(path: list[str], depth: int) -> str:
    return ".".join(path[:depth]) or OUTSIDE
