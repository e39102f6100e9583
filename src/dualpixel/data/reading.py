"""Pixels out of a shard: mapped into memory where they lie raw, so that a crop costs only the bytes it covers."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np

from dualpixel.data.checked_scenes import CheckedScenes, scene_digest
from dualpixel.data.images import decode_image
from dualpixel.data.index import INDEX, Index, Member, Shard, load_index
from dualpixel.data.maps import depth_range
from dualpixel.data.remote import Folder, RemoteFolder, RemoteShard, as_folder
from dualpixel.errors import DualPixelError

if TYPE_CHECKING:
    from dualpixel.data.cache import ShardCache


def open_member(path: Path, member: Member) -> np.ndarray:
    """Return one field of one sample as an array that reads from the file when it is touched (``npy``) or decoded (``png``).

    Raises:
        DualPixelError: the shard is shorter than the member needs.
    """
    if not path.is_file() or path.stat().st_size < member.offset + member.bytes:
        raise DualPixelError(
            f"{path}: missing or truncated shard; prepare the set again, or find what is wrong by `data verify`"
        )
    return _array_of(np.memmap(path, np.uint8, "r"), member, str(path))


def _array_of(shard: np.ndarray, member: Member, name: str) -> np.ndarray:
    raw = shard[member.offset : member.offset + member.bytes]
    if member.codec == "npy":
        return raw.view(member.dtype).reshape(member.shape)
    image = decode_image(raw, name, size=(member.shape[0], member.shape[1]))
    if list(image.shape) != member.shape or str(image.dtype) != member.dtype:
        raise DualPixelError(
            f"{name}: a member is {image.shape} {image.dtype}, its index says {member.shape} {member.dtype}"
        )
    return image


class LocalShards:
    """The shards of a folder. Mappings are opened at first use in each process and kept.

    A shard may be a link: whatever it leads to is only read, and must have the size, and later the pixels, that the index states.

    Attributes:
        stamps: size, time of modification, number and time of change of each file: while they stay, so do its bytes.

    Raises:
        DualPixelError: a shard that is missing or of another size than the index says.
    """

    def __init__(self, folder: Path, shards: Sequence[Shard]) -> None:
        self.paths = [folder / shard.name for shard in shards]
        self._maps: dict[int, np.memmap] = {}
        self.stamps = [_stamp(path) for path in self.paths]
        for path, shard, (found, *_) in zip(self.paths, shards, self.stamps, strict=True):
            if found != shard.bytes:
                said = (
                    "is missing"
                    if found is None
                    else f"has {found} bytes, its index says {shard.bytes}: truncated or altered"
                )
                raise DualPixelError(f"{path} {said}; run `data verify`, then prepare the set again")

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_maps": {}}

    def content(self, number: int, key: str) -> np.ndarray:
        """Return the bytes of a shard, mapped.

        Raises:
            DualPixelError: it cannot be read, or has changed since the split was opened.
        """
        if number not in self._maps:
            path = self.paths[number]
            if _stamp(path)[:3] != self.stamps[number][:3]:
                raise DualPixelError(f"{path} was altered since this run began (met at the sample {key}); start again")
            try:
                self._maps[number] = np.memmap(path, np.uint8, "r")
            except OSError as fault:
                raise DualPixelError(f"{path}: cannot be read ({fault.strerror}), for the sample {key}") from None
        return self._maps[number]


def _stamp(path: Path) -> tuple[int | None, ...]:
    if not path.is_file():
        return (None,)
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns


class RemoteShards:
    """The shards of a folder on a server, by way of a cache. Mappings live as long as somebody looks at them.

    Raises:
        DualPixelError: shards without a SHA-256 in the index.
    """

    def __init__(self, folder: RemoteFolder, shards: Sequence[Shard], cache: "ShardCache") -> None:
        self.pieces = [RemoteShard(str(folder / shard.name), shard.bytes, shard.sha256) for shard in shards]
        self.cache = cache
        self._maps: WeakValueDictionary = WeakValueDictionary()

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name != "_maps"}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._maps = WeakValueDictionary()

    def content(self, number: int, key: str) -> np.ndarray:
        """Return the bytes of a shard, mapped; it is fetched first where it is not in the cache.

        Raises:
            DualPixelError: it cannot be got; the message names it and the sample `key` that needs it.
        """
        mapping = self._maps.get(number)
        if mapping is None:
            mapping = self._maps[number] = self.cache.mapped(self.pieces[number], key)
        return np.frombuffer(mapping, np.uint8)


class PreparedSplit:
    """A split as it lies on a disk or on a server: its index, and its pixels on demand.

    It can be handed to workers: each process opens its own mappings. The first use of a scene hashes all its pixels, once on each
    machine (see `dualpixel.data.checked_scenes.CheckedScenes`), so that what is altered is never trained on.

    Args:
        folder: holds ``index.json`` and the shards; a path, or an address such as ``https://HOST/FOLDER/train``.
        cache: keeps what is fetched from an address; by default one of the default folder and size.

    Raises:
        DualPixelError: no index, an empty split, or a shard that is missing or of another size than the index says.
    """

    def __init__(self, folder: str | Folder, cache: "ShardCache | None" = None) -> None:
        self.folder = as_folder(folder)
        self.index: Index = load_index(self.folder)
        self._depth_ranges: dict[int, tuple[float, float]] = {}
        if not self.index.samples:
            raise DualPixelError(f"{self.folder / INDEX}: the split is empty; prepare it again")
        self.shards: LocalShards | RemoteShards
        if isinstance(self.folder, Path):
            self.shards = LocalShards(self.folder, self.index.shards)
        else:
            from dualpixel.data.cache import ShardCache  # a second or so: it imports torch

            self.shards = RemoteShards(self.folder, self.index.shards, cache or ShardCache())
        local = [str(self.folder.resolve()), self.shards.stamps] if isinstance(self.folder, Path) else []
        self._checked = CheckedScenes([repr(self.index), local], len(self.index.samples))

    def __len__(self) -> int:
        return len(self.index.samples)

    def array(self, position: int, field: str) -> np.ndarray:
        """Return one field of the sample at `position`: (H, W, 3) or (H, W), read-only, not yet read from disk where raw.

        Raises:
            DualPixelError: the shard cannot be got or read, or the pixels of the sample are not those that the index names.
        """
        self._checked.ensure(position, lambda: self.check(position))
        return self._array(position, field)

    def _array(self, position: int, field: str) -> np.ndarray:
        sample = self.index.samples[position]
        shard = self.shards.content(sample.shard, sample.key)
        return _array_of(shard, sample.members[field], f"{self.index.shards[sample.shard].name}: {sample.key}.{field}")

    def check(self, position: int) -> None:
        """Hash the sample at `position`, whether or not that was done before.

        Raises:
            DualPixelError: its pixels are not those that the index names.
        """
        sample = self.index.samples[position]
        if scene_digest({name: self._array(position, name) for name in sample.members}) != sample.sha256:
            raise DualPixelError(
                f"{self.folder / self.index.shards[sample.shard].name}: the pixels of {sample.key} are not those of the index: "
                "altered or damaged; find all such shards by `data verify`, then prepare them or get them again"
            )

    def size(self, position: int) -> tuple[int, int]:
        """Return (height, width) of the sample at `position`."""
        height, width = next(iter(self.index.samples[position].members.values())).shape[:2]
        return height, width

    def depth_range(self, position: int) -> tuple[float, float]:
        """Return the smallest and the largest depth of the sample at `position`, metres; looked up once.

        Raises:
            DualPixelError: depth that is unknown, zero or negative.
        """
        if position not in self._depth_ranges:
            name = f"{self.folder}: {self.index.samples[position].key}"
            self._depth_ranges[position] = depth_range(self.array(position, "depth"), name)
        return self._depth_ranges[position]
