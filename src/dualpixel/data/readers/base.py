"""What a reader of a raw layout is: it lists the scenes of a split and reads one of them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dualpixel.data.archive import File, Files, stamp
from dualpixel.data.card import Card
from dualpixel.errors import DualPixelError


@dataclass(frozen=True)
class Scene:
    """One scene before it is read.

    Args:
        key: unique in its split; letters, digits, "-" and "_" only, since it names tar members.
        group: for example "indoor"; "" for none.
        metadata: plain JSON values, stored with the scene.
        files: field -> file, empty where a reader makes its scenes.
    """

    key: str
    group: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    files: dict[str, File] = field(default_factory=dict)

    def stamp(self) -> list[Any]:
        """Return plain values that tell whether the files are still the same, without reading a pixel: sizes and times."""
        stamps = [[name, *stamp(file)] for name, file in sorted(self.files.items())]
        return [self.key, self.group, self.metadata, stamps]


class Reader(ABC):
    """Reads one raw layout.

    A reader is handed to worker processes, so it holds nothing but its arguments. A new layout is a subclass registered under a name
    (`dualpixel.data.readers.register`).

    Args:
        card: the data set.
        source: the folder the user downloaded, or for readers that take one a zip archive; None for sets that are generated.
    """

    def __init__(self, card: Card, source: Path | None = None) -> None:
        self.card = card
        self.source = source

    @abstractmethod
    def scenes(self, split: str) -> list[Scene]:
        """List the scenes of a split, in a fixed order, reading no pixels.

        Raises:
            DualPixelError: the folder is missing, a view is missing, or counts differ between the fields.
        """

    def when_empty(self) -> str:
        """Say what to do about a split without scenes."""
        return self.card.how_to_get()

    def existing_source(self) -> Path:
        """Return the source folder.

        Raises:
            DualPixelError: there is none.
        """
        if self.source is None or not self.source.is_dir():
            raise DualPixelError(
                f"{self.card.name}: the source folder {self.source} does not exist; {self.card.how_to_get()}"
            )
        return self.source

    def existing_files(self) -> Files:
        """Return the files below the source folder, or inside the source where it is a zip archive.

        Raises:
            DualPixelError: there is neither.
        """
        return Files(self.source if self.source is not None and self.source.is_file() else self.existing_source())

    @abstractmethod
    def read(self, scene: Scene) -> dict[str, np.ndarray]:
        """Read one scene: field -> array, in the storage of `dualpixel.data.fields`.

        What only the pixels tell may be added to the scene's metadata here.

        Raises:
            DualPixelError: a file is unreadable or of another bit depth than the card's.
        """
