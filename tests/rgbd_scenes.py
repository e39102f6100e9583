"""Small RGB-D scenes: pieces of photographs with made-up depth, written in any of the layouts and formats."""

from pathlib import Path

import numpy as np
import yaml
from scenes import photograph

from dualpixel.data.images import write_png
from dualpixel.data.made_up_depth import made_up_depth
from dualpixel.data.maps import write_map
from dualpixel.paths import find

SIZE = (72, 96)


def scene(number: int, size: tuple[int, int] = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """A 16-bit image with all its bits in use, and its depth on the grid of millimetres, without holes."""
    depth = np.round(made_up_depth(*size, number, 1.0, 6.0).astype(np.float64) * 1000) * 0.001
    return photograph(number, size), depth.astype(np.float32)


def write_rgbd(
    root: Path,
    names: list[str],
    sharp: str = "{name}/rgb.png",
    depth: str = "{name}/depth.png",
    size: tuple[int, int] = SIZE,
    bit_depth: int = 16,
) -> Path:
    """Write scenes below `root`; `sharp` and `depth` say where."""
    for number, name in enumerate(names):
        image, metres = scene(number, size)
        write_png(root / sharp.format(name=name), image if bit_depth == 16 else (image >> 8).astype(np.uint8))
        write_map(root / depth.format(name=name), metres, 0.001)
    return root


def write_rgbd_card(path: Path, splits: dict | None = None, **options: object) -> Path:
    """Write the card of the registry with other options."""
    card = yaml.safe_load(find("registry", "rgbd").read_text())
    card["name"] = path.stem
    card["splits"] = splits or card["splits"]
    card["reader"]["options"].update(options)
    path.write_text(yaml.safe_dump(card, sort_keys=False))
    return path
