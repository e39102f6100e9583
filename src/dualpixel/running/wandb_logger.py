"""The logger of Weights & Biases: one run with one history for all starts of a training, and never a reason to lose one."""

import contextlib
import os
from collections.abc import Mapping
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import DummyExperiment, rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

from dualpixel.running.wandb_identity import WandbIdentity
from dualpixel.running.wandb_names import ARGUMENTS
from dualpixel.terminal import one_line, warn

SETTINGS: dict[str, Any] = {
    "console": "off",  # what a terminal shows is not for a server
    "disable_code": True,  # neither the program nor a patch of the working folder, whatever repository that is
    "disable_git": True,  # the same of its address; the commit of this package stands in the configuration
    "init_timeout": 30.0,  # seconds until a run begins offline, when the server is not reached
    "finish_timeout": 600.0,  # seconds that the end of a run waits for a server that is gone
    "x_transaction_log_flush_interval": 0.5,  # seconds of rows that a kill may cost; 15 by default
}
"""Settings of ours; ``WANDB_CONSOLE`` and the like win."""
BY_AGENT = ("entity", "id", "project")
"""Arguments that the agent of a sweep gives itself."""
STEPS = "trainer/global_step"


class RunLogger(WandbLogger):
    """Logs one run from the first process.

    Every start appends to the history of the same run: ``_step`` goes on (see `WandbIdentity`), and ``trainer/global_step`` is the x
    axis of all charts. Where the server cannot be reached or refuses, the run is logged offline, with a warning.

    Args:
        identity: which run it is.
        config: the resolved configuration.
        mode: "online" or "offline".
        arguments: of ``wandb.init``; see `dualpixel.running.wandb_names`.

    Attributes:
        waits: whether the run is not to begin yet, though it is asked for: Lightning asks before anything has checked its settings.
        weights_step: the training step of the weights that are scored, outside of a training: the x of what is logged then.

    Differences: Lightning's logger is ended by a server that is not reached, restarts ``_step`` at each offline start, joins a run
    that another logger of the process began, and begins one for a command that is then refused.
    """

    def __init__(self, identity: WandbIdentity, config: dict[str, Any], mode: str, arguments: dict[str, Any]) -> None:
        given = {name: value for name, value in arguments.items() if f"WANDB_{ARGUMENTS[name]}" not in os.environ}
        given["project"] = given.get("project") or os.environ.get("WANDB_PROJECT")
        folder = os.environ.get("WANDB_DIR") or str(identity.folder)
        super().__init__(**{"name": None, **given}, save_dir=folder, id=identity.id, resume="allow", mode=mode)
        self.identity, self.config = identity, config
        self.weights_step: int | None = None
        self.waits = False
        self._first_step: int | None = None

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The W&B run; begun when it is first asked for."""
        if self.waits:
            return DummyExperiment()
        if self._experiment is None:
            self._experiment = self._begin()
        return self._experiment

    @rank_zero_only
    def describe(self, content: dict[str, Any]) -> None:
        """Add to the configuration of the run, whether it has begun or not."""
        self.config = self.config | content
        if self._experiment is not None:
            self._experiment.config.update(content, allow_val_change=True)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log a row, and write down that it was."""
        step = step if self.weights_step is None else self.weights_step
        row = dict(metrics) if step is None else {**metrics, STEPS: step}
        try:
            run = self.experiment
            run.log(
                row, step=self._first_step, commit=True
            )  # what is logged first gets this number, what follows the next ones
            self._first_step = None
            self.identity.note(run.step)
        except OSError as error:  # the process that writes is gone, killed for memory perhaps
            self._give_up(error)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write down which row comes next, others may have logged to the run itself, and what the summary holds."""
        if self._experiment is not None and not self._experiment.disabled:
            try:
                self.identity.note(self._experiment.step)
                self.identity.keep_summary(self._experiment.summary._as_dict())
            except Exception as error:  # W&B has several for a process that is gone
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Log no more, and let what others ask of the run do nothing."""
        _warn("any more", error)
        self._experiment = _disabled_run()

    def _begin(self) -> Any:
        import wandb

        self.identity.keep()
        settings = {name: value for name, value in SETTINGS.items() if f"WANDB_{name.upper()}" not in os.environ}
        arguments = {name: value for name, value in self._wandb_init.items() if value is not None}
        if "WANDB_SWEEP_ID" in os.environ:
            arguments = {name: value for name, value in arguments.items() if name not in BY_AGENT}
        for mode in ["online", "offline"][self._wandb_init["mode"] == "offline" :]:
            try:
                run = wandb.init(
                    **arguments | {"mode": mode}, reinit="finish_previous", settings=wandb.Settings(**settings)
                )
                run.define_metric(STEPS)
                run.define_metric("*", step_metric=STEPS, step_sync=True)
                run.config.update(self.config, allow_val_change=True)
                if mode == "offline":  # a start that is sent replaces the summary of those before
                    run.summary.update(self.identity.summary())
                self._first_step = max(self.identity.next_step, run.step) or None
                return run
            except Exception as error:  # whatever it is, the training is worth more
                with contextlib.suppress(Exception):
                    wandb.teardown()  # or it holds that the run has begun
                _warn(mode, error)
        return _disabled_run()


def _disabled_run() -> Any:
    """Return a run that does nothing, whatever the variables say that W&B perhaps failed on."""
    import wandb

    with contextlib.suppress(Exception):  # what is left of another run would complain at the end of the process
        wandb.teardown()
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("WANDB_")}
    os.environ["WANDB_SILENT"] = "true"
    try:
        return wandb.init(mode="disabled")
    finally:
        del os.environ["WANDB_SILENT"]
        os.environ.update(kept)


def _warn(how: str, error: Exception) -> None:
    warn(f"Weights & Biases cannot be used {how}: {one_line(f'{type(error).__name__}: {error}')[:300]}")
