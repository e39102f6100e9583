"""Reader of layouts with one folder a field: files are paired by their sorted order, as the DPDD authors pair them."""

import re
from pathlib import Path

import numpy as np

from dualpixel.data.card import Card
from dualpixel.data.fields import MAPS
from dualpixel.data.images import read_image
from dualpixel.data.maps import read_map
from dualpixel.data.readers.base import Reader, Scene
from dualpixel.errors import DualPixelError
from dualpixel.hints import near

OPTIONS = ("patterns", "key", "suffixes", "number_distance", "roots", "units")


class FoldersReader(Reader):
    """One pattern a field, given in the card, so that a new data set of this kind needs no code.

    Options (in the card, under ``reader: {name: folders, options: ...}``):
        patterns: field -> glob below the source folder; ``{split}`` stands for the split's name.
        key: the field whose file names (without ending, and without the suffix of that field) become the keys of the scenes.
        suffixes: field -> what its file names add to the key, for example ``_L``; a file of another name in its place is refused.
        number_distance: how far the number at the end of the key may be from that of the sharp file; a larger distance means
            that one scene lacks its source and another its target.
        units: field -> what one step of its integer maps is worth, for example ``depth: 0.001`` for millimetres (see
            `dualpixel.data.maps.read_map`); maps of floating point need none.
        roots: names of folders that may lie between the source folder and the patterns (the archive's own top folder).

    Source and target of a DPDD scene carry different camera numbers; sorting by name pairs them (Abuolaim and Brown, ECCV 2020, data
    release: the authors' name lists are sorted).
    """

    def __init__(self, card: Card, source: Path | None = None) -> None:
        super().__init__(card, source)
        for name in card.reader.options:
            if name not in OPTIONS:
                raise DualPixelError(
                    f"card {card.name}: the folders reader has no option {name!r}; {near(name, OPTIONS)}"
                )
        patterns = card.reader.options.get("patterns")
        if not isinstance(patterns, dict) or set(patterns) != set(card.fields):
            raise DualPixelError(
                f"card {card.name}: the folders reader needs a pattern for each of {', '.join(card.fields)}"
            )

    def scenes(self, split: str) -> list[Scene]:
        """List scenes by the sorted position of their files; see `Reader.scenes`."""
        options = self.card.reader.options
        root = self._root(options.get("roots", []))
        files = {field: self._files(root, pattern, split) for field, pattern in options["patterns"].items()}
        key_field = options.get("key", next(iter(files)))
        count = len(files[key_field])
        for field, found in files.items():
            if len(found) != count:
                pattern = options["patterns"][field].format(split=split)
                raise DualPixelError(
                    f"{self.card.name} {split}: {count} files for {key_field!r} but {len(found)} for {field!r} ({root / pattern}); "
                    "every scene needs one file a field: complete the download"
                )
        scenes = []
        for position in range(count):
            mine = {field: found[position] for field, found in files.items()}
            stem = mine[key_field].stem.removesuffix(options.get("suffixes", {}).get(key_field, ""))
            key = re.sub(r"[^A-Za-z0-9_-]", "_", stem)
            self._check_names(stem, mine, split)
            names = {f"{field}_file": file.name for field, file in mine.items()}
            scenes.append(Scene(key, self.card.group(split, key), names, mine))
        return scenes

    def read(self, scene: Scene) -> dict[str, np.ndarray]:
        """Read the files of one scene; see `Reader.read`. Unknown depth is NaN."""
        units = self.card.reader.options.get("units", {})
        return {
            field: read_map(file, units.get(field), signed=field != "depth")
            if field in MAPS
            else read_image(file, self.card.bit_depth)
            for field, file in scene.files.items()
        }

    def _root(self, names: list[str]) -> Path:
        source = self.existing_source()
        return next((source / name for name in names if (source / name).is_dir()), source)

    def _files(self, root: Path, pattern: str, split: str) -> list[Path]:
        return sorted(
            file for file in root.glob(pattern.format(split=split)) if file.is_file() and not file.name.startswith(".")
        )

    def _check_names(self, stem: str, files: dict[str, Path], split: str) -> None:
        # a file missing here and one missing there keeps the counts equal but pairs strangers
        options = self.card.reader.options
        for field, suffix in options.get("suffixes", {}).items():
            if files[field].stem != stem + suffix:
                raise DualPixelError(
                    f"{self.card.name} {split}: the {field} view of {stem} is missing: its place in the sorted order holds "
                    f"{files[field].name}; complete the download"
                )
        limit, sharp = options.get("number_distance"), files.get("sharp")
        if limit is not None and sharp is not None and abs(_number(stem) - _number(sharp.stem)) > limit:
            raise DualPixelError(
                f"{self.card.name} {split}: {stem} would be paired with {sharp.name}, more than {limit} numbers away: "
                "a source or a target is missing; complete the download"
            )


def _number(stem: str) -> int:
    digits = re.search(r"\d+$", stem)
    return int(digits[0]) if digits else 0
