"""Everything that `profile` says about a recipe, as plain values."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from dualpixel.evaluate.cost.blocks import OUTSIDE, macs_by_block, parameters_by_block
from dualpixel.evaluate.cost.comparison import Comparison, comparisons
from dualpixel.evaluate.cost.operations import (
    count_macs_by_operator,
    count_parameters,
    count_parameters_for_inference,
    shapes_of_one_image,
)
from dualpixel.evaluate.cost.paper_costs import paper_cost
from dualpixel.evaluate.cost.speed import Speed
from dualpixel.evaluate.result import code_version
from dualpixel.recipes.base import Recipe

MEANINGS = {
    "parameters": "of the network: all, those that get a gradient, and those of its form for inference",
    "macs": "multiply-accumulates of convolutions, correlations and matrix products for one image; a deformable convolution counts as a "
    "plain one; null where the network's way depends on the values it sees",
    "operations_by_paper": "as the paper counts that prints the network's cost; see its docstring in dualpixel.evaluate.cost.paper_costs",
    "speed": "passes on random numbers without gradients: seconds of each, and as seconds their median",
    "bytes": "before_bytes are held before the first pass: on a GPU what torch has allocated there, which is weights and input; on a CPU "
    "what is resident of a process of its own, libraries as well. peak_bytes are the most that was held, those included",
    "operations_per_second": "two for each multiply-accumulate of the size that the network sees, in the median pass",
    "blocks": "shares of parameters and macs add up to the whole; seconds to those of one further pass, which waits for each block",
    "published": "printed figures, and what is counted here in the same way at the size at which they fit",
}
"""Figures of the JSON file -> what they are."""


@dataclass(frozen=True)
class BlockCost:
    """A block, or what lies outside of blocks.

    Args:
        block: its name in the network.
        parameters: its share of them.
        macs: its share of them; None where the network's way depends on the values it sees.
        seconds: its share of one pass; None where it was not timed.
    """

    block: str
    parameters: int
    macs: int | None
    seconds: float | None


@dataclass(frozen=True)
class SizeCost:
    """What one image of one size costs.

    Args:
        size: height and width.
        macs: None where the network's way depends on the values it sees.
        macs_by_operator: operator -> its share.
        macs_by_part: part that a paper counts for itself -> its share.
        operations_by_paper: as the paper counts; None where no paper prints the network's cost.
        speed: what was measured; None where nothing was, or memory was used up.
        out_of_memory: whether it was used up.
        blocks: in the network's order.
    """

    size: tuple[int, int]
    macs: int | None
    macs_by_operator: dict[str, int] = field(default_factory=dict)
    macs_by_part: dict[str, int] = field(default_factory=dict)
    operations_by_paper: int | None = None
    speed: Speed | None = None
    out_of_memory: bool = False
    blocks: list[BlockCost] = field(default_factory=list)

    @property
    def operations_per_second(self) -> float | None:
        """Two for each multiply-accumulate, in the median pass."""
        return 2 * self.macs / self.speed.seconds if self.macs and self.speed else None


@dataclass(frozen=True)
class Profile:
    """What a recipe costs.

    Args:
        recipe: its name.
        code: version of dualpixel.
        parameters: of the network.
        trainable: those that get a gradient.
        inference: those of the form for inference.
        weights_bytes: what parameters and buffers take.
        parameters_by_part: as `SizeCost.macs_by_part`.
        counted_by_paper: what `SizeCost.operations_by_paper` is called, and what it counts; None where there is none.
        sizes: in the order asked for.
        published: printed figures beside ours.
    """

    recipe: str
    code: str
    parameters: int
    trainable: int
    inference: int
    weights_bytes: int
    parameters_by_part: dict[str, int]
    counted_by_paper: tuple[str, str] | None
    sizes: list[SizeCost]
    published: list[Comparison]


def profile(
    recipe: Recipe,
    sizes: Sequence[tuple[int, int]],
    depth: int = 0,
    speeds: dict[tuple[int, int], Speed | None] | None = None,
) -> Profile:
    """Count, and put beside what was measured and what papers print.

    Args:
        recipe: left as it is.
        sizes: (height, width) of images.
        depth: levels of blocks that are told apart; 0 for none.
        speeds: size -> what was measured there; None where memory was used up.
    """
    net, speeds = recipe.net, speeds or {}
    paper = paper_cost(net)
    parts = {name: net.get_submodule(name) for name in (paper.parts if paper else ())}
    return Profile(
        recipe.name,
        code_version(),
        count_parameters(net),
        sum(one.numel() for one in net.parameters() if one.requires_grad),
        count_parameters_for_inference(net),
        sum(one.numel() * one.element_size() for one in [*net.parameters(), *net.buffers()]),
        {type(part).__name__: count_parameters(part) for part in parts.values()},
        (paper.said, paper.description) if paper else None,
        [_at(recipe, size, depth, speeds) for size in sizes],
        comparisons(recipe, speeds),
    )


def as_json(found: Profile, **about: Any) -> dict[str, Any]:
    """Return a profile as plain values with their meanings.

    Args:
        found: the profile.
        about: what else is to stand at the beginning.
    """
    content = asdict(found)
    for one, cost in zip(content["sizes"], found.sizes, strict=True):
        one["operations_per_second"] = cost.operations_per_second
        if cost.speed is not None:
            one["speed"]["seconds"] = cost.speed.seconds
    return {**about, **content, "meanings": MEANINGS}


def _at(recipe: Recipe, size: tuple[int, int], depth: int, speeds: dict[tuple[int, int], Speed | None]) -> SizeCost:
    shapes, paper, speed = shapes_of_one_image(recipe, *size), paper_cost(recipe.net), speeds.get(size)
    operators = count_macs_by_operator(recipe, shapes)
    by_part = {}
    for name in paper.parts if paper else ():
        counts = count_macs_by_operator(recipe, shapes, part=f"net.{name}") or {}
        by_part[type(recipe.net.get_submodule(name)).__name__] = sum(counts.values())
    return SizeCost(
        size,
        None if operators is None else sum(operators.values()),
        dict(sorted((operators or {}).items())),
        by_part,
        paper.count(recipe, shapes) if paper and operators is not None else None,
        speed,
        size in speeds and speed is None,
        _blocks(recipe, shapes, depth, speed) if depth else [],
    )


def _blocks(recipe: Recipe, shapes: dict[str, Any], depth: int, speed: Speed | None) -> list[BlockCost]:
    parameters, macs = parameters_by_block(recipe.net, depth), macs_by_block(recipe, shapes, depth)
    seconds = speed.blocks if speed else {}
    modules = [".".join(name.split(".")[:depth]) for name, _ in recipe.net.named_modules() if name]
    costs = [
        BlockCost(
            block,
            parameters.get(block, 0),
            None if macs is None else macs.get(block, 0),
            seconds.get(block, 0.0) if seconds else None,
        )
        for block in dict.fromkeys([*modules, OUTSIDE])
    ]
    return [one for one in costs if one.parameters or one.macs or one.seconds or one.block == OUTSIDE]
