"""Pixels out of a shard: mapped into memory where they lie raw, so that a crop costs only the bytes it covers."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np

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
    image = decode_image(raw, name)
    if list(image.shape) != member.shape or str(image.dtype) != member.dtype:
        raise DualPixelError(
            f"{name}: a member is {image.shape} {image.dtype}, its index says {member.shape} {member.dtype}"
        )
    return image


class LocalShards:
    """The shards of a folder. Mappings are opened at first use in each process and kept.

    Raises:
        DualPixelError: a shard that is missing or of another size than the index says.
    """

    def __init__(self, folder: Path, shards: Sequence[Shard]) -> None:
        self.paths = [folder / shard.name for shard in shards]
        self._maps: dict[int, np.memmap] = {}
        for path, shard in zip(self.paths, shards, strict=True):
            found = path.stat().st_size if path.is_file() else None
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
        """Return the bytes of a shard, mapped."""
        if number not in self._maps:
            self._maps[number] = np.memmap(self.paths[number], np.uint8, "r")
        return self._maps[number]


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

    It can be handed to workers: each process opens its own mappings.

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

    def __len__(self) -> int:
        return len(self.index.samples)

    def array(self, position: int, field: str) -> np.ndarray:
        """Return one field of the sample at `position`: (H, W, 3) or (H, W), read-only, not yet read from disk where raw."""
        sample = self.index.samples[position]
        member = sample.members[field]
        shard = self.shards.content(sample.shard, sample.key)
        return _array_of(shard, member, f"{self.index.shards[sample.shard].name}: {sample.key}.{field}")

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
