"""What all recipes share: one step, the optimizer and schedule of the YAML, seeding, and weights that say what they are for."""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from dualpixel.errors import DualPixelError
from dualpixel.weights.files import METADATA, check_channels, load_into, load_weights

PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
"""Batches are float32, so a network that is all float64 or all bfloat16 could not take them."""

Batch = Mapping[str, Any]
Prediction = dict[str, Tensor]


class Recipe(LightningModule, ABC):
    """A paper as a LightningModule. A subclass gives `forward` and `loss_terms`, and names the fields it needs.

    A batch holds RGB images float32 (B, 3, H, W) in [0, 1] (``left``, ``right``, ``combined``, ``sharp``), maps (B, 1, H, W)
    (``depth`` in metres, ``blur`` as signed radius in pixels, ``disparity`` up to factor and offset), and the lists ``key`` and
    ``group``. A prediction holds at least ``sharp``; where it holds ``blur``, scores compare that with the data's as it is, and `predict`
    writes the signed radius that the recipe's method ``radius`` makes of it, where there is one. `inputs` are needed always; `targets`,
    the truth that the loss compares with, in training and validation alone: a test scores what the data have, and takes no loss.

    Args:
        net: the network, pure torch. It has the attributes ``options``, its constructor's arguments, stored with its weights, and
            ``silent_options``, the names of those that weights may not differ in though they would fit.
        optimizer: makes the optimizer from the parameters; needed for training only.
        scheduler: makes the schedule of the learning rate from the optimizer.
        schedule_interval: whether the schedule advances once an epoch or once a step.
        init_from: weights to begin with, ours (.safetensors) or a checkpoint (.ckpt): chains the phases of a training, or brings
            converted published weights into `test` and `predict`.
    """

    name: str
    targets: ClassVar[tuple[str, ...]] = ("sharp",)

    def __init__(
        self,
        net: nn.Module,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        schedule_interval: Literal["epoch", "step"] = "epoch",
        init_from: Path | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.optimizer, self.scheduler, self.schedule_interval = optimizer, scheduler, schedule_interval
        self.init_from = init_from
        self._begun, self._loaded_steps = False, 0
        self._epoch_losses: list[Tensor] = []

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """The fields that `forward` needs."""

    @abstractmethod
    def forward(self, batch: Batch) -> Prediction:
        """Predict.

        Args:
            batch: at least the fields of `inputs`, of any height and width.

        Returns:
            ``sharp`` (B, 3, H, W) in [0, 1], and whatever else the paper predicts.
        """

    @abstractmethod
    def loss_terms(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """Return the terms of the loss, each a scalar with its weight already in it; their sum is minimised."""

    def diagnostics(self, batch: Batch, prediction: Prediction) -> dict[str, float]:
        """Return figures that say how a part of the network behaves, to be drawn over training; none by default.

        One process alone is asked, so nothing may be exchanged between processes here. Names of scores ("psnr", "loss") are
        taken; those of one group, "GROUP/NAME", share a plot.

        Args:
            batch: one batch of validation.
            prediction: what `forward` returned for it.
        """
        return {}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one training batch, and log its terms."""
        _, terms, loss = self._step(batch)
        self.log("train/loss", loss, prog_bar=True)
        if len(terms) > 1:
            self.log_dict({f"train/{name}": term for name, term in terms.items()})
        if batch_idx == 0:
            self._epoch_losses.clear()
        self._epoch_losses.append(loss.detach())
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the mean loss of the epoch; kept by hand, since a run resumed in mid-epoch must see the whole epoch."""
        if self._epoch_losses:
            self.log("train/epoch_loss", self._losses_of_all().mean())

    def _losses_of_all(self) -> Tensor:
        """Return the losses of the steps of this epoch, each the mean over processes; all processes must call it."""
        losses = torch.stack(self._epoch_losses) if self._epoch_losses else torch.zeros(0, device=self.device)
        return self.trainer.strategy.reduce(losses, reduce_op="mean")

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Return prediction and loss; scores are taken from them by `dualpixel.evaluate`."""
        prediction, _, loss = self._step(batch)
        return {"prediction": prediction, "loss": loss}

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Return the prediction. A protocol may have changed the batch, or the data have no truth for the loss, so there is none."""
        return {"prediction": self(batch)}

    def predict_step(self, batch: Batch, batch_idx: int) -> Prediction:
        """Return the prediction of one batch."""
        return self(batch)

    def _step(self, batch: Batch) -> tuple[Prediction, dict[str, Tensor], Tensor]:
        prediction = self(batch)
        terms = self.loss_terms(batch, prediction)
        return prediction, terms, torch.stack(list(terms.values())).sum()

    def setup(self, stage: str) -> None:
        """Load the weights to begin with; refuse, before the first batch, data without a needed field and what cannot run."""
        datamodule = getattr(self.trainer, "datamodule", None)
        if hasattr(datamodule, "require"):
            datamodule.require(stage, self.inputs, self.targets)
        if self.init_from is not None and not self._begun:
            self.load_weights(self.init_from)
        self._begun = True  # a test that follows a fit scores what was trained
        if self.trainer.precision not in PRECISIONS:
            raise DualPixelError(f"trainer.precision {self.trainer.precision}: allowed are {', '.join(PRECISIONS)}")
        if stage == "fit" and self.optimizer is None:
            raise DualPixelError(
                f"{type(self).__name__} has no optimizer; give model.init_args.optimizer, as recipes/{self.name}.yaml does"
            )

    def load_weights(self, path: Path) -> None:
        """Load weights into the network, strictly.

        Raises:
            DualPixelError: unreadable, of another network, or of one with other `silent_options`.
        """
        state_dict, metadata = load_weights(Path(path))
        check_channels(metadata, path)
        load_into(self.net, self.complete(state_dict), path, metadata)

    def complete(self, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return weights to begin with, completed by those that an earlier phase of the training does not have yet."""
        return state_dict

    def weights_metadata(self) -> dict[str, str]:
        """Return what is stored with the weights, so that a file says by itself which network it is for."""
        options: Any = getattr(self.net, "options", {})
        return {
            "recipe": self.name,
            "net": f"{type(self.net).__module__}.{type(self.net).__qualname__}",
            "options": json.dumps(options),
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the network's options beside its weights, and the losses of the epoch that is under way."""
        checkpoint[METADATA] = self.weights_metadata()
        checkpoint["epoch_losses"] = self._losses_of_all().tolist()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another network in words, before torch lists every key.

        Raises:
            DualPixelError: another network, or, where training is to go on, another step of the training.
        """
        state_dict = {
            name.removeprefix("net."): value
            for name, value in checkpoint["state_dict"].items()
            if name.startswith("net.")
        }
        metadata = checkpoint.get(METADATA, {})
        load_into(self.net, state_dict, "the checkpoint", metadata)
        trained = metadata.get("recipe", self.name)
        if trained != self.name and self._trainer is not None and self.trainer.state.fn == "fit":
            raise DualPixelError(
                f"the checkpoint is one of {trained}, this run trains {self.name}, which cannot go on with its optimizer: start a new "
                "run from its weights by --model.init_from in place of --ckpt_path"
            )
        self._loaded_steps = int(checkpoint.get("global_step", 0))
        self._epoch_losses = list(torch.tensor(checkpoint.get("epoch_losses", []), device=self.device).unbind())

    @property
    def steps_trained(self) -> int:
        """How many steps the weights were trained: of the training under way, else of the checkpoint; 0 for weights that do not say."""
        return self.trainer.global_step if self.trainer.state.fn == "fit" else self._loaded_steps

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout from (run, step, process), so that a resumed run draws what the uninterrupted one would have drawn."""
        run = int(os.environ.get("PL_GLOBAL_SEED", 0))
        step = self.trainer.fit_loop.epoch_loop.batch_progress.total.processed
        torch.manual_seed(hash((run, step, self.global_rank)) % 2**63)

    def configure_optimizers(self) -> Any:
        """Make the optimizer and the schedule of the YAML."""
        optimizer = self.optimizer(parameter for parameter in self.parameters() if parameter.requires_grad)
        if self.scheduler is None:
            return optimizer
        scheduler = self.scheduler(optimizer)
        if getattr(scheduler, "total_steps", 0) is None:
            scheduler.total_steps = int(self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": self.schedule_interval}}


def stack_views(batch: Batch, fields: Sequence[str]) -> Tensor:
    """Put images behind each other in the channels: (B, 3 n, H, W).

    Raises:
        DualPixelError: the batch lacks a field.
    """
    missing = [name for name in fields if name not in batch]
    if missing:
        raise DualPixelError(
            f"the batch has no {', '.join(missing)}; this recipe needs {', '.join(fields)}, found {', '.join(batch)}"
        )
    return torch.cat([batch[name] for name in fields], dim=1)
