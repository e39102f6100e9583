"""Leaderboards into W&B: a run of its own, with a table for each board and the files of the whole as an artifact."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dualpixel.errors import DualPixelError
from dualpixel.evaluate.leaderboard.cells import (
    COSTS,
    cost_cells,
    heading,
    input_cells,
    name_cells,
    printed_cells,
    score_cells,
    source,
)
from dualpixel.evaluate.leaderboard.grids import NUMERIC, doubts, facts, titles
from dualpixel.evaluate.leaderboard.tables import Leaderboard, Row
from dualpixel.evaluate.published import PublishedRow
from dualpixel.metrics.per_image import OVERALL
from dualpixel.running.wandb_access import base_url, has_key, split_project
from dualpixel.running.wandb_logger import SETTINGS
from dualpixel.terminal import one_line

if TYPE_CHECKING:
    from wandb import Run, Table

LEADERBOARD = "leaderboard"
"""Job type of the run, name and type of the artifact, and what the keys of the tables begin with."""
SYNC_SECONDS = 300.0
"""What it may take to send the run."""
MOST_GROUPS = 20
"""Groups that have columns in a table."""
Values = dict[str, str | float | None]


def publish(boards: Sequence[Leaderboard], files: Sequence[Path], project: str, mode: str | None = None) -> str:
    """Put leaderboards into a new run of W&B, which ends at once; no other run is touched, and nothing is asked.

    The run is written offline, into ``wandb/`` of the current folder (or of $WANDB_DIR), and sent by `wandb sync` in a process of its
    own: the end of an online run waits for its uploads without a limit (so does 0.31.0 with a ``finish_timeout``), a process can be ended.

    Args:
        boards: each becomes a table ``leaderboard/DATASET-SPLIT/PROTOCOL``, with numbers as numbers: measured rows, the unprocessed
            input, and published rows, as its column "kind" says. What must be known beside it stands in the configuration of the run.
        files: the leaderboard as Markdown, HTML ..., kept in an artifact of type "leaderboard". They are not shown on the page of the
            run as well: a page of ours may be large, and is made to be opened in a browser.
        project: ``ENTITY/PROJECT``.
        mode: "online" or "offline"; by default $WANDB_MODE, else online where there is a key.

    Returns:
        The address of the run's page; offline that nothing was sent, and why, and the command that sends it, and nothing else that may
        lie beside it.

    Raises:
        DualPixelError: no such mode, a file that is not there, or a server that does not take the run.
    """
    entity, name = split_project(project)
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise DualPixelError(f"{missing[0]}: no such file to publish")
    os.environ.setdefault("WANDB_SILENT", "true")
    offline = why_offline(mode)
    # else W&B keeps the files of artifacts that are not sent yet in the user's home
    os.environ.setdefault("WANDB_DATA_DIR", str(Path(os.environ.get("WANDB_DIR") or ".").resolve() / "wandb" / "data"))
    import wandb

    others = wandb.run is not None
    try:
        run = wandb.init(
            entity=entity, project=name, name=LEADERBOARD, job_type=LEADERBOARD, mode="offline", settings=wandb.Settings(**SETTINGS),
            id=os.urandom(4).hex(), resume="never", reinit="create_new",
        )  # fmt: skip
        try:
            _log(run, boards, files)
        finally:
            run.finish()
    finally:
        if not others:  # ends its process and its threads
            wandb.teardown()
    folder = Path(run.dir).parent
    if offline:
        return f"nothing was sent to W&B: {offline}. This sends it:\nwandb sync {shlex.quote(str(folder))}"
    _send(folder)
    return f"{wandb.Settings(base_url=base_url()).app_url}/{quote(entity)}/{quote(name)}/runs/{run.id}"


def table_rows(board: Leaderboard) -> list[Values]:
    """Return the rows of a board as plain values by the names of their columns; what is not known is None or not there."""
    groups = [OVERALL, *list(board.groups)[:MOST_GROUPS]]
    scores = {group: score_cells(board, group, board.columns) for group in groups}
    rows = []
    for place, row in enumerate(board.rows):
        of_groups = {group: [cell.value for cell in scores[group][place]] for group in groups}
        rows.append(_names(row) | _columns(board, of_groups) | _beside(board, row))
    if OVERALL in board.inputs:
        of_groups = {group: [cell.value for cell in input_cells(board, group, board.columns)] for group in groups}
        rows.append({"kind": "unprocessed input"} | _columns(board, of_groups))
    return rows + [_published(board, one, groups) for one in board.published]


def _log(run: "Run", boards: Sequence[Leaderboard], files: Sequence[Path]) -> None:
    from wandb import Artifact

    tables: dict[str, Any] = {}
    for board, title in zip(boards, titles(boards), strict=True):
        key = _key(board, tables)
        tables[key] = _table(table_rows(board))
        run.config.update({key: {"title": title, "facts": facts(board), "doubtful": doubts(board)}})
    run.log(tables)
    artifact = Artifact(LEADERBOARD, type=LEADERBOARD, metadata={"boards": list(tables)})
    for place, file in enumerate(files):
        taken = any(one.name == file.name for one in files[:place])
        artifact.add_file(str(file), name=f"{place}-{file.name}" if taken else file.name)
    run.log_artifact(artifact)


def _table(rows: Sequence[Values]) -> "Table":
    from wandb import Table

    columns = list(dict.fromkeys(name for row in rows for name in row))
    return Table(columns=columns, data=[[row.get(name) for name in columns] for row in rows])


def _key(board: Leaderboard, taken: dict[str, Any]) -> str:
    """Return the key of a table, which becomes part of paths; boards that differ in the images alone are numbered."""
    about = board.about
    parts = [re.sub(r"[^A-Za-z0-9_-]", "-", part)[:60] for part in (f"{about.dataset}-{about.split}", about.protocol)]
    key = "/".join([LEADERBOARD, *parts])
    number = sum(one == key or one.startswith(f"{key} ") for one in taken)
    return f"{key} {number + 1}" if number else key


def _names(row: Row) -> Values:
    recipe, run = (cell.text for cell in name_cells(row))
    return {"kind": "measured", "rank": row.rank, "recipe": recipe, "run": run, "page": row.entry.link, "source": None}


def _columns(board: Leaderboard, of_groups: dict[str, list[float | None]]) -> Values:
    """Name the scores; those of a group have its name behind theirs."""
    return {
        heading(name) + ("" if group == OVERALL else f", {one_line(group)}"): value
        for group, values in of_groups.items()
        for name, value in zip(board.columns, values, strict=True)
    }


def _beside(board: Leaderboard, row: Row) -> Values:
    """Return interval, comparison and costs."""
    low, high = row.interval or (None, None)
    found: Values = {"95 % from": low, "95 % to": high}
    if board.against:
        one = row.comparison
        found[f"against {one_line(board.against.run)}"] = one.difference if one else None
        found["p"] = one.p_value if one else None
    costs = zip(COSTS, cost_cells(row), strict=True)
    return found | {name: cell.value if name in NUMERIC else cell.text for name, cell in costs}


def _published(board: Leaderboard, row: PublishedRow, groups: Sequence[str]) -> Values:
    of_groups = {group: [cell.value for cell in printed_cells(row, group, board.columns)] for group in groups}
    millions = row.printed.parameters_millions
    found: Values = {"kind": "published", "recipe": row.method, "source": source(row)} | _columns(board, of_groups)
    return found | {"parameters": float(millions) * 1e6 if millions else None}


def why_offline(mode: str | None = None) -> str | None:
    """Return why a leaderboard would not be sent; None where it would be.

    Args:
        mode: as `publish` takes it.

    Raises:
        DualPixelError: no such mode, or no key for an online one.
    """
    said = mode or os.environ.get("WANDB_MODE")
    if not said and not has_key():
        return f"there is no key for {base_url()}"
    mode = said or "online"
    if mode not in ("online", "offline", "dryrun"):
        raise DualPixelError(f"W&B mode {mode!a}: a leaderboard is published online or offline; set WANDB_MODE so")
    if mode == "online" and not has_key():
        raise DualPixelError("no key for W&B: set WANDB_API_KEY, run `wandb login`, or set WANDB_MODE=offline")
    return None if mode == "online" else f"the mode is {mode}"


def _send(folder: Path) -> None:
    """Send an offline run, within `SYNC_SECONDS`."""
    command = [sys.executable, "-m", "wandb", "sync", str(folder)]
    environment = {**os.environ, "WANDB_BASE_URL": base_url(), "WANDB_SILENT": "false"}
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=SYNC_SECONDS)
        lines = [one_line(line) for line in output.decode(errors="replace").splitlines() if line.strip()]
        sent = any(folder.glob("*.synced"))  # the exit status is 0 in any case
        said = "" if sent else (lines or ["no reason given"])[-1]
    except subprocess.TimeoutExpired:
        said = f"not within {SYNC_SECONDS:g} s"
    finally:
        with suppress(ProcessLookupError):  # with the process that it has begun
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if said:
        raise DualPixelError(
            f"W&B at {base_url()}: the leaderboard could not be sent ({said[:200]}); send it by `wandb sync {shlex.quote(str(folder))}`"
        )
