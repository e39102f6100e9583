"""Leaderboards as one HTML file that needs nothing else: no network, no server, no other file.

The page's text, style and programs are the files of the folder ``page`` beside this one. The results stand in the page as JSON, which no
browser executes, and the programs put them into the document as text. A content security policy with the hashes of our own style and
program lets nothing else run, whatever the results hold.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dualpixel import __version__
from dualpixel.evaluate.leaderboard.grids import COMPARED, INTERVALS, titles
from dualpixel.evaluate.leaderboard.page_boards import measured_board, unmeasured_board
from dualpixel.evaluate.leaderboard.page_images import Pictures, image_data
from dualpixel.evaluate.leaderboard.printed import published_boards
from dualpixel.evaluate.leaderboard.tables import Leaderboard
from dualpixel.evaluate.result import now
from dualpixel.terminal import one_line

ASSETS = Path(__file__).parent / "page_files"
PROGRAMS = ("elements", "theme", "table", "images", "plot", "filters", "board", "start")
"""Files of `ASSETS` in the order in which they stand in the page, one program together."""


def page(boards: Sequence[Leaderboard], left_out: Sequence[str] = (), thumbnails: int = 0) -> str:
    """Render tables as one HTML page: those of results, then those of published rows alone.

    Args:
        boards: the tables.
        left_out: lines about results that are in none of them.
        thumbnails: of how many images of each table pictures are put into the page; 0 for none.
    """
    content = _json(_data(boards, left_out, thumbnails))
    style = (ASSETS / "page.css").read_text(encoding="utf-8")
    program = '"use strict";\n' + "\n".join((ASSETS / f"{name}.js").read_text(encoding="utf-8") for name in PROGRAMS)
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(program)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {"policy": policy, "style": style, "program": program, "content": content}
    made = (ASSETS / "page.html").read_text(encoding="utf-8")
    for name, part in parts.items():  # the content last, in which nothing is looked for any more
        made = made.replace(f"{{{{{name}}}}}", part, 1)
    return made


def _data(boards: Sequence[Leaderboard], left_out: Sequence[str], thumbnails: int) -> dict[str, Any]:
    pictures = Pictures(thumbnails)
    tables = []
    for board, name in zip(boards, titles(boards), strict=True):
        table = measured_board(board) | {"title": name}
        table["images"], of_rows = image_data(board, pictures)
        for row, details in zip(table["rows"], of_rows, strict=False):  # the results come first
            row.update(details)
        tables.append(table)
    tables += map(unmeasured_board, published_boards(boards))
    bases = [board.against.run for board in boards if board.against]
    count = sum(len(board.entries) for board in boards)
    return {
        "made": f"{count} results, by dualpixel {__version__}, {now()}",
        "notes": [INTERVALS, *(COMPARED.format(one_line(base)) for base in bases[:1])],
        "left_out": [one_line(line) for line in left_out],
        "boards": tables,
    }


def _json(content: Any) -> str:
    """Return JSON that ends no element and begins none, in ASCII."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
