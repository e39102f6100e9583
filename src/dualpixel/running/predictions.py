"""Predictions as image files."""

from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from dualpixel.data.images import write_png
from dualpixel.data.samplers import NOT_COUNTED
from dualpixel.data.stream import to_stored
from dualpixel.errors import DualPixelError
from dualpixel.recipes.outputs import VIEWS, trained_outputs
from dualpixel.running.blur_maps import MapFormat, write_blur
from dualpixel.running.folder import InRunFolder

Write = Literal["sharp", "views", "all"]
NEEDED: dict[Write, tuple[str, ...]] = {"sharp": ("sharp",), "views": VIEWS, "all": (*VIEWS, "sharp")}


class WritePredictions(InRunFolder):
    """Writes what is predicted into ``predictions/`` of the run's folder, as PNG of 16 bits per channel, while `predict` runs.

    Args:
        output: another folder to write to.
        write: "sharp" writes NAME.png. "views" writes left/NAME.png and right/NAME.png, and beside them combined/NAME.png, the
            input itself: a folder that every recipe for dual-pixel photographs takes as ``--data.predict_source``. "all" writes
            sharp/NAME.png beside those. On the command line of `predict` plain ``--write views`` is enough.
        maps: format of the blur that a recipe such as DDDNet predicts: blur/NAME.npy or .exr (float32), or .png of 16 bits
            ("png16": round((blur + offset) * scale)); beside it blur_colour/NAME.png, a picture with a scale bar. "none" writes
            neither. What is written is the signed blur radius in pixels: of a recipe that has a method ``radius`` what this makes
            of the network's own quantity; blur/maps.json holds the numbers, and those of "png16".

    All images of a photograph have 16 bits: an input of 16 bits is written bit for bit; of one of 8 bits each value k becomes
    257 k, which is the same brightness exactly, so that the three can be read together. Predictions are rounded to the nearest of
    16 bits; the protocol ``mdp-views-16bit`` truncates them, as MDP's authors do, so views read from here may be 1 of 65535 brighter.
    """

    def __init__(self, output: Path | None = None, write: Write = "sharp", maps: MapFormat = "npy") -> None:
        super().__init__()
        self.output, self.write, self.maps = output, write, maps
        self.written = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse to write what the recipe does not predict, before anything runs.

        Raises:
            DualPixelError: it does not predict that, or is not trained to; or its radii have one sign and its network two.
        """
        super().setup(trainer, pl_module, stage)
        outputs = trained_outputs(pl_module)
        missing = [name for name in NEEDED[self.write] if name not in outputs]
        if stage == "predict" and missing:
            possible = [write for write, needed in NEEDED.items() if set(needed) <= set(outputs)]
            raise DualPixelError(
                f"--write {self.write}: {pl_module.name} is trained to predict {' and '.join(outputs) or 'no image'}, not "
                f"{' and '.join(missing)}; "
                + (f"give --write {' or '.join(possible)}" if possible else "take another recipe")
            )
        if stage == "predict" and self.maps != "none" and getattr(pl_module, "renders_half", False):
            raise DualPixelError(
                f"--predictions.maps {self.maps}: the network knows blur of both signs, these settings of {pl_module.name} make radii of "
                "one: give the configuration that it was trained with, --config runs/RUN/config.yaml, or --predictions.maps none"
            )

    def target_folder(self) -> Path:
        """Return the folder written to."""
        return Path(self.output) if self.output else self.folder / "predictions"

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the images of one batch, and its maps of blur where there are any."""
        for row, key in enumerate(batch["key"]):
            if int(batch["index"][row]) == NOT_COUNTED:
                continue
            for name, image in self._files(outputs, batch).items():
                write_png(self.target_folder() / name / f"{key}.png", to_stored(image[row]))
                self.written += 1
            if "blur" in outputs:
                blur = _radius(pl_module, outputs["blur"][row, 0].detach().float()).cpu().numpy()
                write_blur(self.target_folder(), key, blur, self.maps, _origin(pl_module))

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add up what all processes wrote."""
        self.written = int(
            trainer.strategy.reduce(torch.tensor(float(self.written), device=pl_module.device), reduce_op="sum")
        )

    def _files(self, outputs: Any, batch: Any) -> dict[str, Tensor]:
        """Return folder -> images of a batch; "" is the folder itself."""
        if self.write == "sharp":
            return {"": outputs["sharp"]}
        inputs = {"combined": batch["combined"]} if "combined" in batch else {}
        return {name: outputs[name] for name in NEEDED[self.write]} | inputs


def _radius(recipe: LightningModule, blur: Tensor) -> Tensor:
    """Return the signed blur radius that predicted blur stands for, pixels."""
    return recipe.radius(blur) if hasattr(recipe, "radius") else blur


def _origin(recipe: LightningModule) -> dict[str, Any]:
    """Return what says how `_radius` made it."""
    if not hasattr(recipe, "radius"):
        return {}
    numbers = {name: getattr(recipe, name) for name in ("reblur_scale", "reblur_offset", "reblur_minimum")}
    return {
        "network": "radius = reblur_scale * what the network gives + reblur_offset, not below reblur_minimum"
    } | numbers
