"""The reader that needs no download: it renders dual-pixel pairs from photographs in the scikit-image wheel.

Training scenes are photographs, halved so that they are as sharp as the measured scene (which was quartered), with a
made-up depth map. Validation and test scenes are the left image of
Middlebury's *Motorcycle* (Scharstein et al., "High-resolution stereo datasets with subpixel-accurate ground truth",
GCPR 2014) with the depth that was measured with it; a camera's settings occur in one split only. They measure whether a
network learns, not how good it is.

Differences: images are blurred as they are, display-encoded, which is how the data of DDDNet were made (Pan et al.,
CVPR 2021); a sensor adds light, that is, linear values. There is no noise.
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from dualpixel.data.images import read_image
from dualpixel.data.made_up_depth import made_up_depth
from dualpixel.data.maps import fill_holes
from dualpixel.data.readers.base import Reader, Scene
from dualpixel.errors import DualPixelError
from dualpixel.hints import near

# Scenes made from each photograph. Only PNG files, since the bits of a decoded JPEG depend on the decoder.
PHOTOGRAPHS = {"astronaut": 14, "coffee": 12, "camera": 6, "ihc": 3, "brick": 1}
HEIGHT, WIDTH = 192, 256  # of a training scene, pixels; fits in every halved photograph

MEASURED = "motorcycle_left"
# Calibration of the quarter-size scene, from the documentation of skimage.data.stereo_motorcycle.
FOCAL_LENGTH_PX = 994.978
BASELINE_M = 0.193001
DOFFS_PX = 31.086  # by how much the principal points of the two images differ in their column
NEAREST_M, FARTHEST_M = 2.1, 5.0  # range of the measured depth, and so of the made-up one

# The scene's focal length in pixels, on a medium-format camera: 741 columns are 60 mm of sensor, on which blur is well
# visible.
FOCAL_LENGTH_M = 0.080
TRAIN_F_NUMBERS = (1.4, 1.6, 1.8, 2.0, 2.2)
CAMERA = ("focal_length_m", "focal_length_px", "aperture_px", "focus_distance_m")
# f-number and distance in focus, metres
SETTINGS = {
    "val": ((1.4, 3.3), (1.6, 2.6), (2.0, 4.5)),
    "test": ((1.4, 2.9), (1.6, 2.2), (1.8, 4.1), (2.0, 3.6)),
}


class QuickstartReader(Reader):
    """Makes its scenes; `source` is not used.

    Options (in the card, under ``reader: {name: quickstart, options: ...}``):
        seed: whole number from which places, depth maps and cameras of the training scenes are drawn; 0 when not given.

    Groups are "made-up" and "measured", after the depth.
    """

    def scenes(self, split: str) -> list[Scene]:
        """List what will be made; see `Reader.scenes`."""
        if split == "train":
            return [self._train_scene(name, number) for name, count in PHOTOGRAPHS.items() for number in range(count)]
        if split not in SETTINGS:
            raise DualPixelError(f"quickstart: no scenes for the split {split!r}; {near(split, ['train', *SETTINGS])}")
        return [
            Scene(f"motorcycle-{split}-{number}", "measured", {"photograph": MEASURED, **_lens(f_number, focus)})
            for number, (f_number, focus) in enumerate(SETTINGS[split])
        ]

    def read(self, scene: Scene) -> dict[str, np.ndarray]:
        """Render one scene; see `Reader.read`.

        Returns:
            left, right, combined (their mean), sharp: (H, W, 3) uint16 RGB; depth: (H, W) float32, metres; blur: (H, W)
            float32, signed blur radius in pixels, positive nearer than the focus plane.
        """
        # torch takes seconds to import, and listing scenes needs none of it
        import torch

        from dualpixel.optics import Camera, simulate

        noted = scene.metadata
        image = read_image(_file(f"{noted['photograph']}.png"), 8) / 255
        if noted["photograph"] == MEASURED:
            with np.load(_file("motorcycle_disp.npz")) as stored:
                depth = fill_holes(depth_of_disparity(stored["arr_0"]), name=MEASURED)
        else:
            image = _halved(image)
            top = round(noted["place"][0] * (image.shape[0] - HEIGHT))
            left = round(noted["place"][1] * (image.shape[1] - WIDTH))
            image = image[top : top + HEIGHT, left : left + WIDTH]
            image = image[:, ::-1].copy() if noted["mirrored"] else image
            depth = made_up_depth(HEIGHT, WIDTH, noted["seed"], NEAREST_M, FARTHEST_M)
        camera = Camera(**{name: noted[name] for name in CAMERA})
        sharp = torch.from_numpy(image).permute(2, 0, 1)[None]
        metres = torch.from_numpy(depth.astype(np.float64))[None, None]
        left_view, right_view = simulate(sharp, metres, camera)
        images = {"left": left_view, "right": right_view, "combined": (left_view + right_view) / 2, "sharp": sharp}
        maps = {"depth": metres, "blur": camera.blur_radius(metres)}
        return {
            **{
                name: (view[0].permute(1, 2, 0) * 65535).round().numpy().astype(np.uint16)
                for name, view in images.items()
            },
            **{name: field[0, 0].numpy().astype(np.float32) for name, field in maps.items()},
        }

    def _train_scene(self, photograph: str, number: int) -> Scene:
        key = f"{photograph}-{number:02d}"
        # a hash, since Python's own changes from process to process
        digest = hashlib.sha256(f"{self.card.reader.options.get('seed', 0)}/{key}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        random = np.random.Generator(np.random.PCG64(seed))
        focus = 1 / random.uniform(1 / FARTHEST_M, 1 / NEAREST_M)
        metadata = {
            "photograph": photograph,
            "place": [round(random.random(), 3), round(random.random(), 3)],
            "mirrored": bool(random.random() < 0.5),
            "seed": seed,
            **_lens(TRAIN_F_NUMBERS[number % len(TRAIN_F_NUMBERS)], round(focus, 3)),
        }
        return Scene(key, "made-up", metadata)


def depth_of_disparity(disparity: np.ndarray) -> np.ndarray:
    """Return the depth in metres of a disparity in pixels: focal length x baseline / (disparity + doffs).

    Where the disparity is not finite, that is, unknown, the depth is NaN.
    """
    return FOCAL_LENGTH_PX * BASELINE_M / (np.where(np.isfinite(disparity), disparity, np.nan) + DOFFS_PX)


def _halved(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[0] // 2, image.shape[1] // 2
    return image[: 2 * height, : 2 * width].reshape(height, 2, width, 2, 3).mean((1, 3))


def _lens(f_number: float, focus_distance_m: float) -> dict[str, Any]:
    return {
        "focal_length_m": FOCAL_LENGTH_M,
        "focal_length_px": FOCAL_LENGTH_PX,
        "aperture_px": FOCAL_LENGTH_PX / f_number,
        "focus_distance_m": focus_distance_m,
    }


def _file(name: str) -> Path:
    # not through skimage.data, which would download what is missing
    found = find_spec("skimage")
    path = Path(found.origin).parent / "data" / name if found and found.origin else Path("skimage/data", name)
    if not path.is_file():
        raise DualPixelError(
            f"quickstart: no {path}, which the wheel holds: pip install --force-reinstall scikit-image"
        )
    return path
