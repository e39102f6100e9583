"""Reader that makes RDPD: frames of SYNTHIA-SF, rendered by the five cameras of the RDPD authors' generator."""

import itertools
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dualpixel.data.card import Card
from dualpixel.data.images import read_image
from dualpixel.data.readers.base import Reader, Scene
from dualpixel.data.readers.layouts import first_root
from dualpixel.data.resizing import to_8_bit
from dualpixel.data.schema import build
from dualpixel.errors import DualPixelError
from dualpixel.hints import near

FOLDERS = {"sharp": "RGBLeft", "depth": "DepthLeft"}
IMAGES = ("left", "right", "combined", "sharp")


@dataclass(frozen=True)
class CameraSet:
    """One camera, in the generator's own units: it mixes millimetres and metres, and only the layers are meant.

    Args:
        focal_length: of the lens.
        f_number: focal length over aperture diameter.
        focus_distance: depth in focus.
        barrel: coefficients A, B, C, D of the radial distortion (see `dualpixel.optics.distort`).
    """

    focal_length: float
    f_number: float
    focus_distance: float
    barrel: tuple[float, float, float, float]

    def __post_init__(self) -> None:
        if not 0 < self.focal_length < self.focus_distance or not self.f_number > 0:
            raise DualPixelError(
                f"rdpd: a camera of focal length {self.focal_length}, f-number {self.f_number}, focused at "
                f"{self.focus_distance}; all must be positive, and the focus beyond the focal length"
            )


@dataclass(frozen=True)
class RdpdOptions:
    """How SYNTHIA-SF is read and rendered.

    Args:
        cameras: each renders every sequence.
        sequences: folders of the sequences; their order numbers the rendered ones and chooses their kernels.
        splits: split -> its sequences; one may be in several.
        orders: of the Butterworth profile (see `dualpixel.optics.butterworth`). Sequence i, counted from 0, takes the
            i-th of all combinations, over and over; orders change slowest, betas fastest.
        cutoffs: of the profile.
        betas: of the profile.
        smoothing: of the kernels.
        maximum_radius: larger blur radii are held at this one, pixels.
        depth_range_m: depth that the largest code of a depth file stands for, metres.
        farthest_m: larger depths are held at this one, metres.
        depth_bins: equal bins from 0 to `farthest_m`, each with one blur radius.
        radial_distortion: whether the cameras' distortion is applied.
        roots: names of folders that may lie between the source folder and the sequences.
    """

    cameras: list[CameraSet]
    sequences: list[str]
    splits: dict[str, list[str]]
    orders: list[int]
    cutoffs: list[float]
    betas: list[float]
    smoothing: float = 7
    maximum_radius: int = 40
    depth_range_m: float = 1000
    farthest_m: float = 250
    depth_bins: int = 2000
    radial_distortion: bool = True
    roots: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in itertools.chain(*self.splits.values()):
            if name not in self.sequences:
                raise DualPixelError(f"rdpd: a split with the unknown sequence {name!r}; {near(name, self.sequences)}")
        if min(self.maximum_radius, self.depth_range_m, self.farthest_m, self.depth_bins) <= 0:
            raise DualPixelError("rdpd: maximum_radius, depth_range_m, farthest_m and depth_bins must be positive")


