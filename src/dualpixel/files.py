"""Files that are there whole or not at all, and their hashes."""

import errno
import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    # not the process's number: on a shared folder another machine may have a process of the same
    beside = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:12]}.part{path.suffix}")
    try:
        yield beside
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def remove_left_overs(folder: Path, stem: str = "*") -> None:
    """Remove what killed processes left of files that `atomic` was to write; only where nobody else writes them.

    Args:
        folder: where the files were to appear.
        stem: of the one file that is meant; by default all.
    """
    for left_over in folder.glob(f".{stem}.*.part*"):
        left_over.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path, name: str = ".lock", shared: bool = False) -> Iterator[None]:
    """Hold a folder: another process that wants it, on any machine, waits until this one is done (or dead).

    Where the file system has no locks the folder is not held; what is written under a lock must be right without it too.

    Args:
        folder: made when it is missing.
        name: the file in it that is locked, made when it is missing.
        shared: with all others who want it shared; those who want it alone wait.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("a+") as file:  # network folders want it open for reading and writing
        try:
            fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
        try:
            yield
        finally:
            with suppress(OSError):
                # closing is not enough: a process forked meanwhile holds the file open, too
                fcntl.flock(file, fcntl.LOCK_UN)


@contextmanager
def room_for(path: Path) -> Iterator[None]:
    """Say in words that there is no room for a file.

    Raises:
        DualPixelError: the disk, the quota or the largest size of a file is used up.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise DualPixelError(
            f"{path} could not be written: {error.strerror}; make room, then run the same command again to go on"
        ) from None


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
