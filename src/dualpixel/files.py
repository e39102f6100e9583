"""Files that are there whole or not at all, and their hashes."""

import errno
import fcntl
import hashlib
import json
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import yaml

from dualpixel.errors import DualPixelError

JSON_BYTES, YAML_BYTES = 256 << 20, 1 << 20
"""Larger than the index of any split, and than any card; what is larger still is not read."""
YAML_VALUES = 100_000
"""The most values of a YAML file, counted as often as its aliases repeat them."""


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
    The file is never a link: in a folder from elsewhere it could stand for any file.

    Args:
        folder: made when it is missing.
        name: the file in it that is locked, made when it is missing.
        shared: with all others who want it shared; those who want it alone wait.

    Raises:
        DualPixelError: the file is a link, or the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = _lock_file(folder / name)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
            raise
        raise DualPixelError(f"{folder} cannot be written to ({error.strerror}); name another folder") from None
    with held as file:
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


def _lock_file(path: Path) -> IO[bytes]:
    try:  # network folders want it open for reading and writing
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666), "r+b", 0)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise DualPixelError(f"{path} is a link, where a file was expected; remove it") from None


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
        DualPixelError: the file is missing or too large, or is no JSON.
    """
    return parse_json(_bounded(Path(path), JSON_BYTES), path)


def parse_json(content: bytes, name: object) -> Any:
    """Parse JSON in which no key of a mapping stands twice.

    Args:
        content: the bytes.
        name: what to call them in messages.

    Raises:
        DualPixelError: not such JSON.
    """
    try:
        return json.loads(content, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise DualPixelError(f"{name}: not a JSON file ({' '.join(str(error).split())[:160]})") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        _refuse_twice(key for key, _ in pairs)
    return made


def _refuse_twice(keys: Iterable[str]) -> None:
    for key, count in Counter(keys).items():
        if count > 1:
            raise ValueError(f"the key {key[:60]!r} stands twice in one mapping")


def _bounded(path: Path, most: int) -> bytes:
    """Read a whole file, unless it is larger than anybody means it to be, or none that ends."""
    try:
        if path.exists() and not path.is_file():
            raise DualPixelError(f"{path}: not a file")
        with path.open("rb") as file:
            content = file.read(most + 1)
    except FileNotFoundError:
        raise DualPixelError(f"{path}: no such file") from None
    except OSError as error:
        raise DualPixelError(f"{path}: cannot be read ({error.strerror})") from None
    if len(content) > most:
        raise DualPixelError(f"{path}: larger than {most} bytes; not what it should be")
    return content


def read_yaml(path: Path) -> Any:
    """Read a YAML file; plain values only, whatever its tags say, and no more than `YAML_VALUES` of them.

    Raises:
        DualPixelError: the file cannot be read, or is no YAML in which each key of a mapping stands once.
    """
    content = _bounded(Path(path), YAML_BYTES)
    try:
        return yaml.load(content, Loader=_Bounded)
    except Exception as error:  # the plain values that a tag announces raise whatever Python raises
        said = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())[:160]
        raise DualPixelError(f"{path}: not a readable YAML file ({said or type(error).__name__})") from None


class _Bounded(yaml.SafeLoader):
    """Counts values as often as they are repeated: ten lines of aliases of aliases stand for ten to the power of ten of them."""

    def __init__(self, stream: bytes) -> None:
        super().__init__(stream)
        self._counts: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if is_alias:
            if node not in self._counts:
                raise yaml.YAMLError("a value that holds itself")
            return node
        parts = []
        if isinstance(node, yaml.MappingNode):
            parts = [one for pair in node.value for one in pair]
            _refuse_twice(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        elif isinstance(node, yaml.SequenceNode):
            parts = node.value
        self._counts[node] = 1 + sum(self._counts[part] for part in parts)
        if self._counts[node] > YAML_VALUES:
            raise yaml.YAMLError(f"more than {YAML_VALUES} values")
        return node


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
