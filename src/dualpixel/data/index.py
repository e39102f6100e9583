"""The index of a prepared split: what lies where in which shard. One ``index.json`` beside the tars of each split."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dualpixel.data.fields import FIELDS, IMAGES
from dualpixel.data.remote import Folder
from dualpixel.data.requests import NotThereError
from dualpixel.data.schema import build
from dualpixel.errors import DualPixelError
from dualpixel.files import read_json, write_json

INDEX = "index.json"
SCHEMA = 1
KEY = r"[A-Za-z0-9_-]{1,60}"
"""What keys of samples look like: they become names of files."""
DTYPES = ("uint8", "uint16", "float32")
LARGEST = 1 << 30
"""The most bytes that one field of a sample may have."""
SHA256 = "[0-9a-f]{64}"
SHARD_NAME = r"[A-Za-z0-9 _@%+=,~#()\[\]{}-][A-Za-z0-9 ._@%+=,~#()\[\]{}-]{0,180}\.tar"
"""What names of shards look like: nothing that leads to another folder, protocol, program or terminal."""


@dataclass(frozen=True)
class WindowRule:
    """How windows are laid over a scene (see `dualpixel.data.windows`).

    Args:
        size: side of the square window, pixels.
        overlap: share of the window by which neighbours overlap, in [0, 1).
        discard: share of each scene's windows that is left out, those with the least sharp target, in [0, 1).
    """

    size: int
    overlap: float = 0.0
    discard: float = 0.0

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 <= self.overlap < 1 or not 0 <= self.discard < 1:
            raise DualPixelError(f"windows: found {self}; size must be positive, overlap and discard in [0, 1)")


@dataclass(frozen=True)
class Member:
    """Where one field of one sample lies in its shard.

    Args:
        offset: of the first byte; for ``npy`` of the first pixel, behind the NumPy header.
        bytes: length in bytes.
        shape: (height, width, 3) for images, (height, width) for maps.
        dtype: uint8, uint16 or float32.
        codec: "npy" (raw pixels, may be mapped) or "png".
    """

    offset: int
    bytes: int
    shape: list[int]
    dtype: str
    codec: str = "npy"


@dataclass(frozen=True)
class Sample:
    """One scene of a split.

    Args:
        key: unique in the split.
        shard: number of its shard.
        members: field -> `Member`.
        sha256: over the pixels of all fields, so that it does not depend on how scenes were packed.
        group: for example "indoor".
        metadata: what the reader noted.
        windows: (row, column, rank) each, in the authors' order; rank 0 is the least sharp.
    """

    key: str
    shard: int
    members: dict[str, Member]
    sha256: str
    group: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    windows: list[list[int]] = field(default_factory=list)


@dataclass(frozen=True)
class Shard:
    """One tar file: its plain name (in the folder of the index), size and SHA-256."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Index:
    """A prepared split.

    Args:
        schema: version of this layout.
        dataset: name of the card.
        version: version of the card.
        split: name of the split.
        preparation: what was done to the files: window rule, bit depth, whether the split is complete.
        fingerprint: names the pixels and the preparation; it stands beside every score.
        shards: the tars, in order.
        samples: the scenes, in order.
    """

    schema: int
    dataset: str
    version: str
    split: str
    preparation: dict[str, Any]
    fingerprint: str
    shards: list[Shard]
    samples: list[Sample]

    def fields(self) -> list[str]:
        """Return the fields that every sample has."""
        return [name for name in FIELDS if self.samples and all(name in sample.members for sample in self.samples)]


def fingerprint(dataset: str, version: str, split: str, preparation: dict[str, Any], samples: list[Sample]) -> str:
    """Return 16 hexadecimal digits that change with any pixel, key, window or setting, and with nothing else."""
    content = [dataset, version, split, preparation, [[s.key, s.group, s.sha256, s.windows] for s in samples]]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def save_index(folder: Path, index: Index) -> None:
    """Write ``index.json`` of a split, atomically.

    Raises:
        DualPixelError: a name or number in it that `load_index` would refuse.
    """
    _check(index, folder / INDEX)
    write_json(folder / INDEX, asdict(index))


def has_index(folder: Folder) -> bool:
    """Say whether a split is prepared; on a server, where nothing can be looked up, its index is read for it.

    Raises:
        DualPixelError: a server that does not answer, or refuses.
    """
    if isinstance(folder, Path):
        return (folder / INDEX).is_file()
    try:
        (folder / INDEX).read_json()
    except NotThereError:
        return False
    return True


