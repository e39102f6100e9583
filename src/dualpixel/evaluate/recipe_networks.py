"""Which network a recipe's files describe, without making it."""

import inspect
import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from dualpixel.errors import DualPixelError
from dualpixel.files import read_yaml
from dualpixel.hints import near
from dualpixel.paths import resource_names
from dualpixel.recipes.configuration import find_class, merge
from dualpixel.recipes.loading import make_recipe

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
    parameters = inspect.signature(net).parameters.values()
    defaults = {one.name: one.default for one in parameters if one.default is not one.empty}
    return Network(recipe, net, _as_text(defaults | options))


def network_tested(recipe: str, options: dict[str, Any], net: str | None) -> Network | None:
    """Return the network of a result.

    Args:
        recipe: its name, that of a file.
        options: of the network.
        net: class of the network, with its module.

    Returns:
        None where `unknown_network` says why.
    """
    if unknown_network(recipe, options, net):
        return None
    return Network(*_described(recipe)[:2], _as_text(options))


def unknown_network(recipe: str, options: dict[str, Any], net: str | None) -> str | None:
    """Say why the network of a result is none of ours, or is not fully known; None where it is."""
    try:
        own = _described(recipe)[1]
        missing = json.loads(network_of(recipe).options).keys() - options.keys()
    except DualPixelError:
        return f"{recipe!r} is no recipe of ours"
    if net is None:
        return "the result does not say of which class its network is, test again"
    if net != f"{own.__module__}.{own.__qualname__}":
        return f"its network is {net!r}, the paper's is {own.__qualname__}"
    return f"the result does not say all options of its network ({', '.join(sorted(missing))})" if missing else None


def options_between(tested: Network, other: Network) -> list[str]:
    """Return in which options a network differs from another one, such as ``width 0.5, not 1.0``."""
    here, there = json.loads(tested.options), json.loads(other.options)
    apart = sorted(
        name for name in {*here, *there} if name not in here or name not in there or here[name] != there[name]
    )
    return [f"{name} {here.get(name)}, not {there.get(name)}" for name in apart]


@cache
def name_of(files: str) -> str:
    """Return what the recipe of some files calls itself, which decides on its weights as well: for files see `network_of`."""
    with torch.device("meta"):
        return make_recipe(_content(files)["model"]).name


@cache
def unseen_overlays(files: str) -> list[str]:
    """Return those of some files that change the training, and neither the network nor the name: no result tells of them."""
    first, *overlays = files.split(OVER)
    unseen = []
    for name in overlays:
        rest = OVER.join([first, *(one for one in overlays if one != name)])
        same = network_of(rest) == network_of(files) and name_of(rest) == name_of(files)
        if same and _training(rest) != _training(files):
            unseen.append(name)
    return unseen


def options_apart(recipe: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a result's network that are other ones than in its recipe; none for a recipe that is no file of ours."""
    try:
        own = json.loads(network_of(recipe).options)
    except DualPixelError:
        return {}
    known = {name: value for name, value in options.items() if name not in NO_OTHER_NETWORK}
    return {name: value for name, value in known.items() if name not in own or own[name] != value}


def _content(files: str) -> dict[str, Any]:
    # names alone: what a result calls its recipe is never taken for a path
    content, known = {}, resource_names("recipes")
    for name in files.split(OVER):
        if name not in known:
            raise DualPixelError(f"no recipe {name!r}: {near(name, known)}")
        content = merge(content, read_yaml(known[name]))
    return content


def _training(files: str) -> dict[str, Any]:
    content = _content(files)
    content["model"]["init_args"].pop("net")
    return content


@cache
def _described(files: str) -> tuple[type, type, dict[str, Any]]:
    content = _content(files)
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


def _as_text(options: dict[str, Any]) -> str:
    return json.dumps({name: value for name, value in options.items() if name not in NO_OTHER_NETWORK}, sort_keys=True)
