"""The card of a data set: everything there is to know before its first file is opened. One YAML file each, in `registry/`."""

import re
import shlex
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from dualpixel.data.fields import FIELDS
from dualpixel.data.index import Index, WindowRule
from dualpixel.data.schema import build
from dualpixel.errors import DualPixelError
from dualpixel.files import read_yaml
from dualpixel.hints import near
from dualpixel.paths import resource_names

NAME_LENGTH = 60
"""The most letters of the names of sets and splits, which become names of folders and files."""


@dataclass(frozen=True)
class Mirror:
    """One place to get an archive from.

    Args:
        file: name of the archive or folder.
        url: where it is.
        sha256: checksum, where one is published.
        browser: whether the page needs a browser (so that no program can fetch it).
    """

    file: str
    url: str
    sha256: str | None = None
    browser: bool = True

    def __post_init__(self) -> None:
        if not re.match(r"https?://[^/\s]", self.url):
            raise DualPixelError(f"the address {ascii(self.url[:80])} of a mirror must begin with https:// or http://")


@dataclass(frozen=True)
class Split:
    """One split.

    Args:
        scenes: how many scenes the complete split has; None for whatever is there.
        groups: group name -> keys of its scenes, for example indoor and outdoor; scenes not listed have the group "".
    """

    scenes: int | None
    groups: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.scenes is not None and self.scenes < 1:
            raise DualPixelError(f"a split of {self.scenes} scenes; the number must be positive, or null for any")

    @property
    def count(self) -> str:
        """Number of scenes in words."""
        return "any number of" if self.scenes is None else str(self.scenes)

    def is_complete(self, found: int) -> bool:
        """Say whether so many scenes are what the split promises."""
        return self.scenes is None or found == self.scenes


@dataclass(frozen=True)
class Preparation:
    """What is done to the authors' files before they become shards.

    Args:
        windows: split -> the windows noted in its index. Shards keep whole scenes; windows are places in them.
    """

    windows: dict[str, WindowRule] = field(default_factory=dict)


@dataclass(frozen=True)
class ReaderChoice:
    """Which reader understands the layout, and its options (see `dualpixel.data.readers`)."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Card:
    """A data set.

    Args:
        name: short name, used in paths and on the command line.
        version: changed whenever the same files would give other shards.
        title: one line.
        citation: BibTeX.
        licence: what the owners allow, or that they do not say.
        homepage: where it is described.
        download: instructions for a person, several lines.
        fields: which fields a sample has (`dualpixel.data.fields`).
        bit_depth: bits per channel of the stored images; files of another depth are refused.
        splits: split name -> `Split`.
        reader: the reader of the raw layout.
        colour: "rgb", or "grey" for sets whose views come from one channel.
        size: (height, width) of a scene in pixels, None where it varies.
        mirrors: where the archives are.
        preparation: windows and the like.
        protocols: ids of the protocols its scores are given by, the default first.
        generated: whether the reader makes the scenes itself, so that `fit` may prepare the set on first use.
        notes: facts a user should know; those not verified are marked so.

    Attributes:
        origin: the file it was read from, if any.
    """

    origin: ClassVar[Path | None] = None  # no key of the YAML

    name: str
    version: str
    title: str
    citation: str
    licence: str
    homepage: str
    download: str
    fields: list[str]
    bit_depth: Literal[8, 16]
    splits: dict[str, Split]
    reader: ReaderChoice
    colour: Literal["rgb", "grey"] = "rgb"
    size: tuple[int, int] | None = None
    mirrors: list[Mirror] = field(default_factory=list)
    preparation: Preparation = field(default_factory=Preparation)
    protocols: list[str] = field(default_factory=lambda: ["dpdnet-16bit"])
    generated: bool = False
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        where = f"card {ascii(self.name[:NAME_LENGTH])[1:-1]}"
        if not _is_name(self.name):  # it becomes part of paths
            raise DualPixelError(
                f"{where}: the name may hold at most {NAME_LENGTH} lower-case letters, digits, '-' and '_' only"
            )
        if not self.splits:
            raise DualPixelError(f"{where}: no splits")
        for one in self.splits:
            if not _is_name(one):
                raise DualPixelError(
                    f"{where}: the split name {ascii(one[:NAME_LENGTH])} may hold at most {NAME_LENGTH} lower-case letters, digits, "
                    "'-' and '_' only"
                )
        if self.size and min(self.size) < 1:
            raise DualPixelError(f"{where}: size {list(self.size)} must be two positive numbers, [height, width]")
        for one in self.fields:
            if one not in FIELDS:
                raise DualPixelError(f"{where}: unknown field {ascii(one[:80])}; {near(one[:80], FIELDS)}")
        for one in self.preparation.windows:
            if one not in self.splits:
                raise DualPixelError(
                    f"{where}: windows for the unknown split {ascii(one[:80])}; {near(one[:80], self.splits)}"
                )

    @property
    def available(self) -> bool:
        """Whether anybody can get the set."""
        return self.reader.name != "unavailable"

    @property
    def argument(self) -> str:
        """What a command in a shell names the card by: its name, or the path of one that is not in the registry."""
        if self.origin is None or resource_names("registry").get(self.name) == self.origin:
            return self.name
        return shlex.quote(str(self.origin))

    def split(self, name: str) -> Split:
        """Return one split.

        Raises:
            DualPixelError: the card has no such split.
        """
        if name not in self.splits:
            raise DualPixelError(f"data set {self.name} has no split {name!r}; {near(name, self.splits)}")
        return self.splits[name]

    def group(self, split: str, key: str) -> str:
        """Return the group of a scene, "" where the card lists none."""
        return next((group for group, keys in self.split(split).groups.items() if key in keys), "")

    def check_index(self, split: str, index: Index, folder: Path) -> None:
        """Refuse shards of another data set, version or rule for windows than the card's: their scores would bear its name.

        Raises:
            DualPixelError: the index says otherwise than the card.
        """
        rule = self.preparation.windows.get(split)
        stated = {
            "data set": (index.dataset, self.name),
            "version": (index.version, self.version),
            "split": (index.split, split),
            "windows": (index.preparation.get("windows"), asdict(rule) if rule else None),
        }
        for what, (found, wanted) in stated.items():
            if found != wanted:
                raise DualPixelError(
                    f"{folder} holds {what} {found}, the card {self.name} says {wanted}: "
                    "name the right --data.dataset or --data.root, or prepare the set again"
                )

    def how_to_get(self, source: str = "FOLDER") -> str:
        """Say in two lines how the set is got and prepared, or that it cannot be."""
        if not self.available:
            return "no download of this data set is offered, so it cannot be prepared"
        get = (
            "is made on first use"
            if self.generated
            else f"get it as `data show {self.argument}` says ({self.homepage})"
        )
        source = "" if self.generated else f" --source {source}"
        return f"{get}, then: python -m src data prepare {self.argument}{source}"


def load_card(path: Path) -> Card:
    """Read and validate one card.

    Raises:
        DualPixelError: not YAML, or not a card; the message names the key.
    """
    content = read_yaml(path)
    name = content.get("name") if isinstance(content, dict) else None
    card = build(Card, content, f"card {name if _is_name(name) else Path(path).stem} ({path})")
    object.__setattr__(card, "origin", Path(path))
    return card


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and len(name) <= NAME_LENGTH and bool(re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name))
