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
from dualpixel.running.blur_maps import BlurFormat, write_blur
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
        maps: format of the blur that a recipe such as DDDNet predicts, pixels: blur/NAME.npy or .exr (float32), or .png of 16 bits
            ("png16": round((blur + offset) * scale), the two numbers in blur/maps.json); beside it blur_colour/NAME.png, a picture
            with a scale bar. "none" writes neither.

    All images of a photograph have 16 bits: an input of 16 bits is written bit for bit; of one of 8 bits each value k becomes
    257 k, which is the same brightness exactly, so that the three can be read together. Predictions are rounded to the nearest of
    16 bits; the protocol ``mdp-views-16bit`` truncates them, as MDP's authors do, so views read from here may be 1 of 65535 brighter.
    """

    def __init__(
        self, output: Path | None = None, write: Write = "sharp", maps: BlurFormat | Literal["none"] = "npy"
    ) -> None:
        super().__init__()
        self.output, self.write, self.maps = output, write, maps
        self.written = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse to write what the recipe does not predict, before anything runs.

        Raises:
            DualPixelError: it does not predict that, or is not trained to.
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
            if "blur" in outputs and self.maps != "none":
                blur = outputs["blur"][row, 0].detach().float().cpu().numpy()
                write_blur(self.target_folder(), key, blur, self.maps)

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
