"""Files below a folder or inside a zip archive, found by the same patterns; what lies in an archive is read without unpacking it.

An archive comes from anywhere. Its names stay names: nothing is ever written where one of them points. What a member claims to be is
checked before a byte of it is unpacked, and what it turns out to be afterwards.
"""

import os
import re
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, NoReturn

from dualpixel.errors import DualPixelError

LARGEST = 1 << 30
"""The most bytes that a member may have; the largest photographs of the sets there are, uncompressed, have a sixth of it."""
RATIO = 200
"""The most that a member of more than `UNSUSPICIOUS` bytes may be packed by. Image files hardly shrink at all."""
UNSUSPICIOUS = 1 << 24
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""How members may be packed. Of these two alone Python unpacks no more than it is asked for."""


@dataclass(frozen=True)
class Member:
    """A file inside a zip archive, to be used like a `Path` that is only read.

    Args:
        archive: the zip file.
        path: name inside it.
        size: bytes when unpacked.
        checksum: CRC-32 of these bytes, as the archive states them.
    """

    archive: Path
    path: PurePosixPath
    size: int
    checksum: int

    def __str__(self) -> str:
        return f"{self.archive}: {self.path}"

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.name

    @property
    def stem(self) -> str:
        """Last part of the path without its ending."""
        return self.path.stem

    @property
    def parent(self) -> PurePosixPath:
        """The folder inside the archive."""
        return self.path.parent

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Give a stream of the unpacked bytes.

        Raises:
            DualPixelError: damaged, encrypted, or another file than when the archive was listed.
        """
        try:
            about = self.archive.stat()
            opened = _opened(self.archive, about.st_size, about.st_mtime_ns, os.getpid())
            info = opened.getinfo(str(self.path))
            if (info.file_size, info.CRC) != (self.size, self.checksum):
                raise DualPixelError(f"{self}: the archive has changed since it was listed; start again")
            with opened.open(info) as stream:
                yield stream
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, KeyError) as error:
            raise DualPixelError(f"{self}: cannot be read ({error}); download the archive again") from None

    def read_bytes(self) -> bytes:
        """Return the unpacked bytes; their CRC-32 is that of the archive. Raises what `open` raises."""
        with self.open() as stream:
            content = stream.read(self.size)
        if len(content) != self.size:
            raise DualPixelError(f"{self}: has {len(content)} bytes, the archive says {self.size}; download it again")
        return content


File = Path | Member
"""A file of a data set as it was downloaded."""


def stamp(file: File) -> list[int]:
    """Return numbers that tell whether a file is still the same, without reading it: size, and time or CRC-32."""
    if isinstance(file, Member):
        return [file.size, file.checksum]
    about = file.stat()
    return [about.st_size, about.st_mtime_ns]


@contextmanager
def on_disk(file: File) -> Iterator[Path]:
    """Give a path to a file for readers that take nothing else; a member of an archive is unpacked beside the other temporary files.

    Messages raised inside the block that name the path name the member instead.
    """
    if isinstance(file, Path):
        yield file
        return
    with tempfile.TemporaryDirectory(prefix="dualpixel-") as folder:
        path = Path(folder) / f"member{file.path.suffix}"
        path.write_bytes(file.read_bytes())
        try:
            yield path
        except DualPixelError as error:
            raise DualPixelError(str(error).replace(str(path), str(file))) from None


