"""A DPDD-shaped folder made of real photographs, 16 bits per channel, and the card that describes it."""

from pathlib import Path

import cv2
import numpy as np
import yaml
from skimage import data

from dualpixel.data.images import write_png
from dualpixel.paths import find

COUNTS = {"train": 4, "val": 2, "test": 5}
SIZE = (144, 208)
TEST_KEYS = ("1P0A0917", "1P0A0919", "1P0A0921", "1P0A0938", "1P0A0940")
"""The last three are made indoor; which real scenes are indoor is a matter of the real card."""


def photograph(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A piece of a photograph as 16 bits, all of them in use: (H, W, 3) uint16 RGB."""
    image = (data.astronaut(), data.coffee(), data.chelsea())[number % 3].astype(np.float64)
    random = np.random.default_rng(number)
    row = random.integers(image.shape[0] - size[0] + 1)
    column = random.integers(image.shape[1] - size[1] + 1)
    piece = image[row : row + size[0], column : column + size[1]]
    return (piece * 257 + random.integers(-127, 128, piece.shape)).clip(0, 65535).astype(np.uint16)


def views(sharp: np.ndarray, shift: int = 2) -> dict[str, np.ndarray]:
    """Blurred views of a sharp image, shifted against each other, and their mean."""
    blurred = cv2.GaussianBlur(sharp, (0, 0), 1.5)
    left, right = np.roll(blurred, shift, axis=1), np.roll(blurred, -shift, axis=1)
    combined = ((left.astype(np.uint32) + right) // 2).astype(np.uint16)
    return {"left": left, "right": right, "combined": combined, "sharp": sharp}


def make_dpdd_folder(root: Path, counts: dict[str, int] = COUNTS, size: tuple[int, int] = SIZE) -> Path:
    """Write `dd_dp_dataset_canon` with the authors' names: the sharp image carries another camera number than the blurry one."""
    number = 0
    for split, count in counts.items():
        for position in range(count):
            stem = TEST_KEYS[position] if split == "test" else f"1P0A{1000 + 2 * number:04d}"
            pair = f"{stem[:4]}{int(stem[4:]) + 1:04d}"
            scene = views(photograph(number, size))
            top = root / "dd_dp_dataset_canon"
            write_png(top / f"{split}_l/source/{stem}_L.png", scene["left"])
            write_png(top / f"{split}_r/source/{stem}_R.png", scene["right"])
            write_png(top / f"{split}_c/source/{stem}.png", scene["combined"])
            write_png(top / f"{split}_c/target/{pair}.png", scene["sharp"])
            number += 1
    return root


def write_card(path: Path, counts: dict[str, int] = COUNTS, size: tuple[int, int] = SIZE, **changes: object) -> Path:
    """Write the DPDD card with small numbers in it."""
    card = yaml.safe_load(find("registry", "dpdd").read_text())
    card["name"] = path.stem
    card["size"] = list(size)
    card["splits"] = {split: {"scenes": count} for split, count in counts.items()}
    card["splits"]["test"]["groups"] = {"indoor": list(TEST_KEYS[2:]), "outdoor": list(TEST_KEYS[:2])}
    card["preparation"]["windows"] = {
        "train": {"size": 64, "overlap": 0.6, "discard": 0.3},
        "val": {"size": 64, "overlap": 0.01},
    }
    card.update(changes)
    path.write_text(yaml.safe_dump(card, sort_keys=False))
    return path
