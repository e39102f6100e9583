"""Small pictures beside a result: what a table shows of each image.

``thumbnails/KEY-KIND.webp`` beside ``result.json``, of each image whose sharp image is scored: ``scene``, the whole target, and a detail
of ``input``, ``output`` and ``target`` at native resolution. The place of the detail is chosen by input and target alone, so it is the
same for every network that was tested on the same data by the same protocol.
"""

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from dualpixel.data.index import KEY
from dualpixel.terminal import warn

FOLDER = "thumbnails"
KINDS = ("scene", "input", "output", "target")
SCENE_WIDTH = 160
"""Pixels that the picture of a scene is wide at most."""
DETAIL = 128
"""Pixels along a detail; along a smaller image all there are."""
QUALITY = 85


def find_thumbnails(result_file: Path) -> dict[str, dict[str, Path]]:
    """Return the thumbnails of a result: key of the image -> kind of `KINDS` -> file.

    Args:
        result_file: a ``result.json``, which may have come from elsewhere: links are left out, and so is all that is no picture of this
            kind by its name.
    """
    folder = result_file.parent / FOLDER
    found: dict[str, dict[str, Path]] = {}
    if folder.is_symlink() or not folder.is_dir():
        return found
    for path in sorted(folder.glob("*.webp")):
        key, _, kind = path.stem.rpartition("-")
        if re.fullmatch(KEY, key) and kind in KINDS and path.is_file() and not path.is_symlink():
            found.setdefault(key, {})[kind] = path
    return found


class ThumbnailFolder:
    """The thumbnails of one test, which take the place of those of an earlier one when the test is over.

    Args:
        result_file: the ``result.json`` that is going to be written.
    """

    def __init__(self, result_file: Path) -> None:
        self._folder = result_file.parent / FOLDER
        self._begun = result_file.parent / f".{FOLDER}.part"
        self._failed = False

    def begin(self) -> None:
        """Remove what a test that was stopped has left; on one process, before any of them writes."""
        _remove(self._begun)

    def write(self, key: str, unprocessed: Tensor, output: Tensor, target: Tensor) -> None:
        """Write the thumbnails of one image; on the process that has scored it.

        Args:
            key: of the image, a name that a file can have.
            unprocessed: the blurry input, (3, H, W) in [0, 1].
            output: the same shape.
            target: the same shape.
        """
        if self._failed:
            return
        images = {name: one.detach().float().cpu() for name, one in (("input", unprocessed), ("target", target))}
        place = find_detail(images["input"], images["target"])
        images["output"] = output.detach().float().cpu()
        pictures = {kind: _eight_bits(image)[place] for kind, image in images.items()}
        pictures["scene"] = _narrow(_eight_bits(images["target"]))
        try:
            self._begun.mkdir(parents=True, exist_ok=True)
            for kind, picture in pictures.items():
                _, content = cv2.imencode(".webp", picture[:, :, ::-1], [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
                (self._begun / f"{key}-{kind}.webp").write_bytes(content.tobytes())
        except OSError as error:  # scores are worth more than pictures
            self._failed = True
            warn(f"no more thumbnails: {self._begun} cannot be written ({error.strerror})")

    def end(self) -> None:
        """Put the new thumbnails, or their absence, in the place of the old ones; on one process, when all have written."""
        try:
            _remove(self._folder)
            if self._begun.is_dir():
                self._begun.rename(self._folder)
        except OSError as error:
            warn(f"thumbnails are left in {self._begun} ({error.strerror})")


def find_detail(unprocessed: Tensor, target: Tensor) -> tuple[slice, slice]:
    """Find where a blurry image differs most from its target: the square of `DETAIL` pixels with the largest mean difference.

    Args:
        unprocessed: (3, H, W).
        target: the same shape.

    Returns:
        Rows and columns; along a side shorter than `DETAIL` all of it. Of equal squares the first one.
    """
    difference = (unprocessed.double() - target.double()).abs().mean(0).nan_to_num().numpy()
    height, width = (min(DETAIL, side) for side in difference.shape)
    sums = cv2.integral(difference)
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    row, column = np.unravel_index(int(np.argmax(inside)), inside.shape)
    return slice(int(row), int(row) + height), slice(int(column), int(column) + width)


def _eight_bits(image: Tensor) -> np.ndarray:
    """Return (3, H, W) in [0, 1] as (H, W, 3) uint8."""
    return image.nan_to_num().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()


def _narrow(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    if width <= SCENE_WIDTH:
        return picture
    return cv2.resize(picture, (SCENE_WIDTH, max(1, round(height * SCENE_WIDTH / width))), interpolation=cv2.INTER_AREA)


def _remove(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    elif folder.is_dir():
        shutil.rmtree(folder)
