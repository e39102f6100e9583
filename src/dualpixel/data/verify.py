"""Are the shards still what was written?"""

from pathlib import Path

from dualpixel.data.index import INDEX, Shard, load_index
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.remote import Folder, RemoteFolder, RemoteShard, fetch
from dualpixel.errors import DualPixelError
from dualpixel.files import sha256
from dualpixel.terminal import progress


def verify_split(folder: Folder) -> list[str]:
    """Hash every shard of a split, and where all are right every scene: an index, too, may be altered.

    On a server each shard is fetched for it and not kept, and what is not in the index is not seen.

    Returns:
        What is wrong, a line each: shards missing, truncated, altered, or not in the index, and scenes that do not lie where the index
        says; empty when all is well.
    """
    index = load_index(folder)
    faults = []
    with progress() as bar:
        task = bar.add_task(f"verify {index.dataset} {index.split}", total=len(index.shards))
        for shard in index.shards:
            fault = _local_fault(folder, shard) if isinstance(folder, Path) else _remote_fault(folder, shard)
            faults += [fault] if fault else []
            bar.advance(task)
    if isinstance(folder, Path):
        faults += [] if faults or not index.samples else _scene_faults(folder)
        known = {shard.name for shard in index.shards} | {INDEX}
        faults += [f"{path} is not in the index" for path in sorted(folder.iterdir()) if path.name not in known]
    return faults


def _local_fault(folder: Path, shard: Shard) -> str:
    path = folder / shard.name
    if not path.is_file():
        return f"{path} is missing"
    if path.stat().st_size != shard.bytes:
        return f"{path} has {path.stat().st_size} bytes, its index says {shard.bytes}"
    return "" if sha256(path) == shard.sha256 else f"{path} is altered: its SHA-256 is not that of the index"


def _scene_faults(folder: Path) -> list[str]:
    split, faults = PreparedSplit(folder), []
    with progress() as bar:
        for position in bar.track(range(len(split)), description=f"verify scenes of {split.index.split}"):
            try:
                split.check(position)
            except DualPixelError as error:
                faults.append(str(error))
    return faults


def _remote_fault(folder: RemoteFolder, shard: Shard) -> str:
    try:
        fetch(RemoteShard(str(folder / shard.name), shard.bytes, shard.sha256))
    except DualPixelError as error:
        return str(error)
    return ""
