"""The folder of a run, `runs/RUN`: everything one run leaves behind lies in it."""

import os
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from dualpixel.errors import DualPixelError

CHECKPOINTS = "checkpoints"
LAST, BEST = "last.ckpt", "best.ckpt"
CHOSEN = "DUALPIXEL_RUN_FOLDER"
JOB = ("SLURM_JOB_ID", "TORCHELASTIC_RUN_ID")
SWEEP_RUN = "WANDB_RUN_ID"


def choose_folder(root: Path, name: str | None, default: str, checkpoint: Path | None) -> Path:
    """Choose the folder of a run.

    Args:
        root: folder of all runs.
        name: a name the user gave: the folder is taken, new or not.
        default: name to number where the user gave none.
        checkpoint: a checkpoint that is resumed or scored; when it lies in a run's folder, the run goes on there.

    Returns:
        The folder; it need not exist yet. Processes that this one starts choose the same.

    Raises:
        DualPixelError: torchrun has started the job again, and nothing says which folder was the job's.
    """
    if CHOSEN in os.environ and "LOCAL_RANK" in os.environ:  # a process started by the first one of a multi-process run
        return Path(os.environ[CHOSEN])
    if name:
        folder = root / name
    elif checkpoint is not None and checkpoint.parent.name == CHECKPOINTS:
        folder = checkpoint.parent.parent
    else:
        job = next((os.environ[key] for key in _jobs() if os.environ.get(key, "none") != "none"), None)
        if job is None and _restarts("TORCHELASTIC_RESTART_COUNT"):
            raise DualPixelError(
                "torchrun started this again without --rdzv-id, so that its run cannot be found: give torchrun --rdzv-id JOB, or "
                f"--run.name NAME;\nwhat the first start has left goes on by --ckpt_path {root / default}-NUMBER"
            )
        folder = root / f"{default}-{job[:16]}" if job else _numbered(root, default)
    os.environ[CHOSEN] = str(folder)
    return folder


def _jobs() -> tuple[str, ...]:
    """A job may be the agent of a sweep, which makes many runs, several at a time: each is named by its own id."""
    return (SWEEP_RUN, *JOB) if "WANDB_SWEEP_ID" in os.environ else JOB


def _numbered(root: Path, default: str) -> Path:
    number = 1
    while (root / f"{default}-{number}").exists():
        number += 1
    return root / f"{default}-{number}"


def check_new(folder: Path) -> None:
    """Refuse to begin a new run where an older one has left checkpoints.

    Raises:
        DualPixelError: the folder holds checkpoints.
    """
    if any((folder / CHECKPOINTS).glob("*.ckpt")):
        raise DualPixelError(
            f"{folder} holds the checkpoints of another run: go on with it by --ckpt_path {folder}, or choose another --run.name"
        )


def restarted_checkpoint(folder: Path) -> str | None:
    """Return the last checkpoint of a job that its scheduler has started again (SLURM requeue, torchrun restart)."""
    again = any(map(_restarts, ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT")))
    last = folder / CHECKPOINTS / LAST
    return str(last) if again and last.is_file() else None


def _restarts(variable: str) -> int:
    return int(os.environ.get(variable, 0))


def find_checkpoint(path: str | None, training: bool = True) -> str | None:
    """Return the checkpoint meant by a path.

    A run's folder stands for its last one where a training goes on; else for its best one, by which a run is judged, or the last one
    where there is no best.
    """
    if path and Path(path).is_dir():
        for name in (LAST,) if training else (BEST, LAST):
            for candidate in (Path(path) / CHECKPOINTS / name, Path(path) / name):
                if candidate.is_file():
                    return str(candidate)
    return path


class InRunFolder(Callback):
    """A callback that writes into the run's folder: ``self.folder``, the same on every process."""

    folder: Path

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Agree on the folder of the first process."""
        self.folder = Path(trainer.strategy.broadcast(str(trainer.default_root_dir)))


class DuringEvaluation(InRunFolder):
    """A callback that does the same in validation and in test, and nothing in Lightning's sanity check."""

    def begin(self, trainer: Trainer, recipe: LightningModule, stage: str) -> None:
        """Before the first batch of an evaluation.

        Args:
            trainer: the trainer.
            recipe: the recipe that is evaluated.
            stage: "val" or "test".
        """

    def batch(self, trainer: Trainer, recipe: LightningModule, stage: str, outputs: Any, batch: Any) -> None:
        """After each batch; `outputs` is what the recipe's step returned."""

    def end(self, trainer: Trainer, recipe: LightningModule, stage: str) -> None:
        """After the last batch."""

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a validation."""
        if not trainer.sanity_checking:
            self.begin(trainer, pl_module, "val")

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a test."""
        self.begin(trainer, pl_module, "test")

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *position: int
    ) -> None:
        """Pass on a batch of validation."""
        if not trainer.sanity_checking:
            self.batch(trainer, pl_module, "val", outputs, batch)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *position: int
    ) -> None:
        """Pass on a batch of test."""
        self.batch(trainer, pl_module, "test", outputs, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End a validation."""
        if not trainer.sanity_checking:
            self.end(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End a test."""
        self.end(trainer, pl_module, "test")
