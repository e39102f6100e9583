"""Reader of layouts with one folder a field: files are paired by their sorted order, as the DPDD authors pair them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dualpixel.data.archive import File, Files, archives_in, on_disk
from dualpixel.data.card import Card
from dualpixel.data.fields import FIELDS, MAPS
from dualpixel.data.images import decode_image, image_size, read_image
from dualpixel.data.maps import read_disparity, read_map
from dualpixel.data.orientation import QUARTERS, turned
from dualpixel.data.readers.base import Reader, Scene
from dualpixel.errors import DualPixelError
from dualpixel.hints import near

OPTIONS = (
    "patterns", "layouts", "key", "suffixes", "number_distance", "roots", "units", "shared", "portrait_quarters"
)  # fmt: skip


@dataclass(frozen=True)
class _Copy:
    """One copy of the data set: where it lies, in which layout, and what there is of it."""

    files: Files
    layout: str
    patterns: Mapping[str, str]
    found: dict[str, dict[str, list[File]]]

    @property
    def first(self) -> File:
        return next(one for fields in self.found.values() for files in fields.values() for one in files)


class FoldersReader(Reader):
    """One pattern a field, given in the card, so that a new data set of this kind needs no code.

    Options (in the card, under ``reader: {name: folders, options: ...}``):
        patterns: field -> glob below the source folder; ``{split}`` stands for the split's name.
        layouts: name -> patterns of other layouts in which copies of the set are handed on. The one that finds files is read.
        key: the field whose file names (without ending, and without the suffix of that field) become the keys of the scenes.
        suffixes: field -> what its file names add to the key, for example ``_L``, or a list of what they may add; a file of another
            name in its place is refused.
        number_distance: how far the number at the end of the key may be from that of the sharp file; a larger distance means
            that one scene lacks its source and another its target.
        units: field -> what one step of its integer maps is worth, for example ``depth: 0.001`` for millimetres (see
            `dualpixel.data.maps.read_map`); maps of floating point need none, nor does ``disparity``, which has no unit.
        roots: names of folders that may lie between the source folder and the patterns (the archive's own top folder).
        shared: a field of which one file serves several scenes: those whose key's files lie in a folder of its name. The names of
            that folder and of the file make the key.
        portrait_quarters: counter-clockwise quarter turns of scenes that are taller than wide (see `dualpixel.data.orientation`).

    The source may also be a zip archive, or a folder that holds one of the card's archives and nothing unpacked: it is read as it is.
    More than one copy of the set in one source is refused, since nothing says which is meant.

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
        for name, kind in {"patterns": dict, "layouts": dict, "roots": list}.items():
            if not isinstance(card.reader.options.get(name, kind()), kind):
                raise DualPixelError(
                    f"card {card.name}: the option {name} of the folders reader must be a {kind.__name__}"
                )
        patterns = card.reader.options.get("patterns")
        if not isinstance(patterns, dict) or set(patterns) != set(card.fields):
            raise DualPixelError(
                f"card {card.name}: the folders reader needs a pattern for each of {', '.join(card.fields)}"
            )
        if not all(isinstance(pattern, str) for pattern in patterns.values()):
            raise DualPixelError(f"card {card.name}: a pattern of the folders reader must be a text")
        for layout, others in card.reader.options.get("layouts", {}).items():
            if not isinstance(others, dict) or not set(card.fields) <= set(others) <= set(FIELDS):
                raise DualPixelError(
                    f"card {card.name}: the layout {layout!r} needs a pattern for each of {', '.join(card.fields)}"
                )

    def scenes(self, split: str) -> list[Scene]:
        """List scenes by the sorted position of their files; see `Reader.scenes`."""
        options = self.card.reader.options
        copy = self._copy()
        files = copy.found[split]
        key_field = options.get("key", next(iter(files)))
        if "shared" in options:
            files = self._dealt_out(split, files, key_field, options["shared"])
        count = len(files[key_field])
        for field, found in files.items():
            if len(found) != count:
                pattern = copy.patterns[field].replace("{split}", split)
                raise DualPixelError(
                    f"{self.card.name} {split}: {count} files for {key_field!r} but {len(found)} for {field!r} "
                    f"({copy.files}/{pattern}); every scene needs one file a field: complete the download"
                )
        return [
            self._scene(split, key_field, {field: found[position] for field, found in files.items()})
            for position in range(count)
        ]

    def read(self, scene: Scene) -> dict[str, np.ndarray]:
        """Read the files of one scene; see `Reader.read`. Unknown depth is NaN."""
        quarters = scene.metadata.get(QUARTERS, 0)
        return {field: turned(self._read(field, file), quarters) for field, file in scene.files.items()}

    def _read(self, field: str, file: File) -> np.ndarray:
        if field not in MAPS:
            if isinstance(file, Path):
                return read_image(file, self.card.bit_depth)
            return decode_image(file.read_bytes(), str(file), self.card.bit_depth)
        with on_disk(file) as path:
            if field == "disparity":
                return read_disparity(path)
            return read_map(path, self.card.reader.options.get("units", {}).get(field), signed=field != "depth")

    def _scene(self, split: str, key_field: str, files: dict[str, File]) -> Scene:
        options, file = self.card.reader.options, files[key_field]
        stem = next(
            (file.stem[: len(file.stem) - len(one)] for one in self._suffixes(key_field) if file.stem.endswith(one)),
            file.stem,
        )
        self._check_names(stem, files, split)
        if "shared" in options:
            stem = f"{file.parent.name}-{stem}"
        key = re.sub(r"[^A-Za-z0-9_-]", "_", stem)
        metadata = {f"{field}_file": one.name for field, one in files.items()}
        quarters = options.get("portrait_quarters", 0)
        if quarters:
            height, width = image_size(file)
            metadata |= {QUARTERS: quarters} if height > width else {}
        return Scene(key, self.card.group(split, key), metadata, files)

    def _copy(self) -> _Copy:
        """Return the only copy of the set in the source; one without files where there is none."""
        files = self.existing_files()
        copies = list(self._copies(files))
        if not copies and files.source.is_dir():
            archives = archives_in(files.source, (mirror.file for mirror in self.card.mirrors))
            copies = [copy for archive in archives for copy in self._copies(archive)]
        if len(copies) > 1:
            both = " and ".join(f"{copy.first} (layout {copy.layout})" for copy in copies[:2])
            raise DualPixelError(
                f"{self.card.name}: {files} holds more than one copy of the set: {both}; "
                "name the folder or the archive of one by --source, or move the other away"
            )
        patterns = self.card.reader.options["patterns"]
        empty = {split: {field: [] for field in patterns} for split in self.card.splits}
        return copies[0] if copies else _Copy(files, "patterns", patterns, empty)

    def _copies(self, files: Files) -> Iterator[_Copy]:
        """Yield the copies below a folder or in an archive, each once even where patterns see it from two roots."""
        options = self.card.reader.options
        layouts = {"patterns": options["patterns"], **options.get("layouts", {})}
        seen = []
        for root in [below for name in options.get("roots", []) if (below := files.below(name))] + [files]:
            for layout, patterns in layouts.items():
                found = {
                    split: {
                        field: root.glob(patterns[field].replace("{split}", split)) for field in options["patterns"]
                    }
                    for split in self.card.splits
                }
                if found not in seen and any(any(fields.values()) for fields in found.values()):
                    seen.append(found)
                    yield _Copy(root, layout, patterns, found)

    def _dealt_out(
        self, split: str, files: dict[str, list[File]], key_field: str, shared: str
    ) -> dict[str, list[File]]:
        """Return the files with those of the shared field repeated for every scene that they serve."""
        by_name = {file.stem: file for file in files[shared]}
        for file in files[shared]:
            if by_name[file.stem] is not file:
                raise DualPixelError(
                    f"{self.card.name} {split}: two {shared} images are called {file.stem}, {file} and {by_name[file.stem]}; "
                    "name the folder of one copy by --source"
                )
        for file in files[key_field]:
            if file.parent.name not in by_name:
                raise DualPixelError(
                    f"{self.card.name} {split}: no {shared} image is called {file.parent.name}, as the folder of {file}; "
                    "complete the download"
                )
        return {**files, shared: [by_name[file.parent.name] for file in files[key_field]]}

    def _suffixes(self, field: str) -> list[str]:
        allowed = self.card.reader.options.get("suffixes", {}).get(field, [])
        return [allowed] if isinstance(allowed, str) else allowed

    def _check_names(self, stem: str, files: dict[str, File], split: str) -> None:
        # a file missing here and one missing there keeps the counts equal but pairs strangers
        options = self.card.reader.options
        for field in options.get("suffixes", {}):
            if files[field].stem not in [stem + suffix for suffix in self._suffixes(field)]:
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
