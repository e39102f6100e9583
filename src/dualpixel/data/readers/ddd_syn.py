"""Reader that makes DDD-syn: frames of NYU Depth v2, rendered by the cameras of the DDDNet authors' generator."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dualpixel.data.card import Card
from dualpixel.data.readers.base import Reader, Scene
from dualpixel.data.resizing import resize_bicubic, to_8_bit
from dualpixel.data.schema import build
from dualpixel.errors import DualPixelError

CAMERA = ("focal_length_m", "focal_length_px", "aperture_px", "focus_distance_m", "depth_scale")


@dataclass(frozen=True)
class CameraSet:
    """One camera, and the frames that are rendered with it.

    Args:
        split: the split its scenes belong to.
        frames: first and last frame, counted from 1.
        first_number: number of the first scene; the others follow.
        focal_length_m: as the following four an argument of `dualpixel.optics.Camera`.
        focal_length_px: focal length in pixels.
        aperture_px: diameter of the aperture, pixels.
        focus_distance_m: noted, but without effect, as in the generator.
        depth_scale: depths are divided by it first.
        crop: rows and columns crop to end - crop, counted from 1, are kept.
        suffix: what follows the number in the key.
    """

    split: str
    frames: tuple[int, int]
    first_number: int
    focal_length_m: float
    focal_length_px: float
    aperture_px: float
    focus_distance_m: float
    depth_scale: float
    crop: int
    suffix: str = ""

    def __post_init__(self) -> None:
        for name in (*CAMERA, "crop"):
            if not 0 < getattr(self, name) < math.inf:
                raise DualPixelError(f"ddd_syn: {name} of a camera set is {getattr(self, name)}, but must be positive")
        if not 1 <= self.frames[0] <= self.frames[1]:
            raise DualPixelError(f"ddd_syn: frames {list(self.frames)}: give the first and the last, counted from 1")


@dataclass(frozen=True)
class DddSynOptions:
    """Options in the card, under ``reader: {name: ddd_syn, options: ...}``.

    Args:
        sets: name -> camera set, in the order of the scenes; the name becomes the group of its scenes.
        file: name of NYU's labelled file in the source folder.
        offset: of the renderer, pixels (see `dualpixel.optics.released.render_released`).
    """

    sets: dict[str, CameraSet]
    file: str = "nyu_depth_v2_labeled.mat"
    offset: float = 0.018


class DddSynReader(Reader):
    """Renders frames of NYU Depth v2 as the published DDD-syn generator does; see `DddSynOptions` for the card.

    Each frame is rendered whole by the mode "released", cropped, resized back by the bicubic filter of MATLAB, and
    rounded to 8 bits. The labelled file is read a frame at a time.

    Source: Pan et al., "Dual Pixel Exploration", CVPR 2021: the numbers are those of the published drivers, the
    renderer is measured from the published pair.

    Differences: which rule the authors' generator stretches depth by is known from that pair only. It stores inverse
        depth; here `blur` is what the renderer was given, and `depth` is resized by itself and held within the frame's
        range, so that it stays positive.
    """

    def __init__(self, card: Card, source: Path | None = None) -> None:
        super().__init__(card, source)
        self.options = build(DddSynOptions, card.reader.options, f"card {card.name}: reader.options")

    def scenes(self, split: str) -> list[Scene]:
        """List the frames that the file has for each camera; see `Reader.scenes`."""
        file = self.existing_source() / self.options.file
        with _opened(file) as stored:
            count = stored["images"].shape[0]
        scenes = []
        for name, one in self.options.sets.items():
            if one.split != split:
                continue
            first, last = one.frames
            for frame in range(first, min(last, count) + 1):
                key = f"{one.first_number + frame - first:04d}{one.suffix}"
                noted = {setting: value for setting, value in asdict(one).items() if setting in (*CAMERA, "crop")}
                noted |= {"camera_set": name, "frame": frame, "offset": self.options.offset}
                scenes.append(Scene(key, name, noted, {"sharp": file}))
        return scenes

    def read(self, scene: Scene) -> dict[str, np.ndarray]:
        """Render one frame; see `Reader.read`.

        Returns:
            left, right, sharp: (H, W, 3) uint8 RGB; depth: (H, W) float32, metres before the division by the depth scale;
            blur: (H, W) float32, the signed radius in pixels that the renderer was given, all positive.
        """
        # torch takes seconds to import, and listing scenes needs none of it
        import torch

        from dualpixel.optics import Camera, render, signed_blur

        noted, file = scene.metadata, scene.files["sharp"]
        with _opened(file) as stored:
            image, depth = stored["images"][noted["frame"] - 1].T, stored["depths"][noted["frame"] - 1].T
        if image.dtype != np.uint8 or not (depth > 0).all():
            raise DualPixelError(
                f"{file}: frame {noted['frame']} is {image.dtype} with a depth from {depth.min()} to {depth.max()}; "
                "expected uint8 and positive metres (the in-painted `depths`, not `rawDepths`)"
            )
        metres = torch.from_numpy(depth.astype(np.float64))[None, None]
        sharp = torch.from_numpy(image / 255).permute(2, 0, 1)[None]
        try:
            blur = signed_blur(metres, Camera(**{name: noted[name] for name in CAMERA}), "released")
        except ValueError as error:
            raise DualPixelError(f"{self.card.name}: camera set {noted['camera_set']}: {error}") from None
        left, right = render(sharp, blur, "released", offset=noted["offset"])
        height, width = depth.shape
        margin = noted["crop"]
        rows, columns = slice(margin - 1, height - margin), slice(margin - 1, width - margin)
        resized = {
            name: resize_bicubic(tensor[0, :, rows, columns].permute(1, 2, 0).numpy(), height, width)
            for name, tensor in {"left": left, "right": right, "sharp": sharp, "depth": metres, "blur": blur}.items()
        }
        kept = depth[rows, columns]
        return {
            **{name: to_8_bit(resized[name]) for name in ("left", "right", "sharp")},
            "depth": resized["depth"][:, :, 0].clip(kept.min(), kept.max()).astype(np.float32),
            "blur": resized["blur"][:, :, 0].astype(np.float32),
        }


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """Open a MATLAB 7.3 file, which is HDF5: arrays appear with their axes in the opposite order."""
    import h5py

    if not file.is_file():
        raise DualPixelError(
            f"{file}: no such file; the labelled set of NYU Depth v2 is needed, see `data show ddd_syn`"
        )
    try:
        stored = h5py.File(file, "r")
    except OSError as error:
        raise DualPixelError(f"{file}: not a MATLAB 7.3 file (truncated?): {error}; get it again") from None
    with stored:
        for name, axes in (("images", 4), ("depths", 3)):
            if name not in stored or stored[name].ndim != axes:
                raise DualPixelError(f"{file}: has no array {name!r} of {axes} axes; it holds {', '.join(stored)}")
        yield stored
