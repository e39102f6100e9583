"""Random changes of a training sample that a dual-pixel sensor allows."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from dualpixel.data.fields import MAPS
from dualpixel.errors import DualPixelError

Change = Callable[[str, np.ndarray], np.ndarray]
"""From the name of a field and its crop to the changed crop of the same size."""


@dataclass(frozen=True)
class Augmentation:
    """What is done at random to a crop.

    Mirroring left to right exchanges the two halves of the lens, hence the two views. Turning by 90 degrees is not among them: the
    views differ along rows only.

    Args:
        mirror: probability of mirroring left to right (and exchanging the views).
        flip: probability of flipping upside down.
        enlarge: crops are enlarged by a random factor from 1 to this, of which a crop of the old size is taken. Blur and disparity grow
            with the picture. 1 for none.
        diagonal: take that crop on the diagonal only, from the top left to the bottom right, as DPANet's published program does;
            otherwise anywhere.
    """

    mirror: float = 0.0
    flip: float = 0.0
    enlarge: float = 1.0
    diagonal: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.mirror <= 1 and 0 <= self.flip <= 1):
            raise DualPixelError(
                f"augmentation: mirror {self.mirror} and flip {self.flip} are probabilities, between 0 and 1"
            )
        if not 1 <= self.enlarge <= 8:
            raise DualPixelError(f"augmentation: enlarge {self.enlarge} is the largest factor, between 1 (none) and 8")

    def draw_enlargement(self, random: np.random.Generator, height: int, width: int) -> Change:
        """Draw how all fields of one sample are enlarged.

        The new height is an even number from `height` to below `enlarge` x `height`, as likely as any other; the width grows by
        the same factor, to the nearest pixel. A crop on the diagonal has the same share of the room below and beside it.

        Source: the published program of DPANet enlarges patches of 512 pixels to 512 ... 638, bilinearly.

        Args:
            random: where the numbers come from; nothing is drawn where `enlarge` is 1.
            height: of the crop, pixels.
            width: of the crop, pixels.

        Returns:
            What maps each crop (height, width[, 3]) to its enlargement. Images are interpolated bilinearly and rounded to their type;
            maps are taken from the nearest pixel, and blur radii grow by the factor.
        """
        most = int(np.ceil(self.enlarge * height)) - 1
        if most <= height:
            return lambda _, crop: crop
        higher = max(height, int(random.integers(height, most + 1)) // 2 * 2)
        wider = round(width * higher / height)
        below, beside = higher - height, wider - width
        row, column = (int(random.integers(room + 1)) for room in (below, beside))
        if self.diagonal and below:
            column = round(row * beside / below)

        def enlarge(name: str, crop: np.ndarray) -> np.ndarray:
            if higher == height:
                return crop
            way = cv2.INTER_NEAREST if name in MAPS else cv2.INTER_LINEAR
            image = cv2.resize(np.ascontiguousarray(crop), (wider, higher), interpolation=way)
            image = image[row : row + height, column : column + width]
            return image * np.float32(higher / height) if name == "blur" else image

        return enlarge
