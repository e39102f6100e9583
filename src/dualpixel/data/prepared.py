"""A data set that is trained on or scored: its card, where its prepared splits lie, and the splits themselves, opened once."""

from collections.abc import Sequence
from pathlib import Path

from dualpixel.data.cache import ShardCache
from dualpixel.data.card import Card
from dualpixel.data.index import INDEX
from dualpixel.data.prepare import prepare
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.registry import get_card
from dualpixel.data.remote import Folder, prepared_root
from dualpixel.data.requests import NotThereError
from dualpixel.data.simulated import SimulatedViews
from dualpixel.errors import DualPixelError


class PreparedSet:
    """A data set of which prepared splits are read.

    Args:
        dataset: name of a card of the registry, or the path of a card.
        root: folder with the prepared splits, or its address; by default that of `dualpixel.data.remote.prepared_root`.
        optics: renders the views of every sample from its sharp image and its depth.
        option: what names the root, for messages.

    Attributes:
        cache: keeps shards that come from a server; to be set before a split is opened.

    Raises:
        DualPixelError: unknown data set, or an address that is not allowed.
    """

    def __init__(
        self,
        dataset: str,
        root: str | Path | None = None,
        optics: SimulatedViews | None = None,
        option: str = "--data.root",
    ) -> None:
        self.card: Card = get_card(dataset)
        self.root: Folder = prepared_root(self.card.name, root)
        self.optics, self.option = optics, option
        self.cache: ShardCache | None = None
        self._splits: dict[str, PreparedSplit] = {}

    def ensure(self, names: Sequence[str]) -> None:
        """Make a generated set, or say how to get a set that is missing. Cheap when all is there.

        Raises:
            DualPixelError: a split is not prepared; the message says how it is got.
        """
        missing = [name for name in names if not self._is_there(name)]
        if not missing:
            return
        if self.card.generated and isinstance(self.root, Path):
            prepare(self.card, out=self.root)
            return
        self.card.split(missing[0])
        raise DualPixelError(
            f"data set {self.card.name!r} is not prepared: nothing at {self.root / missing[0] / INDEX}\n"
            f"{self.card.how_to_get()}  (or name a prepared folder by {self.option})"
        )

    def split(self, name: str) -> PreparedSplit:
        """Return a prepared split, opened once.

        Raises:
            DualPixelError: not prepared, empty, or truncated.
        """
        if name not in self._splits:
            self.card.split(name)
            self._splits[name] = PreparedSplit(self.root / name, self.cache)
            self.card.check_index(name, self._splits[name].index, self.root / name)
        return self._splits[name]

    def is_open(self, name: str) -> bool:
        """Say whether a split was opened."""
        return name in self._splits

    def fields(self, name: str) -> list[str]:
        """Return the fields that batches of a split have.

        Raises:
            DualPixelError: views are to be rendered, and a field that is needed for it is not stored.
        """
        stored = self.split(name).index.fields()
        return self.optics.provided(stored, f"{self.card.name} {name}") if self.optics else stored

    def check_fields(self, name: str, needed: Sequence[str]) -> None:
        """Refuse a split without the fields that a recipe needs.

        Raises:
            DualPixelError: a field is missing.
        """
        has = self.fields(name)
        missing = [field for field in needed if field not in has]
        if missing:
            raise DualPixelError(
                f"the recipe needs {', '.join(needed)}; {self.card.name} {name} has no {', '.join(missing)} (it has {', '.join(has)}): "
                "choose another data set or recipe"
            )

    def fingerprint(self, name: str) -> str:
        """Return what names the pixels of a split: that of its shards, and of the optics that render them."""
        found = self.split(name).index.fingerprint
        return f"{found}-optics-{self.optics.fingerprint()}" if self.optics else found

    def _is_there(self, name: str) -> bool:
        if isinstance(self.root, Path):
            return (self.root / name / INDEX).is_file()
        try:  # opened at once: on a server the index is fetched to see whether it is there
            self.split(name)
        except NotThereError:
            return False
        return True
