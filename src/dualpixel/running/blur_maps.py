"""Predicted maps of blur as files: the numbers in a format of one's choice, and a picture of them."""

from pathlib import Path
from typing import Literal

import numpy as np

from dualpixel.data.maps import write_map
from dualpixel.errors import DualPixelError
from dualpixel.files import write_json
from dualpixel.running.map_picture import write_map_picture

BlurFormat = Literal["npy", "exr", "png16"]

SCALE, OFFSET = 256, 128
"""A PNG holds round((blur + OFFSET) * SCALE): steps of 1/256 pixel; 0 is left for pixels where nothing is known."""

LARGEST = 65535 / SCALE - OFFSET
"""Largest size of blur, of either sign, that 16 bits hold: 127.996 pixels."""


def write_blur(folder: Path, key: str, blur: np.ndarray, file_format: BlurFormat) -> None:
    """Write ``blur/KEY.ENDING`` and the picture ``blur_colour/KEY.png``, each atomically.

    Args:
        folder: the folder of both.
        key: name of the photograph.
        blur: (H, W), pixels; NaN where nothing is known.
        file_format: "npy" and "exr" hold float32. "png16" holds round((blur + offset) * scale), with both numbers in
            ``blur/maps.json``; ``read_map(path, unit=1 / scale) - offset`` of `dualpixel.data.maps` reads it.

    Raises:
        DualPixelError: blur that 16 bits do not hold.
    """
    values = np.asarray(blur, np.float32)
    if file_format == "png16":
        path = folder / "blur" / f"{key}.png"
        if not (np.isnan(values) | (np.abs(values) <= LARGEST)).all():
            raise DualPixelError(
                f"{path}: blur from {np.nanmin(values):.4g} to {np.nanmax(values):.4g} pixels, but 16 bits hold up to "
                f"{LARGEST:.3f} of either sign; give --predictions.maps npy or exr"
            )
        says = f"blur in pixels = value / {SCALE} - {OFFSET}; value 0: nothing known"
        write_json(folder / "blur" / "maps.json", {"scale": SCALE, "offset": OFFSET, "meaning": says})
        write_map(path, values + OFFSET, unit=1 / SCALE)
    else:
        write_map(folder / "blur" / f"{key}.{file_format}", values)
    write_map_picture(folder / "blur_colour" / f"{key}.png", values, "blur, pixels")
