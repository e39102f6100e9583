"""On-the-fly optics: a set of sharp images with depth becomes endless dual-pixel data, by a camera drawn for each sample."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dualpixel.data.fields import FIELDS, IMAGES, MAPS
from dualpixel.data.schema import build
from dualpixel.errors import DualPixelError
from dualpixel.files import read_yaml
from dualpixel.hints import near
from dualpixel.optics import MODES, Camera, Sensor, combine, point_spread_functions, render, signed_blur

Range = float | tuple[float, float]
NEEDED = ("sharp", "depth")
RENDERED = ("left", "right", "combined", "blur")
PROVIDED = tuple(name for name in FIELDS if name in (*NEEDED, *RENDERED))
FOCUS = ("near", "far", "scene")
RANGES = ("focal_length_m", "f_number", "pixel_pitch_m", "depth_scale")


class Place(NamedTuple):
    """A rectangle of pixels in a scene."""

    row: int
    column: int
    height: int
    width: int

    @property
    def rows(self) -> slice:
        """Its rows."""
        return slice(self.row, self.row + self.height)

    @property
    def columns(self) -> slice:
        """Its columns."""
        return slice(self.column, self.column + self.width)

    def within(self, outer: "Place", mirrored: bool = False, flipped: bool = False) -> "Place":
        """Return where this place lies in `outer`, after `outer` was mirrored left to right or flipped upside down."""
        row, column = self.row - outer.row, self.column - outer.column
        row = outer.height - self.height - row if flipped else row
        return Place(row, outer.width - self.width - column if mirrored else column, self.height, self.width)


@dataclass(frozen=True)
class SimulatedViews:
    """Draws a camera for every sample, and renders what its dual-pixel sensor would see of it.

    A range ``[low, high]`` is drawn from anew for each sample: depth in focus uniformly in inverse depth (so that blur
    is spread evenly), f-number and focal length uniformly in their logarithm (so that each stop is as likely). A single
    number stays what it is.

    Args:
        mode: the model of the point spread function (see :func:`dualpixel.optics.render`).
        options: of the mode, but for its `maximum_radius`.
        focal_length_m: focal length, metres.
        f_number: focal length over aperture diameter.
        pixel_pitch_m: distance of neighbouring pixels, metres, of the images as they are stored: the width of the
            sensor over the width of an image. 36 mm on 640 pixels are 5.6e-5.
        focus: depth in focus, metres, after the division by `depth_scale`; "near", "far": the nearest or farthest depth
            of the scene; "scene": drawn between those two.
        depth_scale: depths are divided by it first.
        maximum_radius: blur radii are clamped to this many pixels. Training crops are rendered with as much of the scene
            around them as that blur reaches, and cut out afterwards: a crop is what the whole scene would show there.
        sensor: noise and uneven light, the same for all samples; see :class:`dualpixel.optics.Sensor`. What leaves
            [0, 1] by them is clipped, as in a file.

    Raises:
        DualPixelError: an unknown mode, or a value that no camera can have.
    """

    mode: str = "rect"
    options: dict[str, Any] = field(default_factory=dict)
    focal_length_m: Range = 0.05
    f_number: Range = (1.4, 5.6)
    pixel_pitch_m: Range = 5.6e-5
    focus: Range | Literal["near", "far", "scene"] = "scene"
    depth_scale: Range = 1.0
    maximum_radius: float = 16.0
    sensor: Sensor = Sensor()

    def __post_init__(self) -> None:
        for name in (*RANGES, "focus"):
            value = getattr(self, name)
            if name == "focus" and value in FOCUS:
                continue
            numbers = tuple(value) if isinstance(value, Sequence) else (value, value)
            plain = len(numbers) == 2 and all(isinstance(one, int | float) for one in numbers)
            if not (plain and 0 < numbers[0] <= numbers[1] < math.inf):
                or_word = f", or one of {', '.join(FOCUS)}" if name == "focus" else ""
                raise DualPixelError(
                    f"optics.{name} {value}: must be a positive number, or a range [low, high] of positive numbers{or_word}"
                )
            # 2 and 2.0 are the same camera, and must have the same fingerprint
            same = tuple(map(float, numbers)) if isinstance(value, Sequence) else float(value)
            object.__setattr__(self, name, same)
        if not 0 < self.maximum_radius < math.inf:
            raise DualPixelError(f"optics.maximum_radius {self.maximum_radius}: must be a positive number of pixels")
        object.__setattr__(self, "maximum_radius", float(self.maximum_radius))
        if "maximum_radius" in self.options:
            raise DualPixelError("optics.options: maximum_radius is given as optics.maximum_radius, beside them")
        if self.mode not in MODES:
            raise DualPixelError(f"optics.mode {self.mode!r}; {near(self.mode, MODES)}")
        try:
            render(torch.zeros(1, 3, 1, 1), torch.zeros(1, 1, 1, 1), self.mode, **self.renderer_options)
        except (TypeError, ValueError) as error:
            raise DualPixelError(f"optics.options {self.options}: {error}") from None

    @cached_property
    def margin(self) -> int:
        """Pixels of the scene that are rendered around a crop: as far as the largest point spread function reaches."""
        left, _ = point_spread_functions(self.maximum_radius, self.mode, **self.renderer_options)
        return left.shape[-1] // 2

    @property
    def renderer_options(self) -> dict[str, Any]:
        """What the renderer is given besides image and blur."""
        # the squares of "released" are as large as the blur makes them
        return self.options if self.mode == "released" else {**self.options, "maximum_radius": self.maximum_radius}

    def provided(self, stored: Sequence[str], where: str) -> list[str]:
        """Return the fields a batch will have, from those that are stored.

        Raises:
            DualPixelError: sharp or depth is not stored.
        """
        missing = [name for name in NEEDED if name not in stored]
        if missing:
            raise DualPixelError(
                f"data.optics renders from {' and '.join(NEEDED)}; {where} has no {', '.join(missing)} "
                f"(it has {', '.join(stored)}): choose another data set, or drop data.optics"
            )
        return list(PROVIDED)

    def around(self, place: Place, size: tuple[int, int]) -> Place:
        """Return the part of a scene that is rendered for a crop: the crop and its margin, moved to lie in the scene."""
        spans = []
        for start, length, whole in zip(place[:2], place[2:], size, strict=True):
            longer = min(length + 2 * self.margin, whole)
            spans.append((min(max(start - self.margin, 0), whole - longer), longer))
        (row, height), (column, width) = spans
        return Place(row, column, height, width)

    def draw(self, random: np.random.Generator, nearest_m: float, farthest_m: float) -> dict[str, float]:
        """Draw a camera.

        Args:
            random: where the numbers come from.
            nearest_m: smallest depth of the scene, metres.
            farthest_m: its largest depth, metres.

        Returns:
            The arguments of :class:`dualpixel.optics.Camera`, and ``noise``, the seed of the sample's noise.
        """
        shares = random.random(len(RANGES) + 1)
        drawn = dict(zip(RANGES, shares, strict=False))
        for name, share in drawn.items():
            low, high = ends(getattr(self, name))
            drawn[name] = low * (high / low) ** share
        scale = drawn["depth_scale"]
        share = {"near": 0.0, "far": 1.0}.get(str(self.focus), shares[-1])
        between = (nearest_m / scale, farthest_m / scale) if isinstance(self.focus, str) else ends(self.focus)
        inverse = (1 - share) / between[0] + share / between[1]
        focal_length_px = drawn["focal_length_m"] / drawn["pixel_pitch_m"]
        camera = {
            "focal_length_m": drawn["focal_length_m"],
            "focal_length_px": focal_length_px,
            "aperture_px": focal_length_px / drawn["f_number"],
            "focus_distance_m": 1 / inverse if inverse else math.inf,
            "depth_scale": scale,
        }
        return {name: float(value) for name, value in camera.items()} | {"noise": int(random.integers(2**63))}

    @torch.no_grad()
    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Render the views of a batch, on the device where it lies.

        Args:
            batch: ``sharp`` (B, 3, H, W) in [0, 1]; ``depth`` (B, 1, H, W) in metres; and lists: ``camera``, the draws;
                ``cut``, the part of each sample that is wanted; ``frame``, where the scene's frame lies as seen from
                the first pixel of that part; ``key``, the names of the samples.

        Returns:
            The batch with ``left``, ``right``, ``combined`` and ``blur`` added, and every field cut.

        Raises:
            DualPixelError: depth that is not positive, or a camera that cannot be focused on it.
        """
        limit = self.maximum_radius
        try:
            cameras = [camera_of(draw) for draw in batch["camera"]]
            blur = signed_blur(batch["depth"], cameras, self.mode).clamp(-limit, limit)
        except ValueError as error:
            raise DualPixelError(f"{', '.join(batch['key'])}: {error}") from None
        left, right = render(batch["sharp"], blur, self.mode, **self.renderer_options)
        rendered = {**batch, "left": left, "right": right, "blur": blur.to(batch["depth"].dtype)}
        places, frames = rendered.pop("cut"), rendered.pop("frame")
        for name in [name for name in (*IMAGES, *MAPS) if name in rendered]:
            pairs = zip(rendered[name], places, strict=True)
            rendered[name] = torch.stack([image[:, place.rows, place.columns] for image, place in pairs])
        views = self._exposed(rendered["left"], rendered["right"], batch["camera"], frames)
        return rendered | {name: view.clamp(0, 1) for name, view in views.items()}

    def _exposed(
        self, left: Tensor, right: Tensor, cameras: list[dict[str, float]], frames: list[Place]
    ) -> dict[str, Tensor]:
        """Return left, right and combined as the sensor records them; noise has a seed of its own in each sample."""
        if self.sensor == Sensor():
            return {"left": left, "right": right, "combined": combine(left, right)}
        seeds = [torch.Generator(left.device).manual_seed(camera["noise"]) for camera in cameras]
        samples = zip(left.split(1), right.split(1), seeds, frames, strict=True)
        views = zip(*(self.sensor.expose(*sample) for sample in samples), strict=True)
        return dict(zip(("left", "right", "combined"), map(torch.cat, views), strict=True))

    def fingerprint(self) -> str:
        """Return 8 hexadecimal digits that change with any setting."""
        content = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:8]


def camera_of(draw: Mapping[str, float]) -> Camera:
    """Return the camera of a draw, which holds the seed of the noise too."""
    return Camera(**{name: value for name, value in draw.items() if name != "noise"})


def ends(value: Range) -> tuple[float, float]:
    """Return both ends of a range, which are the same for a single number."""
    return (value[0], value[1]) if isinstance(value, Sequence) else (value, value)


def load_views(path: Path | None) -> SimulatedViews:
    """Read settings of the camera; None for the defaults of :class:`SimulatedViews`.

    Raises:
        DualPixelError: no such file, not YAML, or settings that no camera can have.
    """
    content = None if path is None else read_yaml(path)  # None, too, where every line is a comment
    return SimulatedViews() if content is None else build(SimulatedViews, content, f"camera {path}")
