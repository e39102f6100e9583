"""Test scenes that a network was trained on: scenes of prepared splits held against each other, a report and a sheet of what is found."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dualpixel.data.index import INDEX, has_index
from dualpixel.data.overlap import CANDIDATE, CONFIRMED, candidates, correlation, perceptual_hash, thumbnail
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.registry import get_card
from dualpixel.data.remote import Folder, as_folder, prepared_root
from dualpixel.errors import DualPixelError
from dualpixel.files import atomic, write_json
from dualpixel.hints import near
from dualpixel.paths import SHARDS_VARIABLE
from dualpixel.terminal import progress

TRAINING = "train"
DRAWN = 24


@dataclass(frozen=True)
class Pair:
    """Two scenes that look alike.

    Args:
        a: key of the first.
        b: key of the second.
        distance: bits of the hashes that differ, of 256.
        mirrored: whether one is mirrored against the other.
        correlation: of their thumbnails.
        verdict: "same", or "alike" where the correlation does not confirm what the hashes say.
    """

    a: str
    b: str
    distance: int
    mirrored: bool
    correlation: float
    verdict: str


@dataclass(frozen=True)
class Looks:
    """What the scenes of a split look like: thumbnails (N, 64, 64) and hashes (N, 256)."""

    split: PreparedSplit
    thumbnails: np.ndarray
    hashes: np.ndarray

    @property
    def name(self) -> str:
        """Data set and split."""
        return f"{self.split.index.dataset} {self.split.index.split}"


@dataclass(frozen=True)
class Comparison:
    """Two splits, and the pairs of their scenes that look alike, surest first."""

    a: Looks
    b: Looks
    pairs: list[Pair]

    def names(self) -> tuple[str, str]:
        """Return data set and split of both, and where they lie if that is two copies of one set."""
        both = self.a, self.b
        sets = {looks.split.index.dataset for looks in both}
        if len(sets) == 2 or len({_place(looks.split.folder).rpartition("/")[0] for looks in both}) == 1:
            return self.a.name, self.b.name
        return f"{self.a.name} at {self.a.split.folder}", f"{self.b.name} at {self.b.split.folder}"

    def same(self) -> list[Pair]:
        """Return the pairs that show one scene."""
        return [pair for pair in self.pairs if pair.verdict == "same"]

    def said(self) -> str:
        """Say how many scenes of the split that is not for training are in the other."""
        turned = self.a.split.index.split == TRAINING
        sides = list(zip((self.a, self.b), self.names(), strict=True))
        (judged, name), (other, others_name) = reversed(sides) if turned else sides
        found = {pair.b if turned else pair.a for pair in self.same()}
        return f"{len(found)} of {len(judged.split)} scenes of {name} are in {others_name} ({len(other.split)} scenes)"


def prepared_splits(name: str) -> dict[str, Folder]:
    """Return split -> folder of what is prepared of a set.

    Args:
        name: a card's name or path; a folder, of one split or of a set with a folder for each split; or the address of one split.

    Raises:
        DualPixelError: nothing is prepared, or a server that does not answer, or refuses.
    """
    folder, mend = as_folder(name), "prepare it first, or make its index by `data index`"
    if has_index(folder):
        return {_place(folder).rpartition("/")[2]: folder}
    if not isinstance(folder, Path):
        raise DualPixelError(
            f"{folder} has no {INDEX}, and a server does not list its folders: name the address of one split, such as "
            f"{_place(folder)}/{TRAINING}, or a card below the address in ${SHARDS_VARIABLE}"
        )
    if folder.is_dir():
        found: dict[str, Folder] = {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{INDEX}"))}
    else:
        card = get_card(name)
        folder, mend = prepared_root(card.name), card.how_to_get()
        found = {split: folder / split for split in card.splits if has_index(folder / split)}
    if not found:
        raise DualPixelError(f"{name}: no split is prepared in {folder}; {mend}")
    return found


def comparisons(a: str, b: str, split_a: str | None = None, split_b: str | None = None) -> list[tuple[Folder, Folder]]:
    """Say which splits are held against which: those a network is judged by against those it learns from, both ways.

    Args:
        a: the first set, see `prepared_splits`.
        b: the second set.
        split_a: this split of the first only.
        split_b: this split of the second only; where both are given, they are compared whatever they are.

    Raises:
        DualPixelError: nothing is prepared, or nothing can be compared.
    """
    first, second = prepared_splits(a), prepared_splits(b)
    for name, splits, split in ((a, first, split_a), (b, second, split_b)):
        if split and split not in splits:
            raise DualPixelError(f"{name}: no split {split!r} is prepared; {near(split, splits)}")
    pairs: dict[frozenset[str], tuple[Folder, Folder]] = {}
    for one, left in first.items():
        for other, right in second.items():
            wanted = split_a in (None, one) and split_b in (None, other)
            if wanted and ((split_a and split_b) or (one == TRAINING) != (other == TRAINING)):
                # of a set and itself, each pair of splits once
                pairs.setdefault(frozenset((_place(left), _place(right))), (left, right))
    if not pairs:
        raise DualPixelError(
            f"nothing to compare: prepared of {a}: {', '.join(first)}; of {b}: {', '.join(second)}; "
            f"one of them needs its split {TRAINING!r}, or name both by --split_a and --split_b"
        )
    return list(pairs.values())


def look(folder: Folder) -> Looks:
    """Read all scenes of a split.

    The picture of a scene is its combined image, else the mean of its views, else its sharp image.

    Raises:
        DualPixelError: no such split, or no images.
    """
    split = PreparedSplit(folder)
    small = np.empty((len(split), 64, 64), np.float32)
    with progress() as bar:
        task = bar.add_task(f"look at {split.index.dataset} {split.index.split}", total=len(split))
        for position in range(len(split)):
            small[position] = np.mean([thumbnail(image) for image in _images(split, position)], 0)
            bar.advance(task)
    return Looks(split, small, np.array([perceptual_hash(one) for one in small]))


def compare(a: Looks, b: Looks) -> Comparison:
    """Find the scenes of two splits that look alike; a scene is not held against itself."""
    itself = _place(a.split.folder) == _place(b.split.folder)
    pairs = []
    for one, other, distance, turned in candidates(a.hashes, b.hashes):
        if itself and one >= other:
            continue
        second = b.thumbnails[other]
        agreement = round(correlation(a.thumbnails[one], second[:, ::-1].copy() if turned else second), 4)
        keys = a.split.index.samples[one].key, b.split.index.samples[other].key
        pairs.append(Pair(*keys, distance, turned, agreement, "same" if agreement >= CONFIRMED else "alike"))
    return Comparison(a, b, sorted(pairs, key=_doubt))


def write_report(path: Path, comparisons: list[Comparison]) -> None:
    """Write what was compared and what was found as JSON."""
    limits = {"most_bits_that_differ": CANDIDATE, "least_correlation": CONFIRMED}
    compared = [
        {
            "a": _described(one.a),
            "b": _described(one.b),
            "said": one.said(),
            "pairs": [asdict(pair) for pair in one.pairs],
        }
        for one in comparisons
    ]
    write_json(path, {"schema": 1, "limits": limits, "compared": compared})


def draw_pairs(path: Path, comparisons: list[Comparison]) -> None:
    """Draw pairs side by side, the surest first; of very many the first 24 only."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    pairs = sorted(((one, pair) for one in comparisons for pair in one.pairs), key=lambda both: _doubt(both[1]))
    shown = pairs[:DRAWN]
    across = 2 if len(shown) > 1 else 1
    down = -(-len(shown) // across)
    figure = Figure(figsize=(6.4 * across, 2.5 * down + 0.5), layout="constrained", dpi=100)
    FigureCanvasAgg(figure)
    more = f" (the first {DRAWN} of {len(pairs)})" if len(pairs) > DRAWN else ""
    figure.suptitle(f"pairs of scenes that look alike{more}", fontsize=10)
    axes = figure.subplots(down, 2 * across, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for number, (one, pair) in enumerate(shown):
        said = f"{pair.distance} bits, {pair.correlation:.2f}: {pair.verdict}{', mirrored' if pair.mirrored else ''}"
        sides = (one.a, pair.a, said), (one.b, pair.b, "")
        for side, ((looks, key, text), name) in enumerate(zip(sides, one.names(), strict=True)):
            axis = axes[number // across, 2 * (number % across) + side]
            axis.imshow(_shown(looks.split, key))
            axis.set_title(f"{name}\n{key}\n{text}", fontsize=7)
    with atomic(path) as beside:
        figure.savefig(beside)


def _place(folder: Folder) -> str:
    """Return what is the same for all ways to name one folder."""
    return str(folder.resolve() if isinstance(folder, Path) else folder).rstrip("/")


def _doubt(pair: Pair) -> tuple[bool, int, float]:
    return pair.verdict != "same", pair.distance, -pair.correlation


def _images(split: PreparedSplit, position: int) -> list[np.ndarray]:
    members = split.index.samples[position].members
    for names in (("combined",), ("left", "right"), ("sharp",), ("left",), ("right",)):
        if set(names) <= set(members):
            return [np.asarray(split.array(position, name)) for name in names]
    raise DualPixelError(f"{split.folder}: {split.index.samples[position].key} has no images to compare")


def _shown(split: PreparedSplit, key: str) -> np.ndarray:
    image = _images(split, [sample.key for sample in split.index.samples].index(key))[0]
    step = max(1, image.shape[1] // 400)
    return image[::step, ::step] / np.float32(np.iinfo(image.dtype).max)


def _described(looks: Looks) -> dict[str, Any]:
    index = looks.split.index
    return {
        "dataset": index.dataset,
        "split": index.split,
        "scenes": len(index.samples),
        "fingerprint": index.fingerprint,
    }
