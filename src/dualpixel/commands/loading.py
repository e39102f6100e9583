"""Trained recipes for commands that use one."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dualpixel.errors import DualPixelError

if TYPE_CHECKING:  # torch is imported only once the arguments are known to be right
    from dualpixel.recipes import Recipe


def load_on(device: str, recipe: str, weights: Path, check: Callable[["Recipe"], None]) -> "Recipe":
    """Return a recipe with its weights on a device.

    Args:
        device: "cpu", "cuda", or "auto": a GPU where there is one.
        recipe: its name, or the path of its YAML.
        weights: see `dualpixel.load`.
        check: raises DualPixelError where the recipe cannot do what the command needs.

    Raises:
        DualPixelError: no such device, or what `dualpixel.load` and `check` refuse.
    """
    import torch

    from dualpixel.commands.configurations import explained
    from dualpixel.recipes.loading import load

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        raise DualPixelError("--device cuda: torch finds no CUDA device; use --device cpu")
    with explained():
        loaded = load(recipe, weights).to(device)
    check(loaded)
    return loaded
