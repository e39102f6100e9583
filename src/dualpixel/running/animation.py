"""Animations of a turn of views: more frames between the views, and GIF, WebP and MP4 files."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from dualpixel.errors import DualPixelError
from dualpixel.files import atomic

VIEWS = 8

HARMONICS = 3
"""Of the four that eight views have, those that `interpolate_turn` keeps."""

SHORTEST_FRAME = 0.02
"""Seconds; browsers show frames of a GIF that are shorter than this for 0.1 s each."""

VIDEO_SECONDS = 6.0
"""A video file cannot say that it is to be repeated, so that it holds whole turns for at least this long."""

WEBP_QUALITY = 90

LARGEST_FRAME = 16383
"""Pixels along a side: what WebP can hold."""

PALETTE_PIXELS = 400_000
"""How many pixels of all frames together the colours of a GIF are chosen from."""

DITHER = 0.5
"""How much of the step between two colours of a GIF is dithered: more shows the pattern, less shows the steps."""

THRESHOLDS = 8
"""Side of the square of thresholds that a GIF is dithered with, a power of 2."""

AT_ONCE = 1 << 23
"""Values that are interpolated at once."""

TIE = 1e-6
"""Added before rounding, so that a pixel half-way between two steps is not now rounded up and now down."""


def interpolate_turn(views: np.ndarray, count: int) -> np.ndarray:
    """Make more (or other) frames of a turn than there are views, by Fourier series in time, pixel by pixel.

    In a view from direction phi, what is out of focus is moved by d (cos phi, sin phi). As long as that is small against
    the detail in the image, each pixel is a short Fourier series in phi: constant and first harmonic where I is linear
    along d, the m-th where the m-th derivative counts. Harmonics 1 to 3 of a turn are taken from the eight views, and
    evaluated at the times between. The fourth is left out. It is the difference between even and odd views, and in NIMAT
    this is mainly one of sharpness, since every second view was interpolated twice at 45 degrees: it would flicker.

    Ours; the paper plays the eight views.

    Args:
        views: (8, H, W, 3), uint8 or uint16, at equal angles around a turn.
        count: frames of the result. The k-th is at k / count of the turn, the first at the first view.

    Returns:
        (count, H, W, 3), the same type, rounded to nearest, halves up.
    """
    angles = 2 * np.pi * (np.arange(count)[:, None] / count - np.arange(len(views)) / len(views))
    weights = 1 + sum(2 * np.cos(harmonic * angles) for harmonic in range(1, HARMONICS + 1))
    weights = weights / len(views)
    frames = np.empty((count, *views.shape[1:]), views.dtype)
    rows = max(1, AT_ONCE // (count * views[0, 0].size))
    for start in range(0, views.shape[1], rows):
        band = slice(start, start + rows)
        mixed = np.tensordot(weights, views[:, band].astype(np.float64), axes=1)
        frames[:, band] = np.clip(np.floor(mixed + 0.5 + TIE), 0, np.iinfo(views.dtype).max)
    return frames


def to_frame(view: np.ndarray, width: int) -> np.ndarray:
    """Make a view small enough for an animation, and 8 bits deep.

    Args:
        view: (H, W, 3), uint8 or uint16.
        width: pixels; a wider view is shrunk, each new pixel the mean of the area that it covers.

    Returns:
        (h, w, 3), uint8, rounded to nearest.
    """
    rows, columns = view.shape[:2]
    scale = min(width / columns, LARGEST_FRAME / rows)
    if scale < 1:
        size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
        view = cv2.resize(view, size, interpolation=cv2.INTER_AREA)
    return view if view.dtype == np.uint8 else np.rint(view / np.float32(257)).astype(np.uint8)


def check_animation(count: int, seconds: float, width: int) -> None:
    """Refuse an animation that cannot be shown.

    Raises:
        DualPixelError: fewer frames than views, frames that are too short, or a width out of range; says what is possible.
    """
    if count < VIEWS:
        raise DualPixelError(f"{count} frames a turn: at least {VIEWS}, one for each view")
    if not seconds / count >= SHORTEST_FRAME:
        raise DualPixelError(
            f"a turn of {seconds:g} s in {count} frames: browsers do not show frames shorter than {SHORTEST_FRAME} s; "
            f"give at least --seconds {count * SHORTEST_FRAME:g}, or fewer frames"
        )
    if not 1 <= width <= LARGEST_FRAME:
        raise DualPixelError(
            f"an animation {width} pixels wide: from 1 to {LARGEST_FRAME} are possible, which WebP holds"
        )


def write_gif(path: Path, frames: Sequence[np.ndarray], seconds: float) -> None:
    """Write a GIF that plays for ever.

    All frames have the same 256 colours, and are dithered by the same pattern of thresholds: what stands still does not
    flicker, as it would if the error of each pixel were handed on to its neighbours.

    Args:
        path: the file.
        frames: (H, W, 3) each, uint8 RGB.
        seconds: of one turn; frames take whole hundredths, whose sum is right.
    """
    from PIL import Image

    palette = _palette(frames)
    pattern = _threshold_pattern(*frames[0].shape[:2])[:, :, None]
    plain = np.stack([_quantised(frame, palette).convert("RGB") for frame in frames])
    deviation = np.sqrt(np.mean((plain - np.stack(frames).astype(np.float32)) ** 2))
    offsets = DITHER * deviation * np.sqrt(12) * pattern
    images: list[Image.Image] = []
    for frame in frames:
        images.append(_quantised(np.clip(np.rint(frame + offsets), 0, 255).astype(np.uint8), palette))
    with atomic(path) as beside:
        times = _durations(len(frames), seconds, 10)
        images[0].save(beside, "GIF", save_all=True, append_images=images[1:], duration=times, loop=0, optimize=False)


def write_webp(path: Path, frames: Sequence[np.ndarray], seconds: float) -> None:
    """Write an animated WebP that plays for ever; see `write_gif`."""
    from PIL import Image

    first, *others = (Image.fromarray(frame) for frame in frames)
    times = _durations(len(frames), seconds, 1)
    # no frame but the first is coded as a whole: among frames coded as changes it would be seen as a pulse
    coding = {"quality": WEBP_QUALITY, "method": 4, "kmin": 0, "kmax": 0}
    with atomic(path) as beside:
        first.save(beside, "WEBP", save_all=True, append_images=others, duration=times, loop=0, **coding)


def write_mp4(path: Path, frames: Sequence[np.ndarray], seconds: float) -> None:
    """Write an MPEG-4 video of several turns; the last row or column is doubled where a side is odd.

    Args:
        path: the file.
        frames: (H, W, 3) each, uint8 RGB.
        seconds: of one turn.

    Raises:
        DualPixelError: this OpenCV writes no MPEG-4.
    """
    height, width = frames[0].shape[:2]
    size = (width + width % 2, height + height % 2)
    with atomic(path) as beside:
        video = cv2.VideoWriter(str(beside), cv2.VideoWriter_fourcc(*"mp4v"), len(frames) / seconds, size)
        if not video.isOpened():
            raise DualPixelError(
                f"{path}: this build of OpenCV writes no MPEG-4; install opencv-python-headless by pip"
            )
        for _ in range(max(1, int(np.ceil(VIDEO_SECONDS / seconds)))):
            for frame in frames:
                even = cv2.copyMakeBorder(frame, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
                video.write(np.ascontiguousarray(even[:, :, ::-1]))
        video.release()


def _durations(count: int, seconds: float, unit: int) -> list[int]:
    """Return milliseconds for each frame, whole units, whose sum is as near to the whole as can be."""
    ends = [round(1000 * seconds * number / count / unit) * unit for number in range(count + 1)]
    return [end - start for start, end in pairwise(ends)]


def _palette(frames: Sequence[np.ndarray]):  # noqa: ANN202 - Pillow is imported where it is used
    from PIL import Image

    pixels = np.stack(frames).reshape(-1, 1, 3)
    step = max(1, len(pixels) // PALETTE_PIXELS)
    return Image.fromarray(np.ascontiguousarray(pixels[::step])).quantize(256, Image.Quantize.MEDIANCUT, kmeans=2)


def _quantised(frame: np.ndarray, palette):  # noqa: ANN001, ANN202
    from PIL import Image

    return Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE)


def _threshold_pattern(height: int, width: int) -> np.ndarray:
    """Return Bayer's ordered thresholds, (height, width), evenly in (-0.5, 0.5), repeated over the frame."""
    square = np.zeros((1, 1))
    while len(square) < THRESHOLDS:
        square = np.block([[4 * square, 4 * square + 2], [4 * square + 3, 4 * square + 1]])
    square = (square + 0.5) / square.size - 0.5
    repeats = (-(-height // THRESHOLDS), -(-width // THRESHOLDS))
    return np.tile(square, repeats)[:height, :width].astype(np.float32)
