"""Scores during a run: per image, exact over processes, of the output and of the unprocessed input."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from rich.table import Table
from torch import Tensor

from dualpixel.errors import DualPixelError
from dualpixel.evaluate.cost import count_macs, count_parameters
from dualpixel.evaluate.protocols import Protocol, get_protocol
from dualpixel.evaluate.result import SCHEMA, Result, code_version, now, result_path, save_result
from dualpixel.metrics import functional
from dualpixel.metrics.per_image import OVERALL, SEEN, PerImageScores, summarise
from dualpixel.metrics.perceptual import load_perceptual
from dualpixel.running.folder import InRunFolder
from dualpixel.terminal import console
from dualpixel.weights.files import weights_hash

FUNCTIONS = {"psnr": functional.psnr, "ssim": functional.ssim, "mae": functional.mae}
VALIDATION = ("psnr", "ssim", "mae")


class Scores(InRunFolder):
    """Scores every image of validation and test, logs the means, and writes ``result.json`` after `test`.

    Logged: ``val/psnr``, ``val/ssim``, ``val/mae`` and ``val/loss``, the same of the unprocessed input as ``val/input_psnr`` ..., per group
    as ``val/GROUP/psnr`` ...; ``test/...`` likewise.

    Args:
        protocol: id of the protocol; by default the first that the card names.
        lpips: whether `test` measures LPIPS (validation never does: it costs as much as a small network).
        lpips_weights: AlexNet weights for LPIPS; by default $DUALPIXEL_LPIPS, torch hub's cache, or torchvision's download.
    """

    def __init__(self, protocol: str | None = None, lpips: bool = True, lpips_weights: Path | None = None) -> None:
        super().__init__()
        self.protocol, self.lpips, self.lpips_weights = protocol, lpips, lpips_weights
        self.history: dict[int, dict[str, float | None]] = {}
        """Epoch -> the overall means of its validation."""
        self._table: PerImageScores | None = None
        self._macs: tuple[int, list[int]] | None = None
        if protocol is not None:
            get_protocol(protocol)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a data set without targets before anything runs."""
        super().setup(trainer, pl_module, stage)
        if stage == "test" and "sharp" not in trainer.datamodule.split(trainer.datamodule.test_split).index.fields():
            raise DualPixelError(f"{trainer.datamodule.card.name} has no sharp targets to score against; use `predict`")

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin an empty table."""
        if not trainer.sanity_checking:
            self._begin(trainer, pl_module, "val", VALIDATION)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin an empty table, with LPIPS where its weights can be had."""
        self._perceptual = load_perceptual(self.lpips_weights) if self.lpips else None
        if self._perceptual is not None:
            self._perceptual.to(pl_module.device)
        self._begin(trainer, pl_module, trainer.datamodule.test_split, self._protocol(trainer).metrics)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Score one batch."""
        if not trainer.sanity_checking:
            self._score(outputs, batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Score one batch; count the cost on the first."""
        self._score(outputs, batch)
        if self._macs is None:
            one = {name: value[:1] for name, value in batch.items() if isinstance(value, Tensor) and value.ndim == 4}
            self._macs = (count_macs(pl_module, one), list(outputs["prediction"]["sharp"].shape[-2:]))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the means."""
        if not trainer.sanity_checking:
            means, _ = self._finish(trainer, pl_module, "val")
            self.history[trainer.current_epoch] = means[OVERALL]

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the means, write the result and show it."""
        means, columns = self._finish(trainer, pl_module, "test")
        state_dict = pl_module.net.state_dict()
        if not trainer.is_global_zero:
            return
        split, protocol = trainer.datamodule.test_split, self._protocol(trainer)
        index, samples = trainer.datamodule.split(split).index, self._samples
        rows = [
            {"key": samples.key(row), "group": samples.group(row)}
            | {name: _plain(float(column[row])) for name, column in columns.items() if name not in (SEEN, "loss")}
            for row in range(len(samples))
            if columns[SEEN][row]
        ]
        metadata = pl_module.weights_metadata()
        result = Result(
            schema=SCHEMA,
            recipe=metadata["recipe"],
            options=dict(getattr(pl_module.net, "options", {})),
            weights_sha256=weights_hash(state_dict),
            weights_source=str(trainer.ckpt_path or pl_module.init_from or ""),
            dataset=index.dataset,
            dataset_version=index.version,
            split=split,
            fingerprint=index.fingerprint,
            complete=bool(columns[SEEN].all()) and bool(index.preparation.get("complete", True)),
            protocol=protocol.id,
            protocol_description=protocol.description,
            rows=rows,
            means={group: {name: _plain(value) for name, value in values.items()} for group, values in means.items()},
            parameters=count_parameters(pl_module.net),
            macs=self._macs[0] if self._macs else None,
            macs_size=self._macs[1] if self._macs else None,
            code=code_version(),
            made=now(),
            environment={
                "torch": torch.__version__,
                "device": str(pl_module.device),
                "precision": str(trainer.precision),
            },
        )
        path = result_path(self.folder, index.dataset, split, protocol.id)
        save_result(path, result)
        show(result, path)

    def _protocol(self, trainer: Trainer) -> Protocol:
        return get_protocol(self.protocol or trainer.datamodule.card.protocols[0])

    def _begin(self, trainer: Trainer, pl_module: LightningModule, split: str, metrics: tuple[str, ...]) -> None:
        self._samples = trainer.datamodule.evaluation_samples(split)
        self._names = metrics
        limited = (
            trainer.limit_val_batches != 1.0
            if trainer.validating or trainer.training
            else trainer.limit_test_batches != 1.0
        )
        has_input = "combined" in self._samples.fields
        columns = [*metrics, *(f"input_{name}" for name in metrics if has_input), "loss"]
        self._table = PerImageScores(columns, len(self._samples), partial=limited or bool(trainer.fast_dev_run)).to(
            pl_module.device
        )

    def _score(self, outputs: Mapping[str, Any], batch: Mapping[str, Any]) -> None:
        target = batch["sharp"]
        scores = {"loss": outputs["loss"].detach().double().expand(len(batch["index"]))}
        scores |= self._compare("", outputs["prediction"]["sharp"].float(), target)
        if "combined" in self._samples.fields:
            scores |= self._compare("input_", batch["combined"], target)
        self._table.update(batch["index"], scores)

    def _compare(self, prefix: str, image: Tensor, target: Tensor) -> dict[str, Tensor]:
        scores = {prefix + name: FUNCTIONS[name](image, target) for name in self._names if name in FUNCTIONS}
        if "lpips" in self._names and self._perceptual is not None:
            with torch.inference_mode():
                scores[prefix + "lpips"] = self._perceptual(image, target)
        return scores

    def _finish(
        self, trainer: Trainer, pl_module: LightningModule, stage: str
    ) -> tuple[dict[str, dict[str, float | None]], dict[str, Tensor]]:
        columns = {name: column.cpu() for name, column in self._table.compute().items()}
        groups = [self._samples.group(row) for row in range(len(self._samples))]
        means = summarise(columns, groups)
        for group, values in means.items():
            prefix = f"{stage}/" if group == OVERALL else f"{stage}/{group}/"
            known = {
                prefix + name: value for name, value in values.items() if value is not None and math.isfinite(value)
            }
            pl_module.log_dict(known, rank_zero_only=False, sync_dist=False)
        return means, columns


