"""Scores during a run: per image, exact over processes, of the outputs and of the unprocessed input."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from dualpixel.data.samplers import NOT_COUNTED
from dualpixel.errors import DualPixelError
from dualpixel.evaluate.columns import SSIM, check_monitor, column_names, score_images, score_maps, scored_maps
from dualpixel.evaluate.cost.operations import count_macs
from dualpixel.evaluate.forward_time import ForwardClock
from dualpixel.evaluate.measured import measured_result
from dualpixel.evaluate.predicted_views import PredictedViews, check_can_be_replaced
from dualpixel.evaluate.protocol import Protocol
from dualpixel.evaluate.protocols import check_data, check_views, find_protocol, get_protocol
from dualpixel.evaluate.report import show
from dualpixel.evaluate.reproduction import compare_with_published, save_reproduction, show_reproduction
from dualpixel.evaluate.resize import run_resized
from dualpixel.evaluate.result import Result, result_path, save_result
from dualpixel.evaluate.thumbnails import ThumbnailFolder
from dualpixel.evaluate.tiled import TiledForward
from dualpixel.evaluate.wandb_results import log_result
from dualpixel.metrics.per_image import OVERALL, PerImageScores, summarise
from dualpixel.metrics.perceptual import load_perceptual
from dualpixel.recipes.outputs import trained_outputs
from dualpixel.running.folder import DuringEvaluation

VALIDATION = ("psnr", "ssim", "mae")
VALIDATION_PROTOCOL = replace(get_protocol("dpdnet-16bit"), id="validation", metrics=VALIDATION, lpips=None)
DEFAULT_SSIM = "uniform7"
"""Where SSIM is not measured."""
SECONDS = "seconds"
"""A column of the table of a test that is no score: of one image, NaN for those that are not counted."""


class Scores(DuringEvaluation):
    """Scores every image of validation and test, logs the means, and writes ``result.json`` after `test`.

    Logged: ``val/psnr``, ``val/ssim``, ``val/mae`` and ``val/loss``, the same of the unprocessed input as ``val/input_psnr`` ..., per group
    as ``val/GROUP/psnr`` ...; ``test/...`` likewise, by the protocol and without a loss. A recipe that predicts views has
    ``val/views_psnr`` ... as well, or in their place where it has no sharp image to be scored: see `dualpixel.recipes.outputs` for
    what is scored, `dualpixel.evaluate.columns` for the names. Predicted blur is scored in `test`, by a protocol that has a map to
    compare it with.

    Args:
        protocol: id of the protocol of `test`, or a YAML file with the keys of `dualpixel.evaluate.protocol.Protocol`; by default the
            first that the card names. Where it cuts bits, halves, resizes or tiles images, the network is tested on such images;
            validation always sees what is stored. On the command line plain ``--protocol NAME`` is enough.
        lpips: whether `test` measures LPIPS (validation never does: it costs as much as a small network).
        lpips_weights: AlexNet weights for LPIPS; by default $DUALPIXEL_LPIPS, torch hub's cache, or torchvision's download.
        views_from: weights (.safetensors, .ckpt) of the network that predicts the views, for a protocol that tests on such.
        thumbnails: whether `test` writes small pictures of every image beside the result, for leaderboards.
    """

    def __init__(
        self,
        protocol: str | None = None,
        lpips: bool = True,
        lpips_weights: Path | None = None,
        views_from: Path | None = None,
        thumbnails: bool = True,
    ) -> None:
        super().__init__()
        self.thumbnails = thumbnails
        self.protocol, self.lpips, self.lpips_weights, self.views_from = protocol, lpips, lpips_weights, views_from
        self.history: dict[int, dict[str, float | None]] = {}
        """Step -> the overall means of the validation after it."""
        self._table: PerImageScores | None = None
        self._views: PredictedViews | None = None
        self._macs: tuple[int | None, list[int]] | None = None
        self._hooks: list[RemovableHandle | TiledForward] = []
        self._clock: ForwardClock | None = None
        self._pictures: ThumbnailFolder | None = None
        self._given = None if protocol is None else find_protocol(protocol)
        for option, file in (("lpips_weights", lpips_weights), ("views_from", views_from)):
            if file is not None and not Path(file).is_file():
                raise DualPixelError(f"--scores.{option} {file}: no such file")

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse an unknown protocol, or one for other data or without what it needs, before anything runs."""
        super().setup(trainer, pl_module, stage)
        protocol, card = self.protocol_of_test(trainer), trainer.datamodule.card
        check_data(protocol, card.name, card.bit_depth)
        check_views(protocol, self.views_from is not None)
        if stage == "fit":
            for checkpoint in trainer.checkpoint_callbacks:
                check_monitor(checkpoint.monitor or "", trained_outputs(pl_module), VALIDATION)
        if stage == "test" and protocol.views == "predicted":
            data = trainer.datamodule
            fields, where = data.evaluation_samples(data.test_split).fields, f"{card.name} {data.test_split}"
            check_can_be_replaced(protocol.id, pl_module.name, pl_module.inputs, fields, where)
            self._views = PredictedViews(self.views_from)

    def begin(self, trainer: Trainer, recipe: LightningModule, stage: str) -> None:
        """Begin; in `test` with LPIPS where its weights can be had. What is scored, the first prediction says."""
        validating = stage == "val"
        split = "val" if validating else trainer.datamodule.test_split
        self._protocol = VALIDATION_PROTOCOL if validating else self.protocol_of_test(trainer)
        data = trainer.datamodule
        self._samples = data.validation_samples() if validating else data.evaluation_samples(split)
        limit = trainer.limit_val_batches if validating else trainer.limit_test_batches
        self._limited = limit != 1.0 or isinstance(limit, int) or bool(trainer.fast_dev_run)
        if not validating:
            self._prepare(self._protocol, recipe)
            self._clock = ForwardClock(recipe, recipe.device)
            self._hooks += self._clock.hooks
            self._begin_pictures(trainer)
        # scores are kept in float64, which Apple's GPUs do not have
        self._place = recipe.device if recipe.device.type == "cuda" else torch.device("cpu")
        self._perceptual = None
        if (
            self.lpips
            and "lpips" in self._protocol.metrics
            and trained_outputs(recipe, ("sharp",), self._samples.fields)
        ):
            for first in (True, False):  # the first process may download the weights that the others then find
                if trainer.is_global_zero is first:
                    self._perceptual = load_perceptual(self.lpips_weights)
                trainer.strategy.barrier()
        if self._perceptual is not None:
            self._perceptual.to(self._place)
        if self._views:
            self._views.to(recipe.device)
        self._table, self._warm = None, False

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
        scored, maps = trained_outputs(recipe, prediction, batch), scored_maps(self._protocol.truth, prediction)
        if self._table is None:  # on a process without an image of its own, too
            with_input, about = "combined" in self._samples.fields, self._protocol
            columns = column_names(scored, about.metrics, with_input, maps, about.truth)
            if not columns and stage == "test":
                about.refuse(recipe.name, prediction, self._samples.fields, self._where())
            columns.append("loss" if stage == "val" else SECONDS)
            self._table = PerImageScores(columns, len(self._samples), partial=self._limited).to(self._place)
        seconds = self._time(len(batch["index"]))
        if int(batch["index"][0]) == NOT_COUNTED:
            return
        images = {name: self._protocol.output(prediction[name].to(self._place).float()) for name in scored}
        targets = {name: batch[name].to(self._place) for name in scored}
        scores = self._scores(images, targets, batch)
        if maps:
            scores |= self._map_scores({name: prediction[name] for name in maps}, batch)
        if stage == "val":
            scores["loss"] = outputs["loss"].detach().to(self._place).double().expand(len(batch["index"]))
        else:
            scores[SECONDS] = torch.full((len(batch["index"]),), seconds, dtype=torch.double, device=self._place)
            self._draw(batch, images, targets)
        self._table.update(batch["index"], scores)
        if stage == "test" and self._macs is None:
            one = {name: value[:1] for name, value in batch.items() if isinstance(value, Tensor) and value.ndim == 4}
            size = self._protocol.inference.size or next(iter(one.values())).shape[-2:]
            self._macs = (count_macs(recipe, one), list(size))

    @torch.inference_mode()
    def _scores(
        self, images: Mapping[str, Tensor], targets: Mapping[str, Tensor], batch: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        inside = self._protocol.inside
        unprocessed = inside(batch["combined"].to(self._place)) if "combined" in self._samples.fields else None
        compared, wanted = ({name: inside(one) for name, one in some.items()} for some in (images, targets))
        about = self._protocol
        return score_images(
            compared, wanted, unprocessed, about.metrics, self._perceptual, SSIM[about.ssim or DEFAULT_SSIM]
        )

    @torch.inference_mode()
    def _map_scores(self, maps: Mapping[str, Tensor], batch: Mapping[str, Any]) -> dict[str, Tensor]:
        about = self._protocol
        estimates = {name: about.inside(about.estimate(one.to(self._place).float())) for name, one in maps.items()}
        truth = about.inside(batch[about.truth].to(self._place))
        return score_maps(estimates, about.truth, truth, batch["key"])

    def end(self, trainer: Trainer, recipe: LightningModule, stage: str) -> None:
        """Log the means; after `test`, write the result and show it."""
        self._unhook()
        columns = {name: column.cpu() for name, column in self._table.compute().items()}
        times = [one for one in columns.pop(SECONDS, torch.empty(0)).tolist() if not math.isnan(one)]
        means = summarise(columns, [self._samples.group(row) for row in range(len(self._samples))])
        for group, values in means.items():
            if group != OVERALL and values == means[OVERALL]:  # the only group: charts of it would repeat the others
                continue
            prefix = f"{stage}/" if group == OVERALL else f"{stage}/{group}/"
            # a diverged network scores NaN, and what watches a score must hear of it; LPIPS may just not be there
            known = {
                name: math.nan if value is None else value for name, value in values.items() if "lpips" not in name
            }
            known |= {name: value for name, value in values.items() if value is not None}
            recipe.log_dict({prefix + name: value for name, value in known.items()})
        if stage == "val":
            self.history[recipe.steps_trained] = means[OVERALL]
        elif trainer.is_global_zero:
            macs, views = self._macs or (None, None), self._views.origin if self._views else None
            seconds = median(times) if times else None
            self._finish(
                trainer,
                measured_result(trainer, recipe, self._protocol, self._samples, columns, means, seconds, macs, views),
            )

    def _finish(self, trainer: Trainer, result: Result) -> None:
        """Write a result with all that stands beside it, and show it; a part of a split is shown only: it never replaces the whole."""
        if self._limited:
            show(result, None)
            return
        path = result_path(self.folder, result.dataset, result.split, result.protocol)
        save_result(path, result)
        self._pictures.end()
        compared = compare_with_published(result)
        save_reproduction(path, result, compared)
        log_result(trainer, result, path)
        show(result, path)
        show_reproduction(result, compared)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the recipe as it was."""
        self._unhook()

    def _time(self, images: int) -> float:
        """Return the seconds of one image of the batch; NaN for the first batch of a process, in which all sorts of things are set up."""
        warm, self._warm = self._warm, True
        return self._clock.seconds / images if warm and self._clock else math.nan

    def _begin_pictures(self, trainer: Trainer) -> None:
        index = self._samples.split.index
        path = result_path(self.folder, index.dataset, index.split, self._protocol.id)
        self._pictures = None if self._limited else ThumbnailFolder(path)
        if self._pictures and trainer.is_global_zero:
            self._pictures.begin()
        trainer.strategy.barrier()

    def _draw(self, batch: Mapping[str, Any], images: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> None:
        """Write the thumbnails of a batch, by every process those of its own images."""
        name = next((one for one in ("combined", "left") if one in batch), None)
        if self.thumbnails and self._pictures and name and "sharp" in images:
            for row, key in enumerate(batch["key"]):
                self._pictures.write(key, batch[name][row], images["sharp"][row], targets["sharp"][row])

    def _prepare(self, protocol: Protocol, recipe: LightningModule) -> None:
        """Refuse, before the first batch, what the protocol is not for; let the recipe see the size that it asks for."""
        split, where = self._samples.split, self._where()
        protocol.check_inputs(recipe.inputs)
        protocol.check_truth(trained_outputs(recipe), self._samples.fields, where)
        for scene, sample in enumerate(split.index.samples):
            protocol.check_size(*split.size(scene), f"{where} {sample.key}")
        how = protocol.inference
        if how.mode == "resized":
            self._hooks = run_resized(recipe, how.size)
        if how.mode == "tiled":
            self._hooks = [TiledForward(recipe, how.tile, how.overlap)]

    def _where(self) -> str:
        index = self._samples.split.index
        return f"{index.dataset} {index.split}"

    def _unhook(self) -> None:
        while self._hooks:
            self._hooks.pop().remove()

    def protocol_of_test(self, trainer: Trainer) -> Protocol:
        """Return the protocol that batches of `test` are made by."""
        return self._given or get_protocol(trainer.datamodule.card.protocols[0])
