"""Which network a recipe's files describe, without making it."""

import inspect
import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from dualpixel.errors import DualPixelError
from dualpixel.files import read_yaml
from dualpixel.hints import near
from dualpixel.paths import resource_names
from dualpixel.recipes.configuration import find_class, merge

NO_OTHER_NETWORK = ("identity_srp", "cached", "checkpointing")
"""Options that decide how a network begins, or in which form it computes the same."""
OVER = " + "


@dataclass(frozen=True)
class Network:
    """What decides what a network with given weights computes.

    Args:
        recipe: class of the recipe.
        net: class of the network.
        options: of its constructor, all of them, as JSON.
    """

    recipe: type
    net: type
    options: str


@cache
def network_of(files: str) -> Network:
    """Return the network of some files.

    Args:
        files: names of files in ``recipes/``, joined by " + ", later ones laid over earlier ones.

    Raises:
        DualPixelError: no such file, or no recipe.
    """
    recipe, net, options = _described(files)
    return Network(recipe, net, _as_text(net, options))


def network_tested(recipe: str, options: dict[str, Any]) -> Network | None:
    """Return the network of a result.

    Args:
        recipe: its name, that of a file.
        options: of the network; those that an older version did not know have their default.

    Returns:
        None for a recipe that is no file of ours.
    """
    try:
        kind, net, _ = _described(recipe)
    except DualPixelError:
        return None
    return Network(kind, net, _as_text(net, options))


@cache
def _described(files: str) -> tuple[type, type, dict[str, Any]]:
    content, known = (
        {},
        resource_names("recipes"),
    )  # names alone: what a result calls its recipe is never taken for a path
    for name in files.split(OVER):
        if name not in known:
            raise DualPixelError(f"no recipe {name!r}: {near(name, known)}")
        content = merge(content, read_yaml(known[name]))
    try:
        model = content["model"]
        net = model["init_args"]["net"]
        return (
            find_class(model["class_path"], files),
            find_class(net["class_path"], files),
            dict(net.get("init_args") or {}),
        )
    except (KeyError, TypeError):
        raise DualPixelError(f"{files}: not a recipe (it names no class for 'model' and its net)") from None


def _as_text(net: type, options: dict[str, Any]) -> str:
    parameters = inspect.signature(net).parameters.values()
    known = {one.name: one.default for one in parameters if one.default is not one.empty} | options
    deciding = {name: value for name, value in known.items() if name not in NO_OTHER_NETWORK}
    return json.dumps(deciding, sort_keys=True)
