"""Folders and shards on a server: their addresses, and getting them with retries, resumption and a checked SHA-256."""

import hashlib
import os
import random
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from dualpixel.data.requests import BLOCK, PROTOCOLS, Interrupted, ask
from dualpixel.errors import DualPixelError
from dualpixel.files import JSON_BYTES, parse_json
from dualpixel.hints import near
from dualpixel.paths import SHARDS_VARIABLE, local_folder, shards_home

TRIES = 6
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds between two tries: the first, doubled by each further one up to the longest, and times 0.5 to 1 at random."""

_chance = random.SystemRandom()  # not the seeded generator, whose numbers belong to the run


@dataclass(frozen=True)
class RemoteShard:
    """A shard on a server: its address, its length in bytes and its SHA-256, both as the index says."""

    url: str
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-f]{64}", self.sha256) or self.bytes < 1:  # it becomes part of a path
            raise DualPixelError(f"{self.url}: the index has no SHA-256 or no length of it; make the index again")


@dataclass(frozen=True)
class RemoteFolder:
    """A folder on a server, which is joined like a path.

    Raises:
        DualPixelError: a protocol that is not allowed, or an address with a password, a query or another address in it.
    """

    url: str

    def __post_init__(self) -> None:
        protocol, _, rest = self.url.partition("://")
        if protocol not in PROTOCOLS:
            raise DualPixelError(
                f"data.root {protocol}://...: not a protocol that shards are read by; {near(protocol, PROTOCOLS)}"
            )
        place, _, path = rest.partition("/")
        if not place or "@" in place or "::" in path or re.search(r"[?#\s\\\x00-\x1f]", rest):
            raise DualPixelError(
                f"data.root {protocol}://{place.rpartition('@')[2]}/...: an address is PROTOCOL://PLACE/FOLDER, without password, "
                "query, space or another address in it"
            )

    def __truediv__(self, part: str) -> "RemoteFolder":
        quoted = quote(part) if self.url.startswith("http") else part
        return RemoteFolder(f"{self.url.rstrip('/')}/{quoted}")

    def __str__(self) -> str:
        return self.url

    def read_json(self) -> Any:
        """Read this as a JSON file of bounded size.

        Raises:
            NotThereError: there is none.
            DualPixelError: it cannot be got, is too large, or is no JSON.
        """
        return parse_json(_read(self.url, JSON_BYTES), self.url)


Folder = Path | RemoteFolder


def as_folder(root: str | Path | RemoteFolder) -> Folder:
    """Return a folder, here or on a server.

    Raises:
        DualPixelError: an address that is not allowed.
    """
    if isinstance(root, RemoteFolder):
        return root
    if "://" in str(root):
        return RemoteFolder(str(root))
    protocol, colon, _ = str(root).partition(":/")
    if colon and protocol in PROTOCOLS:  # the rest is not repeated: it may hold a password
        raise DualPixelError(
            f"{protocol}:/...: an address has two slashes behind its protocol: {protocol}://PLACE/FOLDER"
        )
    return local_folder(root)


def prepared_root(name: str, root: str | Path | None = None) -> Folder:
    """Return where the splits of a data set lie: `root`, else ``$DUALPIXEL_SHARDS/NAME``, else ``shards/NAME``.

    Raises:
        DualPixelError: an address that is not allowed.
    """
    home = os.environ.get(SHARDS_VARIABLE, "")
    if root:
        return as_folder(root)
    return as_folder(home) / name if home else shards_home() / name


def fetch(shard: RemoteShard, file: BinaryIO | None = None) -> None:
    """Get a whole shard and check its SHA-256.

    What fails in a way that may pass is tried again, after pauses that grow, from where it stopped if the server can; wrong bytes are
    thrown away and fetched anew. A try that brought a tenth of the shard is not counted.

    Args:
        shard: what to get.
        file: opened unbuffered for reading and appending; it may hold a beginning. None only checks what the server gives.

    Raises:
        DualPixelError: refused by the server, or still not got after `TRIES` tries.
        OSError: of `file`, for example a full disk.
    """
    attempts = _Attempts(shard.url)
    digest, done = _hash_beginning(file, shard.bytes)
    while True:
        before = done
        try:
            if done < shard.bytes:
                start, blocks = ask(shard.url, done, shard.bytes)
                if start != done:
                    digest, done = _begin_again(file)
                for block in blocks:
                    done += len(block)
                    if done > shard.bytes:
                        break
                    digest.update(block)
                    if file:
                        _write(file, block)
            if done == shard.bytes and digest.hexdigest() == shard.sha256:
                return
            if done < shard.bytes:
                reason = f"it ended after {done} of {shard.bytes} bytes"
            else:
                reason = "wrong bytes: its length or SHA-256 is not that of the index"
                digest, done = _begin_again(file)
        except Interrupted as fault:
            reason = str(fault)
        attempts.failed(reason, counts=done - before < max(1, shard.bytes // 10))


def _read(url: str, most: int) -> bytes:
    attempts = _Attempts(url)
    while True:
        content = bytearray()
        try:
            for block in ask(url)[1]:
                content += block
                if len(content) > most:
                    raise DualPixelError(f"{url}: larger than {most} bytes; not what it should be")
            return bytes(content)
        except Interrupted as fault:
            attempts.failed(str(fault))


class _Attempts:
    def __init__(self, url: str) -> None:
        self.url, self.count = url, 0

    def failed(self, reason: str, counts: bool = True) -> None:
        """Wait before the next try; raise where there is none."""
        self.count += counts
        if self.count >= TRIES:
            raise DualPixelError(f"{self.url}: not got in {TRIES} tries; the last time: {reason}")
        time.sleep(_chance.uniform(0.5, 1) * min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** max(0, self.count - 1)))


def _hash_beginning(file: BinaryIO | None, most: int) -> tuple[Any, int]:
    digest, done = hashlib.sha256(), 0
    if file:
        file.seek(0)
        while block := file.read(BLOCK):
            digest.update(block)
            done += len(block)
    return (digest, done) if done <= most else _begin_again(file)


def _begin_again(file: BinaryIO | None) -> tuple[Any, int]:
    if file:
        file.truncate(0)
    return hashlib.sha256(), 0


def _write(file: BinaryIO, block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[file.write(rest) :]
