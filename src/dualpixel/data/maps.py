"""Maps of one number a pixel, depth above all: read and written in the formats they come in, and their holes filled."""

from pathlib import Path

import cv2
import numpy as np

from dualpixel.errors import DualPixelError
from dualpixel.files import atomic
from dualpixel.hints import near

ENDINGS = (".png", ".tif", ".tiff", ".npy", ".exr", ".pfm")
EXR_DEPTH = ("depth", "z")
"""Last part of the name of the EXR channel that is taken where a file has several."""


def read_map(path: Path, unit: float | None = None, signed: bool = False, eight_bits: bool = False) -> np.ndarray:
    """Read a map.

    Args:
        path: PNG, TIFF, NPY, EXR (the channel called depth or Z, or the only one) or PFM (whose scale is not applied, as in
            Middlebury's files).
        unit: what one step of an integer file is worth, metres for depth (0.001 for millimetres); None refuses integers. Files of
            floating point hold their values as they are.
        signed: whether zero and negative values are values, as in a map of blur; otherwise they are holes.
        eight_bits: accept integers of 8 bits, whose 256 levels are seldom depth.

    Returns:
        (H, W) float32, in the unit of the values; NaN where nothing is known.

    Raises:
        DualPixelError: missing, unreadable, not one channel, or integers that are not allowed.
    """
    stored = _read(path)
    if stored.dtype.kind in "ui":
        if stored.dtype.itemsize == 1 and not eight_bits:
            raise DualPixelError(
                f"{path}: a map of 8 bits has 256 levels, too few for depth; "
                "use one of 16 bits or of floating point (the rgbd reader allows it by its option depth_of_8_bits)"
            )
        if unit is None:
            raise DualPixelError(
                f"{path}: integers ({stored.dtype}) without a unit; say what one step is worth, such as 0.001 for depth in millimetres"
            )
        stored = stored * float(unit)
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and so a hole
        values = stored.astype(np.float32)
    known = np.isfinite(values) if signed else np.isfinite(values) & (values > 0)
    return np.where(known, values, np.float32(np.nan))


def read_disparity(path: Path) -> np.ndarray:
    """Read disparity that is known up to factor and offset.

    Args:
        path: a map of unsigned integers, of 8 bits too, in any format of `read_map`; or of floating point in [0, 1].

    Returns:
        (H, W) float32 in [0, 1]: integers are divided by the largest that their type holds. 0 is a value like any other.

    Raises:
        DualPixelError: missing, unreadable, not one channel, or other numbers.
    """
    stored = _read(path)
    if stored.dtype.kind == "u":
        return (stored / np.iinfo(stored.dtype).max).astype(np.float32)
    if stored.dtype.kind != "f" or not ((stored >= 0) & (stored <= 1)).all():
        raise DualPixelError(
            f"{path}: disparity up to factor and offset is read from unsigned integers, or from floating point in [0, 1], found "
            f"{stored.dtype} from {stored.min():g} to {stored.max():g}"
        )
    return stored.astype(np.float32)


def write_map(path: Path, values: np.ndarray, unit: float | None = None) -> None:
    """Write a map, atomically; its ending says the format.

    Args:
        path: PNG (16-bit integers), or TIFF, NPY, EXR or PFM (float32).
        values: (H, W); NaN where nothing is known.
        unit: what one step of a PNG is worth; zero then stands for nothing known.

    Raises:
        DualPixelError: an unknown ending, or values that do not fit into 16 bits.
    """
    path = Path(path)
    ending = _ending(path)
    values = np.ascontiguousarray(values, np.float32)
    if ending == ".png":
        if unit is None:
            raise DualPixelError(
                f"{path}: a map becomes 16-bit integers only with a unit, such as 0.001 for millimetres"
            )
        steps = np.nan_to_num(values.astype(np.float64) / unit, nan=0.0).round()
        if steps.min() < 0 or steps.max() > 65535:
            raise DualPixelError(
                f"{path}: values from {np.nanmin(values):.4g} to {np.nanmax(values):.4g} do not fit into 16 bits in steps of {unit:g}"
            )
        values = steps.astype(np.uint16)
    with atomic(path) as beside:
        if ending == ".exr":
            import OpenEXR

            header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
            OpenEXR.File(header, {"Y": values}).write(str(beside))
        elif ending == ".npy":
            np.save(beside, values, allow_pickle=False)
        else:
            beside.write_bytes(cv2.imencode(ending, values)[1].tobytes())


