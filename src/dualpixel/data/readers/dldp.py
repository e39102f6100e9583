"""Reader of DLDP: dual-pixel photographs without a sharp one, joined by the scenes of another set with views.

Source: Abuolaim, Afifi and Brown, "Improving Single-Image Defocus Deblurring: How Dual-Pixel Images Help Through Multi-Task
Learning", WACV 2022 (MDP), section 4, and the authors' program (https://github.com/Abdullah-Abuolaim/
multi-task-defocus-deblurring-dual-pixel-nimat), which pairs files by sorted position.
"""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dualpixel.data.card import Card, Preparation, ReaderChoice, Split
from dualpixel.data.images import read_image
from dualpixel.data.readers.base import Reader, Scene
from dualpixel.data.readers.folders import FoldersReader
from dualpixel.data.registry import get_card
from dualpixel.data.schema import build
from dualpixel.errors import DualPixelError
from dualpixel.hints import near

TRAIN = "train"
"""The split that other scenes join."""


@dataclass(frozen=True)
class DldpOptions:
    """Options of the reader.

    Args:
        patterns: field -> glob below the root; ``{split}`` stands for the folder of the split.
        folders: split -> folders that may hold it; the first that is there is read.
        roots: names of folders that may lie between the source folder and those.
        same_numbers: refuse views whose file names have other numbers in them than the combined image's: one scene lacks a view then, and
            another its combined image.
        join: card of a set of the `folders` reader whose scenes join the split train, where its archive is unpacked in the source folder,
            too; None for none.
        leave_out: split of the joined set -> names of its photographs. These splits do not join, and photographs of these names are left
            out of the split train, whoever brings them.
    """

    patterns: dict[str, str]
    folders: dict[str, list[str]]
    roots: list[str] = field(default_factory=list)
    same_numbers: bool = True
    join: str | None = None
    leave_out: dict[str, list[str]] = field(default_factory=dict)


class DldpReader(Reader):
    """Gives ``left``, ``right`` and ``combined``, 16 bits.

    Options stand in the card, under ``reader: {name: dldp, options: ...}``; see `DldpOptions`. A photograph is known by its name: a part
    of the key between "_" and "-", such as 1P0A0917 in 1P0A0917_C. A scene that both train/ and the joined set bring is taken
    from train/. Which set a scene comes from is noted in its metadata.

    Raises:
        DualPixelError: options that make no sense.
    """

    def __init__(self, card: Card, source: Path | None = None) -> None:
        super().__init__(card, source)
        where = f"card {card.name}: reader.options"
        self.options = build(DldpOptions, card.reader.options, where)
        for split in card.splits:
            if not self.options.folders.get(split):
                raise DualPixelError(
                    f"{where}: folders names none for the split {split!r}; {near(split, self.options.folders)}"
                )
        if "combined" not in card.fields:
            raise DualPixelError(
                f"card {card.name}: the dldp reader needs the field combined, whose files name the scenes"
            )
        if self.options.join is None:
            return
        joined = get_card(self.options.join)
        missing = [name for name in card.fields if name not in joined.fields]
        if joined.reader.name != "folders" or missing:
            lacks = f" and fields without {', '.join(missing)}" if missing else ""
            raise DualPixelError(
                f"{where}: join {joined.name}: found the reader {joined.reader.name!r}{lacks}; a set that joins has the reader 'folders' "
                f"and the fields {', '.join(card.fields)}"
            )
        for split in self.options.leave_out:
            joined.split(split)

    def scenes(self, split: str) -> list[Scene]:
        """List scenes by the sorted position of their files, those that join behind them; see `Reader.scenes`."""
        own = self._own(split)
        if split != TRAIN or not own:  # nothing joins what is not there
            return own
        left_out = {name for names in self.options.leave_out.values() for name in names}
        there = {name for scene in own for name in _names(scene)}
        joined = [scene for scene in self._joined() if there.isdisjoint(_names(scene))]
        return [scene for scene in own + joined if left_out.isdisjoint(_names(scene))]

    def when_empty(self) -> str:
        """Say what to do about a split without scenes."""
        patterns = ", ".join(self.options.patterns.values())
        folders = ", ".join(f"{split}: {' or '.join(names)}" for split, names in self.options.folders.items())
        return f"looked for {patterns} in the folders {folders}; {self.card.how_to_get()}"

    def read(self, scene: Scene) -> dict[str, np.ndarray]:
        """Read the files of one scene; see `Reader.read`."""
        return {name: read_image(file, self.card.bit_depth) for name, file in scene.files.items()}

    def _own(self, split: str) -> list[Scene]:
        options, source = self.options, self.existing_source()
        root = next((source / name for name in options.roots if (source / name).is_dir()), source)
        folder = next((name for name in options.folders[split] if (root / name).is_dir()), None)
        if folder is None:
            return []
        bare = replace(self.card, splits={folder: Split(None)}, preparation=Preparation())
        scenes = self._listed(bare, root, folder, {"patterns": options.patterns, "key": "combined"})
        if options.same_numbers:
            for scene in scenes:
                self._check_numbers(split, scene)
        return scenes

    def _joined(self) -> list[Scene]:
        if self.options.join is None:
            return []
        card, source = get_card(self.options.join), self.existing_source()
        if not any((source / name).is_dir() for name in card.reader.options.get("roots", [])):
            return []
        scenes = []
        for split in card.splits:
            if split in self.options.leave_out:
                continue
            found = self._listed(card, source, split, card.reader.options)
            if not card.split(split).is_complete(len(found)):
                raise DualPixelError(
                    f"{self.card.name}: {len(found)} scenes of {card.name} {split} below {source} would join, its card promises "
                    f"{card.split(split).scenes}; complete that download, or set `join: null` in a copy of the card"
                )
            scenes += found
        return scenes

    def _listed(self, card: Card, source: Path, split: str, options: dict[str, Any]) -> list[Scene]:
        """List scenes as the folders reader finds them, with this card's fields alone."""
        patterns = {name: pattern for name, pattern in options["patterns"].items() if name in self.card.fields}
        reader = ReaderChoice("folders", {**options, "patterns": patterns})
        found = FoldersReader(replace(card, fields=self.card.fields, reader=reader), source).scenes(split)
        return [replace(scene, group="", metadata={**scene.metadata, "from": card.name}) for scene in found]

    def _check_numbers(self, split: str, scene: Scene) -> None:
        numbers = {name: re.findall(r"\d+", file.stem) for name, file in scene.files.items()}
        for name, found in numbers.items():
            if found != numbers["combined"]:
                raise DualPixelError(
                    f"{self.card.name} {split}: the {name} view of {scene.files['combined']} would be {scene.files[name].name}, of "
                    "another number: a file is missing; complete the download (or, where views are numbered otherwise, set "
                    "`same_numbers: false` in a copy of the card)"
                )


def _names(scene: Scene) -> set[str]:
    return set(re.split("[_-]", scene.key))
