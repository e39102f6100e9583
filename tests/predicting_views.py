"""A small recipe that predicts the sharp image and both views from the combined one, and the YAML that names it."""

from pathlib import Path

import torch
import yaml
from torch import nn
from torch.nn import functional

from dualpixel.recipes import Recipe
from dualpixel.weights.files import save_weights

NAME = "three_outputs"
OUTPUTS = ("left", "right", "sharp")


class ThreeOutputs(nn.Module):
    """Corrects the combined image by one convolution; begins without any correction but a brightness for each output."""

    def __init__(self, brightness: float = 0.0):
        super().__init__()
        self.options = {"brightness": brightness}
        self.convolution = nn.Conv2d(3, 9, 5, padding=2)
        nn.init.zeros_(self.convolution.weight)
        self.convolution.bias.data = torch.tensor([1.0, -1.0, 0.5]).repeat_interleave(3) * brightness

    def forward(self, combined):
        corrections = self.convolution(combined).chunk(3, dim=1)
        return {name: combined + one for name, one in zip(OUTPUTS, corrections, strict=True)}


class ThreeOutputsRecipe(Recipe):
    """Mean squared error of the views and, unless it is frozen, of the sharp image."""

    name = NAME
    inputs = ("combined",)

    def __init__(self, net: ThreeOutputs, freeze_sharp: bool = False, **kwargs):
        super().__init__(net, **kwargs)
        self.freeze_sharp = freeze_sharp

    @property
    def targets(self):
        return OUTPUTS[:2] if self.freeze_sharp else OUTPUTS

    def forward(self, batch):
        prediction = self.net(batch["combined"])
        return prediction if self.training else {name: one.clamp(0, 1) for name, one in prediction.items()}

    def loss_terms(self, batch, prediction):
        return {name: functional.mse_loss(prediction[name], batch[name]) for name in self.targets}


def write_recipe(folder: Path) -> Path:
    """Write ``recipes/three_outputs.yaml``, which is found by its name from within the folder."""
    content = {
        "model": {
            "class_path": "predicting_views.ThreeOutputsRecipe",
            "init_args": {
                "net": {"class_path": "predicting_views.ThreeOutputs", "init_args": {"brightness": 0.0}},
                "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 2e-4}},
            },
        },
    }
    path = folder / "recipes" / f"{NAME}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    return path


def write_weights(path: Path, brightness: float = 0.02) -> Path:
    """Write weights that add `brightness` to the left view, take it from the right one, and add half of it to the sharp image."""
    recipe = ThreeOutputsRecipe(ThreeOutputs(brightness))
    save_weights(path, recipe.net.state_dict(), recipe.weights_metadata())
    return path
