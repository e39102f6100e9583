"""`dualpixel.evaluate.cost.speed` in a process of its own for each size, so that none leaves memory behind for the next."""

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from dualpixel.data.parallel import end_with_parent
from dualpixel.errors import DualPixelError
from dualpixel.evaluate.cost.speed import Speed, is_out_of_memory, measure
from dualpixel.recipes.loading import make_recipe

PASSED = "passed"


def measure_apart(
    model: dict[str, Any],
    size: tuple[int, int],
    device: str,
    precision: str = "32-true",
    depth: int = 0,
    passed: Callable[[], Any] = lambda: None,
) -> Speed | None:
    """Make a recipe in a new process, with random weights, and measure it there on one random image.

    Args:
        model: the section ``model`` of a configuration that has been checked.
        size: height and width of the image.
        device: "cpu" or "cuda:N".
        precision: see `measure`.
        depth: see `measure`.
        passed: see `measure`.

    Returns:
        What was measured; None where memory was used up, also where the system killed the process for it.

    Raises:
        DualPixelError: the pass failed for another reason.
    """
    context = multiprocessing.get_context("spawn")  # what torch has begun in this process does not survive a fork
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=_measure, args=(model, size, device, precision, depth, sender), daemon=True, name="dualpixel profile"
    )
    process.start()
    sender.close()  # the process holds its own; with this one open its death would not end the reading
    found: Speed | str | None = None
    try:
        while (found := receiver.recv()) == PASSED:
            passed()
    except EOFError:
        pass  # its exit code says why
    process.join()
    if found == PASSED or process.exitcode:
        found = None if process.exitcode == -signal.SIGKILL else f"its process ended with {process.exitcode}"
    if isinstance(found, str):
        raise DualPixelError(f"an image of {size[0]}x{size[1]} on {device} failed: {' '.join(found.split())[:300]}")
    return found


def _measure(
    model: dict[str, Any], size: tuple[int, int], device: str, precision: str, depth: int, sender: Connection
) -> None:
    import torch

    from dualpixel.evaluate.cost.operations import shapes_of_one_image

    end_with_parent()  # no pass is left behind that nobody waits for
    try:
        recipe = make_recipe(model)
        batch = {name: torch.rand(value.shape) for name, value in shapes_of_one_image(recipe, *size).items()}
        where = torch.device(device)
        sender.send(measure(recipe, batch, where, precision, depth, lambda: sender.send(PASSED)))
    except Exception as error:
        sender.send(None if is_out_of_memory(error) else f"{type(error).__name__}: {error}")
