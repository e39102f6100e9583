"""One request to a server for what is behind an address, whole or from some byte on.

http and https go through the standard library, whose requests need no event loop: they work in threads, after a fork and in a spawned
process alike. Everything else goes through fsspec, with file systems that are each process's own.
"""

import os
import time
from collections.abc import Callable, Iterator
from http.client import HTTPException
from typing import Any
from urllib import error, request

from dualpixel.errors import DualPixelError

PROTOCOLS = {"http": "", "https": "", "s3": "dualpixel[s3]", "gs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
"""Protocol -> what to install for it. No others: some of fsspec's read local files, start processes or hold other addresses."""
STALL_SECONDS, SLOWEST = 30.0, 1024
"""A request that brings less than so many bytes a second over so long is given up."""
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Answers of a server that may be others a little later."""
BLOCK, PART = 1 << 20, 4 << 20

_systems: dict[tuple[int, str], Any] = {}


class Interrupted(Exception):
    """A request failed in a way that may pass."""


class NotThereError(DualPixelError):
    """The server has no such file."""


def ask(url: str, start: int = 0, size: int | None = None) -> tuple[int, Iterator[bytes]]:
    """Make one request for a file.

    Args:
        url: of the file.
        start: the first byte that is wanted.
        size: of the whole file, where it is known.

    Returns:
        Where the answer begins (at `start`, or at 0 where the server gives whole files only), and its blocks.

    Raises:
        Interrupted: it failed, and may not the next time; also while the blocks come.
        NotThereError: the server has no such file.
        DualPixelError: the server refuses, or the library for the protocol is missing.
    """
    return _ask_http(url, start) if url.startswith("http") else (start, _system_blocks(url, start, size))


def _ask_http(url: str, start: int) -> tuple[int, Iterator[bytes]]:
    headers = {"User-Agent": "dualpixel", "Accept-Encoding": "identity"} | (
        {"Range": f"bytes={start}-"} if start else {}
    )
    try:
        response = _opener().open(request.Request(url, headers=headers), timeout=STALL_SECONDS)
    except error.HTTPError as fault:
        fault.close()
        if fault.code == 416 and start:  # what is there is shorter than what is here
            return _ask_http(url, 0)
        if fault.code in (404, 410):
            raise NotThereError(f"{url}: no such file on the server (status {fault.code})") from None
        if fault.code in PASSING:
            raise Interrupted(f"the server answers with status {fault.code}") from None
        raise DualPixelError(
            f"{url}: refused by the server with status {fault.code}; check the address and your access"
        ) from None
    except (OSError, HTTPException) as fault:
        raise Interrupted(_said(fault)) from None
    resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
    return start if resumed else 0, _http_blocks(response)


def _opener() -> request.OpenerDirector:
    """Return what opens http and https, and follows redirections to these alone."""
    opener = request.OpenerDirector()
    for handler in (request.ProxyHandler, request.HTTPHandler, request.HTTPSHandler, request.UnknownHandler,
                    request.HTTPDefaultErrorHandler, request.HTTPRedirectHandler, request.HTTPErrorProcessor):  # fmt: skip
        opener.add_handler(handler())
    return opener


def _http_blocks(response: Any) -> Iterator[bytes]:
    promised, got = response.headers.get("Content-Length"), 0
    since, recent = time.monotonic(), 0
    with response:
        while promised is None or got < int(promised):
            try:
                block = response.read1(BLOCK)
            except (OSError, HTTPException) as fault:
                raise Interrupted(_said(fault)) from None
            if not block and promised is not None:
                raise Interrupted(f"the connection ended {int(promised) - got} bytes early")
            if not block:
                return
            yield block
            got, recent = got + len(block), recent + len(block)
            if time.monotonic() - since > STALL_SECONDS:
                if recent < SLOWEST * STALL_SECONDS:
                    raise Interrupted(f"stalled: {recent} bytes in {STALL_SECONDS:g} seconds")
                since, recent = time.monotonic(), 0


def _system_blocks(url: str, start: int, size: int | None) -> Iterator[bytes]:
    system, path = _system(url), url.partition("://")[2]
    end = _called(url, system.info, path)["size"] if size is None else size
    # asynchronous file systems take a limit of time for each call
    limit = {"timeout": 4 * STALL_SECONDS} if getattr(system, "async_impl", False) else {}
    while start < end:
        block = _called(url, system.cat_file, path, start=start, end=min(start + PART, end), **limit)
        if not block:
            return
        yield block
        start += len(block)


def _system(url: str) -> Any:
    """Return the file system of a protocol that is this process's own: their event loops do not survive a fork."""
    protocol = url.partition("://")[0]
    if (os.getpid(), protocol) not in _systems:
        import fsspec

        quick = {"connect_timeout": STALL_SECONDS, "read_timeout": STALL_SECONDS, "retries": {"max_attempts": 1}}
        options = {"config_kwargs": quick} if protocol == "s3" else {}
        try:
            made = fsspec.filesystem(protocol, skip_instance_cache=True, use_listings_cache=False, **options)
        except ImportError:
            raise DualPixelError(f"{url}: {protocol}:// needs a library: pip install '{PROTOCOLS[protocol]}'") from None
        _systems[os.getpid(), protocol] = made
    return _systems[os.getpid(), protocol]


def _called(url: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    try:
        return function(*arguments, **options)
    except FileNotFoundError:
        raise NotThereError(f"{url}: no such file on the server") from None
    except PermissionError as fault:
        raise DualPixelError(
            f"{url}: refused by the server ({_said(fault)}); check the address and your access"
        ) from None
    except Exception as fault:  # each library has errors of its own
        if type(fault).__name__ == "NoCredentialsError":
            raise DualPixelError(f"{url}: no credentials found; set FSSPEC_S3_ANON=true for what is public") from None
        raise Interrupted(_said(fault)) from None


def _said(fault: BaseException) -> str:
    return " ".join(str(fault).split())[:160] or type(fault).__name__