def fill_holes(depth: np.ndarray, most: float = 0.5, name: str = "depth") -> np.ndarray:
    """Fill holes with the farther of the nearest known values to the left and to the right.

    A hole is mostly what one of the sensor's two eyes could not see behind something near, so it belongs to the farther side. Rows
    without any known value are filled from the rows above and below, by the same rule.

    Args:
        depth: (H, W), metres; NaN where unknown.
        most: the largest share of holes that is still filled, below 1.
        name: what to call the map in the message.

    Raises:
        DualPixelError: more holes than `most`.
    """
    known = ~np.isnan(depth)
    share = 1 - known.mean()
    if share > most or not known.any():
        raise DualPixelError(f"{name}: {share:.0%} of the map are holes; at most {most:.0%} are filled")
    rows = known.any(1)
    filled = np.full_like(depth, np.nan)
    filled[rows] = _filled_along_rows(depth[rows])
    return filled if rows.all() else np.ascontiguousarray(_filled_along_rows(filled.T).T)


def depth_range(depth: np.ndarray, name: str) -> tuple[float, float]:
    """Return the smallest and the largest depth of a map without holes.

    Args:
        depth: (H, W), metres.
        name: what to call the map in the message.

    Raises:
        DualPixelError: depth that is unknown, zero or negative.
    """
    nearest, farthest = float(depth.min()), float(depth.max())
    if not nearest > 0:
        raise DualPixelError(
            f"{name}: depth from {nearest:g} to {farthest:g} m, but views are rendered from positive metres alone; "
            "fill the holes and prepare the set again"
        )
    return nearest, farthest


def _filled_along_rows(depth: np.ndarray) -> np.ndarray:
    """Fill an array of which every row has a known value."""
    known = ~np.isnan(depth)
    column = np.arange(depth.shape[1])
    before = np.maximum.accumulate(np.where(known, column, -1), axis=1)
    after = np.minimum.accumulate(np.where(known, column, column.size)[:, ::-1], axis=1)[:, ::-1]
    padded = np.pad(depth, ((0, 0), (1, 1)), constant_values=-np.inf)
    return np.maximum(*(np.take_along_axis(padded, side + 1, axis=1) for side in (before, after)))


def _ending(path: Path) -> str:
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise DualPixelError(f"{path}: not a format for maps; {near(ending, ENDINGS)}")
    return ending


def _read(path: Path) -> np.ndarray:
    path = Path(path)
    if not path.is_file():
        raise DualPixelError(f"{path}: no such map")
    stored = _decode(path)
    if stored.ndim == 3 and stored.shape[2] == 1:
        stored = stored[:, :, 0]
    if stored.ndim != 2 or stored.dtype.kind not in "uif" or 0 in stored.shape:
        raise DualPixelError(f"{path}: a map has one number a pixel, found shape {stored.shape} of {stored.dtype}")
    return stored


def _decode(path: Path) -> np.ndarray:
    ending = _ending(path)
    try:
        if ending == ".exr":
            return _read_exr(path)
        if ending == ".pfm":
            return _read_pfm(path)
        if ending == ".npy":
            with path.open("rb") as stream:
                return np.lib.format.read_array(stream, allow_pickle=False)
        found = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    except (OSError, ValueError, RuntimeError, MemoryError, cv2.error) as error:
        raise DualPixelError(f"{path}: not a map that can be read ({' '.join(str(error).split())[:160]})") from None
    if found is None:
        raise DualPixelError(
            f"{path}: not a map that can be decoded (truncated, or of another type); get the file again"
        )
    return found


def _read_exr(path: Path) -> np.ndarray:
    import OpenEXR

    with OpenEXR.File(str(path), separate_channels=True) as file:
        channels = {name: channel.pixels for name, channel in file.channels().items()}
    for wanted in EXR_DEPTH:
        for name, pixels in channels.items():
            if name.rpartition(".")[2].lower() == wanted:
                return pixels
    if len(channels) != 1:
        raise ValueError(f"channels {', '.join(channels)}: none is called depth or Z")
    return next(iter(channels.values()))


def _read_pfm(path: Path) -> np.ndarray:
    with path.open("rb") as stream:
        kind = stream.readline().strip()
        width, height = map(int, stream.readline().split())
        order = "<" if float(stream.readline()) < 0 else ">"
        content = stream.read()
    if kind != b"Pf":
        raise ValueError(f"the header says {kind[:8]!r}, a map has Pf")
    return np.frombuffer(content, f"{order}f4").reshape(height, width)[::-1]  # stored from the bottom up
