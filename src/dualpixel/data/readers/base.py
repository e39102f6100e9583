"""What a reader of a raw layout is: it lists the scenes of a split and reads one of them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

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
    files: dict[str, Path] = field(default_factory=dict)

    def stamp(self) -> list[Any]:
        """Return plain values that tell whether the files are still the same, without reading a pixel: sizes and times."""
        found = {name: file.stat() for name, file in sorted(self.files.items())}
        times = [[name, about.st_size, about.st_mtime_ns] for name, about in found.items()]
        return [self.key, self.group, self.metadata, times]


class Reader(ABC):
    """Reads one raw layout.

    A reader is handed to worker processes, so it holds nothing but its arguments. A new layout is a subclass registered under a name
    (`dualpixel.data.readers.register`).

    Args:
        card: the data set.
        source: the folder the user downloaded; None for sets that are generated.
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

    @abstractmethod
    def read(self, scene: Scene) -> dict[str, np.ndarray]:
        """Read one scene: field -> array, in the storage of `dualpixel.data.fields`.

        Raises:
            DualPixelError: a file is unreadable or of another bit depth than the card's.
        """
