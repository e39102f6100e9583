"""A folder of fetched shards that never grows beyond its bound, shared by all processes and runs of a machine.

Shards are named by their content, so one that several roots, runs or processes want is fetched once. Who reads a shard holds a shared
lock on its file for as long as its mapping lives; who fetches one holds an exclusive lock on the unfinished file, which counts with the
length it will have. Files appear, get their names and are removed only by the holder of the folder's lock.

A fetched shard whose SHA-256 was right gets a time of modification that is a number made of it, which it loses when somebody alters it;
its time of access says when it was used last.
"""

import errno
import fcntl
import mmap
import os
import re
import time
from collections.abc import Container, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from dualpixel.data.remote import RemoteShard, fetch
from dualpixel.errors import DualPixelError
from dualpixel.files import locked, sha256
from dualpixel.paths import cache_home, local_folder

GIGABYTE = 10**9
PATIENCE_SECONDS = 120.0
"""How long a reader waits for others to let go of shards, before it says that the bound is too small."""
NAME = re.compile(r"(?P<sha256>[0-9a-f]{64})-(?P<bytes>[0-9]+)\.(tar|part)")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True)
class _Stored:
    path: Path
    sha256: str
    bytes: int
    used: int


class ShardCache:
    """Shards of servers, on a local disk.

    Args:
        folder: where they are kept; by default ``shards`` in the cache folder of `dualpixel.paths.cache_home`.
        gigabytes: how much the folder may hold at any time, in 10^9 bytes, over all processes that use it.

    Attributes:
        leader: the prefetcher that acts, since its order is the one that is read now; kept by `dualpixel.data.prefetch`.

    Raises:
        DualPixelError: the folder cannot be made, or a bound that is not positive.
    """

    def __init__(self, folder: Path | None = None, gigabytes: float = 50.0) -> None:
        if not gigabytes > 0:
            raise DualPixelError(f"data.cache_gigabytes {gigabytes}: must be positive")
        self.folder = local_folder(folder) if folder else cache_home() / "shards"
        self.bound = round(gigabytes * GIGABYTE)
        self.leader: Any = None
        # shared with the processes of a loader; changed under the folder's lock
        self._counts = torch.zeros(2, dtype=torch.int64).share_memory_()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise DualPixelError(f"data.cache {self.folder}: cannot be made ({fault.strerror}); name another") from None

    def __getstate__(self) -> dict:
        return {**self.__dict__, "leader": None}

    @property
    def waits(self) -> int:
        """How often a reader of this object, or of its copies in a loader's workers, found a shard missing."""
        return int(self._counts[0])

    @property
    def fetched(self) -> int:
        """How many shards this object and its copies in a loader's workers fetched."""
        return int(self._counts[1])

    def has(self, shard: RemoteShard) -> bool:
        """Say whether a shard is here at this moment."""
        try:
            return self._path(shard).exists()
        except OSError:  # a folder that may not be looked into
            return False

    def touch(self, shard: RemoteShard) -> None:
        """Mark a shard as used now, if it is here: the one that was used longest ago goes first."""
        with suppress(OSError):  # it may be gone, read-only, or another user's
            path = self._path(shard)
            os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))

    def mapped(self, shard: RemoteShard, key: str) -> mmap.mmap:
        """Map a shard into memory, fetched first if it is not here; it stays here as long as the mapping lives.

        Args:
            shard: what to map.
            key: of the sample that needs it, for the message.

        Raises:
            DualPixelError: it cannot be got or kept.
        """
        try:
            with self._faults_in_words(shard):
                found = self._map(shard)
                if found is None:
                    self._count(0)
                while found is None:
                    self.fetch(shard)
                    found = self._map(shard)
                return found
        except DualPixelError as fault:
            raise DualPixelError(f"{fault} (for the sample {key})") from None

    def fetch(self, shard: RemoteShard, keep: Container[str] = (), wait: bool = True) -> bool:
        """Bring a shard here, or wait until the process that is fetching it is done.

        Args:
            shard: what to fetch.
            keep: SHA-256 of shards that are not removed to make room.
            wait: for room, and for another process that fetches it; otherwise return at once.

        Returns:
            Whether the shard is here.

        Raises:
            DualPixelError: it cannot be got, the disk is full, or there is no room for it.
        """
        if shard.bytes > self.bound:
            raise DualPixelError(
                f"{shard.url} has {shard.bytes / GIGABYTE:.6g} GB, the cache {self.folder} may hold {self.bound / GIGABYTE:.6g}; "
                "raise data.cache_gigabytes"
            )
        until = time.monotonic() + PATIENCE_SECONDS
        with self._faults_in_words(shard):
            while not self.has(shard):
                file, mine = self._reserve(shard, keep)
                if mine:
                    self._fill(shard, file)
                elif not wait:
                    if file:
                        file.close()
                    return self.has(shard)
                elif file:
                    with file:
                        fcntl.flock(file, fcntl.LOCK_SH)  # until the process that fetches it is done, or dead
                        fcntl.flock(file, fcntl.LOCK_UN)
                elif time.monotonic() < until:
                    time.sleep(0.05)
                else:
                    raise DualPixelError(
                        f"{shard.url}: the cache {self.folder} ({self.bound / GIGABYTE:.6g} GB) is full of shards that other processes "
                        "are reading; raise data.cache_gigabytes, or give this run a data.cache of its own"
                    )
        return True

    @contextmanager
    def _faults_in_words(self, shard: RemoteShard) -> Iterator[None]:
        try:
            yield
        except OSError as fault:
            mend = "mend it"
            if fault.errno in FULL:
                mend = "lower data.cache_gigabytes, make room"
            elif fault.errno in FORBIDDEN:
                mend = "a cache is one user's: make it yours"
            raise DualPixelError(
                f"{shard.url}: the cache {self.folder} cannot hold it ({fault.strerror or fault}); {mend}, or name another data.cache"
            ) from None

    def _held(self) -> AbstractContextManager[None]:
        # said before the lock is taken, whose message could not name the option
        if self.folder.exists() and not os.access(self.folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return locked(self.folder)

    def _path(self, shard: RemoteShard, ending: str = "tar") -> Path:
        return self.folder / f"{shard.sha256}-{shard.bytes}.{ending}"

    def _map(self, shard: RemoteShard) -> mmap.mmap | None:
        path = self._path(shard)
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH)
                found = os.fstat(file.fileno())
                if found.st_nlink == 0:  # removed between the opening and the lock
                    return None
                if found.st_size == shard.bytes and (found.st_mtime == _mark(shard) or sha256(path) == shard.sha256):
                    with suppress(OSError):  # where it cannot be marked, it is hashed each time
                        os.utime(path, (time.time(), _mark(shard)))
                    # the mapping holds a copy of the file's descriptor, and with it the lock
                    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            return None
        with self._held():  # cut or altered by somebody
            path.unlink(missing_ok=True)
        return None

    def _reserve(self, shard: RemoteShard, keep: Container[str]) -> tuple[BinaryIO | None, bool]:
        """Open the unfinished file of a shard, None if there is no room for it; say whether it is ours to fill."""
        path = self._path(shard, "part")
        with self._held():
            if self.has(shard) or not (path.exists() or self._make_room(shard.bytes, keep)):
                return None, False
            file = path.open("ab+", buffering=0)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return file, False
            return file, True

    def _fill(self, shard: RemoteShard, file: BinaryIO) -> None:
        path = self._path(shard, "part")
        with file:
            try:
                fetch(shard, file)
                os.fsync(file.fileno())
                os.utime(path, (time.time(), _mark(shard)))
                with self._held():
                    path.rename(self._path(shard))
                    self._counts[1] += 1
            except (OSError, DualPixelError) as fault:
                if isinstance(fault, OSError) or os.fstat(file.fileno()).st_size == 0:
                    with self._held():
                        path.unlink(missing_ok=True)
                raise
            finally:
                fcntl.flock(
                    file, fcntl.LOCK_UN
                )  # closing is not enough: a process forked meanwhile holds the file open, too

    def _make_room(self, wanted: int, keep: Container[str]) -> bool:
        stored = sorted(self._stored(), key=lambda one: one.used)
        used = sum(one.bytes for one in stored)
        candidates = [one for one in stored if one.sha256 not in keep]
        if used - sum(one.bytes for one in candidates) + wanted > self.bound:
            return False
        for one in candidates:
            if used + wanted <= self.bound:
                break
            used -= one.bytes if _remove_unused(one.path) else 0
        return used + wanted <= self.bound

    def _stored(self) -> Iterator[_Stored]:
        for entry in os.scandir(self.folder):
            if match := NAME.fullmatch(entry.name):
                yield _Stored(Path(entry.path), match["sha256"], int(match["bytes"]), entry.stat().st_atime_ns)

    def _count(self, which: int) -> None:
        with self._held():
            self._counts[which] += 1


def _mark(shard: RemoteShard) -> int:
    """The time of modification of a file that was found right: whole seconds, in the seventies of the last century."""
    return int(shard.sha256[:7], 16)


def _remove_unused(path: Path) -> bool:
    """Remove a file unless somebody reads or fetches it; say whether it is gone."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        path.unlink()
        fcntl.flock(file, fcntl.LOCK_UN)
    return True
