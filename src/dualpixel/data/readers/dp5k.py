"""Reader of DP5K (Li et al.): two Canon cameras, several apertures a scene, depth from structured light."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dualpixel.data.card import Card
from dualpixel.data.fields import MAPS
from dualpixel.data.images import read_image
from dualpixel.data.maps import read_map
from dualpixel.data.readers.base import Reader, Scene
from dualpixel.data.readers.layouts import as_key, first_root, names_below
from dualpixel.data.schema import build
from dualpixel.errors import DualPixelError

META = "meta_data.h5"
LARGEST = 16
"""Numbers of the largest array that is read from the metadata: a file from elsewhere may hold anything."""


@dataclass(frozen=True)
class Dp5kOptions:
    """Options in the card, under ``reader: {name: dp5k, options: ...}``.

    Args:
        folders: split -> folders that may hold it, below the source folder; the first that is there is read.
        cameras: numbers of the cameras: 0 stands for the folder cam0.
        apertures: f-numbers as they stand in the file names; each makes a scene of its own.
        files: field -> file in the folder of the camera; ``{aperture}`` stands for the f-number.
        depth_unit: metres that one step of the depth files is worth.
    """

    folders: dict[str, list[str]]
    cameras: list[int]
    apertures: list[str]
    files: dict[str, str]
    depth_unit: float = 0.001

    def __post_init__(self) -> None:
        for one in self.apertures:
            if not one.replace(".", "", 1).isdigit():
                raise DualPixelError(f"reader.apertures: found {one!r}, expected an f-number such as '1.8'")


class Dp5kReader(Reader):
    """Gives every photograph taken wide open as a scene: views, combined, the sharp photograph of that camera, and depth in metres.

    A scene's key is FOLDER-camC-fN; its group is the aperture. What the camera was set to is noted in its metadata: ``focus_distance_m``,
    ``focal_length_px``, ``focal_length_mm`` and ``pixel_size_mm`` of the calibration, ``focus_point`` (column, row), ``f_number``. Unknown
    depth is NaN.

    Source: Li et al., "Learning to Synthesize Photorealistic Dual-pixel Images from RGBD Frames", ICCP 2023; names of files and of
    metadata are those of the authors' programs (https://github.com/feiran-l/Neural-Dual-Pixel-Simulator).
    """

    def __init__(self, card: Card, source: Path | None = None) -> None:
        super().__init__(card, source)
        where = f"card {card.name}: reader.options"
        self.options = build(Dp5kOptions, card.reader.options, where)
        lacking = [name for name in card.fields if name not in self.options.files]
        lacking += [split for split in card.splits if split not in self.options.folders]
        if lacking:
            raise DualPixelError(f"{where}: files or folders say nothing of {', '.join(lacking)}")

    def scenes(self, split: str) -> list[Scene]:
        """List scenes by folder, camera and aperture; see `Reader.scenes`. The metadata files are read."""
        root = first_root(self.existing_source(), self.options.folders[split])
        if root == self.source:
            return []
        folders = sorted(one for one in root.iterdir() if one.is_dir() and not one.name.startswith("."))
        return [scene for folder in folders for scene in self._scenes(folder, split)]

    def read(self, scene: Scene) -> dict[str, np.ndarray]:
        """Read one scene; see `Reader.read`."""
        return {
            name: read_map(scene.files[name], self.options.depth_unit)
            if name in MAPS
            else read_image(scene.files[name], self.card.bit_depth)
            for name in self.card.fields
        }

    def _scenes(self, folder: Path, split: str) -> list[Scene]:
        meta = folder / META
        if not meta.is_file():
            raise DualPixelError(
                f"{self.card.name} {split}: the scene {folder.name} lacks {META} ({folder}); complete the download"
            )
        numbers = _read_numbers(meta)
        scenes = []
        for camera in self.options.cameras:
            noted = _camera(numbers, camera, meta)
            for aperture in self.options.apertures:
                names = {name: self.options.files[name].replace("{aperture}", aperture) for name in self.card.fields}
                files = {name: folder / f"cam{camera}" / file for name, file in names.items()}
                missing = [str(file.relative_to(folder)) for file in files.values() if not file.is_file()]
                if missing:
                    raise DualPixelError(
                        f"{self.card.name} {split}: the scene {folder.name} lacks {', '.join(missing)} ({folder}); complete the download"
                    )
                key = as_key(folder.name, f"cam{camera}", f"f{aperture}")
                metadata = {**names_below(folder, files), **noted, "f_number": float(aperture)}
                scenes.append(Scene(key, f"f{aperture}", metadata, {**files, "metadata": meta}))
        return scenes


def _camera(numbers: dict[str, list[float]], camera: int, meta: Path) -> dict[str, Any]:
    """Return what the metadata says of one camera, in metres, millimetres and pixels."""
    focus, matrix, pixel = (numbers.get(name, []) for name in (f"focus_dis_{camera}", f"M{camera}", "pixel_size"))
    values = {"focus_distance_m": (focus, 1, 0.001), "focal_length_px": (matrix, 9, 1), "pixel_size_mm": (pixel, 1, 1)}
    noted: dict[str, Any] = {}
    for name, (found, count, unit) in values.items():
        if len(found) != count or not 0 < found[0] < np.inf:
            raise DualPixelError(
                f"{meta}: no {name} of camera {camera}: focus_dis_{camera}, M{camera} and pixel_size must hold 1, 9 and 1 positive "
                f"numbers, found {', '.join(numbers) or 'none'}"
            )
        noted[name] = found[0] * unit
    noted["focal_length_mm"] = noted["focal_length_px"] * noted["pixel_size_mm"]
    point = numbers.get(f"AF_point_{camera}", [])
    return {"camera": camera, **noted, "focus_point": [int(one) for one in point[:2] if np.isfinite(one)]}


def _read_numbers(file: Path) -> dict[str, list[float]]:
    """Read the small arrays of numbers of an HDF5 file: name -> values in order."""
    import h5py

    try:
        with h5py.File(file, "r") as stored:
            return {
                name: [float(one) for one in np.ravel(item[()])]
                for name, item in stored.items()
                if isinstance(item, h5py.Dataset)
                and item.size is not None
                and item.size <= LARGEST
                and item.dtype.kind in "fiu"
            }
    except (OSError, RuntimeError, KeyError) as error:
        raise DualPixelError(
            f"{file}: not an HDF5 file that can be read ({' '.join(str(error).split())[:160]}); get it again"
        ) from None