@dataclass(frozen=True)
class Files:
    """The files below a folder, or inside a zip archive or one of its folders.

    Args:
        source: the folder or the zip archive.
        inside: folder inside the archive; "." for all of it.
    """

    source: Path
    inside: PurePosixPath = PurePosixPath()

    def __post_init__(self) -> None:
        if not self.source.is_dir() and not zipfile.is_zipfile(self.source):
            raise DualPixelError(
                f"{self.source} is neither a folder nor a zip archive (or a truncated one); "
                "download it again, or unpack it and name the folder"
            )

    def __str__(self) -> str:
        return str(self.source) if self.inside == PurePosixPath() else f"{self.source}: {self.inside}"

    def below(self, folder: str) -> "Files | None":
        """Return the files below one of the folders in here; None where there is no such folder.

        Raises:
            DualPixelError: a folder that lies elsewhere.
        """
        _check_inside(folder)
        if self.source.is_dir():
            return Files(self.source / folder) if (self.source / folder).is_dir() else None
        inside = self.inside / folder
        there = any(inside in member.path.parents for member, _ in _members(self.source))
        return Files(self.source, inside) if there else None

    def glob(self, pattern: str) -> list[File]:
        """Return the files that match, in sorted order; those whose names begin with a dot are left out.

        Args:
            pattern: as for `Path.glob`: ``*`` and ``?`` stay within one name, ``**`` is any number of folders.

        Raises:
            DualPixelError: a pattern that leads elsewhere; or a member of the archive that matches is encrypted, too large, packed too
                tightly or in another way than `METHODS`, or there twice.
        """
        _check_inside(pattern)
        if self.source.is_dir():
            found = {file for file in self.source.glob(pattern) if file.is_file()}
            return sorted(file for file in found if not file.name.startswith("."))
        wanted = (*self.inside.parts, *pattern.split("/"))
        matching = {}
        for member, info in _members(self.source):
            if member.name.startswith(".") or not _matches(member.path.parts, wanted):
                continue
            if member.path in matching:
                raise DualPixelError(f"{member}: is in the archive twice; download it again")
            _check_content(member, info)
            matching[member.path] = member
        return [matching[path] for path in sorted(matching)]


def archives_in(folder: Path, names: Iterable[str]) -> list[Files]:
    """Return the zip archives of these names that lie in a folder."""
    paths = [folder / name for name in names if name.lower().endswith(".zip") and not re.search(r"[/\\\0]", name)]
    return [Files(path) for path in paths if path.is_file()]


def _check_inside(pattern: str) -> None:
    """Refuse what a card must not say: it may come from anywhere, and is to find the files of the source alone."""
    if not isinstance(pattern, str) or ".." in pattern.split("/") or not re.fullmatch(r"[^/\\\0][^\\\0]*", pattern):
        raise DualPixelError(
            f"the pattern {ascii(pattern)[:80]} of the card is refused: it must lead below the source folder, with '/' and without '..'"
        )


@lru_cache(maxsize=2)
def _opened(archive: Path, size: int, time: int, process: int) -> zipfile.ZipFile:
    """Open an archive once in each process, and again when it has changed: its table of contents takes a while to read."""
    return zipfile.ZipFile(archive)


def _members(archive: Path) -> list[tuple[Member, zipfile.ZipInfo]]:
    about = archive.stat()
    return _listed(archive, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=2)
def _listed(archive: Path, size: int, time: int) -> list[tuple[Member, zipfile.ZipInfo]]:
    try:
        infos = _opened(archive, size, time, os.getpid()).infolist()
    except (zipfile.BadZipFile, OSError, RuntimeError, ValueError) as error:
        raise DualPixelError(f"{archive}: not a whole zip archive ({error}); download it again") from None
    for info in infos:
        _check_name(archive, info)
    return [
        (Member(archive, PurePosixPath(info.filename), info.file_size, info.CRC), info)
        for info in infos
        if not info.is_dir()
    ]


def _check_name(archive: Path, info: zipfile.ZipInfo) -> None:
    name = info.orig_filename
    outside = ".." in re.split(r"[/\\]", name) or re.match(r"[/\\]|[A-Za-z]:", name)
    if outside or "\0" in name:
        _refuse(archive, name, "its name points out of the archive")
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        _refuse(archive, name, "it is a link or a device, not a file")


def _check_content(member: Member, info: zipfile.ZipInfo) -> None:
    if info.flag_bits & 1:
        _refuse(
            member.archive, info.filename, "it is encrypted; unpack the archive with its password, and name the folder"
        )
    if info.compress_type not in METHODS:
        _refuse(
            member.archive,
            info.filename,
            f"it is packed by method {info.compress_type}; unpack the archive, and name the folder",
        )
    packed = max(info.compress_size, 1)
    if info.file_size > LARGEST or (info.file_size > UNSUSPICIOUS and info.file_size > RATIO * packed):
        _refuse(
            member.archive,
            info.filename,
            f"it claims to be {info.file_size} bytes packed into {info.compress_size}, which no image is",
        )


def _refuse(archive: Path, name: str, why: str) -> NoReturn:
    raise DualPixelError(f"{archive}: {name!r} is refused: {why}")


def _matches(parts: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    if not wanted:
        return not parts
    if wanted[0] == "**":
        return _matches(parts, wanted[1:]) or (bool(parts) and _matches(parts[1:], wanted))
    return bool(parts) and fnmatchcase(parts[0], wanted[0]) and _matches(parts[1:], wanted[1:])
