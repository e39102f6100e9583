"""Where numbers go: CSV files always, Weights & Biases online when there is a key, else offline."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.utilities import rank_zero_only

from dualpixel.running.wandb_access import has_key
from dualpixel.running.wandb_identity import choose_identity
from dualpixel.running.wandb_logger import RunLogger
from dualpixel.running.wandb_names import check_names, forget_empty_variables
from dualpixel.terminal import one_line, warn

WandbMode = Literal["auto", "online", "offline", "disabled"]
MOST_SAID = 300


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

    Raises:
        DualPixelError: a name or a mode that W&B would refuse. Nothing has begun then.
    """
    loggers: list[Logger] = [CSVLogger(str(folder), name="logs")]
    forget_empty_variables()
    mode = os.environ.get("WANDB_MODE", options.mode)
    if mode == "disabled" or command == "predict":
        return loggers
    arguments = {
        "project": options.project,
        "entity": options.entity,
        "group": options.group if options.group is not None else os.environ.get("WANDB_SWEEP_ID"),
        "job_type": options.job_type,
        "tags": options.tags,
    }
    check_names(arguments)
    _set_variables(folder)
    offline = (
        mode in ("offline", "dryrun") or rank_zero_only.rank > 0 or not _may_send()
    )  # the first process alone logs
    identity = choose_identity(folder, resumed)
    if arguments["job_type"] is None and not identity.continues:
        arguments["job_type"] = command
    arguments["name"] = folder.name
    beside = command != "fit" and identity.continues
    mode = "offline" if offline else "online"
    return [*loggers, RunLogger(identity, {command: config} if beside else config, mode, arguments)]


def how_to_sync(folder: Path) -> str | None:
    """Return the command that sends what was logged offline to the server, None where nothing is left to send.

    One command for all starts of a run: they are sent in the order of time, each continuing the history of the one before. (The
    option ``--append`` of older versions is gone; those replace the history by that of the last start.)
    """
    runs = Path(os.environ.get("WANDB_DIR") or folder) / "wandb"
    stored = [path for path in runs.glob("offline-run-*/run-*.wandb") if not path.with_suffix(".wandb.synced").exists()]
    return f"wandb sync {shlex.quote(str(runs))}" if stored else None


def _set_variables(folder: Path) -> None:
    """Set what W&B reads when it is first asked for anything, even for a key; what comes later is ignored, with a warning."""
    os.environ.setdefault("WANDB_SILENT", "true")  # its summary would bury ours
    # files of tables and artifacts lie in the user's home otherwise, where a cluster has little room
    beside = Path(os.environ.get("WANDB_DIR") or folder).resolve() / "wandb"
    os.environ.setdefault("WANDB_DATA_DIR", str(beside / "data"))
    os.environ.setdefault("WANDB_CACHE_DIR", str(beside / "cache"))


def _may_send() -> bool:
    """Return whether there is a key; one that cannot be used is a warning, not the end of a training."""
    try:
        return has_key()
    except Exception as error:  # of any kind: W&B reads all its variables and files before it looks for a key
        warn(f"{one_line(str(error))[:MOST_SAID]}; this run is logged offline")
        return False
