"""What a Weights & Biases run says of itself beside its numbers: what it is made of, and its best checkpoint."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from dualpixel.running.checkpoints import BestCheckpoint
from dualpixel.running.folder import InRunFolder
from dualpixel.running.provenance import describe_run
from dualpixel.running.wandb_identity import STATE
from dualpixel.running.wandb_logger import RunLogger
from dualpixel.terminal import one_line, warn
from dualpixel.weights.files import load_weights, read_checkpoint, weights_hash


class LoggedRun(InRunFolder):
    """Adds to the configuration of the W&B run what the run is made of, keeps its id in every checkpoint, and logs the best one.

    The W&B run begins with the first step of a training, and of another command when its first batch is scored, or where something is
    logged before: a command that is refused, by whatever checks its settings, leaves nothing in the run that it would have gone on with.

    Args:
        logger: that of the run; None where nothing is logged, and then checkpoints keep the id that they had.
        command: fit, validate or test. Of one that goes on with the W&B run of a training, what it is made of stands below its name.
        log_best: whether the best checkpoint becomes an artifact: at the end of training, and when it is interrupted by Ctrl-C. A run
            that was killed logs it when it has gone on to its end.
    """

    def __init__(self, logger: RunLogger | None, command: str, log_best: bool) -> None:
        super().__init__()
        self.logger, self.command, self.log_best = logger, command, log_best
        if logger:
            logger.waits = True
        self._kept: dict[str, Any] = {}
        self._described = False

    @property
    def state_key(self) -> str:
        """Where a checkpoint keeps the id."""
        return STATE

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return self.logger.identity.state() if self.logger else dict(self._kept)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember it, so that a part of the training without W&B does not lose it; what is logged goes on by `choose_identity`."""
        self._kept = state_dict

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let the W&B run begin when it is asked for: the callbacks before this one, the last of ours, have checked their settings."""
        super().setup(trainer, pl_module, stage)
        if self.logger:
            self.logger.waits = False

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Log scores of weights at the training step that they are from."""
        if self.logger and trainer.state.fn != TrainerFn.FITTING:
            self.logger.weights_step = int(checkpoint.get("global_step", 0))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Describe the run, now that its data are set up."""
        self._describe(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Describe the run."""
        self._describe(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Describe the run."""
        self._describe(trainer, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin."""
        self._begin()

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *position: int
    ) -> None:
        """Begin, now that a batch was scored."""
        if not trainer.sanity_checking:
            self._begin()

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *position: int
    ) -> None:
        """Begin, in the same way."""
        self._begin()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the best checkpoint."""
        self._log_best(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Log it when somebody ends the training early."""
        if isinstance(exception, KeyboardInterrupt) and trainer.state.fn == TrainerFn.FITTING:
            self._log_best(trainer, pl_module)

    def _begin(self) -> None:
        if self.logger:
            _ = self.logger.experiment

    def _describe(self, trainer: Trainer, recipe: LightningModule) -> None:
        if self._described or self.logger is None or not trainer.is_global_zero:
            return
        self._described = True
        with _worth_less("what the run is made of"):
            found = describe_run(trainer, recipe)
            below = self.logger.config.get(
                self.command
            )  # a command's own configuration, where the run was another one's
            self.logger.describe({self.command: below | found} if isinstance(below, dict) else found)

    def _log_best(self, trainer: Trainer, recipe: LightningModule) -> None:
        best = next((one for one in trainer.checkpoint_callbacks if isinstance(one, BestCheckpoint)), None)
        wanted = self.log_best and self.logger is not None and trainer.is_global_zero
        if not wanted or best is None or not Path(best.best_model_path or "-").is_file():
            return
        with _worth_less("the best checkpoint"):
            self._log(best, trainer, recipe)

    def _log(self, best: BestCheckpoint, trainer: Trainer, recipe: LightningModule) -> None:
        import wandb

        path = Path(best.best_model_path)
        state, metadata = load_weights(path)
        step = int(read_checkpoint(path)["global_step"])  # of the file, not of the end of the training
        artifact = wandb.Artifact(
            f"model-{self.logger.experiment.id}",
            type="model",
            metadata={
                "recipe": metadata.get("recipe", recipe.name),
                "monitor": best.monitor,
                "score": None if best.best_model_score is None else float(best.best_model_score),
                "step": step,
                "weights_sha256": weights_hash(state),
                "fingerprint": trainer.datamodule.fingerprint("train"),
            },
        )
        artifact.add_file(str(path), name=path.name)
        self.logger.experiment.log_artifact(artifact, aliases=["best", f"step-{step}"])


@contextmanager
def _worth_less(what: str) -> Iterator[None]:
    """Turn whatever goes wrong into a warning: a full disk, a server that is gone; the run goes on."""
    try:
        yield
    except Exception as error:
        warn(f"{what} could not be logged to W&B: {one_line(f'{type(error).__name__}: {error}')[:300]}")
