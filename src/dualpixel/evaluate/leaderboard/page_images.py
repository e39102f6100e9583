"""What a leaderboard's page shows of single images: their scores, and small pictures of a few of them."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dualpixel.evaluate.leaderboard.cells import heading
from dualpixel.evaluate.leaderboard.tables import HIGHER_IS_BETTER, INPUT, Entry, Leaderboard, decimals
from dualpixel.evaluate.thumbnails import find_thumbnails
from dualpixel.terminal import one_line

PICTURE_BYTES = 128 << 10
"""More than a thumbnail can have that `test` writes; larger ones are left out."""
PAGE_BYTES = 8 << 20
"""How many bytes of pictures a page holds."""
SHARED = ("scene", "input", "target")
"""Kinds that are the same for all results of a table."""
Data = dict[str, Any]


@dataclass
class Pictures:
    """Which pictures go into a page, and how many more fit.

    Args:
        count: images of each table that are shown, from the worst to the best.
        room: bytes that are left.
    """

    count: int
    room: int = PAGE_BYTES

    def read(self, path: Path | None) -> str | None:
        """Return a picture as base64; None where there is none, it is no WebP, or it does not fit any more."""
        if path is None or self.room <= 0:
            return None
        try:
            with path.open("rb") as file:
                content = file.read(PICTURE_BYTES + 1)
        except OSError:
            return None
        if len(content) > min(PICTURE_BYTES, self.room) or content[:4] != b"RIFF" or content[8:12] != b"WEBP":
            return None
        self.room -= len(content)
        return base64.b64encode(content).decode()


def image_data(board: Leaderboard, pictures: Pictures) -> tuple[Data, list[Data]]:
    """Return what is said of single images.

    Args:
        board: the table.
        pictures: the room for them; what is taken of it is gone.

    Returns:
        Of all results: ``keys``, ``groups``, ``columns`` with ``heading``, ``decimals`` and whether more is better, ``input`` with the
        scores of the unprocessed input, ``pictures`` (place of the image -> kind -> base64 of a WebP) and ``said``, what was left out.
        And of each row of the table: ``scores``, and ``outputs`` (place of the image -> base64). Scores are little-endian float64 in
        base64, image by image in the order of the columns; NaN where there is none.
    """
    rows = board.about.rows
    keys = [row["key"] for row in rows]
    columns = board.columns
    made = {
        "keys": [one_line(key) for key in keys],
        "groups": [one_line(row["group"]) for row in rows],
        "columns": [
            {"heading": heading(name), "decimals": decimals(name), "descending": name.endswith(HIGHER_IS_BETTER)}
            for name in columns
        ],
        "ranked": columns.index(board.ranked_by) if board.ranked_by else None,
        "input": _packed(_inputs(board.entries, keys, columns)),
    }
    of_rows: list[Data] = [{"scores": _packed(_scores(row.entry, keys, columns))} for row in board.rows]
    shared, outputs, said = _embedded(board, keys, pictures)
    for data, found in zip(of_rows, outputs, strict=True):
        if found:
            data["outputs"] = found
    return {**made, "pictures": shared, "said": said}, of_rows


def _scores(entry: Entry, keys: Sequence[str], columns: Sequence[str], prefix: str = "") -> list[list[float | None]]:
    of_image = {row["key"]: row for row in entry.result.rows}
    names = [prefix + name for name in columns]
    return [[of_image[key].get(name) for name in names] for key in keys]


def _inputs(entries: Iterable[Entry], keys: Sequence[str], columns: Sequence[str]) -> list[list[float | None]]:
    """Return the scores of the input, each column from the first result that has it."""
    found = np.full((len(keys), len(columns)), np.nan)
    for place, name in enumerate(columns):
        having = next((one for one in entries if one.scores(INPUT + name) is not None), None)
        if having:
            found[:, place] = np.array(_scores(having, keys, [name], INPUT), np.float64)[:, 0]
    return found.tolist()


def _packed(scores: Sequence[Sequence[float | None]]) -> str:
    return base64.b64encode(np.array(scores, "<f8").tobytes()).decode()


def _embedded(
    board: Leaderboard, keys: Sequence[str], pictures: Pictures
) -> tuple[dict[int, dict[str, str]], list[dict[int, str]], str]:
    """Choose images, the same for all results, and read their pictures as long as there is room, those of the best results first."""
    nothing: list[dict[int, str]] = [{} for _ in board.rows]
    if not pictures.count:
        return {}, nothing, ""
    found = [find_thumbnails(row.entry.file) if row.entry.file else {} for row in board.rows]
    having = [row.entry for row, some in zip(board.rows, found, strict=True) if some]
    known = [place for place, key in enumerate(keys) if any(key in some for some in found)]
    if not known:
        return {}, nothing, ""
    chosen = _spread(known, _gains(board, having, keys), pictures.count)
    shared: dict[int, dict[str, str]] = {}
    for place in chosen:
        for kind in SHARED:
            path = next((some[keys[place]][kind] for some in found if kind in some.get(keys[place], {})), None)
            if content := pictures.read(path):
                shared.setdefault(place, {})[kind] = content
    outputs = [
        {
            place: content
            for place in chosen
            if (content := pictures.read(some.get(keys[place], {}).get("output"))) is not None
        }
        for some in found
    ]
    shown = sum(map(bool, outputs))
    said = (
        f"This page holds pictures of {len(chosen)} of {len(keys)} images, from the worst to the best gain on the input, and of "
        f"{shown} of {len(board.rows)} results. The details are of the same place for every result."
    )
    if shown < len(having):
        said += f" Those of {len(having) - shown} more were left out to keep the page small."
    return shared, outputs, said


def _gains(board: Leaderboard, entries: Sequence[Entry], keys: Sequence[str]) -> np.ndarray:
    """Return by how much results are better than the input, image by image, their mean; without a score of the input how good they are."""
    column = board.ranked_by
    if column is None:
        return np.arange(len(keys))[::-1]
    scores = np.array([_scores(one, keys, [column]) for one in entries], np.float64)[..., 0]
    gains = np.nan_to_num(scores - np.nan_to_num(np.array(_inputs(board.entries, keys, [column]))[:, 0])).mean(0)
    return gains if column.endswith(HIGHER_IS_BETTER) else -gains


def _spread(known: Sequence[int], gains: np.ndarray, count: int) -> list[int]:
    """Return the worst, the best and others evenly between them."""
    ordered = sorted(known, key=lambda place: gains[place])
    places = np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int)
    return [ordered[place] for place in places]
