"""Where numbers go: CSV files always, Weights & Biases online when there is a key, else offline."""

import netrc
import os
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from dualpixel.files import atomic

WandbMode = Literal["auto", "online", "offline", "disabled"]


def make_loggers(folder: Path, config: dict[str, Any], mode: WandbMode, project: str) -> list[Logger]:
    """Make the loggers of a run.

    Args:
        folder: the run's folder. CSV files go to ``logs/version_N``, one for each start, so that no start overwrites another.
        config: the resolved configuration, stored with the W&B run.
        mode: "auto" logs online when a key is found (WANDB_API_KEY or netrc), else offline; WANDB_MODE decides where it is set.
        project: the W&B project.
    """
    loggers: list[Logger] = [CSVLogger(str(folder), name="logs")]
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")
    if mode == "disabled":
        return loggers
    os.environ.setdefault("WANDB_SILENT", "true")  # its summary would bury ours
    identity = _identity(folder)
    wandb = WandbLogger(
        name=folder.name,
        save_dir=str(folder),
        project=project,
        id=identity,
        resume="allow",
        offline=mode == "offline",
        config=config,
    )
    return [*loggers, wandb]


def how_to_sync(folder: Path) -> str | None:
    """Return the command that sends the offline W&B runs of a folder to the server, None where there are none."""
    runs = folder / "wandb"
    return f"wandb sync {runs}/offline-run-*" if any(runs.glob("offline-run-*")) else None


def _identity(folder: Path) -> str:
    """One W&B run for one folder, however often it is resumed."""
    path = folder / "wandb-id.txt"
    if path.is_file():
        return path.read_text().strip()
    identity = os.urandom(4).hex()
    if rank_zero_only.rank == 0:
        with atomic(path) as beside:
            beside.write_text(identity)
    return identity


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False
