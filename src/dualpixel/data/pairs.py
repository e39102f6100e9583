"""Photographs straight from files, for `predict`: folders of views, or files told apart by their endings."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from dualpixel.data.images import ENDINGS, read_image
from dualpixel.errors import DualPixelError

VIEW_FOLDERS = ("left", "right", "combined")
VIEW_SUFFIXES = {"_L": "left", "_R": "right", "_B": "combined", "_C": "combined"}
LAYOUT = (
    "give folders with left/ and right/ (and combined/) of equal names, "
    "or files NAME_L, NAME_R (NAME or NAME_B for the combined image)"
)


def find_photographs(paths: Sequence[str | Path]) -> dict[str, dict[str, Path]]:
    """Find the views of each photograph.

    Args:
        paths: folders that hold ``left``, ``right`` and perhaps ``combined``; folders of image files; image files. Files ending in
            ``_L`` and ``_R`` are views, ``_B``, ``_C`` or no such ending the combined image (DPD-disp and DPDD name them so). In a
            folder a ``_D`` beside an ``_L`` is a disparity, and left out.

    Returns:
        name -> {field: file}, sorted by name.

    Raises:
        DualPixelError: a path that does not exist, no images at all, or two files for one view of one name.
    """
    found: dict[str, dict[str, Path]] = {}
    for path in map(Path, paths):
        if path.is_dir() and any((path / name).is_dir() for name in VIEW_FOLDERS):
            files = {field: _images(path / field) for field in VIEW_FOLDERS}
            counts = Counter(file.stem for view in files.values() for file in view)
            for field, view in files.items():
                for file in view:
                    # DPDD's 1P0A0917_L and 1P0A0917_R are one photograph; a name that several folders hold is whole
                    ends = VIEW_SUFFIXES.get(file.stem[-2:]) == field and counts[file.stem] == 1
                    _note(found, file.stem[:-2] if ends else file.stem, field, file)
        elif path.is_dir() or path.is_file():
            for file in _photographs_of(path) if path.is_dir() else [path]:
                field = VIEW_SUFFIXES.get(file.stem[-2:])
                _note(found, file.stem[:-2] if field else file.stem, field or "combined", file)
        else:
            raise DualPixelError(f"{path}: no such file or folder; {LAYOUT}")
    if not found:
        raise DualPixelError(f"no images ({', '.join(ENDINGS)}) in {', '.join(map(str, paths))}; {LAYOUT}")
    return dict(sorted(found.items()))


def _photographs_of(folder: Path) -> list[Path]:
    files = _images(folder)
    stems = {file.stem for file in files}
    # DPD-disp's 005_D is the disparity of 005_L and 005_R
    return [file for file in files if not (file.stem.endswith("_D") and f"{file.stem[:-2]}_L" in stems)]


def _images(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*") if file.suffix.lower() in ENDINGS and not file.name.startswith("."))


def _note(found: dict[str, dict[str, Path]], name: str, field: str, file: Path) -> None:
    mine = found.setdefault(name, {})
    if field in mine:
        raise DualPixelError(f"two files for the {field} image of {name!r}: {mine[field]} and {file}; rename one")
    mine[field] = file


class Photographs(Dataset):
    """Photographs as samples with the fields their files give.

    Args:
        paths: see `find_photographs`.
        needed: fields that the recipe cannot do without.

    Raises:
        DualPixelError: as `find_photographs`; a needed view is missing; views of one photograph differ in size or depth.
    """

    def __init__(self, paths: Sequence[str | Path], needed: Sequence[str]) -> None:
        self.photographs = list(find_photographs(paths).items())
        for name, files in self.photographs:
            missing = [field for field in needed if field not in files]
            if missing:
                raise DualPixelError(
                    f"{name}: the {' and '.join(missing)} view is missing (found {', '.join(map(str, files.values()))}); {LAYOUT}"
                )

    def __len__(self) -> int:
        return len(self.photographs)

    def __getitem__(self, position: int) -> dict[str, Any]:
        name, files = self.photographs[position]
        images = {field: read_image(file) for field, file in files.items()}
        if len({(image.shape, image.dtype) for image in images.values()}) > 1:
            said = ", ".join(
                f"{field} {image.shape[0]}x{image.shape[1]} {image.dtype}" for field, image in images.items()
            )
            raise DualPixelError(f"{name}: the views differ in size or bit depth: {said}; export them alike")
        return {**images, "key": name, "group": "", "index": position}
