"""NIMAT: eight views of a scene, seen from eight places in the lens, from one image and a network that predicts two.

A network such as MDP predicts the left and the right view of a dual-pixel camera. Of an image turned by an angle, it
predicts what a camera turned by that angle would have seen; turned back, that is a view from another place on a circle.
Four angles give eight views, which played in their order move what is out of focus in a circle.

Source: Abuolaim, Afifi and Brown, "Improving Single-Image Defocus Deblurring: How Dual-Pixel Images Help Through
Multi-Task Learning", WACV 2022, section 4.4 ("new image motion attribute", NIMAT), and the authors' code,
https://github.com/Abdullah-Abuolaim/multi-task-defocus-deblurring-dual-pixel-nimat.
"""

import math
from collections.abc import Callable, Iterator, Mapping

import cv2
import numpy as np
import torch
from torch import Tensor

from dualpixel.blocks.tiling import Tile, cut_tiles, run_tiled
from dualpixel.errors import DualPixelError
from dualpixel.recipes.base import Recipe

ORDER = {
    0: {"left": 6, "right": 2},
    45: {"left": 5, "right": 1},
    90: {"left": 4, "right": 0},
    135: {"left": 3, "right": 7},
}
"""Angle by which the image is turned, degrees -> view of the network -> its number among the eight."""

MULTIPLE = 16
"""What sides of a canvas are divisible by: the strides of a U-Net that pools four times."""

LARGEST_SIDE = 32767
"""Pixels along a canvas; OpenCV 4 counts no further when it turns an image."""


class Canvas:
    """The black square about an image, in which it can be turned without losing its corners.

    Differences: the paper turns clockwise; the code, and we, counter-clockwise as seen on a screen.

    Args:
        height: rows of the image.
        width: its columns.
        multiple: what the turned square, padded with black at the top and at the left, is divisible by.

    Raises:
        DualPixelError: the image is too large to be turned.
    """

    def __init__(self, height: int, width: int, multiple: int = MULTIPLE) -> None:
        self.height, self.width = height, width
        self.side = math.isqrt(height**2 + width**2 - 1) + 1  # the diagonal, rounded up
        if self.side > LARGEST_SIDE:
            raise DualPixelError(
                f"an image of {height} x {width} pixels cannot be turned: its diagonal is {self.side} pixels, at most "
                f"{LARGEST_SIDE} are possible; make it smaller"
            )
        self.top, self.left = (self.side - height) // 2, (self.side - width) // 2
        self.padding = -self.side % multiple
        self.padded_side = self.side + self.padding

    def turn(self, image: np.ndarray, angle: float) -> np.ndarray:
        """Put an image into the black square and turn it.

        Args:
            image: (H, W) or (H, W, 3), uint8 or uint16; interpolated values are rounded to this type.
            angle: degrees, positive counter-clockwise.

        Returns:
            (padded_side, padded_side) or (padded_side, padded_side, 3), the same type.
        """
        square = np.zeros((self.side, self.side, *image.shape[2:]), image.dtype)
        square[self._rectangle()] = image
        padding = (self.padding, 0, self.padding, 0)  # top, bottom, left, right
        return cv2.copyMakeBorder(self._turned(square, angle), *padding, cv2.BORDER_CONSTANT)

    def turn_back(self, view: np.ndarray, angle: float) -> np.ndarray:
        """Undo `turn`: cut the padding, turn by the negative angle, cut out the image's rectangle."""
        square = np.ascontiguousarray(view[self.padding :, self.padding :])
        return self._turned(square, -angle)[self._rectangle()].copy()

    def needed(self, angle: float) -> np.ndarray:
        """Return which pixels of the turned square `turn_back` may look at: (padded_side, padded_side) of bool."""
        margin = 2  # a turned-back pixel is made of the four about its place, which is rounded
        rows, columns = self._rectangle(margin)
        square = np.zeros((self.side, self.side), np.uint8)
        square[rows, columns] = 255
        needed = np.zeros((self.padded_side, self.padded_side), bool)
        needed[self.padding :, self.padding :] = self._turned(square, angle) > 0
        return needed

    def _rectangle(self, margin: int = 0) -> tuple[slice, slice]:
        starts = ((self.top, self.height), (self.left, self.width))
        return tuple(slice(max(start - margin, 0), start + size + margin) for start, size in starts)

    def _turned(self, square: np.ndarray, angle: float) -> np.ndarray:
        matrix = cv2.getRotationMatrix2D((self.side / 2, self.side / 2), angle, 1.0)
        return cv2.warpAffine(square, matrix, (self.side, self.side))  # bilinear, black beyond the border