def _plain(value: float | None) -> float | None | str:
    """JSON knows neither NaN nor infinity."""
    if value is None or math.isnan(value):
        return None
    return "inf" if math.isinf(value) else value


def show(result: Result, path: Path) -> None:
    """Print a result as a table, the protocol beside it."""
    table = Table(
        title=f"{result.recipe} on {result.dataset} {result.split}, protocol {result.protocol}", title_justify="left"
    )
    names = [name for name in result.means[OVERALL] if not name.startswith("input_") and name != "loss"]
    for heading in ["", "images", *[name.upper() for name in names]]:
        table.add_column(heading, justify="right" if heading else "left")
    groups = {group: values for group, values in result.means.items() if group == OVERALL or len(result.means) > 2}
    for group, values in groups.items():  # a single group would repeat the line above it
        count = sum(row["group"] == group or group == OVERALL for row in result.rows)
        for said, prefix in (("input", "input_"), ("output", "")):
            cells = [values.get(prefix + name) for name in names]
            if any(cell is not None for cell in cells):
                table.add_row(
                    f"{group} {said}", str(count), *("" if cell is None else f"{float(cell):.4f}" for cell in cells)
                )
    console().print(table)
    macs = (
        f", {result.macs / 1e9:.3f} G multiply-accumulates at {result.macs_size[0]}x{result.macs_size[1]}"
        if result.macs
        else ""
    )
    print(f"{result.parameters:,} parameters{macs}; data {result.fingerprint}; written to {path}")
