"""Commands made from functions: their arguments and help come from the signature and the docstring."""

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from dualpixel.errors import DualPixelError
from dualpixel.hints import near


def call(program: str, functions: Mapping[str, Callable[..., Any]], arguments: list[str]) -> None:
    """Run the function that the first argument names.

    Args:
        program: what stands before the name in usage lines.
        functions: name -> function; annotated, documented.
        arguments: the name, and the function's own arguments.

    Raises:
        DualPixelError: no such name, or wrong arguments.
    """
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        lines = [f"usage: {program} {{{','.join(functions)}}} ...", ""]
        lines += [f"  {one:10} {_summary(function)}" for one, function in functions.items()]
        print("\n".join(lines))
        return
    if name not in functions:
        raise DualPixelError(f"unknown command '{program} {name}': {near(name, functions)}")
    call_one(f"{program} {name}", functions[name], arguments[1:])


def call_one(program: str, function: Callable[..., Any], arguments: list[str], positional: bool = True) -> None:
    """Run one function with arguments from the command line.

    Args:
        program: what stands before the arguments in usage lines.
        function: annotated, documented.
        arguments: of the function.
        positional: whether parameters without a default are given by their place; otherwise by their name, as all others are.

    Raises:
        DualPixelError: wrong arguments.
    """
    parser = ArgumentParser(prog=program, description=_summary(function), exit_on_error=False)
    parser.add_function_arguments(function, as_positional=positional)
    options = parse(parser, _with_values(function, arguments))
    function(**parser.instantiate_classes(options).as_dict())


def parse(parser: ArgumentParser, arguments: list[str]) -> Namespace:
    """Parse arguments.

    Raises:
        DualPixelError: they are not the parser's.
    """
    try:
        return parser.parse_args(arguments)
    except Exception as error:  # jsonargparse raises ArgumentError and others; all of them are the user's arguments
        raise DualPixelError(f"{parser.prog}: {' '.join(str(error).split())[:300]}; see {parser.prog} --help") from None


def run_plugin(path: Path | None) -> None:
    """Run a Python file of the user's, which registers a reader.

    Args:
        path: the file; None for none.

    Raises:
        DualPixelError: no such file.
    """
    if path is None:
        return
    if not path.is_file():
        raise DualPixelError(f"--plugin {path}: no such Python file")
    # worker processes are handed this path, and import the file by its name
    sys.path.insert(0, str(path.resolve().parent))
    importlib.import_module(path.stem)


def spell_out(arguments: list[str], switches: Mapping[str, str]) -> list[str]:
    """Let ``--partial`` stand for ``--partial true``, and a short option for a long one.

    Args:
        arguments: as typed.
        switches: option that may stand without a value -> the option it is short for, often itself.
    """
    result = []
    for argument, following in zip(arguments, [*arguments, "-"][1:], strict=True):
        name, sign, value = argument.partition("=")
        option = switches.get(name)
        if option is None:
            result.append(argument)
        elif sign:
            result.append(f"{option}={value}")
        else:
            result.append(f"{option}=true" if following.startswith("-") else option)
    return result


def _with_values(function: Callable[..., Any], arguments: list[str]) -> list[str]:
    """Spell out the function's switches."""
    parameters = inspect.signature(function).parameters.items()
    return spell_out(arguments, {f"--{name}": f"--{name}" for name, one in parameters if one.annotation is bool})


def _summary(function: Callable[..., Any]) -> str:
    return (function.__doc__ or "").strip().split("\n")[0]
