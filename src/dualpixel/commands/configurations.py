"""Configuration files of a command: found by name, checked key by key, and errors of the parser put into words."""

import json
import re
from argparse import ArgumentError
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from dualpixel.errors import DualPixelError
from dualpixel.files import read_yaml
from dualpixel.hints import near
from dualpixel.paths import find
from dualpixel.recipes.configuration import check_arguments, check_configuration, find_class, merge, our_refusal

SECTIONS = (
    "seed_everything", "trainer", "model", "data", "run", "wandb", "scores", "panels", "best", "last", "predictions", "inspect",
    "sharp_regions", "diagnostics", "ckpt_path", "weights_only", "verbose", "return_predictions",
)  # fmt: skip
CONFIG = ("-c", "--config")
CLASSES = {
    "trainer": "lightning.pytorch.Trainer",
    "scores": "dualpixel.evaluate.scores.Scores",
    "panels": "dualpixel.running.panels.Panels",
    "diagnostics": "dualpixel.running.diagnostics.Diagnostics",
    "best": "dualpixel.running.checkpoints.BestCheckpoint",
    "last": "dualpixel.running.checkpoints.LastCheckpoint",
    "wandb": "dualpixel.running.loggers.WandbOptions",
    "predictions": "dualpixel.running.predictions.WritePredictions",
    "inspect": "dualpixel.running.inspect.Inspect",
    "sharp_regions": "dualpixel.evaluate.sharp_regions.analysis.SharpRegions",
}
"""Sections whose keys are the arguments of one class."""
DEFAULT_DATA = "dualpixel.data.datamodule.DualPixelData"


def resolve_names(arguments: list[str]) -> list[str]:
    """Replace names after ``--config`` by files: ``dpdnet``, ``overlays/quickstart``, ``recipes/dpdnet.yaml`` or any path.

    Returns:
        The arguments, with option and value always apart for ``--config`` and ``--ckpt_path`` (``--config=X`` is two).

    Raises:
        DualPixelError: no such recipe.
    """
    resolved: list[str] = []
    for argument in arguments:
        option, sign, value = argument.partition("=")
        apart = [option, value] if sign and option in (*CONFIG, "--ckpt_path") else [argument]
        for one in apart:
            named = bool(resolved) and resolved[-1] in CONFIG
            resolved.append(str(find("recipes", one)) if named else one)
    return resolved


def config_files(arguments: list[str]) -> list[Path]:
    """Return the configuration files among the arguments of `resolve_names`, in order."""
    return [Path(value) for option, value in zip(arguments, arguments[1:], strict=False) if option in CONFIG]


def check_settings(arguments: list[str]) -> dict[str, Any]:
    """Check sections, classes and arguments of all files and options together, as they are laid over one another.

    Returns:
        The sections, laid over one another; nothing where help is asked for.

    Raises:
        DualPixelError: an unknown key or class, with a near match; or no recipe at all.
    """
    if "--help" in arguments or "-h" in arguments:
        return {}
    merged: dict[str, Any] = {"data": {"class_path": DEFAULT_DATA}}
    files = config_files(arguments)
    for file in files:
        merged = merge(merged, _read(file))
    for argument, value in _options(arguments):
        merged = merge(merged, _nested(argument.split("."), value, merged))
    where = " + ".join([*map(str, files), "options"])
    model = merged.get("model")
    if not isinstance(model, dict) or "class_path" not in model:
        given = ", ".join(map(str, files)) or "none"
        bare = next((one for one in arguments[1:2] if not one.startswith("-")), None)
        if bare:
            raise DualPixelError(f"{arguments[0]} {bare}: a recipe is given by --config {bare}")
        raise DualPixelError(
            f"no recipe is given (configurations: {given}); give --config recipes/dpdnet.yaml or another recipe first"
        )
    for section in ("model", "data"):
        check_configuration(merged.get(section), f"{where}: {section}")
    for section, class_path in CLASSES.items():
        content = merged.get(section) or {}
        if isinstance(content, dict):
            check_arguments(find_class(class_path, where), content, f"{where}: {section}")
    return merged


