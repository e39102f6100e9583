"""Which Weights & Biases run a folder is, and how far its history has come: kept beside the run and in its checkpoints."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualpixel.files import atomic, read_json, write_json
from dualpixel.running.folder import CHECKPOINTS
from dualpixel.weights.files import read_checkpoint

IDENTITY, STEP, SUMMARY = "wandb-id.txt", "wandb-step.txt", "wandb-summary.json"
STATE = "LoggedRun"
"""Key of what a checkpoint keeps, among its ``callbacks``."""
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""An id that may become the name of a folder."""


@dataclass
class WandbIdentity:
    """One W&B run, however often it is started.

    Args:
        folder: of the run.
        id: of the W&B run.
        next_step: the first ``_step`` of its history that was not logged yet.
        continues: whether the W&B run has begun before.

    W&B counts the rows of a history by ``_step``, and begins with 0 at every start that is offline. The number of the next row is
    therefore written down beside the run with every row. It is no training step: a run that was killed has logged rows beyond its last
    checkpoint, and logs those training steps again when it is resumed. Both rows stay, one after the other; charts over
    ``trainer/global_step`` show both (they are equal on a CPU), and the summary has the later one.
    """

    folder: Path
    id: str
    next_step: int = 0
    continues: bool = False

    def keep(self) -> None:
        """Write the id into the run's folder."""
        with atomic(self.folder / IDENTITY) as beside:
            beside.write_text(self.id)

    def note(self, next_step: int) -> None:
        """Write down which row comes next; in place, and so short that a kill leaves the old number or the new one."""
        if next_step > self.next_step:
            self.next_step = next_step
            with os.fdopen(os.open(self.folder / STEP, os.O_WRONLY | os.O_CREAT, 0o644), "w") as file:
                file.write(f"{next_step:012d}\n")

    def keep_summary(self, summary: dict[str, Any]) -> None:
        """Write the summary of the run into its folder, without what W&B adds; an empty one is one that it did not give."""
        if summary:
            write_json(self.folder / SUMMARY, {name: one for name, one in summary.items() if not name.startswith("_")})

    def summary(self) -> dict[str, Any]:
        """Return the summary of the starts before, where the run goes on."""
        path = self.folder / SUMMARY
        content = read_json(path) if self.continues and path.is_file() else {}
        return content if isinstance(content, dict) else {}

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"id": self.id, "step": self.next_step}


def choose_identity(folder: Path, resumed: str | None) -> WandbIdentity:
    """Choose the W&B run of a start: ``WANDB_RUN_ID`` (of a user, or a sweep's agent), else that of the folder, else of the checkpoint.

    Args:
        folder: of the run.
        resumed: the checkpoint whose training goes on. One that is only scored, or whose weights a new training begins with, is no
            reason to write into its run.

    Returns:
        The run, a new one where nothing says which.
    """
    states = [_left_in(folder)]
    if resumed:
        checkpoint = Path(resumed)
        states.append(_kept_in(checkpoint))
        if checkpoint.parent.name == CHECKPOINTS:  # what was logged after it
            states.append(_left_in(checkpoint.parent.parent))
    known = [state for state in states if state is not None]
    chosen = os.environ.get("WANDB_RUN_ID") or (known[0][0] if known else os.urandom(4).hex())
    steps = [step for name, step in known if name == chosen]
    return WandbIdentity(folder, chosen, max(steps, default=0), bool(steps))


def _left_in(folder: Path) -> tuple[str, int] | None:
    """Return the id and the next step that a run's folder holds."""
    texts = [(folder / name).read_text() if (folder / name).is_file() else "" for name in (IDENTITY, STEP)]
    name, step = (text.strip() for text in texts)
    return (name, int(step) if step.isdecimal() else 0) if NAME.fullmatch(name) else None


def _kept_in(checkpoint: Path) -> tuple[str, int] | None:
    """Return those that a checkpoint holds, which may be a stranger's."""
    state = read_checkpoint(checkpoint).get("callbacks", {}).get(STATE)
    name, step = (state.get("id"), state.get("step")) if isinstance(state, dict) else (None, None)
    good = isinstance(name, str) and NAME.fullmatch(name) and isinstance(step, int)
    return (name, max(0, step)) if good else None
