"""A leaderboard as tables of cells, and what must be known beside them, for whatever shows one."""

import hashlib
from collections.abc import Callable, Iterable, Sequence

from dualpixel.evaluate.columns import IMAGE_METRICS
from dualpixel.evaluate.grids import Cell, Grid
from dualpixel.evaluate.leaderboard.cells import (
    COSTS,
    VIEWS,
    comparison_cells,
    cost_cells,
    device,
    heading,
    input_cells,
    name_cells,
    printed_cells,
    rank_cell,
    score_cells,
    source,
)
from dualpixel.evaluate.leaderboard.tables import Leaderboard, settings_of
from dualpixel.evaluate.protocols import PROTOCOLS
from dualpixel.evaluate.published import PublishedRow
from dualpixel.evaluate.statistics import RESAMPLES, SEED
from dualpixel.metrics.per_image import OVERALL
from dualpixel.terminal import one_line

NUMERIC = ("rank", "parameters", "MACs", "time", "parameters (M)")
MOST_NAMES = 8
"""How many runs a sentence lists."""
INTERVALS = (
    "Scores are means over images, the best of a column in bold. In brackets: 95 % of the means of as many images drawn anew from the "
    f"same ones (percentile bootstrap, {RESAMPLES:,} draws, seed {SEED}), which is too narrow for fewer than about 20 images; how scores "
    "change when a network is trained again it does not say. Images count as independent: of frames of one video, or several images of "
    "one scene (rdpd, lfdof, quickstart), intervals and p are too sure. Results of different tables are not comparable."
)
COMPARED = (
    "Differences are the row's mean minus that of {}, image by image, with the same kind of interval; p is two-sided, of the sign-flip "
    "permutation test, and not corrected for the number of rows."
)


TELL_APART: tuple[Callable[[Leaderboard], str], ...] = (
    lambda board: f"{len(board.about.rows)} image{'s' * (len(board.about.rows) > 1)}",
    lambda board: "all of the split" if board.about.complete else "a part of the split",
    lambda board: f"data {one_line(board.about.fingerprint)}",
    lambda board: f"version {one_line(board.about.dataset_version)}",
    lambda board: f"settings {_short_hash(settings_of(board.about))}",
)
"""What may stand behind the titles of tables that are about the same, in words."""


def title(board: Leaderboard) -> str:
    """Return what a table is about."""
    about = board.about
    return f"{one_line(about.dataset)} {one_line(about.split)}, protocol {one_line(about.protocol)}"


def titles(boards: Sequence[Leaderboard]) -> list[str]:
    """Return what tables are about; behind a title that several have stands what tells them apart."""
    found = []
    names = [title(board) for board in boards]
    for board, name in zip(boards, names, strict=True):
        alike = [other for other, one in zip(boards, names, strict=True) if one == name]
        told = [say(board) for say in TELL_APART if len({say(other) for other in alike}) > 1]
        found.append(", ".join([name, *told]))
    return [
        f"{name} ({found[:place].count(name) + 1})" if found.count(name) > 1 else name
        for place, name in enumerate(found)
    ]


def facts(board: Leaderboard) -> list[str]:
    """Return what must be known beside the table, in sentences."""
    hidden = ", ".join(f"{number} of {one_line(protocol)}" for protocol, number in board.not_shown.items())
    said = f"Published rows on {one_line(board.about.dataset)} that are not shown here: {hidden}."
    return [*measured_facts(board), *[said] * bool(hidden)]


def measured_facts(board: Leaderboard) -> list[str]:
    """Return what must be known of the results, in sentences."""
    about = board.about
    groups = ", ".join(f"{count} {one_line(group)}" for group, count in board.groups.items())
    count = f"{len(about.rows)} image{'s' if len(about.rows) > 1 else ''}{f' ({groups})' if groups else ''}"
    said = [f"Data {one_line(about.fingerprint)}, {count}. Protocol: {one_line(about.protocol_description)}".strip()]
    if not about.complete:
        said.append("These are not all images of the split.")
    others = [
        row.entry.run for row in board.rows if row.entry.result.protocol_description != about.protocol_description
    ]
    if others:
        said.append(f"The protocol was described in other words in: {_listed(others)}.")
    said += [f"{heading(name)} was not measured." for name in _unmeasured(board)]
    apart = board.other_inputs
    if apart:
        said.append(
            f"The scores of the unprocessed input must agree and do not, image by image, between: {_listed(apart)}. The images, or how "
            "they were compared, cannot be the same."
        )
    on_devices = _on_devices(board)
    if on_devices:
        said.append(f"Time is that of one image, the median, the recipe's forward pass alone, on {on_devices}.")
    return said


def main_columns(board: Leaderboard) -> list[str]:
    """Return the scores without those of views and of coarse maps, unless there are no others."""
    return [name for name in board.columns if not name.startswith(VIEWS)] or board.columns


