"""Results out of W&B: the result files of all runs of a project, checked like those of any folder.

What `dualpixel.evaluate.wandb_results` has put into a run is found by the keys ``result/.../file`` and ``.../sha256`` of its summary. The
scores of summaries are never read: they are only as good as who wrote them, while the file has to agree with its hash and with itself.

Assumed of W&B's client, of which 0.31.0 was tried, and of the answers that it hands on:

* ``wandb.Api(overrides=, timeout=)`` asks ``query Viewer`` once, to see whether the key is taken, and ``GetDefaultEntity`` before the
  first project. A server that cannot be reached is tried again until the timeout.
* ``api.runs(path, order=, per_page=, lazy=False)`` asks ``query Runs`` for ``project.runs``, a page at a time: the cursor of a page's
  last edge is the ``after`` of the next, as long as ``pageInfo.hasNextPage``. ``runCount`` is the length. ``project`` is null where there
  is none. Pages are kept by the `Api` object and nowhere else; another call of `runs_from_wandb` asks anew.
* A run is ``name`` (its id), ``displayName``, ``state`` and ``summaryMetrics``, a text of JSON with one level of keys, in which slashes
  are ordinary signs; another kind of JSON is an error of the client. A run of any state is read. One that is deleted is in no page; one
  that is deleted meanwhile has no files.
* ``run.files(names=[...])`` asks ``query RunFiles``; a file that is not there is in no edge, or has ``sizeBytes`` 0 or null.
* ``file.download(root=)`` gets ``url`` by HTTP, with the key where it is an address of the server itself only, and follows to the storage.
  It has no limit of time or size and tries again by itself; both limits are kept here.
* ``run.url`` is made by the client from the address of the server and the names.

The client makes an empty folder for each run in the folder for temporary files (or $WANDB_DIR), and sends measurements of itself to the
server.
"""

import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING, Any

from dualpixel.errors import DualPixelError
from dualpixel.evaluate.leaderboard.reading import collect
from dualpixel.evaluate.leaderboard.tables import Entry
from dualpixel.evaluate.wandb_results import FILE, RESULT_KEY, SHA256
from dualpixel.files import room_for, sha256
from dualpixel.running.wandb_access import in_words, is_name, sign_in, split_project
from dualpixel.terminal import one_line, progress

if TYPE_CHECKING:
    from wandb.apis.public import File, Run

PER_PAGE = 50
MOST_RUNS, MOST_RESULTS = 10_000, 1000
"""Runs of a project, the oldest first, and results of a run that are read."""
MOST_BYTES, MOST_SECONDS = 64 << 20, 120.0
"""Of one result file: a hundred times the largest that a test writes, and what its download may take."""
FILE_NAME = re.compile(r"results/[A-Za-z0-9_-]{1,200}/[A-Za-z0-9_-]{1,200}/result\.json")


def runs_from_wandb(project: str, folder: Path) -> tuple[list[Entry], list[str]]:
    """Fetch the results of a project.

    Args:
        project: ``ENTITY/PROJECT``.
        folder: result files are put below it, as ``ENTITY/PROJECT/RUN_ID/results/...``; those that are there already, with the hash
            that the run says, are not fetched again.

    Returns:
        The entries of a leaderboard, with the names of the runs in W&B (and their ids, where several have one name) and the addresses of
        their pages; and a line for each result that is left out.

    Raises:
        DualPixelError: no key, a key that is refused, no such project, a server that does not answer in time, with what can be read, or
            with an end.
    """
    entity, name = split_project(project)
    api = sign_in()
    runs: dict[Path, Run] = {}
    left_out: list[str] = []
    with in_words(f"read {project}"), progress() as bar:
        found = api.runs(project, order="+created_at", per_page=PER_PAGE, lazy=False)
        task = bar.add_task(f"runs of {one_line(project)}", total=len(found))
        for run in islice(found, MOST_RUNS):
            for file, expected in islice(_results(run), MOST_RESULTS):
                try:
                    runs[_fetch(run, file, expected, folder / entity / name)] = run
                except _LeftOut as error:
                    left_out.append(f"{project} run {one_line(str(run.id))}, {one_line(str(file))[:200]}: {error}")
            bar.advance(task)
        if len(found) > MOST_RUNS:
            left_out.append(f"{project}: {len(found)} runs, of which the first {MOST_RUNS} were read")
    entries, refused = collect(runs)
    of_name = Counter(_name(run) for run in {run.id: run for run in runs.values()}.values())
    return [_entry(one, runs[one.file], of_name) for one in entries], left_out + refused


class _LeftOut(Exception):
    """A result that cannot be had, while others may."""


def _results(run: "Run") -> Iterator[tuple[Any, Any]]:
    """Yield name and hash of the result files of a run, as its summary says, of whatever types."""
    summary = run.summary_metrics
    for key, name in sorted(summary.items()):
        if key.startswith(RESULT_KEY) and key.endswith(f"/{FILE}"):
            yield name, summary.get(key.removesuffix(FILE) + SHA256)


def _fetch(run: "Run", name: Any, expected: Any, folder: Path) -> Path:
    """Return the path of a result file that has the hash it should have."""
    if not is_name(run.id) or not isinstance(name, str) or not FILE_NAME.fullmatch(name):
        raise _LeftOut("not the name of a result file")
    path = folder / run.id / name
    if path.is_file() and sha256(path) == expected:
        return path
    file = next((one for one in run.files(names=[name], per_page=1) if one.name == name), None)
    if file is None or not file.size:
        raise _LeftOut(f"the {run.state} run has no such file; `wandb sync` or `test` brings it")
    if file.size > MOST_BYTES:
        raise _LeftOut(f"{file.size} bytes are too many for a result")
    folder.mkdir(parents=True, exist_ok=True)
    with room_for(path), TemporaryDirectory(dir=folder, prefix=".", ignore_cleanup_errors=True) as beside:
        _download(file, Path(beside))
        found = sha256(Path(beside) / name)
        if found != expected:
            raise _LeftOut(f"its SHA-256 is {found[:12]}... and not {str(expected)[:12]!a}...; run `test` again")
        path.parent.mkdir(parents=True, exist_ok=True)
        (Path(beside) / name).replace(path)
    return path


def _download(file: "File", folder: Path) -> None:
    """Let the client download a file, within `MOST_SECONDS` and `MOST_BYTES`; what it does beyond them ends with the process."""
    failed: list[Exception] = []

    def fetch() -> None:
        try:
            file.download(root=str(folder), replace=True).close()
        except Exception as error:
            failed.append(error)

    worker = Thread(target=fetch, daemon=True)
    worker.start()
    until, path = time.monotonic() + MOST_SECONDS, folder / file.name
    while worker.is_alive():
        worker.join(0.1)
        if time.monotonic() > until or (path.is_file() and path.stat().st_size > MOST_BYTES):
            raise DualPixelError(
                f"W&B: {file.name} was to have {file.size} bytes and has no end, or did not come within {MOST_SECONDS:g} s; try again later"
            )
    if failed:
        raise _LeftOut(f"could not be downloaded ({one_line(str(failed[0]))[:200]})")


def _name(run: "Run") -> str:
    return one_line(str(run.name or run.id))


def _entry(entry: Entry, run: "Run", of_name: Counter[str]) -> Entry:
    name = _name(run)
    return replace(entry, run=f"{name} ({run.id})" if of_name[name] > 1 else name, link=run.url)