def check_predicts_views(recipe: Recipe) -> None:
    """Refuse a recipe that does not make two views of one image, by trying it on a small black one.

    Raises:
        DualPixelError: it needs more than one image, or predicts no views.
    """
    which = "NIMAT takes a recipe that predicts the left and the right view of one image: mdp or mdp_views"
    if tuple(recipe.inputs) != ("combined",):
        raise DualPixelError(f"recipe {recipe.name} needs {', '.join(recipe.inputs)}; {which}")
    with torch.inference_mode():
        found = recipe({"combined": torch.zeros(1, 3, MULTIPLE, MULTIPLE, device=recipe.device)})
    if not {"left", "right"} <= set(found):
        raise DualPixelError(f"recipe {recipe.name} predicts {', '.join(found)} alone; {which}")


def plan_runs(canvas: Canvas, recipe: Recipe, tile: int) -> dict[int, list[Tile]]:
    """Choose the tiles in which the network is run on each turned image.

    Tiles that touch nothing of the image that is cut out at the end are left out: the corners of the canvas.

    Args:
        canvas: of the image.
        recipe: its network says by the attribute ``halo`` how far it looks; without it the canvas is not cut.
        tile: side of the tiles, pixels.

    Returns:
        Angle, degrees -> tiles.
    """
    side = canvas.padded_side
    halo = getattr(recipe.net, "halo", None)
    tiles = cut_tiles(side, side, side if halo is None else tile, halo or 0, MULTIPLE)
    plan = {}
    for angle in ORDER:
        needed = canvas.needed(angle)
        plan[angle] = [one for one in tiles if needed[one.core].any()]
    return plan


def eight_views(
    recipe: Recipe,
    image: np.ndarray,
    canvas: Canvas,
    plan: Mapping[int, list[Tile]],
    done: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Make the eight views, two at a time, so that no more than one turned image is in memory.

    Args:
        recipe: predicts ``left`` and ``right`` of ``combined``, in eval mode.
        image: (H, W, 3), uint8 or uint16, RGB.
        canvas: of the image.
        plan: from `plan_runs`.
        done: called after each tile.

    Yields:
        Number of the view, 0 to 7, and the view (H, W, 3), of the image's type; not in order.
    """
    for angle, numbers in ORDER.items():
        views = predict_views(recipe, canvas.turn(image, angle), plan[angle], done)
        for name, number in numbers.items():
            yield number, canvas.turn_back(views.pop(name), angle)


def predict_views(
    recipe: Recipe, image: np.ndarray, tiles: list[Tile], done: Callable[[], None] = lambda: None
) -> dict[str, np.ndarray]:
    """Predict the left and the right view of one image; values are truncated to whole steps.

    Args:
        recipe: predicts ``left`` and ``right`` of ``combined``, in eval mode.
        image: (H, W, 3), uint8 or uint16, RGB.
        tiles: of the image; what they do not cover is black.
        done: called after each tile.

    Returns:
        "left" and "right", (H, W, 3), of the image's type.
    """
    steps = int(np.iinfo(image.dtype).max)
    pixels = torch.from_numpy(image).permute(2, 0, 1)

    def network(window: Tensor) -> dict[str, Tensor]:
        prediction = recipe({"combined": window[None].to(recipe.device).float() / steps})
        views = {name: prediction[name][0].clamp(0, 1) * steps for name in ("left", "right")}
        done()
        return {name: view.cpu().to(pixels.dtype) for name, view in views.items()}  # the cast cuts fractions off

    with torch.inference_mode():
        views = run_tiled(network, pixels, tiles)
    return {name: np.ascontiguousarray(view.permute(1, 2, 0).numpy()) for name, view in views.items()}
