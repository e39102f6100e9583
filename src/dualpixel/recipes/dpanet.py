"""DPANet: training and prediction.

Li, Ren, Yi, Li and Zuo, "Learning Dual-Pixel Alignment for Defocus Deblurring".
"""

from typing import Any, Literal, get_args

from torch import Tensor
from torch.nn import functional

from dualpixel.blocks.padding import run_padded
from dualpixel.losses.functional import charbonnier
from dualpixel.nets.dpanet import DPANet
from dualpixel.recipes.base import Batch, Prediction, Recipe, stack_views

Loss = Literal["charbonnier", "mse"]


class DPANetRecipe(Recipe):
    """Charbonnier loss (section III-C, equation 6) or mean squared error between the network's output and the sharp image.

    Args:
        net: the network.
        loss: "charbonnier", with epsilon 1e-3, is the paper's. "mse" is its ablation 3, and what the authors' program begins
            with before it goes on with the other.
        kwargs: as for every recipe: optimizer, scheduler, schedule_interval, init_from.

    Raises:
        ValueError: an unknown loss.

    Differences: images of any size are padded by reflection to a multiple of 8 and cropped back; the authors' program takes
    multiples of 4 only, which DPDD's are. The authors keep the epoch that is best on the test set; ours is chosen on
    the validation set. They read 16-bit files as 8 bits; ours stay 16, and the protocol
    dpanet-8bit scores as they do.
    """

    net: DPANet

    def __init__(self, net: DPANet, loss: Loss = "charbonnier", **kwargs: Any) -> None:
        super().__init__(net, **kwargs)
        if loss not in get_args(Loss):
            raise ValueError(f"loss={loss!r}: allowed are {', '.join(map(repr, get_args(Loss)))}")
        self.loss = loss

    @property
    def name(self) -> str:
        """Which of the two stages this is."""
        return "dpanet" if self.loss == "charbonnier" else "dpanet_mse"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Left and right view."""
        return ("left", "right")

    def forward(self, batch: Batch) -> Prediction:
        """Return ``sharp`` (B, 3, H, W) in [0, 1]; see `Recipe.forward`."""
        left, right = stack_views(batch, self.inputs).chunk(2, dim=1)
        sharp = run_padded(self.net, self.net.multiple, left, right, batch.get("combined"))
        if self.net.residual and not self.training:
            sharp = sharp.clamp(0, 1)  # in training a clamped pixel would have no gradient
        return {"sharp": sharp}

    def loss_terms(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """Return the loss as a mean over all elements."""
        measure = charbonnier if self.loss == "charbonnier" else functional.mse_loss
        return {self.loss: measure(prediction["sharp"], batch["sharp"])}
