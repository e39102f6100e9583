"""Keys of a protocol that belong together. Each value is one that the code carries out; others are refused where they are read."""

from dataclasses import dataclass
from typing import Literal

TILES_OF = 16
"""What tiles begin at multiples of: the product of the strides of DPDNet and MDP, and a multiple of DPANet's and DDDNet's."""
SMALLEST_TILE = 64
BITS = range(1, 17)
KEYS_OF_MODE = {"whole": [], "tiled": ["overlap", "tile"], "resized": ["filter", "size"]}


@dataclass(frozen=True)
class Resolution:
    """The size at which images are compared.

    Args:
        size: as stored, or halved in height and width.
        filter: what halves: the mean of each 2x2 square, rounded half up to the bits that images are cut to, else to 16.

    Raises:
        ValueError: a filter where nothing is resized, or none where something is.
    """

    size: Literal["stored", "halved"]
    filter: Literal["mean2x2"] | None = None

    def __post_init__(self) -> None:
        if (self.size == "halved") != (self.filter is not None):
            raise ValueError("halved images need a filter, mean2x2; stored ones have none")


@dataclass(frozen=True)
class Quantisation:
    """To how many bits per channel images are cut; None leaves them as they are.

    Args:
        input: of the left, the right and the combined image, by dropping the low bits, before they are halved.
        target: of the sharp image, likewise. Views that are compared are those of the input.
        output: of what the network predicts, truncated before it is compared.

    Raises:
        ValueError: not 1 to 16 bits.
    """

    input: int | None
    target: int | None
    output: int | None

    def __post_init__(self) -> None:
        for bits in (self.input, self.target, self.output):
            if bits is not None and bits not in BITS:
                raise ValueError(f"found {bits} bits, expected 1 to 16, or null")


@dataclass(frozen=True)
class Inference:
    """How the network is given the images.

    Args:
        mode: "whole", at the size at which they are compared; "tiled", piece by piece (see `dualpixel.evaluate.tiled`); "resized", all
            enlarged to one size, and its output brought back (see `dualpixel.evaluate.resize`).
        tile: pixels along the part of a tile that is kept; where tiled, and a multiple of `TILES_OF`.
        overlap: pixels that the network sees around that part, likewise.
        size: (height, width) that the network sees; where resized.
        filter: what resizes, there and back: bicubic with a = -3/4.

    Raises:
        ValueError: a key of another mode, or none of this one, or a value that cannot be.
    """

    mode: Literal["whole", "tiled", "resized"]
    tile: int | None = None
    overlap: int | None = None
    size: tuple[int, int] | None = None
    filter: Literal["bicubic"] | None = None

    def __post_init__(self) -> None:
        given = sorted(name for name in ("tile", "overlap", "size", "filter") if getattr(self, name) is not None)
        needed = KEYS_OF_MODE[self.mode]
        if given != needed:
            raise ValueError(
                f"mode {self.mode} takes {' and '.join(needed) or 'no other key'}, found {' and '.join(given) or 'none'}"
            )
        if self.mode == "tiled" and (self.tile < SMALLEST_TILE or self.tile % TILES_OF):
            raise ValueError(f"tile {self.tile}: must be a multiple of {TILES_OF}, {SMALLEST_TILE} or more")
        if self.mode == "tiled" and (self.overlap < 0 or self.overlap % TILES_OF):
            raise ValueError(f"overlap {self.overlap}: must be 0 or a multiple of {TILES_OF}")
        if self.size is not None and min(self.size) < 1:
            raise ValueError(f"size {list(self.size)}: must be 1 pixel or more")
