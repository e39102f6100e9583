"""The file that holds how much a network alters what is in focus, and which of them may be laid over each other."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dualpixel.data.schema import build
from dualpixel.errors import DualPixelError
from dualpixel.evaluate.result import result_path
from dualpixel.files import read_json, write_json

SCHEMA = 1
FOLDER, CURVE = "sharp_regions", "curve.json"
COMPARED = ("dataset", "dataset_version", "split", "fingerprint", "protocol", "regions", "thresholds")
"""What two curves must share."""


@dataclass(frozen=True)
class SharpRegionCurve:
    """The intensity errors of one network in the regions in focus of one split (Yang et al., "K3DN", figure 8).

    Args:
        schema: version of this layout.
        recipe: name of the recipe.
        run: name of the run's folder.
        weights_sha256: hash of the network's weights.
        weights_source: the file they came from.
        dataset, dataset_version, split, fingerprint: the pixels that were compared.
        protocol: how images were treated before.
        regions: how the regions in focus were found, by numbers.
        found: the same in words.
        thresholds: errors, root mean square over the colours, in units of full scale.
        pixels: how many are in focus, in all images together.
        image_pixels: how many there are.
        percentage: for each threshold, how many of the pixels in focus have at most this error.
        rows: one mapping per image: key, group, pixels, percentage (None where nothing is in focus).
        code: version of dualpixel.
        made: UTC time.
    """

    schema: int
    recipe: str
    run: str
    weights_sha256: str
    weights_source: str
    dataset: str
    dataset_version: str
    split: str
    fingerprint: str
    protocol: str
    regions: dict[str, Any]
    found: str
    thresholds: list[float]
    pixels: int
    image_pixels: int
    percentage: list[float]
    rows: list[dict[str, Any]]
    code: str
    made: str


def curve_folder(run: Path, dataset: str, split: str, protocol: str) -> Path:
    """Return where curve and pictures lie in the folder of their run: beside the result."""
    return result_path(run, dataset, split, protocol).parent / FOLDER


def save_curve(path: Path, curve: SharpRegionCurve) -> None:
    """Write a curve, atomically."""
    write_json(path, asdict(curve))


def load_curve(path: Path) -> SharpRegionCurve:
    """Read a curve.

    Raises:
        DualPixelError: not a curve, or of another schema.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("schema") != SCHEMA or "percentage" not in content:
        raise DualPixelError(f"{path}: not a curve of schema {SCHEMA}; run `test --sharp_regions.enabled true` again")
    return build(SharpRegionCurve, content, str(path))


def find_curve(path: Path, dataset: str, split: str, protocol: str) -> Path:
    """Return the file meant by a path: a run's folder stands for its curve of a split by a protocol.

    Raises:
        DualPixelError: the run has none.
    """
    if not path.is_dir():
        return path
    curve = curve_folder(path, dataset, split, protocol) / CURVE
    if not curve.is_file():
        others = sorted(str(one.relative_to(path)) for one in path.glob(f"results/*/*/{FOLDER}/{CURVE}"))
        raise DualPixelError(
            f"{path} has no {curve.relative_to(path)} (found: {', '.join(others) or 'no curve'}): "
            "run `test` there with the same data and protocol and --sharp_regions.enabled true"
        )
    return curve


def check_comparable(path: Path, other: SharpRegionCurve, own: dict[str, Any]) -> None:
    """Refuse a curve of other pixels.

    Args:
        path: where the other curve lies.
        other: that curve.
        own: what this run will write, at least the keys of `COMPARED`.

    Raises:
        DualPixelError: something of `COMPARED` differs.
    """
    for name in COMPARED:
        found, wanted = getattr(other, name), own[name]
        if found != wanted:
            raise DualPixelError(
                f"{path}: its {name.replace('_', ' ')} is {found}, this run has {wanted}: the two curves are of different pixels; "
                "run `test` with the same data, protocol and --sharp_regions"
            )
