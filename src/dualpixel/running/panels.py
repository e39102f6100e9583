"""Pictures of what a network does to some scenes, drawn during validation and test."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from dualpixel.metrics.functional import psnr
from dualpixel.recipes.outputs import trained_outputs
from dualpixel.running.folder import DuringEvaluation
from dualpixel.running.panel_sheet import draw_panel, draw_views_panel
from dualpixel.terminal import warn


class Panels(DuringEvaluation):
    """Draws a panel of chosen scenes into ``panels/`` of the run, and hands it to the loggers that take images.

    These get one image for each scene, ``val/panels/KEY``, so that a scene can be followed over the steps of training; its caption
    says the PSNR.

    A panel shows what is scored: inputs, output, target and errors of the sharp image, and the blur where it is predicted; of
    predicted views each of them, and their difference (see `dualpixel.running.panel_sheet`).

    Args:
        count: how many scenes of each evaluation, the first ones; 0 draws none.
        keys: draw the scenes of these keys in their place.
        every_n_validations: draw at every n-th validation; `test` always draws.
        error_gain: what errors are multiplied with to be seen.
    """

    def __init__(
        self, count: int = 2, keys: list[str] | None = None, every_n_validations: int = 1, error_gain: float = 5.0
    ) -> None:
        super().__init__()
        self.count, self.keys, self.every_n_validations, self.error_gain = count, keys, every_n_validations, error_gain
        self.drawn: dict[str, list[Path]] = {}
        """Evaluation (``val-step00000270``, ``test-NAME``) -> the panels this process drew."""
        self._captions: dict[str, dict[str, str]] = {}
        self._validations = 0

    def batch(self, trainer: Trainer, recipe: LightningModule, stage: str, outputs: Any, batch: Any) -> None:
        """Draw the chosen scenes of a batch."""
        if stage == "test" or self._validations % self.every_n_validations == 0:
            scored = trained_outputs(recipe, outputs["prediction"], batch)
            made = {name: outputs["prediction"][name] for name in scored}
            self._draw(_stem(trainer, recipe, stage), made, batch, _maps(outputs["prediction"], batch))

    def end(self, trainer: Trainer, recipe: LightningModule, stage: str) -> None:
        """Hand the panels to the loggers."""
        self._validations += stage == "val"
        self._log(trainer, _stem(trainer, recipe, stage), stage)

    def _draw(
        self, stem: str, outputs: Mapping[str, Tensor], batch: Mapping[str, Any], maps: Mapping[str, Tensor]
    ) -> None:
        for row, key in enumerate(batch["key"] if outputs else ()):
            index = int(batch["index"][row])
            if key in self.keys if self.keys else 0 <= index < self.count:
                images = {name: batch[name][row] for name in ("left", "right", "combined") if name in batch}
                made = {name: image[row] for name, image in outputs.items()}
                wanted = {name: batch[name][row] for name in made}
                path = self.folder / "panels" / f"{stem}-{key}.png"
                try:
                    if "left" in made:
                        draw_views_panel(path, key, batch["combined"][row], made, wanted, self.error_gain)
                    else:
                        shown = {name: one[row] for name, one in maps.items()}
                        draw_panel(path, key, images, made["sharp"], wanted["sharp"], self.error_gain, shown)
                except OSError as error:  # a training is worth more than its pictures
                    warn(f"the panel {path} cannot be written ({error.strerror})")
                    continue
                self.drawn.setdefault(stem, []).append(path)
                self._captions.setdefault(stem, {})[key] = _caption(images.get("combined"), made, wanted)

    def _log(self, trainer: Trainer, stem: str, stage: str) -> None:
        captions = _of_all(trainer, self._captions.pop(stem, {}))  # other processes draw their own scenes
        step = max(0, trainer.global_step - 1)  # where the scores of the same validation are logged
        if not trainer.is_global_zero:
            return
        for key, caption in sorted(captions.items()):
            path = str(self.folder / "panels" / f"{stem}-{key}.png")
            for logger in trainer.loggers:
                if hasattr(logger, "log_image"):
                    logger.log_image(f"{stage}/panels/{key}", [path], step, caption=[f"{stem}: {caption}"])


def _of_all(trainer: Trainer, mine: dict[str, str]) -> dict[str, str]:
    """Return the captions of all processes."""
    if trainer.world_size == 1:
        return mine
    found: list[dict[str, str]] = [{}] * trainer.world_size
    torch.distributed.all_gather_object(found, mine)
    return {key: caption for one in found for key, caption in one.items()}


def _caption(unprocessed: Tensor | None, made: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Say the PSNR of each image, and that of the input in its place."""
    said = []
    for name, image in made.items():
        before = "" if unprocessed is None else f" (input {_psnr(unprocessed, wanted[name]):.2f})"
        said.append(f"{name} {_psnr(image, wanted[name]):.2f} dB{before}")
    return ", ".join(said)


def _psnr(image: Tensor, target: Tensor) -> float:
    return float(psnr(image[None].float(), target[None].float())[0])


def _maps(prediction: Mapping[str, Tensor], batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the predicted maps of blur and, where the data know it, the true one."""
    maps = {name: prediction[name] for name in ("coarse", "blur") if name in prediction}
    return maps | ({"true blur": batch["blur"]} if maps and "blur" in batch else {})


def _stem(trainer: Trainer, recipe: LightningModule, stage: str) -> str:
    return f"val-step{recipe.steps_trained:08d}" if stage == "val" else f"test-{trainer.datamodule.card.name}"
