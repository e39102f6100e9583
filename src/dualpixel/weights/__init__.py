"""Weights: our files (`files`), and converters from the authors' published ones."""

import inspect
import json
from importlib import import_module
from pathlib import Path
from typing import Any

from dualpixel.errors import DualPixelError
from dualpixel.hints import near

_K3DN = ("dualpixel.weights.convert_k3dn:convert_k3dn", "dualpixel.nets.k3dn:K3DN")
CONVERTERS = {
    "dddnet": ("dualpixel.weights.convert_dddnet:convert_dddnet", "dualpixel.nets.dddnet:DDDNet"),
    "dddnet_syn": ("dualpixel.weights.convert_dddnet:convert_dddnet_syn", "dualpixel.nets.dddnet:DDDNet"),
    "dpanet": ("dualpixel.weights.convert_dpanet:convert_dpanet", "dualpixel.nets.dpanet:DPANet"),
    "dpdnet": ("dualpixel.weights.convert_dpdnet:convert_dpdnet", "dualpixel.nets.dpdnet:DPDNet"),
    "dpdnet_single": ("dualpixel.weights.convert_dpdnet:convert_dpdnet", "dualpixel.nets.dpdnet:DPDNet"),
    **dict.fromkeys(
        ("k3dn", "k3dn_light", "k3dn_tiny", "k3dn_stage1", "k3dn_light_stage1", "k3dn_tiny_stage1", "k3dn_single"),
        _K3DN,
    ),
    "mdp": ("dualpixel.weights.convert_mdp:convert_mdp", "dualpixel.nets.mdp:MDP"),
    "mdp_views": ("dualpixel.weights.convert_mdp:convert_mdp_views", "dualpixel.nets.mdp:MDP"),
}
"""Recipe -> converter and network.

A converter takes its source files by position and its options by keyword, and returns state dict and metadata, among
them `recipe`, `net` and `options` (the network's arguments as JSON).
"""


def convert(recipe: str, sources: list[Path], out: Path, **options: Any) -> dict[str, str]:
    """Convert the authors' published weight files into one of ours.

    Nothing is written before the converted weights have proved to be exactly those of the full-size network.

    Args:
        recipe: the recipe that the weights are for.
        sources: the authors' file or files.
        out: the safetensors file to be written.
        options: the converter's own, such as `rgb`.

    Returns:
        The metadata that was stored with the weights.

    Raises:
        DualPixelError: an unknown recipe or option, a wrong number of files, or files of another network.
    """
    from torch import device

    from dualpixel.weights.files import check_fit, save_weights

    if recipe not in CONVERTERS:
        raise DualPixelError(f"no converter for recipe {recipe!r}: {near(recipe, CONVERTERS)}")
    converter, network = (_imported(name) for name in CONVERTERS[recipe])
    parameters = inspect.signature(converter).parameters.values()
    files = [one.name for one in parameters if one.kind is not inspect.Parameter.KEYWORD_ONLY]
    allowed = [one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY]
    if len(sources) != len(files):
        raise DualPixelError(
            f"converting {recipe} takes {len(files)} file(s) ({', '.join(files)}), found {len(sources)}"
        )
    for option in options:
        if option not in allowed:
            raise DualPixelError(f"converting {recipe} has no option {option!r}: {near(option, allowed)}")

    state_dict, metadata = converter(*map(Path, sources), **options)
    named = ", ".join(str(source) for source in sources)
    if metadata["recipe"] != recipe:
        raise DualPixelError(
            f"{named}: holds weights of {metadata['recipe']}, not of {recipe}: use convert {metadata['recipe']}"
        )
    with device("meta"):
        check_fit(network(**json.loads(metadata["options"])), state_dict, named, metadata)
    save_weights(Path(out), state_dict, metadata)
    return metadata


def _imported(name: str) -> Any:
    module, attribute = name.split(":")
    return getattr(import_module(module), attribute)
