"""Check class paths and arguments of a configuration, so that a wrong key is named with what was probably meant.

jsonargparse says of a wrong argument of a nested class only that no type matched.
"""

import inspect
import traceback
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_origin

from dualpixel.data.schema import build
from dualpixel.errors import DualPixelError
from dualpixel.hints import near
from dualpixel.paths import PACKAGE

SHORT_NAMES = (
    "dualpixel.recipes",
    "dualpixel.nets",
    "dualpixel.data",
    "torch.optim",
    "torch.optim.lr_scheduler",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
)


def find_class(class_path: str, where: str) -> type:
    """Import the class of a dotted path, or one of the short names of ours, of torch's and of Lightning's.

    Raises:
        DualPixelError: there is none; the message names near matches.
    """
    module_name, _, name = str(class_path).rpartition(".")
    for candidate in [module_name] if module_name else SHORT_NAMES:
        try:
            module = import_module(candidate)
        except ImportError as error:
            raise DualPixelError(f"{where}: cannot import {candidate!r} for {class_path!r} ({error})") from None
        if inspect.isclass(getattr(module, name, None)):
            return getattr(module, name)
    searched = [import_module(candidate) for candidate in ([module_name] if module_name else SHORT_NAMES[:3])]
    listed = [one for module in searched for one in dir(module) if inspect.isclass(getattr(module, one, None))]
    raise DualPixelError(f"{where}: no class {class_path!r}; {near(name, listed)}")


def check_configuration(content: Any, where: str) -> None:
    """Check every ``class_path`` with its ``init_args`` in a nested configuration.

    Raises:
        DualPixelError: an unknown class, or an argument that its constructor does not have.
    """
    if isinstance(content, list):
        for number, item in enumerate(content):
            check_configuration(item, f"{where}[{number}]")
    if not isinstance(content, Mapping):
        return
    if "class_path" in content:
        arguments = content.get("init_args") or {}
        check_arguments(find_class(content["class_path"], where), arguments, where)
        unknown = set(content) - {"class_path", "init_args", "dict_kwargs"}
        if unknown:
            name = sorted(unknown)[0]
            raise DualPixelError(
                f"{where}: unknown key {name!r} beside class_path; arguments of the class stand under init_args"
            )
    for key, value in content.items():
        check_configuration(value, where if key == "init_args" else f"{where}.{key}")


def check_arguments(kind: type, arguments: Mapping[str, Any], where: str) -> None:
    """Refuse constructor arguments that a class does not have, and settings that a dataclass among them does not have.

    Raises:
        DualPixelError: the argument, and what was probably meant; or a value that the dataclass refuses.
    """
    allowed: dict[str, Any] = {}  # name -> annotation
    for base in inspect.getmro(kind):  # a constructor that takes **kwargs hands them to the next base
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base.__init__).parameters.values()
        for one in parameters:
            if one.name != "self" and one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY):
                allowed.setdefault(one.name, one.annotation)
        if not any(one.kind is one.VAR_KEYWORD for one in parameters):
            break
    else:
        return
    for key, value in arguments.items():
        if key not in allowed:
            raise DualPixelError(f"{where}: {kind.__name__} has no argument {key!r}; {near(key, allowed)}")
        kinds = [allowed[key], *get_args(allowed[key])]
        settings = [one for one in kinds if is_dataclass(one)]
        if settings and isinstance(value, Mapping) and "class_path" not in value:
            build(settings[0], value, f"{where}.{key}")
        listed = [get_args(one)[0] for one in kinds if get_origin(one) is list]
        if listed and is_dataclass(listed[0]) and value is not None:
            if not isinstance(value, list):
                raise DualPixelError(f"{where}.{key}: found {value!r}, expected a list of {listed[0].__name__}")
            for number, item in enumerate(value):
                build(listed[0], item, f"{where}.{key}[{number}]")


def merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one configuration over another: mappings are merged, everything else is replaced; a new class_path starts afresh."""
    merged = deepcopy(dict(first))
    for key, value in second.items():
        old = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        same_class = both and value.get("class_path", old.get("class_path")) == old.get("class_path")
        merged[key] = merge(old, value) if same_class else deepcopy(value)
    return merged


def our_refusal(error: BaseException) -> str | None:
    """Return what our own code said when it refused something, from within what libraries raised around it; None if it did not.

    The argument parser wraps what constructors refuse. Blocks, optics, nets and metrics do so by a ValueError.
    """
    inner: BaseException | None = error
    while inner is not None:
        frames = traceback.extract_tb(inner.__traceback__)
        here = bool(frames) and Path(frames[-1].filename).is_relative_to(PACKAGE)
        if isinstance(inner, DualPixelError) or (isinstance(inner, ValueError) and here):
            return str(inner)
        inner = inner.__cause__ or inner.__context__
    return None
