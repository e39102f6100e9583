"""Files of a scene, found by patterns: what `*` stands for names the scene."""

import re
from collections.abc import Iterator
from pathlib import Path

from dualpixel.errors import DualPixelError

SPLIT = "{split}"
"""Stands for the name of the split in a pattern."""


def first_root(source: Path, names: list[str]) -> Path:
    """Return the first of the named folders that lies in the source folder, or else the source folder itself."""
    return next((source / name for name in names if (source / name).is_dir()), source)


def matching_files(root: Path, pattern: str) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Go through the files that match a pattern, sorted.

    Args:
        root: the folder that the pattern starts from.
        pattern: parts separated by "/"; each `*` stands for part of one name. Names that start with "." never match.

    Yields:
        The file, and what each `*` stands for.
    """
    shape = re.compile("([^/]+)".join(map(re.escape, pattern.split("*"))))
    for file in sorted(root.glob(pattern)):
        found = shape.fullmatch(file.relative_to(root).as_posix())
        if found and file.is_file() and not file.name.startswith("."):
            yield file, found.groups()


def as_key(*names: str) -> str:
    """Join names into the key of a scene; signs that a key may not have become "_"."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", "-".join(names))


def find_scenes(name: str, root: Path, layouts: list[dict[str, str]]) -> tuple[int, dict[str, dict[str, Path]]]:
    """Find the scenes of a folder that has one of several layouts: that of which most patterns find a file, or the first of such.

    Args:
        name: of the data set, for the message.
        root: the folder that the patterns start from.
        layouts: field -> pattern each, with one `*`, or without any for a file that all scenes share.

    Returns:
        The position of the layout, and key -> field -> file, sorted by key. A scene is whatever any pattern with a `*` finds.

    Raises:
        DualPixelError: a scene lacks a file.
    """
    finds = [sum(next(matching_files(root, one), None) is not None for one in each.values()) for each in layouts]
    position = finds.index(max(finds))
    patterns = layouts[position]
    named = {stands for one in patterns.values() if "*" in one for _, (stands,) in matching_files(root, one)}
    scenes = {}
    for stands in sorted(named):
        files = {field: root / pattern.replace("*", stands) for field, pattern in patterns.items()}
        missing = [f"{field} ({file.relative_to(root)})" for field, file in files.items() if not file.is_file()]
        if missing:
            raise DualPixelError(
                f"{name}: the scene {stands} lacks {', '.join(missing)} below {root}; complete the download"
            )
        scenes[as_key(stands)] = files
    return position, scenes


def names_below(root: Path, files: dict[str, Path]) -> dict[str, str]:
    """Return metadata that names the files of a scene, below the folder of the layout."""
    return {f"{field}_file": file.relative_to(root).as_posix() for field, file in files.items()}


def said(size: tuple[int, ...]) -> str:
    """Return the size of an image in words: height x width."""
    return f"{size[0]}x{size[1]}"
