"""Are the shards still what was written?"""

from pathlib import Path

from dualpixel.data.index import INDEX, load_index
from dualpixel.files import sha256
from dualpixel.terminal import progress


def verify_split(folder: Path) -> list[str]:
    """Hash every shard of a split.

    Returns:
        What is wrong, a line each: shards missing, truncated, altered, or not in the index; empty when all is well.
    """
    index = load_index(folder)
    faults = []
    with progress() as bar:
        task = bar.add_task(f"verify {index.dataset} {index.split}", total=len(index.shards))
        for shard in index.shards:
            path = folder / shard.name
            if not path.is_file():
                faults.append(f"{path} is missing")
            elif path.stat().st_size != shard.bytes:
                faults.append(f"{path} has {path.stat().st_size} bytes, its index says {shard.bytes}")
            elif sha256(path) != shard.sha256:
                faults.append(f"{path} is altered: its SHA-256 is not that of the index")
            bar.advance(task)
    known = {shard.name for shard in index.shards} | {INDEX}
    faults += [f"{path} is not in the index" for path in sorted(folder.iterdir()) if path.name not in known]
    return faults