def last_lists(settings: dict[str, Any]) -> list[str]:
    """Return options that repeat the lists of data sets, every key of an entry given.

    The parser lays a later list over an earlier one entry by entry, so that a set would get the weight or the root of another one.

    Args:
        settings: of `check_settings`.
    """
    from dualpixel.data.mixture import MixedSet  # torch, which a wrong option need not wait for

    arguments = (settings.get("data") or {}).get("init_args") or {}
    empty = {one.name: None for one in fields(MixedSet)}
    listed = arguments.get("mix")
    return ["--data.mix", json.dumps([{**empty, **one} for one in listed])] if listed else []


def _read(file: Path) -> dict[str, Any]:
    content = read_yaml(file) or {}
    if not isinstance(content, dict):
        raise DualPixelError(f"{file}: expected sections {', '.join(SECTIONS[:4])} ...")
    for section in content:
        if section not in SECTIONS:
            raise DualPixelError(f"{file}: unknown section {section!r}; {near(section, SECTIONS)}")
    return content


def _options(arguments: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the value of each option that belongs to a class."""
    for position, argument in enumerate(arguments):
        name, sign, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or name.split(".")[0].rstrip("+") not in ("model", "data", *CLASSES):
            continue
        if not sign:
            value = arguments[position + 1] if position + 1 < len(arguments) else ""
        if not name.endswith(("+", ".help")):
            yield name, yaml.safe_load(value)


def _nested(names: list[str], value: Any, known: Any) -> dict[str, Any]:
    """Write ``net.width = 1`` as it stands in a file: arguments of a class under its ``init_args``."""
    first, rest = names[0], names[1:]
    below = known.get(first) if isinstance(known, dict) else None
    if isinstance(known, dict) and "class_path" in known and first not in ("class_path", "init_args", "dict_kwargs"):
        return {"init_args": _nested(names, value, known.get("init_args") or {})}
    if rest:
        return {first: _nested(rest, value, below)}
    names_a_class = isinstance(value, str) and (
        first in ("model", "data") or (isinstance(below, dict) and "class_path" in below)
    )
    return {first: {"class_path": value} if names_a_class else value}


@contextmanager
def explained() -> Iterator[None]:
    """Say in our words what jsonargparse, Lightning and torch raise within the block, where there are words for it.

    Raises:
        DualPixelError: in place of what was raised.
    """
    try:
        yield
    except DualPixelError:
        raise
    except Exception as error:
        said = explain(error)
        if said is None:
            raise
        raise DualPixelError(said) from error


def explain(error: Exception) -> str | None:
    """Put an error of the argument parser, or of a library in the user's settings, into one or two lines; None for any other."""
    text = str(error)
    if "DualPixelError" in text:  # out of a worker process, as text
        return text
    ours = our_refusal(error)
    if ours is not None:
        return ours
    kind = type(error).__name__
    if not isinstance(error, ArgumentError) and kind not in ("ParserError", "MisconfigurationException"):
        return None
    keyed = re.findall(r'Parser key "([^"]+)":\s*(.*?)(?=Parser key|\Z)', text, re.DOTALL)
    if keyed:
        name, reason = keyed[-1]
        expected = re.findall(r"(?:Expected|expected)[^\n]*", reason)
        if "<class 'list'>" in reason and (given := re.search(r"Given value: ([^\s\[][^\n]*)", text)):
            return f"--{name}: a list is expected; write it as '[{given[1][:80]}]'"
        return f"--{name}: {' '.join((expected or [reason])[0].split())[:200]}; {_given(text)}"
    lines = [line.strip(" -") for line in text.splitlines() if line.strip()]
    unknown = re.search(r"[Uu]nrecognized arguments?: (\S+)", text)
    if unknown:
        return f"unknown option {unknown[1]}; `dualpixel COMMAND --help` lists them"
    return " ".join(lines)[:400]


def _given(text: str) -> str:
    found = re.findall(r"Given value: ([^\n]*)", text)
    return f"found {found[-1][:80]}" if found else "see `dualpixel COMMAND --help`"
