"""The way to W&B: the key, the client, and its errors in words."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from dualpixel.errors import DualPixelError
from dualpixel.terminal import one_line

if TYPE_CHECKING:  # W&B is imported only where it is asked
    from wandb import Api

TIMEOUT = 30
"""Seconds that an answer may take, retries of the client included."""
NOT_IN_NAMES = "/\\#?%:"
MOST_SAID = 200


def split_project(project: str) -> tuple[str, str]:
    """Return the entity and the name of a project.

    Raises:
        DualPixelError: not ``ENTITY/PROJECT``.
    """
    parts = project.split("/")
    if len(parts) != 2 or not all(map(is_name, parts)):
        raise DualPixelError(
            f"W&B project {one_line(project)!r}: name it as ENTITY/PROJECT, as in the address of its page"
        )
    return parts[0], parts[1]


def is_name(text: object) -> bool:
    """Return whether W&B may have given this name to a project or a run: such a name can be one of a folder, too."""
    allowed = isinstance(text, str) and text not in (".", "..") and 0 < len(text) <= 128
    return allowed and text == one_line(text) and not set(NOT_IN_NAMES) & {*text}


def base_url() -> str:
    """Return the address of the server: $WANDB_BASE_URL, or what `wandb login --host` has stored, or the public one."""
    import wandb

    return (os.environ.get("WANDB_BASE_URL") or wandb.setup().settings.base_url).rstrip("/")


def has_key() -> bool:
    """Return whether the server would be sent a key: from $WANDB_API_KEY, netrc, or a token file. Nothing is asked or stored."""
    from wandb.errors import Error
    from wandb.sdk.lib import wbauth

    try:
        found = wbauth.authenticate_session(host=base_url(), source="dualpixel", prompt=False, update_session=False)
    except Error as error:
        raise DualPixelError(f"the key for W&B cannot be used: {one_line(str(error))[:MOST_SAID]}") from None
    return found is not None


def sign_in() -> "Api":
    """Return the client of the server, after one request that shows whether it takes the key.

    Raises:
        DualPixelError: there is no key, it is refused, or no answer came in time.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    if not has_key():
        raise DualPixelError(
            f"no key for W&B at {base_url()}: set WANDB_API_KEY, or run `wandb login`; runs that are here need none"
        )
    with in_words("sign in"):
        return wandb.Api(overrides={"base_url": base_url()}, timeout=TIMEOUT)


@contextmanager
def in_words(what: str) -> Iterator[None]:
    """Say in words what went wrong with the server.

    Args:
        what: was tried, such as "read ENTITY/PROJECT".

    Raises:
        DualPixelError: whatever the client raised: it takes answers of another form for granted, and then fails anywhere.
    """
    try:
        yield
    except DualPixelError:
        raise
    except Exception as error:
        where, said = f"W&B at {base_url()}: could not {what}", one_line(str(error.__cause__ or error))[:MOST_SAID]
        response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
        if getattr(response, "http_status", None) in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise DualPixelError(
                f"{where}, the key is refused ({said}); check WANDB_API_KEY, or run `wandb login`"
            ) from None
        if "find project" in said:
            raise DualPixelError(f"{where}: no such project, or not for this key ({said})") from None
        raise DualPixelError(
            f"{where}: no answer that can be read within {TIMEOUT} s ({said}); check the connection and WANDB_BASE_URL"
        ) from None