def summary(board: Leaderboard) -> Grid:
    """Return the ranking as it fits on a terminal: the main scores, and of the costs the parameters."""
    whole = ranking(board)
    shown = {
        "rank",
        "recipe",
        "run",
        *score_headings(main_columns(board), board.ranked_by),
        *comparison_headings(board),
        COSTS[0],
    }
    places = [place for place, name in enumerate(whole.headings) if name in shown]
    numeric = frozenset(new for new, place in enumerate(places) if place in whole.numeric)
    rows = [[row[place] for place in places] for row in whole.rows]
    return Grid(whole.title, [whole.headings[place] for place in places], rows, numeric)


def ranking(board: Leaderboard) -> Grid:
    """Return the ranked results, and the unprocessed input below them."""
    columns = board.columns
    compared = comparison_headings(board)
    scores = score_headings(columns, board.ranked_by)
    rows = []
    for row, cells in zip(board.rows, score_cells(board, OVERALL, columns), strict=True):
        beside = comparison_cells(row, board.ranked_by) if board.against else []
        rows.append([rank_cell(row), *name_cells(row), *cells, *beside, *cost_cells(row)])
    if OVERALL in board.inputs:
        unranked = [Cell("–"), Cell("unprocessed input"), Cell()]
        rows.append([*unranked, *input_cells(board, OVERALL, columns), *[Cell()] * (len(compared) + len(COSTS))])
    headings = ["rank", "recipe", "run", *scores, *compared, *COSTS]
    return Grid(title(board), headings, rows, _numeric(headings, [*scores, *compared]))


def group_means(board: Leaderboard, group: str) -> Grid:
    """Return the means of one group, in the order of the ranking."""
    scores = score_headings(board.columns)
    table = score_cells(board, group, board.columns)
    rows = [[*name_cells(row), *cells] for row, cells in zip(board.rows, table, strict=True)]
    if group in board.inputs:
        rows.append([Cell("unprocessed input"), Cell(), *input_cells(board, group, board.columns)])
    headings = ["recipe", "run", *scores]
    return Grid(f"{one_line(group)}, {board.groups[group]} images", headings, rows, _numeric(headings, scores))


def published(board: Leaderboard, group: str = OVERALL, columns: Sequence[str] | None = None) -> Grid:
    """Return what papers print, in their digits and our units; of a group the rows that have it.

    Args:
        board: the table.
        group: of the images.
        columns: the scores that are shown; by default those of the results, and behind them those that papers alone have.
    """
    columns = [*board.columns, *board.printed_columns] if columns is None else columns
    scores = score_headings(columns)
    rows = [
        [
            Cell(row.method),
            Cell(source(row)),
            *printed_cells(row, group, columns),
            Cell(row.printed.parameters_millions or ""),
        ]
        for row in board.published
        if {*columns} & {*row.scores.get(group, {})}
    ]
    headings = ["method", "source", *scores, "parameters (M)"]
    what = "published" if group == OVERALL else f"published, {group}"
    return Grid(f"{what}: not measured here, not ranked", headings, rows, _numeric(headings, scores))


def printed_groups(rows: Iterable[PublishedRow]) -> list[str]:
    """Return the groups that published rows have scores of."""
    return [*dict.fromkeys(group for row in rows for group in row.scores if group != OVERALL)]


def doubts(board: Leaderboard) -> list[str]:
    """Return what speaks against published rows of the table."""
    return [f"{row.method} ({row.citation}): {row.doubt}" for row in board.published if row.doubt]


def score_headings(columns: Sequence[str], ranked_by: str | None = None) -> list[str]:
    """Return what stands above scores, and above the one with intervals that it has them."""
    return [heading(name) + (" (95 %)" if name == ranked_by else "") for name in columns]


def comparison_headings(board: Leaderboard) -> list[str]:
    """Return what stands above the comparison with one result; nothing where there is none."""
    return [f"against {one_line(board.against.run)}", "p"] if board.against else []


def _short_hash(settings: str) -> str:
    return hashlib.sha256(settings.encode()).hexdigest()[:8] if settings else "not known"


def _unmeasured(board: Leaderboard) -> list[str]:
    """Name the metrics of the protocol that no result has a score in."""
    settings = board.about.protocol_settings
    if settings is not None:
        named = settings.get("metrics")
    else:
        named = PROTOCOLS[board.about.protocol].metrics if board.about.protocol in PROTOCOLS else ()
    known = [name for name in IMAGE_METRICS if isinstance(named, list | tuple) and name in named]
    return [name for name in known if not any(column.endswith(name) for column in board.columns)]


def _on_devices(board: Leaderboard) -> str:
    """Name what the times were taken on, and whose, where they were not all taken on the same."""
    runs: dict[str, list[str]] = {}
    for row in board.rows:
        if row.entry.result.seconds is not None:
            runs.setdefault(device(row.entry.result), []).append(row.entry.run)
    if len(runs) < 2:
        return "".join(runs)
    return ", ".join(f"{name} ({_listed(names)})" for name, names in runs.items())


def _listed(runs: Sequence[str]) -> str:
    more = f" and {len(runs) - MOST_NAMES} more" if len(runs) > MOST_NAMES else ""
    return ", ".join(map(one_line, runs[:MOST_NAMES])) + more


def _numeric(headings: Sequence[str], scores: Sequence[str]) -> frozenset[int]:
    return frozenset(place for place, name in enumerate(headings) if name in NUMERIC or name in scores)
