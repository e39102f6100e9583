"""Reader of the Pixel 4 scenes of Xin et al.: raw views, a sharp image from a focus stack, and a defocus map."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from dualpixel.data.card import Card
from dualpixel.data.images import read_grey, repeated
from dualpixel.data.maps import read_disparity
from dualpixel.data.readers.base import Reader, Scene
from dualpixel.data.readers.layouts import find_scenes, first_root, names_below, said
from dualpixel.data.schema import build
from dualpixel.errors import DualPixelError

VIEWS = ("left", "right")
SHEETS = ("white_left", "white_right")


@dataclass(frozen=True)
class Layout:
    """One way the files lie in a folder.

    Args:
        size: (height, width) of the views and of the photographs of the white sheet, pixels.
        files: left, right, sharp, disparity, white_left, white_right -> pattern (see `dualpixel.data.readers.layouts`).
    """

    size: tuple[int, int]
    files: dict[str, str]

    def __post_init__(self) -> None:
        lacking = [name for name in (*VIEWS, "sharp", "disparity", *SHEETS) if name not in self.files]
        if lacking:
            raise DualPixelError(f"reader.layouts: a layout without {', '.join(lacking)}")


@dataclass(frozen=True)
class XinPixel4Options:
    """Options in the card, under ``reader: {name: xin_pixel4, options: ...}``.

    Args:
        layouts: ways the folder may look (see `dualpixel.data.readers.layouts.find_scenes`).
        window: (height, width) of the sharp image and the defocus map, pixels; the views are cut to it round their centre.
        roots: names of folders that may lie between the source folder and the files.
        bits: of the sensor's values.
        black_level: sensor value of no light.
        vignetting: bring the right view to the brightness of the left one by the photographs of the white sheet.
        smoothing: side of the box that the ratio of the two is averaged over, pixels; odd.
        sharp_scale: "views" multiplies the sharp image so that its mean becomes the mean of the combined image; "file" keeps its values.
        border: pixels cut off all four sides of the window.
    """

    layouts: list[Layout]
    window: tuple[int, int]
    roots: list[str] = field(default_factory=list)
    bits: int = 14
    black_level: int = 1024
    vignetting: bool = True
    smoothing: int = 101
    sharp_scale: Literal["views", "file"] = "views"
    border: int = 0

    def __post_init__(self) -> None:
        if not 8 < self.bits <= 16 or not 0 <= self.black_level < 2**self.bits:
            raise DualPixelError(f"reader.options: {self.bits} bits with a black level of {self.black_level}")
        if self.smoothing < 1 or self.smoothing % 2 == 0 or not 0 <= 2 * self.border < min(self.window):
            raise DualPixelError(
                f"reader.options: smoothing {self.smoothing} must be odd, border {self.border} not negative and inside the window"
            )
        for layout in self.layouts:
            if any(
                (of_view - inner) % 2 or of_view < inner
                for of_view, inner in zip(layout.size, self.window, strict=True)
            ):
                raise DualPixelError(
                    f"reader.options: a window of {said(self.window)} has no place round the centre of views of {said(layout.size)}"
                )


class XinPixel4Reader(Reader):
    """Gives all five fields in linear values of 16 bits; see `XinPixel4Options` for the card.

    A sensor value v of 14 bits becomes 4 (v - 1024), or 0 below the black level: a whole number, from which v follows exactly. The right
    view is multiplied by the brightness of the left one first; its values are rounded to a quarter of a sensor step and held at 65535,
    which a few saturated pixels may reach. The combined image is the mean of the two views, rounded half up. The gain of the sharp image
    is noted in the scene's metadata (``sharp_gain``).

    The disparity is the defocus map, unknown (NaN) where the file says 0. Its values grow with the distance.

    Source: Xin et al., "Defocus Map Estimation and Deblurring from a Single Dual-Pixel Image", ICCV 2021, and the data and program of
    https://github.com/cmu-ci-lab/dual_pixel_defocus_estimation_deblurring (black level, vignetting, window).

    Differences: the authors divide by 2^14 - 1, so their values are 1.00005 times ours in [0, 1]. Within half a box of the edge of the
        photographs of the white sheet our average mirrors their ratio and theirs counts zeros; the window of the authors' own files
        keeps clear of that. A gain of the sharp image is ours.
    """

    def __init__(self, card: Card, source: Path | None = None) -> None:
        super().__init__(card, source)
        self.options = build(XinPixel4Options, card.reader.options, f"card {card.name}: reader.options")

    def scenes(self, split: str) -> list[Scene]:
        """List scenes by name; see `Reader.scenes`."""
        root = first_root(self.existing_source(), self.options.roots)
        needed = {*VIEWS, *self.card.fields, *(SHEETS if self.options.vignetting else ())}
        layouts = self.options.layouts
        patterns = [{name: one for name, one in layout.files.items() if name in needed} for layout in layouts]
        position, found = find_scenes(self.card.name, root, patterns)
        size = {"view_size": list(layouts[position].size)}
        return [
            Scene(key, self.card.group(split, key), names_below(root, files) | size, files)
            for key, files in found.items()
        ]

    def read(self, scene: Scene) -> dict[str, np.ndarray]:
        """Read one scene; see `Reader.read`."""
        options, step = self.options, 1 << (16 - self.options.bits)
        left, right = (self._above_black(scene, name) * step for name in VIEWS)
        if options.vignetting:
            right = np.rint(right * self._brightness(scene)).clip(0, 65535)
        left, right = (self._window(view).astype(np.uint16) for view in (left, right))
        combined = ((left.astype(np.uint32) + right + 1) // 2).astype(np.uint16)
        fields = {"left": repeated(left), "right": repeated(right), "combined": repeated(combined)}
        if "sharp" in scene.files:
            fields["sharp"] = repeated(self._sharp(scene, combined))
        if "disparity" in scene.files:
            values = read_disparity(scene.files["disparity"])
            values = self._window(self._checked(scene, "disparity", values, options.window))
            fields["disparity"] = np.where(values > 0, values, np.float32(np.nan))
        return fields

    def _above_black(self, scene: Scene, name: str) -> np.ndarray:
        stored = read_grey(scene.files[name], 16)
        self._checked(scene, name, stored, tuple(scene.metadata["view_size"]))
        if stored.max() >> self.options.bits:
            raise DualPixelError(
                f"{self.card.name}: {name} of {scene.key} holds {stored.max()}, more than {self.options.bits} bits: "
                f"not the sensor's values ({scene.files[name]}); get the file again"
            )
        return (stored.astype(np.int64) - self.options.black_level).clip(0)

    def _brightness(self, scene: Scene) -> np.ndarray:
        """Return the ratio of the left view's brightness to the right view's, (H, W)."""
        left, right = (self._above_black(scene, name).astype(np.float64) for name in SHEETS)
        if not right.all():
            raise DualPixelError(
                f"{self.card.name}: {scene.files[SHEETS[1]]} is black in {(right == 0).sum()} pixels, so it tells no brightness; "
                "get it again, or set vignetting to false in a copy of the card"
            )
        return cv2.blur(left / right, (self.options.smoothing,) * 2, borderType=cv2.BORDER_REFLECT_101)

    def _sharp(self, scene: Scene, combined: np.ndarray) -> np.ndarray:
        sharp = self._checked(scene, "sharp", read_grey(scene.files["sharp"], 16), self.options.window)
        sharp = self._window(sharp)
        if not sharp.any():
            raise DualPixelError(
                f"{self.card.name}: sharp of {scene.key} is black ({scene.files['sharp']}); get it again"
            )
        # not by least squares: the views are blurred, so they vary less, and that fit would darken what is bright
        gain = 1.0 if self.options.sharp_scale == "file" else round(float(combined.mean() / sharp.mean()), 6)
        scene.metadata["sharp_gain"] = gain
        return np.rint(sharp * gain).clip(0, 65535).astype(np.uint16)

    def _checked(self, scene: Scene, name: str, array: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
        if array.shape != size:
            raise DualPixelError(
                f"{self.card.name}: {name} of {scene.key} is {said(array.shape)}, expected {said(size)} (height x width); "
                f"get {scene.files[name]} again"
            )
        return array

    def _window(self, array: np.ndarray) -> np.ndarray:
        """Cut the window round the centre, less the border, out of a view, or the border off what has the window's size."""
        border = self.options.border
        inner = [length - 2 * border for length in self.options.window]
        starts = [(length - kept) // 2 for length, kept in zip(array.shape, inner, strict=True)]
        return array[starts[0] : starts[0] + inner[0], starts[1] : starts[1] + inner[1]]
