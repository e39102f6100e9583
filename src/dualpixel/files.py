"""Files that are there whole or not at all, and their hashes."""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from dualpixel.errors import DualPixelError


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well it takes the place of `path`, else it is removed.

    Args:
        path: the file to be written; its folder is made when it is missing.

    Yields:
        A path in the same folder (so that the renaming is atomic), with the same ending.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield beside
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder alone: another process that wants it waits until this one is done (or dead).

    Args:
        folder: made when it is missing; the lock is its file ``.lock``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON, atomically, keys in the order given."""
    with atomic(path) as beside:
        beside.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DualPixelError: the file is missing or is no JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DualPixelError(f"{path}: no such file") from None
    except ValueError as error:
        raise DualPixelError(f"{path}: not a JSON file ({error})") from None


def read_yaml(path: Path) -> Any:
    """Read a YAML file; plain values only, whatever its tags say.

    Raises:
        DualPixelError: the file cannot be read or is no YAML.
    """
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DualPixelError(f"{path}: not a readable YAML file ({' '.join(str(error).split())[:160]})") from None


class _Readable(yaml.SafeDumper):
    """Writes text of several lines as such."""


_Readable.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def write_yaml(path: Path, content: Any, heading: str) -> None:
    """Write plain values as YAML below a comment of one line, atomically, keys in the order given."""
    text = yaml.dump(content, Dumper=_Readable, sort_keys=False, allow_unicode=True, width=120)
    with atomic(path) as beside:
        beside.write_text(f"# {heading}\n{text}", encoding="utf-8")


def sha256(path: Path, chunk: int = 1 << 22) -> str:
    """Return the SHA-256 of a file as hexadecimal text, reading `chunk` bytes at a time."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(chunk):
            digest.update(block)
    return digest.hexdigest()
