"""Reader for cards of data sets that are known, but cannot be got."""

from typing import NoReturn

from dualpixel.data.readers.base import Reader, Scene
from dualpixel.errors import DualPixelError


class UnavailableReader(Reader):
    """Says that there is nothing to read."""

    def scenes(self, split: str) -> NoReturn:
        """Refuse; see `Reader.scenes`."""
        raise DualPixelError(f"{self.card.name}: {self.card.how_to_get()}")

    def read(self, scene: Scene) -> NoReturn:
        """Refuse; see `Reader.read`."""
        self.scenes("")
