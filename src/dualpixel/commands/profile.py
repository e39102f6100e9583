"""`profile --config YAML [--config YAML ...] [--size HEIGHT WIDTH ...] [--time] [--blocks [DEPTH]] [--out FILE.json|FILE.md]`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser
from rich.text import Text

from dualpixel.commands.arguments import parse
from dualpixel.commands.grids import show
from dualpixel.errors import DualPixelError
from dualpixel.files import atomic, room_for, write_json
from dualpixel.hints import near
from dualpixel.terminal import console, progress

if TYPE_CHECKING:  # torch is imported only once the arguments are known to be right
    from dualpixel.evaluate.cost.speed import Speed

SIZE = (256, 256)
NEEDING_TIME = {"device": "auto", "precision": "32-true", "peak_tflops": None}
"""Options that say how it is timed, and their defaults."""
ENDINGS = (".json", ".md")


def run(arguments: list[str]) -> None:
    """Show what a recipe costs, beside what papers print: parameters, multiply-accumulates, and where asked for time and memory.

    Args:
        arguments: what stands behind ``profile``.

    Raises:
        DualPixelError: wrong arguments, no or a wrong recipe, a size that the recipe does not take, or a file that cannot be written.
    """
    parser = ArgumentParser(prog="dualpixel profile", description=run.__doc__.split("\n")[0], exit_on_error=False)
    parser.add_argument(
        "--config", action="append", type=str, help="a recipe; more than one are laid over one another, later wins"
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs="+",
        default=list(SIZE),
        metavar="PIXELS",
        help="height and width of one image; may be given several times. Published figures are compared at their own size in any case",
    )
    parser.add_argument(
        "--time", type=bool, nargs="?", const=True, default=False, help="also run it, each size in a process of its own"
    )
    parser.add_argument(
        "--blocks", type=int, nargs="?", const=1, default=0, help="also each block of the network; levels of blocks"
    )
    parser.add_argument("--device", type=str, default="auto", help="for --time: auto, cpu, or cuda:N")
    parser.add_argument(
        "--precision", type=str, default="32-true", help="for --time: as trainer.precision; such as bf16-mixed"
    )
    parser.add_argument(
        "--peak_tflops",
        type=float,
        help="for --time: most operations a second of the device in this precision, 10^12; shows how much of them is used",
    )
    parser.add_argument("--out", type=str, help="also write all of it to this file, FILE.json or FILE.md")
    options = parse(parser, _join_sizes(arguments))
    sizes = list(dict.fromkeys(zip(options.size[::2], options.size[1::2], strict=True)))
    for height, width in sizes:
        if min(height, width) < 1:
            raise DualPixelError(f"--size {height} {width}: height and width must be at least 1")
    if options.blocks < 0:
        raise DualPixelError(f"--blocks {options.blocks}: must be at least 1, or not given")
    if options.peak_tflops is not None and not options.peak_tflops > 0:
        raise DualPixelError(f"--peak_tflops {options.peak_tflops}: must be positive")
    if not options.time:
        for name, plain in NEEDING_TIME.items():
            if getattr(options, name) != plain:
                raise DualPixelError(f"--{name} {getattr(options, name)}: nothing is measured without --time")
    out = Path(options.out) if options.out else None
    if out and (out.suffix not in ENDINGS or out.is_dir()):
        raise DualPixelError(f"--out {out}: name a file that ends in {' or '.join(ENDINGS)}")

    from dualpixel.commands.configurations import check_settings, explained, resolve_names
    from dualpixel.evaluate.cost.operations import count_macs, shapes_of_one_image
    from dualpixel.evaluate.cost.profile import as_json, profile
    from dualpixel.evaluate.cost.profile_grids import grids, markdown, note
    from dualpixel.evaluate.cost.speed import PRECISIONS
    from dualpixel.recipes.loading import make_recipe

    files = [word for file in options.config or [] for word in ("--config", file)]
    model = check_settings(resolve_names(["profile", *files]))["model"]
    device = _device(options.device)
    if options.precision not in PRECISIONS:
        raise DualPixelError(f"--precision {options.precision}: {near(options.precision, PRECISIONS)}")
    with explained():
        recipe = make_recipe(model)
        for size in sizes:  # what the recipe does not take is said before anything is timed
            count_macs(recipe, shapes_of_one_image(recipe, *size))
        speeds = _measure(model, sizes, device, options.precision, options.blocks) if options.time else {}
        found = profile(recipe, sizes, options.blocks, speeds)
    tables = grids(found, options.peak_tflops)
    for grid in tables:
        show(grid)
    console().print(Text(note(found)))
    if out:
        configurations = [str(file) for file in options.config]
        _write(out, as_json(found, configurations=configurations) if out.suffix == ".json" else markdown(found, tables))


def _join_sizes(arguments: list[str]) -> list[str]:
    """Put the values of all ``--size`` behind one, since the parser would take the last one alone."""
    sizes: list[list[str]] = []
    others, taking = [], False
    words = (argument.split("=", 1) if argument.startswith("--size=") else [argument] for argument in arguments)
    for argument in (word for some in words for word in some):
        if argument.startswith("--"):
            taking = argument == "--size"
            if taking:
                sizes.append([])
                continue
        (sizes[-1] if taking else others).append(argument)
    for size in sizes:
        if len(size) != 2:
            raise DualPixelError(f"--size {' '.join(size)}: give height and width of an image, such as --size 256 256")
    return [*others, *(["--size"] if sizes else []), *(one for size in sizes for one in size)]


def _device(name: str) -> str:
    import torch

    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if name == "auto":
        return gpus[0] if gpus else "cpu"
    if name not in ("cpu", *gpus):
        raise DualPixelError(f"--device {name}: allowed here are {', '.join(['auto', 'cpu', *gpus])}")
    return name


def _measure(
    model: dict[str, Any], sizes: list[tuple[int, int]], device: str, precision: str, depth: int
) -> dict[tuple[int, int], "Speed | None"]:
    from dualpixel.evaluate.cost.speed import PASSES
    from dualpixel.evaluate.cost.speed_process import measure_apart

    warm_up, repeats = PASSES[device.partition(":")[0]]
    speeds = {}
    with progress() as bar:
        for size in sizes:
            task = bar.add_task(f"timing {size[0]}x{size[1]}", total=warm_up + repeats * (2 if depth else 1))
            speeds[size] = measure_apart(model, size, device, precision, depth, lambda task=task: bar.advance(task))
    return speeds


def _write(out: Path, content: dict[str, Any] | str) -> None:
    try:
        with room_for(out):
            if isinstance(content, dict):
                write_json(out, content)
            else:
                with atomic(out) as beside:
                    beside.write_text(content, encoding="utf-8")
    except OSError as error:
        raise DualPixelError(f"--out {out}: cannot be written ({error.strerror})") from None
    print(f"written to {out}")
