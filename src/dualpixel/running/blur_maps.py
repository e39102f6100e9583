"""Predicted maps of blur as files: the numbers in a format of one's choice, and a picture of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dualpixel.data.maps import write_map
from dualpixel.errors import DualPixelError
from dualpixel.files import write_json
from dualpixel.running.map_picture import write_map_picture

MapFormat = Literal["npy", "exr", "png16", "none"]

SCALE, OFFSET = 256, 128
"""A PNG holds round((blur + OFFSET) * SCALE): steps of 1/256 pixel; 0 is left for pixels where nothing is known."""

LARGEST = 65535 / SCALE - OFFSET
"""Largest size of blur, of either sign, that 16 bits hold: 127.996 pixels."""


MEANING = (
    "signed blur radius in pixels, positive nearer than the plane in focus; in PNG: value / scale - offset, and value 0 where "
    "nothing is known"
)


def write_blur(
    folder: Path, key: str, blur: np.ndarray, file_format: MapFormat, origin: Mapping[str, Any] | None = None
) -> None:
    """Write ``blur/KEY.ENDING``, what it means (``blur/maps.json``), and the picture ``blur_colour/KEY.png``, each atomically.

    Args:
        folder: the folder of both.
        key: name of the photograph.
        blur: (H, W), signed blur radius in pixels; NaN where nothing is known.
        file_format: "npy" and "exr" hold float32. "png16" holds round((blur + offset) * scale), with both numbers in
            ``maps.json``; ``read_map(path, unit=1 / scale) - offset`` of `dualpixel.data.maps` reads it. "none" writes nothing.
        origin: how the radius was made from what the network gave, to stand in ``maps.json``, too.

    Raises:
        DualPixelError: blur that 16 bits do not hold.
    """
    if file_format == "none":
        return
    values = np.asarray(blur, np.float32)
    if file_format == "png16":
        path = folder / "blur" / f"{key}.png"
        if not (np.isnan(values) | (np.abs(values) <= LARGEST)).all():
            raise DualPixelError(
                f"{path}: blur from {np.nanmin(values):.4g} to {np.nanmax(values):.4g} pixels, but 16 bits hold up to "
                f"{LARGEST:.3f} of either sign; give --predictions.maps npy or exr"
            )
        write_map(path, values + OFFSET, unit=1 / SCALE)
    else:
        write_map(folder / "blur" / f"{key}.{file_format}", values)
    numbers = {"meaning": MEANING, "scale": SCALE, "offset": OFFSET}
    write_json(folder / "blur" / "maps.json", numbers | dict(origin or {}))
    write_map_picture(folder / "blur_colour" / f"{key}.png", values, "blur, pixels")
