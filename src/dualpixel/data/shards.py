"""Shards: plain WebDataset tars that hold whole scenes. Written with webdataset, described by reading the tar's own headers."""

import hashlib
import io
import json
import re
import tarfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dualpixel.data.fields import FIELDS, IMAGES
from dualpixel.data.images import decode_image, encode_png
from dualpixel.data.index import DTYPES, Member, Sample, Shard
from dualpixel.errors import DualPixelError
from dualpixel.files import atomic, sha256

Codec = Literal["npy", "png"]


@dataclass(frozen=True)
class SceneData:
    """One scene ready to be written: its arrays, and what the index notes of it."""

    key: str
    arrays: dict[str, np.ndarray]
    group: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    windows: list[list[int]] = field(default_factory=list)


class ShardFile:
    """Writes one shard; use it as a context manager. The tar appears under its name only when it is complete.

    Members are named ``KEY.FIELD.npy`` (or ``KEY.FIELD.png``) and ``KEY.json``. Times, owners and order are fixed, so the same scenes
    give the same bytes.

    Args:
        path: the tar to write.
        codec: "npy" for raw pixels that can be mapped into memory, "png" for 16-bit PNG members of images (maps stay ``npy``).
    """

    def __init__(self, path: Path, codec: Codec = "npy") -> None:
        self.path, self.codec = path, codec
        self._scenes: list[SceneData] = []

    def __enter__(self) -> "ShardFile":
        import webdataset  # a second or so: it imports torch

        with ExitStack() as stack:
            beside = stack.enter_context(atomic(self.path))
            stream = stack.enter_context(beside.open("wb"))
            self._tar = webdataset.TarWriter(stream, user="", group="", mtime=0.0, encoder=False)
            stack.callback(self._tar.close)  # it writes the last blocks, which may fail as any others may
            self._open = stack.pop_all()
        return self

    def write(self, scene: SceneData) -> None:
        """Add one scene."""
        members: dict[str, Any] = {"__key__": scene.key}
        for name, array in scene.arrays.items():
            as_png = self.codec == "png" and name in IMAGES
            members[f"{name}.{'png' if as_png else 'npy'}"] = encode_png(array) if as_png else npy_bytes(array)
        noted = {"group": scene.group, "metadata": scene.metadata, "windows": scene.windows}
        members["json"] = json.dumps(noted, sort_keys=True).encode()
        self._tar.write(members)

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)


def npy_bytes(array: np.ndarray) -> bytes:
    """Return an array as the bytes of an ``.npy`` file."""
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(array), allow_pickle=False)
    return stream.getvalue()


def describe_shard(path: Path, number: int) -> tuple[Shard, list[Sample]]:
    """Read the headers of a tar (our own or anybody's) and note what lies where.

    Args:
        path: a plain tar.
        number: the number the shard gets in the index.

    Raises:
        DualPixelError: truncated, compressed, or with members that are neither ``npy`` nor ``png`` arrays of a known field.
    """
    found: dict[str, dict[str, tarfile.TarInfo]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if not member.isfile():
                    raise DualPixelError(f"{path.name}: {member.name} is not a plain file; a shard holds files only")
                folder, _, name = member.name.rpartition("/")
                stem, _, ending = name.partition(".")
                key = re.sub(r"[^A-Za-z0-9_-]", "_", f"{folder}/{stem}" if folder else stem)
                found.setdefault(key, {})[ending.lower()] = member
    except tarfile.TarError as error:
        raise DualPixelError(f"{path}: not a whole, plain tar ({error}); get or prepare it again") from None
    with path.open("rb") as stream:
        samples = [_describe_sample(path, stream, number, key, members) for key, members in found.items()]
    return Shard(path.name, path.stat().st_size, sha256(path)), samples


def _describe_sample(path: Path, stream: Any, number: int, key: str, infos: dict[str, tarfile.TarInfo]) -> Sample:
    noted: dict[str, Any] = {}
    if "json" in infos:
        try:
            noted = json.loads(_content(path, stream, infos["json"]))
        except ValueError:
            raise DualPixelError(f"{path.name}: {key}.json is not JSON") from None
    members, digest = {}, hashlib.sha256()
    for name in FIELDS:
        for codec in ("npy", "png"):
            if f"{name}.{codec}" in infos:
                info = infos[f"{name}.{codec}"]
                content = _content(path, stream, info)
                members[name], array = _describe_member(f"{path.name}: {info.name}", info, content, codec)
                digest.update(f"{name}{array.shape}{array.dtype}".encode() + np.ascontiguousarray(array).tobytes())
    if not members:
        raise DualPixelError(
            f"{path.name}: {key} has none of the fields {', '.join(FIELDS)} as .npy or .png; found {', '.join(infos)}"
        )
    sizes = {tuple(member.shape[:2]) for member in members.values()}
    if len(sizes) > 1:
        raise DualPixelError(f"{path.name}: the fields of {key} differ in size: {sorted(sizes)}")
    group = noted.get("group", "") if isinstance(noted, dict) else ""
    windows = noted.get("windows", []) if isinstance(noted, dict) else []
    metadata = noted.get("metadata", noted) if isinstance(noted, dict) else {}
    return Sample(
        key, number, members, digest.hexdigest(), str(group), metadata if isinstance(metadata, dict) else {}, windows
    )


def _content(path: Path, stream: Any, info: tarfile.TarInfo) -> bytes:
    stream.seek(info.offset_data)
    content = stream.read(info.size)
    if len(content) != info.size:
        raise DualPixelError(f"{path}: {info.name} is cut off (a truncated shard); get or prepare it again")
    return content


def _describe_member(where: str, info: tarfile.TarInfo, content: bytes, codec: str) -> tuple[Member, np.ndarray]:
    if codec == "png":
        array = decode_image(content, where)
        return Member(info.offset_data, info.size, list(array.shape), str(array.dtype), "png"), array
    stream = io.BytesIO(content)
    try:
        array = np.lib.format.read_array(stream, allow_pickle=False)
    except ValueError as error:
        raise DualPixelError(f"{where}: not a plain array ({error})") from None
    header = len(content) - array.nbytes
    if str(array.dtype) not in DTYPES or not array.flags.c_contiguous:
        raise DualPixelError(f"{where}: {array.dtype}; expected {', '.join(DTYPES)} in C order")
    return Member(info.offset_data + header, array.nbytes, list(array.shape), str(array.dtype)), array
