"""A leaderboard as tables of cells, and what must be known beside them, for whatever shows one."""

from collections.abc import Iterable, Sequence

from dualpixel.evaluate.grids import Cell, Grid
from dualpixel.evaluate.leaderboard.cells import (
    COSTS,
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
from dualpixel.evaluate.leaderboard.tables import Leaderboard
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
    "change when a network is trained again it does not say. Results of different tables are not comparable."
)
COMPARED = (
    "Differences are the row's mean minus that of {}, image by image, with the same kind of interval; p is two-sided, of the sign-flip "
    "permutation test, and not corrected for the number of rows."
)


def title(board: Leaderboard) -> str:
    """Return what a table is about."""
    about = board.about
    return f"{one_line(about.dataset)} {one_line(about.split)}, protocol {one_line(about.protocol)}"


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
    said = [f"Data {one_line(about.fingerprint)}, {count}. {one_line(about.protocol_description)}".strip()]
    if not about.complete:
        said.append("These are not all images of the split.")
    others = [
        row.entry.run for row in board.rows if row.entry.result.protocol_description != about.protocol_description
    ]
    if others:
        said.append(f"The protocol was described in other words in: {_listed(others)}.")
    on_devices = _on_devices(board)
    if on_devices:
        said.append(f"Time is that of one image, the median, the recipe's forward pass alone, on {on_devices}.")
    return said


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


def published(board: Leaderboard, group: str = OVERALL) -> Grid:
    """Return what papers print, in their digits and our units; of a group the rows that have it."""
    scores = score_headings(board.columns)
    rows = [
        [
            Cell(row.method),
            Cell(source(row)),
            *printed_cells(row, group, board.columns),
            Cell(row.printed.parameters_millions or ""),
        ]
        for row in board.published
        if {*board.columns} & {*row.scores.get(group, {})}
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
