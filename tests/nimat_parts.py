"""A network that moves the left view to the left and the right view to the right, and its recipe."""

import torch
import yaml
from torch import nn

from dualpixel.recipes import Recipe
from dualpixel.weights.files import save_weights

SHIFT = 3


class Shifting(nn.Module):
    """Moves an image by the pixels that its weights say; black comes in at the border."""

    multiple = 16
    halo = 16

    def __init__(self, views: bool = True) -> None:
        super().__init__()
        self.options = {"views": views}
        self.register_buffer("shift", torch.zeros((), dtype=torch.int64))

    def moved(self, image: torch.Tensor, shift: int) -> torch.Tensor:
        moved = image.roll(shift, dims=-1)
        moved[..., : max(shift, 0)] = 0
        moved[..., image.shape[-1] + min(shift, 0) :] = 0
        return moved

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        assert not image.shape[-1] % 16 and not image.shape[-2] % 16
        shift = int(self.shift)
        views = {"left": self.moved(image, -shift), "right": self.moved(image, shift)}
        return {"sharp": image, **(views if self.options["views"] else {})}


class ShiftingRecipe(Recipe):
    """Predicts both views of the combined image."""

    name = "shifting"
    inputs = ("combined",)

    def forward(self, batch):
        return self.net(batch["combined"])

    def loss_terms(self, batch, prediction):
        return {}


def write_shifting(folder, shift=SHIFT, views=True):
    """Write the recipe's YAML and its weights; return both paths as text."""
    net = {"class_path": "nimat_parts.Shifting", "init_args": {"views": views}}
    model = {"class_path": "nimat_parts.ShiftingRecipe", "init_args": {"net": net}}
    recipe, weights = folder / "shifting.yaml", folder / "shifting.safetensors"
    recipe.write_text(yaml.safe_dump({"model": model}))
    save_weights(weights, {"shift": torch.tensor(shift)}, {})
    return str(recipe), str(weights)
