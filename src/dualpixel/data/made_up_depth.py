"""Depth maps that nobody measured: slanted planes and shapes before one another, whose edges follow no picture."""

import numpy as np

# Places are in units of the image height, from the top left corner; "nearness" is inverse depth mapped to [0, 1], 1 at
# the near end.
FEWEST_SHAPES, MOST_SHAPES = 5, 11


def made_up_depth(height: int, width: int, seed: int, nearest_m: float, farthest_m: float) -> np.ndarray:
    """Make a depth map: a back wall, often a floor, and before them shapes that get nearer as they are painted.

    Every surface is a plane, that is, linear in inverse depth over the image. Shapes are blobs with wavy outlines, and
    bars, some of them narrower than the blur; a third of the blobs have a hole. The same arguments give the same map.

    Args:
        height: rows.
        width: columns.
        seed: of this map, 0 or more.
        nearest_m: smallest depth, metres.
        farthest_m: largest depth, metres.

    Returns:
        (height, width) float32, metres, within [nearest_m, farthest_m].
    """
    random = np.random.Generator(np.random.PCG64(seed))
    y, x = np.mgrid[:height, :width] / height
    place = np.stack([y, x])
    nearness = _plane(random, place, level=random.uniform(0.0, 0.3), slant=0.15)
    if random.random() < 0.6:
        horizon = random.uniform(0.45, 0.85)
        floor = nearness[min(int(horizon * height), height - 1)].mean() + random.uniform(0.8, 2.0) * (y - horizon)
        nearness = np.where(y > horizon, floor, nearness)
    count = random.integers(FEWEST_SHAPES, MOST_SHAPES + 1)
    for level in np.sort(random.uniform(0.2, 1.0, count)):
        shape = _bar(random, place, width / height) if random.random() < 0.3 else _blob(random, place, width / height)
        nearness = np.where(shape, _plane(random, place, level, slant=0.35), nearness)
    inverse = 1 / farthest_m + np.clip(nearness, 0, 1) * (1 / nearest_m - 1 / farthest_m)
    return np.clip(1 / inverse, nearest_m, farthest_m).astype(np.float32)


def _plane(random: np.random.Generator, place: np.ndarray, level: float, slant: float) -> np.ndarray:
    """Return the nearness of a plane that has about `level` in the middle and rises by up to `slant` per height."""
    across, down = random.uniform(-slant, slant, 2)
    return level + down * (place[0] - 0.5) + across * (place[1] - place[1].mean())


def _turned(random: np.random.Generator, place: np.ndarray, aspect: float) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates along and across a random direction, about a random place in the image."""
    y, x = place[0] - random.random(), place[1] - random.random() * aspect
    angle = random.uniform(0, np.pi)
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _bar(random: np.random.Generator, place: np.ndarray, aspect: float) -> np.ndarray:
    """Return the mask of a long thin bar."""
    along, across = _turned(random, place, aspect)
    return (np.abs(along) < random.uniform(0.2, 0.7)) & (np.abs(across) < random.uniform(0.008, 0.04))


def _blob(random: np.random.Generator, place: np.ndarray, aspect: float) -> np.ndarray:
    """Return the mask of a blob: an ellipse whose outline waves up to seven times on the way round."""
    along, across = _turned(random, place, aspect)
    size = random.uniform(0.08, 0.32)
    stretch = random.uniform(0.6, 1.6)
    angle, distance = np.arctan2(across, along), np.hypot(along / stretch, across * stretch)
    outline = np.full_like(angle, size)
    for waves in range(2, 8):
        outline += size * random.uniform(0, 0.5) / waves * np.cos(waves * angle + random.uniform(0, 2 * np.pi))
    hole = random.uniform(0.3, 0.6) if random.random() < 1 / 3 else 0.0
    return (distance < outline) & (distance >= hole * outline)
