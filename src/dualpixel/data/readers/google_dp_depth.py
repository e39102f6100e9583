"""Reader of the dual-pixel depth set of Garg et al.: views of a telephone held upright, with depth from five cameras."""

from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from dualpixel.data.card import Card
from dualpixel.data.images import read_grey, repeated
from dualpixel.data.maps import read_disparity
from dualpixel.data.orientation import QUARTERS, turned
from dualpixel.data.readers.base import Reader, Scene
from dualpixel.data.readers.layouts import SPLIT, find_scenes, first_root, names_below, said
from dualpixel.data.schema import build
from dualpixel.errors import DualPixelError
from dualpixel.hints import near

NEEDED = ("left", "right", "disparity", "confidence")


@dataclass(frozen=True)
class GoogleDpDepthOptions:
    """Options in the card, under ``reader: {name: google_dp_depth, options: ...}``.

    Args:
        layouts: left, right, disparity, confidence -> pattern (see `dualpixel.data.readers.layouts`); ``{split}`` stands for the split's
            name (see also `dualpixel.data.readers.layouts.find_scenes`). At least one must have it.
        unsorted: the split of the scenes of a layout without ``{split}``.
        roots: names of folders that may lie between the source folder and the files.
        quarters: counter-clockwise quarter turns (see `dualpixel.data.orientation`).
        least_confidence: depth of a lower confidence counts as unknown, in [0, 1].
    """

    layouts: list[dict[str, str]]
    unsorted: str
    roots: list[str] = field(default_factory=list)
    quarters: int = 1
    least_confidence: float = 0.5

    def __post_init__(self) -> None:
        for layout in self.layouts:
            if set(layout) != set(NEEDED):
                raise DualPixelError(f"reader.layouts: found {', '.join(layout)}, expected {', '.join(NEEDED)}")
        if not any(SPLIT in layout["left"] for layout in self.layouts):
            raise DualPixelError(f"reader.layouts: no layout has {SPLIT} in its patterns")
        if not 0 <= self.least_confidence <= 1:
            raise DualPixelError(f"reader.options: least_confidence {self.least_confidence} must lie in [0, 1]")


class GoogleDpDepthReader(Reader):
    """Gives left, right (8 bits, grey) and disparity, all turned so that disparity is horizontal; see `GoogleDpDepthOptions`.

    The depth file has half the views' height and width: every value is repeated over 2 x 2 pixels. It is stored as value / 255, which
    grows with the distance, and is unknown (NaN) where the confidence is too low.

    Source: Garg et al., "Learning Single Camera Depth Estimation using Dual-Pixels", ICCV 2019; the folders are those that the authors'
    evaluation (google-research, dual_pixels/eval) and other public programs read.
    """

    def __init__(self, card: Card, source: Path | None = None) -> None:
        super().__init__(card, source)
        self.options = build(GoogleDpDepthOptions, card.reader.options, f"card {card.name}: reader.options")
        if self.options.unsorted not in card.splits:
            raise DualPixelError(
                f"card {card.name}: unsorted names the unknown split {self.options.unsorted!r}; "
                f"{near(self.options.unsorted, card.splits)}"
            )

    def scenes(self, split: str) -> list[Scene]:
        """List scenes by name; see `Reader.scenes`."""
        root = first_root(self.existing_source(), self.options.roots)
        layouts = [
            {name: pattern.replace(SPLIT, split) for name, pattern in layout.items()}
            for layout in self.options.layouts
            if split == self.options.unsorted or SPLIT in layout["left"]
        ]
        _, found = find_scenes(self.card.name, root, layouts)
        noted = {QUARTERS: self.options.quarters, "least_confidence": self.options.least_confidence}
        return [
            Scene(key, self.card.group(split, key), names_below(root, files) | noted, files)
            for key, files in found.items()
        ]

    def read(self, scene: Scene) -> dict[str, np.ndarray]:
        """Read one scene; see `Reader.read`."""
        files, options = scene.files, self.options
        views = {name: read_grey(files[name], self.card.bit_depth) for name in ("left", "right")}
        depth, confidence = read_disparity(files["disparity"]), _read_confidence(files["confidence"])
        sizes = {
            **{name: view.shape for name, view in views.items()},
            "depth": depth.shape,
            "confidence": confidence.shape,
        }
        height, width = views["left"].shape
        half = (height / 2, width / 2)
        if sizes["right"] != (height, width) or not sizes["depth"] == sizes["confidence"] == half:
            found = ", ".join(f"{name} {said(size)}" for name, size in sizes.items())
            raise DualPixelError(
                f"{self.card.name}: {scene.key} has mismatched sizes: {found}; expected views of one size, depth and confidence of half"
            )
        depth = np.where(confidence >= options.least_confidence, depth, np.float32(np.nan))
        fields = {name: repeated(view) for name, view in views.items()}
        fields["disparity"] = depth.repeat(2, axis=0).repeat(2, axis=1)
        return {name: turned(array, options.quarters) for name, array in fields.items()}


def _read_confidence(path: Path) -> np.ndarray:
    """Read a map of confidence: NPY, NPZ (the only array in it) or EXR (its channel R, or the first)."""
    try:
        if path.suffix == ".exr":
            import OpenEXR

            with OpenEXR.File(str(path), separate_channels=True) as file:
                channels = file.channels()
                values = channels.get("R", next(iter(channels.values()))).pixels
        else:
            values = np.load(path, allow_pickle=False)
            if path.suffix == ".npz":
                with values as arrays:
                    values = arrays[arrays.files[0]]
    except (OSError, ValueError, RuntimeError, IndexError, EOFError, BadZipFile) as error:
        raise DualPixelError(f"{path}: not a map that can be read ({' '.join(str(error).split())[:160]})") from None
    if values.ndim != 2 or values.dtype.kind != "f" or not ((values >= 0) & (values <= 1)).all():
        raise DualPixelError(
            f"{path}: confidence is one number in [0, 1] a pixel, found shape {values.shape} of {values.dtype}"
        )
    return values
