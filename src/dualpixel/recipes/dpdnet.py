"""DPDNet and DPDNet-Single: training and prediction.

Abuolaim and Brown, "Defocus Deblurring Using Dual-Pixel Data", ECCV 2020.
"""

from torch import Tensor
from torch.nn import functional

from dualpixel.blocks.padding import run_padded
from dualpixel.nets.dpdnet import DPDNet
from dualpixel.recipes.base import Batch, Prediction, Recipe, stack_views


class DPDNetRecipe(Recipe):
    """Mean squared error between the network's output and the sharp image (section 5, equation 2).

    Differences: images of any size are padded by reflection to a multiple of 16 and cropped back; the authors' program takes
    1680x1120 only, which needs no padding, and resizes everything else.
    """

    net: DPDNet

    @property
    def name(self) -> str:
        """Which of the paper's two networks this is."""
        return "dpdnet" if self.net.options["views"] == "dual" else "dpdnet_single"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Left and right view, or the combined image for DPDNet-Single."""
        return ("left", "right") if self.net.options["views"] == "dual" else ("combined",)

    def forward(self, batch: Batch) -> Prediction:
        """Return ``sharp`` (B, 3, H, W) in [0, 1]; see `Recipe.forward`."""
        views = stack_views(batch, self.inputs)
        sharp = run_padded(self.net, self.net.multiple, views, batch.get("combined"))
        if self.net.residual and not self.training:
            sharp = sharp.clamp(0, 1)  # in training a clamped pixel would have no gradient
        return {"sharp": sharp}

    def loss_terms(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """Return the mean squared error over all elements."""
        return {"mse": functional.mse_loss(prediction["sharp"], batch["sharp"])}
