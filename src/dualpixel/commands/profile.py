"""`profile --config YAML [--config YAML ...] [--size HEIGHT WIDTH] [--time true]`."""

from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser
from rich.table import Table

from dualpixel.commands.arguments import parse
from dualpixel.errors import DualPixelError
from dualpixel.terminal import console

if TYPE_CHECKING:  # torch is imported only once the arguments are known to be right
    from torch import Tensor

    from dualpixel.recipes import Recipe

Row = tuple[str, str, str]


def run(arguments: list[str]) -> None:
    """Show what a recipe costs: parameters, multiply-accumulates, and where asked for time and memory.

    Args:
        arguments: what stands behind ``profile``.

    Raises:
        DualPixelError: wrong arguments, no or a wrong recipe, or a size that the recipe does not take.
    """
    parser = ArgumentParser(prog="dualpixel profile", description=run.__doc__.split("\n")[0], exit_on_error=False)
    parser.add_argument(
        "--config", action="append", type=str, help="a recipe; more than one are laid over one another, later wins"
    )
    parser.add_argument("--size", type=int, nargs=2, default=[256, 256], help="height and width of one image, pixels")
    parser.add_argument(
        "--time", type=bool, nargs="?", const=True, default=False, help="also run it: median of 3 after a warm-up"
    )
    options = parse(parser, arguments)
    height, width = options.size
    if min(height, width) < 1:
        raise DualPixelError(f"--size {height} {width}: height and width must be at least 1")

    import torch

    from dualpixel.commands.configurations import check_settings, explained, resolve_names
    from dualpixel.data.fields import IMAGES
    from dualpixel.recipes.loading import make_recipe

    files = [word for file in options.config or [] for word in ("--config", file)]
    model = check_settings(resolve_names(["profile", *files]))["model"]
    with explained():
        recipe = make_recipe(model)
        batch = {name: torch.rand(1, 3 if name in IMAGES else 1, height, width) for name in recipe.inputs}
        rows = _rows(recipe, batch, bool(options.time))

    table = Table(title=f"{recipe.name}, one image of {height}x{width}", title_justify="left")
    for heading in ("", "figure", "meaning"):
        table.add_column(heading, justify="right" if heading == "figure" else "left")
    for row in rows:
        table.add_row(*row)
    console().print(table)


def _rows(recipe: "Recipe", batch: dict[str, "Tensor"], timed: bool) -> list[Row]:
    import copy

    import torch

    from dualpixel.evaluate.cost import count_macs_by_operator, count_parameters
    from dualpixel.evaluate.paper_costs import paper_cost
    from dualpixel.evaluate.speed import REPEATS, measure

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    speed = measure(recipe, batch, device) if timed else None  # first: the copies made for counting need memory, too
    trained = sum(parameter.numel() for parameter in recipe.net.parameters() if parameter.requires_grad)
    rows = [
        ("parameters", f"{count_parameters(recipe.net):,}", "of the network"),
        ("trainable parameters", f"{trained:,}", "those that get a gradient"),
    ]
    if hasattr(recipe.net, "cache"):
        kept = count_parameters(copy.deepcopy(recipe.net).cache())
        rows.append(("parameters for inference", f"{kept:,}", "what can be computed once is stored in their place"))
    paper = paper_cost(recipe.net)
    split = {name: recipe.net.get_submodule(name) for name in (paper.parts if paper else ())}
    rows += [(f"  {type(part).__name__}: parameters", f"{count_parameters(part):,}", "") for part in split.values()]
    parts = count_macs_by_operator(recipe, batch)
    if parts is None:
        rows.append(("multiply-accumulates", "unknown", "the network's way depends on the values it sees"))
    else:
        rows.append(("multiply-accumulates", _giga(sum(parts.values())), "convolutions, correlations, matrix products"))
        rows += [(f"  {operator}", _giga(count), "") for operator, count in sorted(parts.items()) if len(parts) > 1]
        for name, part in split.items():
            counts = count_macs_by_operator(recipe, batch, part=f"net.{name}") or {}
            rows.append((f"  {type(part).__name__}: multiply-accumulates", _giga(sum(counts.values())), ""))
    if paper is not None:
        rows.append((paper.said, _giga(paper.count(recipe, batch)), f"{paper.description}; {paper.published}"))
    if speed is not None:
        what = "of the process, libraries included" if speed.device == "cpu" else "allocated on the GPU"
        rows += [
            ("time", f"{speed.seconds:.3f} s", f"{speed.device}, float32, median of {REPEATS} after a warm-up"),
            ("peak memory", f"{speed.peak_bytes / 2**20:,.0f} MiB", what),
        ]
    return rows


def _giga(count: int) -> str:
    return f"{count / 1e9:.9f} G"
