"""Pixels out of a shard: mapped into memory where they lie raw, so that a crop costs only the bytes it covers."""

from pathlib import Path

import numpy as np

from dualpixel.data.images import decode_image
from dualpixel.data.index import INDEX, Index, Member, load_index
from dualpixel.data.maps import depth_range
from dualpixel.errors import DualPixelError


def open_member(path: Path, member: Member) -> np.ndarray:
    """Return one field of one sample as an array that reads from the file when it is touched (``npy``) or decoded (``png``).

    Raises:
        DualPixelError: the shard is shorter than the member needs.
    """
    if not path.is_file() or path.stat().st_size < member.offset + member.bytes:
        raise DualPixelError(
            f"{path}: missing or truncated shard; prepare the set again, or find what is wrong by `data verify`"
        )
    if member.codec == "npy":
        return np.memmap(path, member.dtype, "r", member.offset, tuple(member.shape))
    with path.open("rb") as stream:
        stream.seek(member.offset)
        image = decode_image(stream.read(member.bytes), str(path))
    if list(image.shape) != member.shape or str(image.dtype) != member.dtype:
        raise DualPixelError(
            f"{path}: a member is {image.shape} {image.dtype}, its index says {member.shape} {member.dtype}"
        )
    return image


class PreparedSplit:
    """A split as it lies on disk: its index, and its pixels on demand.

    Mappings are opened at first use in each process and kept, so a data set object can be handed to workers.

    Args:
        folder: holds ``index.json`` and the shards.

    Raises:
        DualPixelError: no index, an empty split, or a shard that is missing or of another size than the index says.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.index: Index = load_index(self.folder)
        self._maps: dict[int, np.memmap] = {}
        self._depth_ranges: dict[int, tuple[float, float]] = {}
        if not self.index.samples:
            raise DualPixelError(f"{self.folder / INDEX}: the split is empty; prepare it again")
        for shard in self.index.shards:
            path = self.folder / shard.name
            found = path.stat().st_size if path.is_file() else None
            if found != shard.bytes:
                said = (
                    "is missing"
                    if found is None
                    else f"has {found} bytes, its index says {shard.bytes}: truncated or altered"
                )
                raise DualPixelError(f"{path} {said}; run `data verify`, then prepare the set again")

    def __len__(self) -> int:
        return len(self.index.samples)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_maps": {}}

    def array(self, position: int, field: str) -> np.ndarray:
        """Return one field of the sample at `position`: (H, W, 3) or (H, W), read-only, not yet read from disk where raw."""
        sample = self.index.samples[position]
        member = sample.members[field]
        path = self.folder / self.index.shards[sample.shard].name
        if member.codec != "npy":
            return open_member(path, member)
        if sample.shard not in self._maps:
            self._maps[sample.shard] = np.memmap(path, np.uint8, "r")
        raw = self._maps[sample.shard][member.offset : member.offset + member.bytes]
        return raw.view(member.dtype).reshape(member.shape)

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
