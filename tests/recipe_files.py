"""The YAML files in recipes/, laid over one another."""

import torch
import yaml
from jsonargparse import ArgumentParser

from dualpixel.paths import resource_names
from dualpixel.recipes import Recipe
from dualpixel.recipes.configuration import merge

FILES = resource_names("recipes")


def read(*names):
    """The content of several files, later ones over earlier ones."""
    content = {}
    for name in names:
        content = merge(content, yaml.safe_load(FILES[name].read_text()))
    return content


def model_of(*names):
    """The recipe of several files, without values: on the meta device."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Recipe, "model")
    with torch.device("meta"):
        return parser.instantiate_classes(parser.parse_object({"model": read(*names)["model"]})).model
