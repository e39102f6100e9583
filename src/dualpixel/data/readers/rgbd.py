"""Reader of colour photographs with measured depth (RGB-D), the user's own or anybody's: what dual-pixel pairs are rendered from."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dualpixel.data import images, maps
from dualpixel.data.card import Card
from dualpixel.data.readers.base import Reader, Scene
from dualpixel.data.readers.layouts import SPLIT, as_key, matching_files, said
from dualpixel.data.schema import build
from dualpixel.errors import DualPixelError
from dualpixel.hints import near

ENDINGS = {"sharp": images.ENDINGS, "depth": maps.ENDINGS}


@dataclass(frozen=True)
class RgbdOptions:
    """How a folder of RGB-D is read.

    Args:
        layouts: where colour and depth of a scene lie below the source folder, each a mapping with ``sharp`` and ``depth``; the first
            that finds a scene counts. Paths are given without their ending; what ``*`` stands for (part of one name) names the
            scene, and must be the same for both. ``{split}`` stands for the split's name.
        depth_unit: metres that one step of an integer depth map is worth; depth maps of floating point hold metres.
        depth_of_8_bits: accept depth maps of 8 bits.
        near_m: nearer depths are set to this, metres; None for no limit.
        far_m: farther depths are set to this, metres; None for no limit.
        border: pixels cut off all four sides.
        most_holes: the largest share of a scene's depth that may be unknown, below 1 (see `dualpixel.data.maps.fill_holes`).
        minimum_size: smallest height and width of a scene, pixels, after the border is cut.
        shares: split -> share of the scenes that is dealt to it, where no layout says the split; the rest goes to the card's first
            split without a share.
        skip_incomplete: leave out scenes that lack colour or depth, in place of refusing them.

    Raises:
        DualPixelError: a value that makes no sense.
    """

    layouts: list[dict[str, str]]
    depth_unit: float = 0.001
    depth_of_8_bits: bool = False
    near_m: float | None = None
    far_m: float | None = None
    border: int = 0
    most_holes: float = 0.5
    minimum_size: int = 1
    shares: dict[str, float] = field(default_factory=dict)
    skip_incomplete: bool = False

    def __post_init__(self) -> None:
        for layout in self.layouts:
            if set(layout) != set(ENDINGS) or layout["sharp"].count("*") != layout["depth"].count("*"):
                raise DualPixelError(
                    f"reader.layouts: found {layout}, expected sharp and depth, each with as many `*` as the other"
                )
        if self.depth_unit <= 0 or self.border < 0 or not 0 <= self.most_holes < 1 or self.minimum_size < 1:
            raise DualPixelError(
                f"reader.options: depth_unit {self.depth_unit} must be positive, border {self.border} not negative, "
                f"most_holes {self.most_holes} from 0 to below 1, minimum_size {self.minimum_size} at least 1"
            )
        if not 0 < (self.near_m or 1e-9) < (self.far_m or np.inf):
            raise DualPixelError(f"reader.options: near_m {self.near_m} must be positive and below far_m {self.far_m}")
        if min(self.shares.values(), default=0) < 0 or sum(self.shares.values()) > 1:
            raise DualPixelError(f"reader.shares: found {self.shares}; shares are not negative, and at most 1 together")


class RgbdReader(Reader):
    """Gives ``sharp`` in 16 bits, and ``depth`` with its holes filled from behind.

    The options stand in the card, under ``reader: {name: rgbd, options: ...}``; see `RgbdOptions`. An 8-bit value v is stored as
    257 v, which is exactly the same part of full scale. Scenes may have different sizes.

    Where no layout says the split, a hash of the scene's name deals it out, so that a scene that is added moves no other.
    """

    def __init__(self, card: Card, source: Path | None = None) -> None:
        super().__init__(card, source)
        self.options = build(RgbdOptions, card.reader.options, f"card {card.name}: reader.options")
        for name in self.options.shares:
            if name not in card.splits:
                raise DualPixelError(
                    f"card {card.name}: a share for the unknown split {name!r}; {near(name, card.splits)}"
                )

    def scenes(self, split: str) -> list[Scene]:
        """List scenes by name; see `Reader.scenes`."""
        root = self.existing_source()
        for layout in self.options.layouts:
            by_split = SPLIT in layout["sharp"]
            wanted = list(self.card.splits) if by_split else [split]
            found = {one: self._files(root, layout, one) for one in wanted}
            if not any(files.keys() == ENDINGS.keys() for scenes in found.values() for files in scenes.values()):
                continue
            complete = self._complete(found[split])
            keys = [key for key in sorted(complete) if by_split or self.split_of(key) == split]
            return [self._scene(root, split, key, complete[key]) for key in keys]
        return []

    def split_of(self, key: str) -> str:
        """Return the split that a scene is dealt to: where a hash of its name falls among the shares."""
        place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
        for split, share in self.options.shares.items():
            if place < share:
                return split
            place -= share
        return next(
            (split for split in self.card.splits if split not in self.options.shares), next(iter(self.card.splits))
        )

    def when_empty(self) -> str:
        """Say what to do about a split without scenes."""
        if not any(self.scenes(split) for split in self.card.splits):
            looked = " or ".join(f"{one['sharp']} + {one['depth']}" for one in self.options.layouts)
            return f"looked for {looked}; other names go into `layouts` in a copy of the card"
        return (
            "scenes outside the folders of a split are dealt out by their names: sort so few into folders "
            f"{', '.join(self.card.splits)} yourself, or change `splits` and `shares` in a copy of the card"
        )

    def read(self, scene: Scene) -> dict[str, np.ndarray]:
        """Read one scene; see `Reader.read`."""
        options, file = self.options, scene.files["depth"]
        sharp = images.read_image(scene.files["sharp"])
        depth = maps.read_map(file, options.depth_unit, eight_bits=options.depth_of_8_bits)
        if sharp.shape[:2] != depth.shape:
            raise DualPixelError(
                f"{self.card.name}: {scene.key} has colour of {said(sharp.shape)} but depth of {said(depth.shape)} (height x width); "
                "bring one to the size of the other, depth without mixing neighbours"
            )
        if min(depth.shape) < options.minimum_size + 2 * options.border:
            raise DualPixelError(
                f"{self.card.name}: {scene.key} is {said(depth.shape)} (height x width) before a border of {options.border} is cut, "
                f"smaller than the option minimum_size {options.minimum_size} allows"
            )
        inner = tuple(slice(options.border, length - options.border) for length in depth.shape)
        depth = maps.fill_holes(depth[inner], options.most_holes, str(file))
        if sharp.dtype == np.uint8:
            sharp = sharp.astype(np.uint16) * 257
        if options.near_m or options.far_m:
            depth = np.clip(depth, options.near_m, options.far_m)
        return {"sharp": np.ascontiguousarray(sharp[inner]), "depth": np.ascontiguousarray(depth, np.float32)}

    def _files(self, root: Path, layout: dict[str, str], split: str) -> dict[str, dict[str, Path]]:
        """Return key -> field -> file of what there is of a layout."""
        found: dict[str, dict[str, Path]] = {}
        for name, endings in ENDINGS.items():
            for file, (*stands_for, _) in matching_files(root, f"{layout[name].replace(SPLIT, split)}.*"):
                if file.suffix.lower() not in endings:
                    continue
                files = found.setdefault(as_key(*stands_for), {})
                if name in files:
                    raise DualPixelError(
                        f"{self.card.name}: {files[name]} and {file} would both be {name} of one scene; remove or rename one"
                    )
                files[name] = file
        return found

    def _complete(self, found: dict[str, dict[str, Path]]) -> dict[str, dict[str, Path]]:
        complete = {key: files for key, files in found.items() if files.keys() == ENDINGS.keys()}
        lacking = [key for key in found if key not in complete]
        if lacking and not self.options.skip_incomplete:
            file = next(iter(found[lacking[0]].values()))
            raise DualPixelError(
                f"{self.card.name}: {len(lacking)} of {len(found)} scenes lack colour or depth, the first is {lacking[0]} "
                f"(only {file}); complete or remove them, or set skip_incomplete in a copy of the card"
            )
        return complete

    def _scene(self, root: Path, split: str, key: str, files: dict[str, Path]) -> Scene:
        names = {f"{name}_file": file.relative_to(root).as_posix() for name, file in files.items()}
        return Scene(key, self.card.group(split, key), names, files)
