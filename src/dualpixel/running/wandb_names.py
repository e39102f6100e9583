"""What a run may be called in Weights & Biases: names from options and variables, checked before anything begins."""

import os
from collections.abc import Callable
from typing import Any

from dualpixel.errors import DualPixelError
from dualpixel.hints import near
from dualpixel.running.wandb_access import NOT_IN_NAMES, is_name
from dualpixel.running.wandb_identity import NAME
from dualpixel.terminal import one_line

ARGUMENTS = {
    "entity": "ENTITY",
    "group": "RUN_GROUP",
    "job_type": "JOB_TYPE",
    "name": "NAME",
    "project": "PROJECT",
    "tags": "TAGS",
}
"""Argument of ``wandb.init`` -> what its variable is called behind ``WANDB_``, which wins."""
MODES = ("online", "offline", "disabled", "dryrun", "run")
"""Values of ``WANDB_MODE``; the last two are its old names of "offline" and "online"."""
MODE, RUN_ID = "WANDB_MODE", "WANDB_RUN_ID"
LONGEST, LONGEST_TAG, MOST_SAID = 128, 64, 60


def forget_empty_variables() -> None:
    """Take variables that are empty out of the environment: as good as none, but W&B refuses some of them."""
    for name in (MODE, RUN_ID, *(f"WANDB_{variable}" for variable in ARGUMENTS.values())):
        if os.environ.get(name) == "":
            del os.environ[name]


def check_names(arguments: dict[str, Any]) -> None:
    """Refuse what W&B would, in one line.

    Args:
        arguments: of ``wandb.init``, from the options; a variable that is set is looked at in place of an option.

    Raises:
        DualPixelError: a name that is too long, empty, or holds signs that it may not.
    """
    mode, run = os.environ.get(MODE), os.environ.get(RUN_ID)
    if mode is not None and mode not in MODES:
        raise DualPixelError(f"{MODE}={_shown(mode)}: no mode of W&B; {near(mode, MODES)}")
    if run is not None and not NAME.fullmatch(run):
        raise DualPixelError(f"{RUN_ID}={_shown(run)}: 1 to 64 letters, digits, _ and - are allowed")
    signs = " ".join(NOT_IN_NAMES)
    name = f"1 to {LONGEST} characters without {signs} are allowed"
    for argument in ("project", "entity"):
        _check(arguments, argument, is_name, name)
    for argument in ("group", "job_type", "name"):
        _check(arguments, argument, _in_a_line, f"1 to {LONGEST} characters in one line are allowed")
    _check(arguments, "tags", _are_tags, f"each tag has 1 to {LONGEST_TAG} characters in one line")


def _check(arguments: dict[str, Any], argument: str, good: Callable[[Any], bool], allowed: str) -> None:
    variable = f"WANDB_{ARGUMENTS[argument]}"
    value = os.environ.get(variable, arguments.get(argument))
    if value is not None and not good(value):
        where = f"{variable}=" if variable in os.environ else f"--wandb.{argument} "
        raise DualPixelError(f"{where}{_shown(value)}: {allowed}")


def _in_a_line(text: str, longest: int = LONGEST) -> bool:
    return 0 < len(text) <= longest and text == one_line(text)


def _are_tags(tags: str | list[str]) -> bool:
    listed = tags.split(",") if isinstance(tags, str) else tags
    return all(_in_a_line(tag, LONGEST_TAG) for tag in listed)


def _shown(value: Any) -> str:
    said = one_line(repr(value))
    return said if len(said) <= MOST_SAID else f"{said[:MOST_SAID]}..."
