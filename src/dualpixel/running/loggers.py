"""Where numbers go: CSV files always, Weights & Biases online when there is a key, else offline."""

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import CSVLogger, Logger

from dualpixel.errors import DualPixelError
from dualpixel.running.wandb_access import has_key
from dualpixel.running.wandb_identity import choose_identity
from dualpixel.running.wandb_logger import RunLogger

WandbMode = Literal["auto", "online", "offline", "disabled"]


@dataclass(frozen=True)
class WandbOptions:
    """How a run is logged in Weights & Biases. The variables WANDB_MODE, WANDB_PROJECT ... win over these.

    Args:
        mode: "auto" logs online when a key is found, else offline; "online" without a key is offline, too.
        project: the project.
        entity: whose project; by default that of the key.
        group: runs that belong together; in a sweep by default the sweep.
        job_type: what kind of run it is; by default the command that began it.
        tags: any words.
        log_best: keep the best checkpoint of a training as an artifact of type "model".
    """

    mode: WandbMode = "auto"
    project: str = "dualpixel"
    entity: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: list[str] | None = None
    log_best: bool = False


def make_loggers(
    folder: Path, config: dict[str, Any], options: WandbOptions, command: str = "fit", resumed: str | None = None
) -> list[Logger]:
    """Make the loggers of a run. `predict` measures nothing and is no run of W&B.

    A command that goes on with a W&B run keeps its job type; other ones than `fit` put their configuration below their name there, so
    that the training's own stays.

    Args:
        folder: the run's folder. CSV files go to ``logs/version_N``, one for each start, so that no start overwrites another.
        config: the resolved configuration, stored with the W&B run.
        options: see there.
        command: fit, validate, test or predict.
        resumed: the checkpoint whose training goes on.
    """
    loggers: list[Logger] = [CSVLogger(str(folder), name="logs")]
    mode = os.environ.get("WANDB_MODE") or options.mode
    if mode == "disabled" or command == "predict":
        return loggers
    if mode not in ("offline", "dryrun"):
        mode = "online" if _may_send() else "offline"
    os.environ.setdefault("WANDB_SILENT", "true")  # its summary would bury ours
    identity = choose_identity(folder, resumed)
    arguments = {
        "name": folder.name,
        "project": options.project,
        "entity": options.entity,
        "group": options.group or os.environ.get("WANDB_SWEEP_ID"),
        "job_type": options.job_type or (None if identity.continues else command),
        "tags": options.tags,
    }
    beside = command != "fit" and identity.continues
    mode = "offline" if mode == "dryrun" else mode
    return [*loggers, RunLogger(identity, {command: config} if beside else config, mode, arguments)]


def how_to_sync(folder: Path) -> str | None:
    """Return the command that sends what was logged offline to the server, None where nothing is left to send.

    One command for all starts of a run: they are sent in the order of time, each continuing the history of the one before. (The
    option ``--append`` of older versions is gone; those replace the history by that of the last start.)
    """
    runs = Path(os.environ.get("WANDB_DIR") or folder) / "wandb"
    stored = [path for path in runs.glob("offline-run-*/run-*.wandb") if not path.with_suffix(".wandb.synced").exists()]
    return f"wandb sync {shlex.quote(str(runs))}" if stored else None


def _may_send() -> bool:
    """Return whether there is a key; one that cannot be used is a warning, not the end of a training."""
    try:
        return has_key()
    except DualPixelError as error:
        print(f"warning: {error}; this run is logged offline", file=sys.stderr, flush=True)
        return False
