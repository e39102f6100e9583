"""Image files, 8 and 16 bits per channel, read and written without losing a bit."""

import struct
from pathlib import Path

import cv2
import numpy as np

from dualpixel.data.archive import File
from dualpixel.errors import DualPixelError
from dualpixel.files import atomic

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what cannot be decoded is said in our words

DEPTHS = {8: np.uint8, 16: np.uint16}
LARGEST = 1 << 28
"""The most pixels that a PNG may have; it can claim any number, and take that much memory, in a few bytes."""
ENDINGS = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")


def read_image(path: Path, bit_depth: int | None = None, drop_alpha: bool = False, upright: bool = False) -> np.ndarray:
    """Read an image file as RGB.

    OpenCV is used since Pillow and imageio cut 16-bit colour to 8 bits without a word.

    Args:
        path: a PNG, TIFF, JPEG or BMP file, grey or colour.
        bit_depth: 8 or 16: what the file must have; None takes either.
        drop_alpha: leave an alpha channel away, in place of refusing it.
        upright: show the image as viewers do: turned as its EXIF tag says, without an alpha channel. For a photograph on its
            own; the two views of one scene would get different shapes when only one carries the tag.

    Returns:
        (H, W, 3) uint8 or uint16, RGB; grey files are repeated over the three channels.

    Raises:
        DualPixelError: missing, unreadable, another bit depth, or an alpha channel.
    """
    path = Path(path)
    if not path.is_file():
        raise DualPixelError(f"{path}: no such image file")
    return decode_image(path.read_bytes(), str(path), bit_depth, drop_alpha, upright)


def read_grey(path: Path, bit_depth: int | None = None) -> np.ndarray:
    """Read an image file of one channel, or of three equal ones.

    Args:
        path: as for `read_image`.
        bit_depth: as for `read_image`.

    Returns:
        (H, W) uint8 or uint16.

    Raises:
        DualPixelError: as `read_image`, or the image has colour.
    """
    image = read_image(path, bit_depth)
    if (image != image[:, :, :1]).any():
        raise DualPixelError(f"{path}: an image with colour, expected one of a single channel; get the file again")
    return np.ascontiguousarray(image[:, :, 0])


def repeated(grey: np.ndarray) -> np.ndarray:
    """Repeat a grey image (H, W) over three channels: (H, W, 3)."""
    return np.repeat(grey[:, :, None], 3, axis=2)


def decode_image(
    content: bytes | np.ndarray,
    name: str,
    bit_depth: int | None = None,
    drop_alpha: bool = False,
    upright: bool = False,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Decode the bytes of an image file; see `read_image`. A PNG must claim the (height, width) of `size` where that is given."""
    _check_claim(content, name, size)
    as_stored, as_shown = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    image = cv2.imdecode(np.frombuffer(content, np.uint8), as_shown if upright else as_stored)
    if image is None:
        raise DualPixelError(
            f"{name}: not an image that can be decoded (truncated, or of an unknown type); get the file again"
        )
    found = image.dtype.itemsize * 8
    if image.dtype not in (np.uint8, np.uint16) or (bit_depth is not None and found != bit_depth):
        wanted = (
            "8 or 16: save it as a PNG of 16 bits"
            if bit_depth is None
            else f"{bit_depth}: a converted copy loses what the card promises"
        )
        raise DualPixelError(f"{name}: {found} bits per channel ({image.dtype}), expected {wanted}")
    if image.ndim == 2:
        return repeated(image)
    if drop_alpha and image.shape[2] == 4:
        image = image[:, :, :3]
    if image.shape[2] != 3:
        raise DualPixelError(f"{name}: {image.shape[2]} channels, expected 1 or 3; remove the alpha channel")
    return np.ascontiguousarray(image[:, :, ::-1])


def _check_claim(content: bytes | np.ndarray, name: str, size: tuple[int, int] | None) -> None:
    begin = bytes(content[:24])
    if not begin.startswith(b"\x89PNG\r\n\x1a\n") or len(begin) < 24:
        return
    width, height = struct.unpack(">II", begin[16:])
    if (size and size != (height, width)) or height * width > LARGEST:
        allowed = f"{size[0]}x{size[1]}, as the index says" if size else f"at most {LARGEST} pixels"
        raise DualPixelError(f"{name}: a PNG of {height}x{width} (height x width), expected {allowed}; get it again")


def image_size(file: File) -> tuple[int, int]:
    """Return (height, width) of an image file as stored, from its header alone.

    Raises:
        DualPixelError: missing, or not an image.
    """
    from PIL import Image

    try:
        with file.open("rb") if isinstance(file, Path) else file.open() as stream, Image.open(stream) as image:
            width, height = image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DualPixelError(f"{file}: not an image whose size can be read ({error}); get the file again") from None
    return height, width


def encode_png(image: np.ndarray, compression: int = 3) -> bytes:
    """Encode (H, W, 3) RGB uint8 or uint16 as PNG of the same depth."""
    done, content = cv2.imencode(".png", image[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, compression])
    if not done:
        raise DualPixelError(f"an image of shape {image.shape}, {image.dtype}, could not be encoded as PNG")
    return content.tobytes()


def write_png(path: Path, image: np.ndarray) -> None:
    """Write (H, W, 3) RGB uint8 or uint16 as PNG of the same depth, atomically."""
    content = encode_png(image)
    with atomic(path) as beside:
        beside.write_bytes(content)
