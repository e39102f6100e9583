"""Real pairs of a Pixel 4 with a sharp image and a defocus map: reading, matching and registration."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

SCENES = ("001", "004", "006", "009", "013", "016")
BLACK, WHITE = 1024, 2**14 - 1
# Left out of all comparisons: the frame's border, and what is so near to pixels without a reliable defocus.
BORDER, NEAR_UNRELIABLE = 40, 4
# Displacements are measured with squares of this size, moved by so much at most.
SQUARE, REACH = 96, 14


@dataclass(frozen=True)
class Scene:
    """A pair and its sharp image, linear in light; all maps (H, W) float64 but `reliable`."""

    left: np.ndarray
    right: np.ndarray
    sharp: np.ndarray
    defocus: np.ndarray  # in [0, 1], up to an affine map; where unreliable, that of the nearest reliable pixel
    reliable: np.ndarray


@lru_cache
def read_scene(folder: Path, name: str) -> Scene:
    """Read a scene; each view is brought to the vignetting of the mean of both, that of the sharp image."""

    def read(path: str) -> np.ndarray:
        return cv2.imread(str(folder / path), cv2.IMREAD_UNCHANGED).astype(np.float64)

    def light(path: str) -> np.ndarray:
        return np.maximum(read(path) - BLACK, 0) / WHITE

    white = [cv2.blur(light(f"calibration/white_{side}.png"), (101, 101)) for side in "lr"]
    left, right = (light(f"{name}/{side}.png") * sum(white) / (2 * own) for side, own in zip("lr", white, strict=True))
    defocus = read(f"{name}/defocus.png")
    known = defocus > 0
    _, nearest = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    value = np.zeros(nearest.max() + 1)
    value[nearest[known]] = defocus[known]
    reliable = cv2.erode(known.astype(np.uint8), np.ones((2 * NEAR_UNRELIABLE + 1,) * 2), borderValue=1) > 0
    reliable[:BORDER], reliable[-BORDER:], reliable[:, :BORDER], reliable[:, -BORDER:] = False, False, False, False
    return Scene(left, right, read(f"{name}/sharp.png") / 65535, value[nearest] / 255, reliable)


def defocus_ends(scene: Scene) -> np.ndarray:
    """Return the defocus that 5 % and 95 % of the reliable pixels do not exceed."""
    return np.percentile(scene.defocus[scene.reliable], [5, 95])


def squares(scene: Scene) -> list[tuple[int, int]]:
    """Return the corners of the squares in which displacements are measured: reliable, and not blank."""
    height, width = scene.sharp.shape
    corners = []
    for row in range(REACH, height - SQUARE - REACH, SQUARE // 2):
        for column in range(REACH, width - SQUARE - REACH, SQUARE // 2):
            at = slice(row, row + SQUARE), slice(column, column + SQUARE)
            if scene.reliable[at].mean() > 0.95 and scene.left[at].std() > 0.05 * scene.left[at].mean():
                corners.append((row, column))
    return corners


def displacements(scene: Scene, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Measure where the squares of one image lie in another, by normalised correlation.

    Returns:
        Column and row displacement (n, 2), and column, row (both in [-1/2, 1/2]) and defocus of the squares (n, 3).
    """
    height, width = first.shape
    first, second = first.astype(np.float32), second.astype(np.float32)
    moved, places = [], []
    for row, column in squares(scene):
        at = slice(row, row + SQUARE), slice(column, column + SQUARE)
        around = second[row - REACH : row + SQUARE + REACH, column - REACH : column + SQUARE + REACH]
        alike = cv2.matchTemplate(around, first[at], cv2.TM_CCOEFF_NORMED)
        peak = np.unravel_index(alike.argmax(), alike.shape)
        if min(peak) > 0 and max(peak) < 2 * REACH and alike[peak] > 0.8:
            rows, columns = alike[peak[0] - 1 : peak[0] + 2, peak[1]], alike[peak[0], peak[1] - 1 : peak[1] + 2]
            moved.append([peak[1] - REACH + _vertex(columns), peak[0] - REACH + _vertex(rows)])
            middle = (column + SQUARE / 2) / width - 0.5, (row + SQUARE / 2) / height - 0.5
            places.append([*middle, np.median(scene.defocus[at])])
    return np.array(moved).reshape(-1, 2), np.array(places).reshape(-1, 3)


def _vertex(values: np.ndarray) -> float:
    """Return where the parabola through three values has its vertex, from the middle one."""
    before, middle, after = (float(value) for value in values)
    return (before - after) / (2 * (before - 2 * middle + after))


def robust_fit(places: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Fit values (n, k) by the linear function of places (n, p) that outliers hardly move, (1 + p, k)."""
    terms = np.concatenate([np.ones((len(places), 1)), places], 1)
    weight = np.ones(len(places))
    for _ in range(20):
        root = np.sqrt(weight)[:, None]
        result = np.linalg.lstsq(terms * root, values * root, rcond=None)[0]
        weight = 1 / (1 + (np.linalg.norm(values - terms @ result, axis=1) / 0.5) ** 2)
    return result


def measured_disparity(scene: Scene) -> np.ndarray:
    """Return offset and slope of the disparity of the pair over the defocus, by matching the two views."""
    moved, places = displacements(scene, scene.left, scene.right)
    return robust_fit(places[:, 2:], -moved[:, :1])[:, 0]


def register(scene: Scene, drawn: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray, float]:
    """Move both views of a scene alike, to where a drawn pair lies: the sharp image was taken at other focus settings.

    The displacement is a linear function of column, row and defocus; eight numbers.

    Returns:
        Left and right view, and the root mean square of the displacement.
    """
    moved, places = displacements(scene, sum(drawn), scene.left + scene.right)
    function = robust_fit(places, moved)
    height, width = scene.sharp.shape
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    terms = np.stack([np.ones_like(rows), (columns + 0.5) / width - 0.5, (rows + 0.5) / height - 0.5, scene.defocus])
    across, down = np.tensordot(function.T, terms, 1)
    place = (columns + across).astype(np.float32), (rows + down).astype(np.float32)
    left, right = (
        cv2.remap(view.astype(np.float32), *place, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE).astype(np.float64)
        for view in (scene.left, scene.right)
    )
    return left, right, float(np.sqrt((across**2 + down**2)[scene.reliable].mean()))
