"""Training crops: their size, and the places of a split where they are taken."""

from collections.abc import Sequence

from dualpixel.data.reading import PreparedSplit
from dualpixel.errors import DualPixelError

CropSize = int | tuple[int, int]
"""Side of a square, or (height, width), in pixels."""

SampledPlace = tuple[int, int, tuple[int, int] | None]
"""Position of the scene, number of the sample in it, and (row, column) of its window, None where it lies at random."""


def plain_crop_size(size: CropSize | Sequence[int]) -> CropSize:
    """Return the one form in which a size is kept: the side of a square as a number, any other rectangle as a tuple.

    Raises:
        DualPixelError: not one or two numbers from 1 on.
    """
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or any(not isinstance(side, int) or side < 1 for side in sides):
        raise DualPixelError(
            f"data.crop_size {size}: must be at least 1 pixel; a number for a square, or [height, width]"
        )
    return sides[0] if sides[0] == sides[1] else sides


def sides_of(size: CropSize) -> tuple[int, int]:
    """Return height and width."""
    return (size, size) if isinstance(size, int) else size


def check_crops_together(together: int, crops: str, crops_per_scene: int) -> None:
    """Refuse to keep together what is not a scene's own crops.

    Args:
        together: how many crops of one scene come one after another; 1 for no such order.
        crops: "windows" or "random".
        crops_per_scene: crops of a scene in an epoch.

    Raises:
        DualPixelError: less than 1, windows, or a number of crops that is not a multiple of `together`.
    """
    if together < 1:
        raise DualPixelError(f"data.crops_together {together}: must be at least 1")
    if together > 1 and crops != "random":
        raise DualPixelError(
            f"data.crops_together {together} needs data.crops=random, found {crops}: scenes have different numbers of windows; "
            "set data.crops_together to 1 for crops of all scenes mixed"
        )
    if crops_per_scene % together:
        raise DualPixelError(
            f"data.crops_per_scene {crops_per_scene} is not a multiple of data.crops_together {together}; "
            "change one of them, or set data.crops_together to 1 for crops of all scenes mixed"
        )


def chosen_windows(split: PreparedSplit, discard: float) -> list[SampledPlace]:
    """Return the windows of the index.

    Args:
        split: prepared with windows.
        discard: the share of each scene's windows, the least sharp ones, that is left out.
    """
    places: list[SampledPlace] = []
    for scene, sample in enumerate(split.index.samples):
        dropped = int(discard * len(sample.windows))
        kept = [(row, column) for row, column, rank in sample.windows if rank >= dropped]
        places.extend((scene, number, corner) for number, corner in enumerate(kept))
    return places


def check_crop(size: CropSize, window: int | None, split: PreparedSplit, where: str) -> None:
    """Refuse crops that do not fit into the windows or, without windows, into every scene.

    Raises:
        DualPixelError: they do not.
    """
    scenes = [split.size(position) for position in range(len(split))]
    offered = (window, window) if window else tuple(map(min, zip(*scenes, strict=True)))
    if any(side > most for side, most in zip(sides_of(size), offered, strict=True)):
        square = isinstance(size, int)
        found = min(offered) if square else "{}x{}".format(*offered)
        raise DualPixelError(
            f"data.crop_size {size if square else '{}x{}'.format(*size)} is larger than the {found} pixels that {where} offers"
        )


def check_margin(size: CropSize, margin: int, split: PreparedSplit, where: str) -> None:
    """Refuse crops whose surroundings would be of different sizes in different scenes, since they share a batch.

    Args:
        size: of the crop.
        margin: pixels of the scene that are rendered on each side of it.
        split: the prepared split.
        where: its name, for the message.

    Raises:
        DualPixelError: some scene cannot give as much as the others.
    """
    wanted = [side + 2 * margin for side in sides_of(size)]
    scenes = (split.size(position) for position in range(len(split)))
    cut = {tuple(map(min, wanted, scene)) for scene in scenes}
    if len(cut) > 1:
        smallest = map(min, zip(*cut, strict=True))
        raise DualPixelError(
            f"{where}: crops are rendered within {'x'.join(map(str, wanted))} pixels of scene, of which the smallest scenes have "
            f"{'x'.join(map(str, smallest))}; lower data.crop_size or data.optics.maximum_radius"
        )