class RdpdReader(Reader):
    """Renders frames of SYNTHIA-SF as the published RDPD generator does; see `RdpdOptions` for the card.

    Depth is cut into layers of one blur radius (:func:`defocus_layers`); left, right and combined image are rendered by
    the mode "butterworth", each value rounded to 8 bits, and distorted. The sharp image is the frame, distorted as well.

    Source: Abuolaim et al., "Learning to Reduce Defocus Blur by Realistically Modeling Dual-Pixel Data", ICCV 2021, and
    its published code.

    Differences: the distortion reads the image at points, not over areas (see `dualpixel.optics.distort`). The authors
        write no depth and no blur.
    """

    def __init__(self, card: Card, source: Path | None = None) -> None:
        super().__init__(card, source)
        self.options = build(RdpdOptions, card.reader.options, f"card {card.name}: reader.options")

    def scenes(self, split: str) -> list[Scene]:
        """List the frames by camera, sequence and name; see `Reader.scenes`. Sequences that are not there are left out."""
        options = self.options
        root = first_root(self.existing_source(), options.roots)
        wanted = options.splits.get(split, [])
        frames = {name: self._frames(root / name) for name in options.sequences if name in wanted}
        profiles = list(itertools.product(options.orders, options.cutoffs, options.betas))
        settings = ("smoothing", "maximum_radius", "depth_range_m", "farthest_m", "depth_bins")
        common = {name: getattr(options, name) for name in settings}
        scenes = []
        for (number, camera), (index, name) in itertools.product(
            enumerate(options.cameras), enumerate(options.sequences)
        ):
            rendered = number * len(options.sequences) + index + 1
            noted = {"sequence": name, "camera_set": number, "focal_length": camera.focal_length}
            noted |= {"f_number": camera.f_number, "focus_distance": camera.focus_distance}
            noted |= {"barrel": list(camera.barrel) if options.radial_distortion else None}
            noted |= dict(zip(("order", "cutoff", "beta"), profiles[index % len(profiles)], strict=True)) | common
            for stem, files in frames.get(name, {}).items():
                key = f"seq_{rendered:03d}_{re.sub(r'[^A-Za-z0-9_-]', '_', stem)}"
                scenes.append(Scene(key, f"set{number}", noted | {"frame": stem}, files))
        return scenes

    def read(self, scene: Scene) -> dict[str, np.ndarray]:
        """Render one frame; see `Reader.read`.

        Returns:
            left, right, combined, sharp: (H, W, 3) uint8 RGB; depth: (H, W) float32, metres, at most `farthest_m`; blur:
            (H, W) float32, the signed radius of the layer in whole pixels, positive nearer than the focus. Where the
            distorted image shows nothing and is black, the two go on as at the border.
        """
        # torch takes seconds to import, and listing scenes needs none of it
        import torch

        from dualpixel.optics import distort
        from dualpixel.optics.butterworth import render_butterworth_with_combined

        noted = scene.metadata
        image = read_image(scene.files["sharp"], self.card.bit_depth, drop_alpha=True)
        code = read_image(scene.files["depth"], 8, drop_alpha=True)
        if image.shape != code.shape:
            raise DualPixelError(f"{self.card.name}: {scene.key} is {image.shape}, its depth {code.shape}")
        depth = decode_depth(code, noted["depth_range_m"]).clip(max=noted["farthest_m"])
        lens = (noted["focal_length"], noted["f_number"], noted["focus_distance"])
        layers = defocus_layers(*lens, noted["farthest_m"], noted["depth_bins"], noted["maximum_radius"])
        blur = layers[np.searchsorted(layers[:, 1], depth, side="right") - 1, 0]

        sharp = torch.from_numpy(image / 255).permute(2, 0, 1)[None]
        maps = {name: torch.from_numpy(values)[None, None] for name, values in (("depth", depth), ("blur", blur))}
        profile = {name: noted[name] for name in ("order", "cutoff", "beta", "smoothing", "maximum_radius")}
        views = render_butterworth_with_combined(sharp, maps["blur"], **profile, levels=255)
        images = dict(zip(IMAGES, (*views, sharp), strict=True))
        if noted["barrel"]:
            images = {name: distort(one, noted["barrel"]) for name, one in images.items()}
            maps = {name: distort(one, noted["barrel"], "nearest", "border") for name, one in maps.items()}
        return {
            **{name: to_8_bit(one[0].permute(1, 2, 0).numpy()) for name, one in images.items()},
            **{name: one[0, 0].numpy().astype(np.float32) for name, one in maps.items()},
        }

    def _frames(self, sequence: Path) -> dict[str, dict[str, Path]]:
        """Return the frames of a sequence, name -> field -> file, sorted; none where there is no such folder."""
        found = {
            name: {file.stem: file for file in sorted((sequence / folder).glob("[!.]*.png"))}
            for name, folder in FOLDERS.items()
        }
        unpaired = sorted(found["sharp"].keys() ^ found["depth"].keys())
        if unpaired:
            raise DualPixelError(
                f"{self.card.name}: {len(unpaired)} frames of {sequence} lie in only one of {' and '.join(FOLDERS.values())}, "
                f"the first is {unpaired[0]}; complete the download"
            )
        return {stem: {name: found[name][stem] for name in FOLDERS} for stem in found["sharp"]}


def decode_depth(code: np.ndarray, depth_range_m: float = 1000) -> np.ndarray:
    """Return the depth that a SYNTHIA depth file stands for: depth_range_m (R + 256 G + 65536 B) / (2^24 - 1).

    Args:
        code: (H, W, 3) uint8 RGB.
        depth_range_m: depth of the largest code, metres.

    Returns:
        (H, W) float64, metres.
    """
    return depth_range_m * (code.astype(np.float64) @ np.array([1.0, 256.0, 65536.0])) / (2**24 - 1)


def defocus_layers(
    focal_length: float,
    f_number: float,
    focus_distance: float,
    farthest_m: float = 250,
    bins: int = 2000,
    maximum_radius: int = 40,
) -> np.ndarray:
    """Cut depth into layers of one blur radius.

    With the sensor at v = F f / (f - F) behind the lens of diameter L = F / N, the radius in the middle d of a bin is
    round(v L / f (d - f) / d), halves to even, of opposite sign here; adjacent bins of equal radius make a layer.

    Args:
        focal_length: F.
        f_number: N.
        focus_distance: f.
        farthest_m: where the last bin ends, metres; the last layer includes it.
        bins: number of equal bins.
        maximum_radius: larger radii are held at this one, pixels.

    Returns:
        (layers, 3) float64: signed blur radius in whole pixels, positive nearer than the focus; nearest and farthest
        depth of the layer, metres, the latter excluded.
    """
    edges = np.arange(bins + 1) / bins * farthest_m
    middles = edges[:-1] + (edges[1:] - edges[:-1]) / 2
    sensor_distance = focal_length * focus_distance / (focus_distance - focal_length)
    scale = sensor_distance * (focal_length / f_number) / focus_distance
    radii = -np.round(scale * (middles - focus_distance) / middles).clip(-maximum_radius, maximum_radius) + 0.0  # no -0
    first = np.flatnonzero(np.diff(radii, prepend=np.inf))
    ends = np.append(edges[first[1:]], edges[-1] + 0.1)
    return np.stack([radii[first], edges[first], ends], 1)
