"""Shards: plain WebDataset tars that hold whole scenes. Written with webdataset, described by reading the tar's own headers."""

import io
import json
import math
import re
import tarfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dualpixel.data.checked_scenes import scene_digest
from dualpixel.data.fields import FIELDS, IMAGES
from dualpixel.data.images import decode_image, encode_png
from dualpixel.data.index import DTYPES, Member, Sample, Shard
from dualpixel.errors import DualPixelError
from dualpixel.files import atomic, parse_json, sha256

Codec = Literal["npy", "png"]
METADATA_BYTES = 1 << 20
"""The most that the metadata of one scene may have."""
HEADER_BYTES = 1 << 16
HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
"""Kinds of tar headers that hold additions to others, and the most bytes that they may have."""


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
    stems: dict[str, str] = {}
    for member in _tar_members(path):
        folder, _, name = member.name.rpartition("/")
        stem, _, ending = name.partition(".")
        stem = f"{folder}/{stem}" if folder else stem
        key, ending = re.sub(r"[^A-Za-z0-9_-]", "_", stem), ending.lower()
        if stems.setdefault(key, stem) != stem or ending in found.get(key, {}):
            raise DualPixelError(f"{path.name}: {ascii(member.name)[:120]} is there twice, or too like another name")
        found.setdefault(key, {})[ending] = member
    with path.open("rb") as stream:
        samples = [_describe_sample(path, stream, number, key, members) for key, members in found.items()]
    return Shard(path.name, path.stat().st_size, sha256(path)), samples


class _BoundedInfo(tarfile.TarInfo):
    """A header of a tar from anywhere, whose own additions are read into memory whole: names, times and the like."""

    @classmethod
    def frombuf(cls, *arguments: Any) -> "_BoundedInfo":
        found = super().frombuf(*arguments)
        if found.size < 0 or (found.type in HEADERS and found.size > HEADER_BYTES):
            raise tarfile.ReadError(f"a header of {found.size} bytes")
        return found


def _tar_members(path: Path) -> list[tarfile.TarInfo]:
    """List the members of a whole tar of plain files.

    Raises:
        DualPixelError: it is something else, or has anything but zeros behind its end: Python takes a damaged header for the end.
    """
    size, found, end = path.stat().st_size, [], 0
    try:
        with tarfile.open(path, "r:", tarinfo=_BoundedInfo) as tar:
            for member in tar:
                if not member.isfile() or member.issparse():
                    raise DualPixelError(
                        f"{path.name}: {ascii(member.name)[:120]} is not a plain file; a shard holds files only"
                    )
                if member.offset < end or member.size < 0 or member.offset_data + member.size > size:
                    raise tarfile.ReadError(f"{ascii(member.name)[:120]} is cut off, or lies outside")
                end = member.offset_data + member.size
                found.append(member)
        with path.open("rb") as stream:
            stream.seek(end + -end % tarfile.BLOCKSIZE)
            if not (rest := stream.read(tarfile.BLOCKSIZE)):
                raise tarfile.ReadError("its end is missing")
            while rest:
                if rest.count(0) != len(rest):
                    raise tarfile.ReadError(
                        f"damaged, or more data behind its end, at byte {stream.tell() - len(rest)}"
                    )
                rest = stream.read(1 << 20)
    except (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError) as error:
        if isinstance(error, DualPixelError):
            raise
        raise DualPixelError(f"{path}: not a whole, plain tar ({error}); get or prepare it again") from None
    return found


def _describe_sample(path: Path, stream: Any, number: int, key: str, infos: dict[str, tarfile.TarInfo]) -> Sample:
    noted: dict[str, Any] = {}
    if "json" in infos:
        if infos["json"].size > METADATA_BYTES:
            raise DualPixelError(f"{path.name}: {key}.json is larger than {METADATA_BYTES} bytes, which no metadata is")
        noted = parse_json(_content(path, stream, infos["json"]), f"{path.name}: {key}.json")
    members, arrays = {}, {}
    for name in FIELDS:
        for codec in ("npy", "png"):
            if f"{name}.{codec}" in infos:
                info = infos[f"{name}.{codec}"]
                content = _content(path, stream, info)
                where = f"{path.name}: {ascii(info.name)[1:-1][:120]}"
                members[name], arrays[name] = _describe_member(where, info, content, codec)
    if not members:
        raise DualPixelError(
            f"{path.name}: {key[:60]} has none of the fields {', '.join(FIELDS)} as .npy or .png; "
            f"found {ascii(', '.join(infos))[:120]}"
        )
    sizes = {tuple(member.shape[:2]) for member in members.values()}
    if len(sizes) > 1:
        raise DualPixelError(f"{path.name}: the fields of {key} differ in size: {sorted(sizes)}")
    group = noted.get("group", "") if isinstance(noted, dict) else ""
    windows = noted.get("windows", []) if isinstance(noted, dict) else []
    metadata = noted.get("metadata", noted) if isinstance(noted, dict) else {}
    return Sample(
        key, number, members, scene_digest(arrays), str(group), metadata if isinstance(metadata, dict) else {}, windows
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
        version = np.lib.format.read_magic(stream)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, turned, dtype = read_header[version](stream)
    except Exception as error:  # the header is Python text, and fails in all the ways that such text can
        said = " ".join(str(error).split())[:120] or type(error).__name__
        raise DualPixelError(f"{where}: not a plain array ({said})") from None
    if str(dtype) not in DTYPES or turned:
        raise DualPixelError(f"{where}: not a plain array: {str(dtype)[:80]}; expected {', '.join(DTYPES)} in C order")
    header, wanted = stream.tell(), math.prod(shape) * dtype.itemsize
    usual = len(shape) in (2, 3) and all(type(side) is int and side > 0 for side in shape)
    if not usual or len(content) - header != wanted:
        raise DualPixelError(
            f"{where}: {len(content) - header} bytes of pixels, its header says {str(shape)[:80]} of {dtype}; get it again"
        )
    array = np.frombuffer(content, dtype, offset=header).reshape(shape)
    return Member(info.offset_data + header, array.nbytes, list(shape), str(dtype)), array
