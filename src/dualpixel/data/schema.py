"""Plain mappings (from YAML) into dataclasses, with types checked and near-match hints for unknown keys."""

import re
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, Union

from dualpixel.errors import DualPixelError
from dualpixel.hints import near
from dualpixel.terminal import STEERING

Made = TypeVar("Made")
EXPONENT = r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+"
"""A number such as 4e-6, which YAML 1.1 takes for text as it has no point."""


def build(kind: type[Made], content: Any, where: str) -> Made:
    """Make a dataclass `kind` from a mapping.

    Args:
        kind: the dataclass; its annotations are the schema (str, int, float, bool, list, tuple, dict, Literal, unions with None,
            other dataclasses).
        content: the mapping, as read from YAML.
        where: what to call it in messages, for example ``card dpdd``.

    Raises:
        DualPixelError: an unknown or missing key, or a value of another type; the message names the key.
    """
    if not isinstance(content, Mapping):
        raise DualPixelError(
            f"{where}: found {_say(content)}, expected a mapping of {', '.join(f.name for f in fields(kind))}"
        )
    known = {field.name: field for field in fields(kind)}
    hints = typing.get_type_hints(kind)
    for key in content:
        if key not in known:
            raise DualPixelError(f"{where}: unknown key {str(key)[:80]!r}; {near(str(key)[:80], known)}")
    for name, field in known.items():
        if name not in content and field.default is MISSING and field.default_factory is MISSING:
            raise DualPixelError(f"{where}: the key {name!r} is missing")
    values = {key: _convert(hints[key], value, f"{where}: {key}") for key, value in content.items()}
    try:
        return kind(**values)
    except ValueError as error:  # of a dataclass that raises what its own room raises
        raise DualPixelError(f"{where}: {error}") from None


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert_one_of([one for one in arguments if one is not type(None)], value, where)
    if origin is typing.Literal:
        if not any(type(value) is type(one) and value == one for one in arguments):
            raise DualPixelError(f"{where}: found {_say(value)}; {near(str(value)[:80], map(str, arguments))}")
        return value
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            raise DualPixelError(f"{where}: found {_say(value)}, expected a list")
        fixed = origin is tuple and Ellipsis not in arguments
        if fixed and len(value) != len(arguments):
            raise DualPixelError(f"{where}: found {len(value)} values, expected {len(arguments)}")
        inner = arguments if fixed else (arguments[0],) * len(value)
        return origin(
            _convert(one, item, f"{where}[{number}]")
            for number, (one, item) in enumerate(zip(inner, value, strict=True))
        )
    if origin is dict:
        if not isinstance(value, Mapping):
            raise DualPixelError(f"{where}: found {_say(value)}, expected a mapping")
        return {
            str(key): _convert(arguments[1], item, f"{where}.{ascii(key)[1:-1][:80]}") for key, item in value.items()
        }
    if is_dataclass(hint):
        return build(hint, value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str) and re.fullmatch(EXPONENT, value):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise DualPixelError(f"{where}: found {_say(value)}, expected {hint.__name__}")
    if hint is str and re.search(STEERING, value):
        raise DualPixelError(f"{where}: found {_say(value)}, expected text without control signs")
    return value


def _convert_one_of(hints: list[Any], value: Any, where: str) -> Any:
    said = []
    for hint in hints:
        try:
            return _convert(hint, value, where)
        except DualPixelError as error:
            said.append(str(error))
    raise DualPixelError("; or ".join([said[0], *(one.removeprefix(f"{where}: ") for one in said[1:])]))


def _say(value: Any) -> str:
    said = ascii(value)  # no sign of a file from elsewhere may steer the terminal
    return f"{said if len(said) < 160 else said[:160] + ' ...'} ({type(value).__name__})"
