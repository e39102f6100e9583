"""A recipe in one line of Python, without Lightning or the command line."""

import json
from pathlib import Path
from typing import Any

import yaml

from dualpixel.errors import DualPixelError
from dualpixel.paths import find
from dualpixel.recipes.base import Recipe
from dualpixel.recipes.configuration import check_configuration, our_refusal
from dualpixel.weights.files import check_channels, load_into, load_weights, stored_options


def load(recipe: str, weights: str | Path | None = None, **options: Any) -> Recipe:
    """Return a recipe ready to be called: ``dualpixel.load("dpdnet", weights=FILE)(batch)["sharp"]``.

    Args:
        recipe: name of a YAML in ``recipes/``, or the path of one.
        weights: a .safetensors file of ours or a .ckpt; the options stored in it shape the network. None leaves random weights.
        options: arguments of the network that replace those of the YAML (and of the file, but for the network's `silent_options`).

    Returns:
        The LightningModule, in eval mode, on the CPU.

    Raises:
        DualPixelError: unknown recipe, unknown option, options that the recipe does not take, or weights of another network.
    """
    path = find("recipes", recipe)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or "class_path" not in content.get("model", {}):
        raise DualPixelError(
            f"{path}: not a recipe (it names no class for 'model'); overlays are given as a second --config"
        )
    model = content["model"]
    net = model["init_args"]["net"].setdefault("init_args", {})
    state_dict, metadata = load_weights(Path(weights)) if weights is not None else (None, {})
    net.update(stored_options(metadata, weights))
    net.update(options)

    check_configuration(model, f"recipe {recipe}: model")
    try:
        made = make_recipe(model)
    except Exception as error:
        said = our_refusal(error)
        if said is None:
            raise
        raise DualPixelError(f"recipe {recipe} does not take the options {json.dumps(net)}: {said}") from error
    if state_dict is not None:
        check_channels(metadata, weights)
        load_into(made.net, state_dict, weights, metadata)
    return made.eval()


def make_recipe(model: dict[str, Any]) -> Recipe:
    """Make a recipe from the section ``model`` of a configuration that has been checked.

    Args:
        model: ``class_path`` and ``init_args``.

    Returns:
        The LightningModule, with random weights.
    """
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Recipe, "model")
    return parser.instantiate_classes(parser.parse_object({"model": model})).model
