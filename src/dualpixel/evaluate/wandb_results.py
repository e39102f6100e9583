"""Results in W&B: what a test measured, beside what its run logged, so that tables of runs can be made on its pages.

Of every result stands in the summary of the run, below ``result/DATASET-SPLIT/PROTOCOL/``: the overall means by the names of their
columns, those of a group as ``GROUP/psnr``, what they belong to (`FACTS`), the name of the result file among the files of the run
(``file``) and its SHA-256, and a table with one row per image (``images``). Summaries are for looking at and for sorting; leaderboards
are made of the files (`dualpixel.evaluate.leaderboard.wandb_runs`).
"""

import glob
import math
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import WandbLogger

from dualpixel.evaluate.result import Result, result_path
from dualpixel.evaluate.thumbnails import find_thumbnails
from dualpixel.files import atomic, sha256
from dualpixel.metrics.per_image import OVERALL
from dualpixel.terminal import one_line

if TYPE_CHECKING:  # W&B is imported only where there is a run of it
    from wandb import Table

RESULT_KEY = "result/"
FACTS = ("fingerprint", "weights_sha256", "parameters", "macs", "seconds")
FILE, SHA256, IMAGES = "file", "sha256", "images"
PICTURES = ("input", "output", "target")
"""Kinds of thumbnails that stand in the table."""
MOST_PICTURES = 100
"""Images of which the table has thumbnails, the first ones."""


def log_result(trainer: Trainer, result: Result, path: Path) -> None:
    """Put a result into the W&B run of a trainer; nothing happens without one, or on another process than the first.

    What W&B does not take is a warning: a table asks the server, which may be gone by the end of a long training.

    What an earlier test on the same split by the same protocol has left in the summary is replaced. The file is copied to the
    files of the W&B run, not linked: it stays what its hash says when the test is run again, and where an offline run is moved to.
    (The table of images is an artifact as well, whose files W&B finds by absolute paths: only what is not moved brings it along.)

    Args:
        trainer: of the test.
        result: what it measured.
        path: where the result file lies, below the run's folder as `dualpixel.evaluate.result.result_path` says.
    """
    if not trainer.is_global_zero:
        return
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger) and not logger.experiment.disabled:
            try:
                _log(logger, result, path, trainer.global_step)
            except Exception as error:  # whatever it is, the result is written, and the run goes on
                said = one_line(f"{type(error).__name__}: {error}")[:300]
                print(f"warning: the result could not be logged to W&B: {said}", file=sys.stderr, flush=True)


def result_prefix(result: Result) -> str:
    """Return what the keys of a result begin with."""
    return f"{RESULT_KEY}{result.dataset}-{result.split}/{result.protocol}/"


def summary_of(result: Result) -> dict[str, Any]:
    """Return the summary's keys without their prefix, and plain values: what is not known, or not finite, is left out."""
    means = {
        (column if group == OVERALL else f"{one_line(group)}/{column}"): value
        for group, values in result.means.items()
        if group == OVERALL or values != result.means[OVERALL]  # the only group would repeat it
        for column, value in values.items()
    }
    known = {name: value for name, value in means.items() if _is_number(value)}
    facts = {name: getattr(result, name) for name in FACTS}
    return known | {name: value for name, value in facts.items() if value is not None}


def _log(logger: WandbLogger, result: Result, path: Path, step: int) -> None:
    run = logger.experiment
    prefix, name = result_prefix(result), result_path(Path(), result.dataset, result.split, result.protocol)
    copy = Path(run.dir) / name
    with atomic(copy) as beside:
        shutil.copyfile(path, beside)
    run.save(glob.escape(str(copy)), base_path=glob.escape(run.dir), policy="now")
    values = summary_of(result) | {FILE: name.as_posix(), SHA256: sha256(copy)}
    kept = {prefix + name for name in values}
    known = list(run.summary.keys())  # it is no mapping, and cannot be iterated
    for key in (key for key in known if key.startswith(prefix) and key not in kept):
        del run.summary[key]
    run.summary.update({prefix + name: value for name, value in values.items()})
    logger.log_metrics({prefix + IMAGES: _table(result, path)}, step)


def _table(result: Result, path: Path) -> "Table":
    from wandb import Image, Table

    thumbnails = find_thumbnails(path)
    pictures = PICTURES if thumbnails else ()
    scores = list(dict.fromkeys(name for row in result.rows for name in row if name not in ("key", "group")))
    table = Table(columns=["key", "group", *pictures, *scores])
    for place, row in enumerate(result.rows):
        files = thumbnails.get(row["key"], {}) if place < MOST_PICTURES else {}
        shown = [Image(str(files[kind])) if kind in files else None for kind in pictures]
        numbers = [row.get(name) if _is_number(row.get(name)) else None for name in scores]
        table.add_data(one_line(row["key"]), one_line(row["group"]), *shown, *numbers)
    return table


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