def load_index(folder: Folder) -> Index:
    """Read and check the index of a split, here or on a server.

    An index may come from a stranger: shard names must be plain names, and offsets must lie inside their shards. What it says of
    pixels, keys, groups and windows must be what its fingerprint names; whether the pixels are those it names is seen when they are
    read (`dualpixel.data.checked_scenes`).

    Raises:
        DualPixelError: missing, of another schema, altered, or with a name or number that is not allowed.
    """
    path = folder / INDEX
    content = read_json(path) if isinstance(path, Path) else path.read_json()
    if isinstance(content, dict) and content.get("schema") != SCHEMA:
        raise DualPixelError(
            f"{path}: schema {content.get('schema')}, this version reads {SCHEMA}; prepare the set again"
        )
    index = build(Index, content, str(path))
    _check(index, path)
    return index


def _check(index: Index, path: Folder) -> None:
    for name in (index.dataset, index.split, *(sample.key for sample in index.samples)):
        if not re.fullmatch(KEY, name):  # they become parts of paths
            raise DualPixelError(
                f"{path}: the name {ascii(name[:80])} is not allowed; 1 to 60 letters, digits, '-' and '_' are"
            )
    for shard in index.shards:
        check_shard_name(shard.name, path)
        if shard.bytes < 1 or not re.fullmatch(SHA256, shard.sha256):
            raise DualPixelError(f"{path}: no SHA-256 or no length of the shard {shard.name}; make the index again")
    noted = index.preparation.get("windows")
    rule = None if noted is None else build(WindowRule, noted, f"{path}: preparation.windows")
    keys = set()
    for sample in index.samples:
        if sample.key in keys:
            raise DualPixelError(f"{path}: the key {sample.key!r} stands twice; make the index again")
        keys.add(sample.key)
        if not 0 <= sample.shard < len(index.shards):
            raise DualPixelError(
                f"{path}: sample {sample.key} names shard {sample.shard}, there are {len(index.shards)}"
            )
        for name, member in sample.members.items():
            _check_member(
                f"{path}: {sample.key}.{ascii(name)[1:-1][:80]}", name, member, index.shards[sample.shard].bytes
            )
        sizes = {tuple(member.shape[:2]) for member in sample.members.values()}
        if len(sizes) != 1:
            raise DualPixelError(f"{path}: {sample.key} has fields of {len(sizes)} sizes; make the index again")
        _check_windows(f"{path}: {sample.key}", sample.windows, *sizes.pop(), rule)
    settings = {name: value for name, value in index.preparation.items() if name != "request"}  # noted afterwards
    if index.fingerprint != fingerprint(index.dataset, index.version, index.split, settings, index.samples):
        raise DualPixelError(
            f"{path}: its fingerprint is not that of its samples, so the index was altered or damaged; "
            "get it again, or prepare the set again"
        )


def _check_windows(where: str, windows: list[list[int]], height: int, width: int, rule: WindowRule | None) -> None:
    if windows and rule is None:
        raise DualPixelError(f"{where}: windows without a rule for them; make the index again")
    for window in windows:
        inside = len(window) == 3 and 0 <= window[0] <= height - rule.size and 0 <= window[1] <= width - rule.size
        if not inside or not 0 <= window[2] < len(windows):
            raise DualPixelError(
                f"{where}: the window {str(window)[:80]} of {rule.size} pixels does not lie in {height}x{width}; make the index again"
            )


def check_shard_name(name: str, path: Folder) -> None:
    """Refuse anything but the plain name of a tar: no folders, no protocols, no pipes, no signs that look like others."""
    if not re.fullmatch(SHARD_NAME, name):
        raise DualPixelError(
            f"{path}: the shard name {ascii(name[:80])} is not allowed; a shard is a plain file name of ASCII letters, digits and few "
            "signs, ending in .tar"
        )


def _check_member(where: str, name: str, member: Member, shard_bytes: int) -> None:
    if name not in FIELDS or member.dtype not in DTYPES or member.codec not in ("npy", "png"):
        raise DualPixelError(
            f"{where}: field, type or codec is not allowed ({ascii(member.dtype[:40])}, {ascii(member.codec[:40])})"
        )
    if (member.dtype == "float32") == (name in IMAGES):
        raise DualPixelError(f"{where}: is {member.dtype}; images are uint8 or uint16, maps float32")
    if (
        len(member.shape) != (3 if name in IMAGES else 2)
        or min(member.shape) < 1
        or (name in IMAGES and member.shape[2] != 3)
    ):
        raise DualPixelError(f"{where}: shape {str(member.shape)[:80]} is not allowed")
    pixels = member.shape[0] * member.shape[1] * (3 if name in IMAGES else 1)
    size = {"uint8": 1, "uint16": 2, "float32": 4}[member.dtype]
    if pixels * size > LARGEST:
        raise DualPixelError(f"{where}: {str(member.shape)[:80]} of {member.dtype} is more than {LARGEST} bytes")
    if member.offset < 0 or member.bytes < 0 or member.offset + member.bytes > shard_bytes:
        raise DualPixelError(f"{where}: lies outside its shard")
    if member.codec == "npy" and member.bytes != pixels * size:
        raise DualPixelError(f"{where}: {member.bytes} bytes for shape {member.shape} of {member.dtype}")
