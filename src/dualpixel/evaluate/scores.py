"""Scores during a run: per image, exact over processes, of the outputs and of the unprocessed input."""

import math
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from dualpixel.data.samplers import NOT_COUNTED
from dualpixel.errors import DualPixelError
from dualpixel.evaluate.columns import check_monitor, column_names, score_images, score_maps, scored_maps
from dualpixel.evaluate.cost import count_macs, count_parameters
from dualpixel.evaluate.predicted_views import PredictedViews, check_can_be_replaced
from dualpixel.evaluate.protocol import Protocol
from dualpixel.evaluate.protocols import PROTOCOLS, check_views, get_protocol
from dualpixel.evaluate.report import show
from dualpixel.evaluate.resize import run_resized
from dualpixel.evaluate.result import SCHEMA, Result, code_version, now, result_path, save_result
from dualpixel.metrics.per_image import OVERALL, SEEN, PerImageScores, summarise
from dualpixel.metrics.perceptual import load_perceptual
from dualpixel.recipes.outputs import trained_outputs
from dualpixel.running.folder import DuringEvaluation
from dualpixel.weights.files import weights_hash

VALIDATION = ("psnr", "ssim", "mae")
Columns = dict[str, Tensor]
Means = dict[str, dict[str, float | None]]


class Scores(DuringEvaluation):
    """Scores every image of validation and test, logs the means, and writes ``result.json`` after `test`.

    Logged: ``val/psnr``, ``val/ssim``, ``val/mae`` and ``val/loss``, the same of the unprocessed input as ``val/input_psnr`` ..., per group
    as ``val/GROUP/psnr`` ...; ``test/...`` likewise, by the protocol and without a loss. A recipe that predicts views has
    ``val/views_psnr`` ... as well, or in their place where it has no sharp image to be scored: see `dualpixel.recipes.outputs` for
    what is scored, `dualpixel.evaluate.columns` for the names. Predicted blur is scored in `test`, by a protocol that has a map to
    compare it with.

    Args:
        protocol: id of the protocol of `test`; by default the first that the card names. Where it cuts bits, halves or resizes
            images, the network is tested on such images; validation always sees what is stored.
        lpips: whether `test` measures LPIPS (validation never does: it costs as much as a small network).
        lpips_weights: AlexNet weights for LPIPS; by default $DUALPIXEL_LPIPS, torch hub's cache, or torchvision's download.
        views_from: weights (.safetensors, .ckpt) of the network that predicts the views, for a protocol that tests on such.
    """

    def __init__(
        self,
        protocol: str | None = None,
        lpips: bool = True,
        lpips_weights: Path | None = None,
        views_from: Path | None = None,
    ) -> None:
        super().__init__()
        self.protocol, self.lpips, self.lpips_weights, self.views_from = protocol, lpips, lpips_weights, views_from
        self.history: dict[int, dict[str, float | None]] = {}
        """Step -> the overall means of the validation after it."""
        self._table: PerImageScores | None = None
        self._views: PredictedViews | None = None
        self._macs: tuple[int | None, list[int]] | None = None
        self._hooks: list[RemovableHandle] = []
        if protocol is not None:
            get_protocol(protocol)
        for option, file in (("lpips_weights", lpips_weights), ("views_from", views_from)):
            if file is not None and not Path(file).is_file():
                raise DualPixelError(f"--scores.{option} {file}: no such file")

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse an unknown protocol, or one for other data or without what it needs, before anything runs."""
        super().setup(trainer, pl_module, stage)
        protocol, card = self.protocol_of_test(trainer), trainer.datamodule.card
        if card.bit_depth not in protocol.data_bits:
            fitting = [name for name, one in PROTOCOLS.items() if card.bit_depth in one.data_bits]
            raise DualPixelError(
                f"protocol {protocol.id} is for data of {' or '.join(map(str, protocol.data_bits))} bits, {card.name} has "
                f"{card.bit_depth}: choose --scores.protocol {' or '.join(fitting)}"
            )
        check_views(protocol, self.views_from is not None)
        if stage == "fit":
            for checkpoint in trainer.checkpoint_callbacks:
                check_monitor(checkpoint.monitor or "", trained_outputs(pl_module), VALIDATION)
        if stage == "test" and protocol.views_predicted:
            data = trainer.datamodule
            fields, where = data.evaluation_samples(data.test_split).fields, f"{card.name} {data.test_split}"
            check_can_be_replaced(protocol.id, pl_module.name, pl_module.inputs, fields, where)
            self._views = PredictedViews(self.views_from)

    def begin(self, trainer: Trainer, recipe: LightningModule, stage: str) -> None:
        """Begin; in `test` with LPIPS where its weights can be had. What is scored, the first prediction says."""
        validating = stage == "val"
        split = "val" if validating else trainer.datamodule.test_split
        protocol = self.protocol_of_test(trainer)
        self._metrics, self._truth = (VALIDATION, None) if validating else (protocol.metrics, protocol.truth)
        data = trainer.datamodule
        self._samples = data.validation_samples() if validating else data.evaluation_samples(split)
        if not validating:
            self._prepare(protocol, recipe)
        # scores are kept in float64, which Apple's GPUs do not have
        self._place = recipe.device if recipe.device.type == "cuda" else torch.device("cpu")
        self._perceptual = None
        if self.lpips and "lpips" in self._metrics and trained_outputs(recipe, ("sharp",), self._samples.fields):
            for first in (True, False):  # the first process may download the weights that the others then find
                if trainer.is_global_zero is first:
                    self._perceptual = load_perceptual(self.lpips_weights)
                trainer.strategy.barrier()
        if self._perceptual is not None:
            self._perceptual.to(self._place)
        if self._views:
            self._views.to(recipe.device)
        limit = trainer.limit_val_batches if validating else trainer.limit_test_batches
        self._limited = limit != 1.0 or isinstance(limit, int) or bool(trainer.fast_dev_run)
        self._table = None

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: dict[str, Any], *position: int
    ) -> None:
        """Make the batch what the protocol says; in place, since the recipe and every callback are handed this very mapping."""
        seen = self.protocol_of_test(trainer).batch(batch)
        if self._views:
            seen = self._views(seen)
        batch.clear()
        batch.update(seen)

    def batch(self, trainer: Trainer, recipe: LightningModule, stage: str, outputs: Any, batch: Any) -> None:
        """Score one batch; count the cost on the first of a test."""
        prediction = outputs["prediction"]
        scored, maps = trained_outputs(recipe, prediction, batch), scored_maps(self._truth, prediction)
        if self._table is None:  # on a process without an image of its own, too
            with_input = "combined" in self._samples.fields
            columns = column_names(scored, self._metrics, with_input, maps, self._truth)
            columns += ["loss"] if stage == "val" else []
            if not columns:
                self.protocol_of_test(trainer).refuse(recipe.name, prediction, self._samples.fields, self._where())
            self._table = PerImageScores(columns, len(self._samples), partial=self._limited).to(self._place)
        if int(batch["index"][0]) == NOT_COUNTED:
            return
        images = {name: prediction[name].to(self._place).float() for name in scored}
        if stage == "test":
            images = {name: self.protocol_of_test(trainer).output(image) for name, image in images.items()}
        targets = {name: batch[name].to(self._place) for name in scored}
        unprocessed = batch["combined"].to(self._place) if "combined" in self._samples.fields else None
        with torch.inference_mode():
            scores = score_images(images, targets, unprocessed, self._metrics, self._perceptual)
            if maps:
                estimate, truth = self.protocol_of_test(trainer).estimate, batch[self._truth].to(self._place)
                estimates = {name: estimate(prediction[name].to(self._place).float()) for name in maps}
                scores |= score_maps(estimates, self._truth, truth, batch["key"])
        if stage == "val":
            scores["loss"] = outputs["loss"].detach().to(self._place).double().expand(len(batch["index"]))
        self._table.update(batch["index"], scores)
        if stage == "test" and self._macs is None:
            one = {name: value[:1] for name, value in batch.items() if isinstance(value, Tensor) and value.ndim == 4}
            size = self.protocol_of_test(trainer).resized or next(iter(one.values())).shape[-2:]
            self._macs = (count_macs(recipe, one), list(size))

    def end(self, trainer: Trainer, recipe: LightningModule, stage: str) -> None:
        """Log the means; after `test`, write the result and show it."""
        self._unhook()
        columns = {name: column.cpu() for name, column in self._table.compute().items()}
        means = summarise(columns, [self._samples.group(row) for row in range(len(self._samples))])
        for group, values in means.items():
            prefix = f"{stage}/" if group == OVERALL else f"{stage}/{group}/"
            # a diverged network scores NaN, and what watches a score must hear of it; LPIPS may just not be there
            known = {
                name: math.nan if value is None else value for name, value in values.items() if "lpips" not in name
            }
            known |= {name: value for name, value in values.items() if value is not None}
            recipe.log_dict({prefix + name: value for name, value in known.items()})
        if stage == "val":
            self.history[trainer.global_step] = means[OVERALL]
        elif trainer.is_global_zero:
            result = self._result(trainer, recipe, columns, means)
            path = None if self._limited else result_path(self.folder, result.dataset, result.split, result.protocol)
            if path is not None:  # a part of a split never takes the place of the whole
                save_result(path, result)
            show(result, path)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the recipe as it was."""
        self._unhook()

    def _result(self, trainer: Trainer, recipe: LightningModule, columns: Columns, means: Means) -> Result:
        split, protocol = trainer.datamodule.test_split, self.protocol_of_test(trainer)
        index = trainer.datamodule.split(split).index
        rows = [
            {"key": self._samples.key(row), "group": self._samples.group(row)}
            | {name: _plain(float(column[row])) for name, column in columns.items() if name not in (SEEN, "loss")}
            for row in range(len(self._samples))
            if columns[SEEN][row]
        ]
        return Result(
            schema=SCHEMA,
            recipe=recipe.weights_metadata()["recipe"],
            options=dict(getattr(recipe.net, "options", {})),
            weights_sha256=weights_hash(recipe.net.state_dict()),
            weights_source=str(trainer.ckpt_path or recipe.init_from or ""),
            dataset=index.dataset,
            dataset_version=index.version,
            split=split,
            fingerprint=trainer.datamodule.fingerprint(split),
            complete=bool(columns[SEEN].all()) and bool(index.preparation.get("complete")),
            protocol=protocol.id,
            protocol_description=protocol.description,
            rows=rows,
            means={group: {name: _plain(value) for name, value in values.items()} for group, values in means.items()},
            parameters=count_parameters(recipe.net),
            macs=self._macs[0] if self._macs else None,
            macs_size=self._macs[1] if self._macs else None,
            code=code_version(),
            made=now(),
            environment={
                "torch": torch.__version__,
                "device": str(recipe.device),
                "precision": str(trainer.precision),
            },
            views_from=self._views.origin if self._views else None,
        )

    def _prepare(self, protocol: Protocol, recipe: LightningModule) -> None:
        """Refuse, before the first batch, what the protocol is not for; let the recipe see the size that it asks for."""
        split, where = self._samples.split, self._where()
        protocol.check_inputs(recipe.inputs)
        protocol.check_truth(trained_outputs(recipe), self._samples.fields, where)
        for scene, sample in enumerate(split.index.samples):
            protocol.check_size(*split.size(scene), f"{where} {sample.key}")
        if protocol.resized:
            self._hooks = run_resized(recipe, protocol.resized)

    def _where(self) -> str:
        index = self._samples.split.index
        return f"{index.dataset} {index.split}"

    def _unhook(self) -> None:
        while self._hooks:
            self._hooks.pop().remove()

    def protocol_of_test(self, trainer: Trainer) -> Protocol:
        """Return the protocol that batches of `test` are made by."""
        return get_protocol(self.protocol or trainer.datamodule.card.protocols[0])


def _plain(value: float | None) -> float | None | str:
    """JSON knows neither NaN nor infinity."""
    if value is None or math.isnan(value):
        return None
    return "inf" if math.isinf(value) else value
