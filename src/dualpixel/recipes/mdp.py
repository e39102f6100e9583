"""MDP: two steps of training, and prediction of the sharp image and of the two dual-pixel views.

Abuolaim, Afifi and Brown, "Improving Single-Image Defocus Deblurring: How Dual-Pixel Images Help Through Multi-Task
Learning", WACV 2022.
"""

from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from dualpixel.blocks.padding import run_padded
from dualpixel.errors import DualPixelError
from dualpixel.losses.views import combined_consistency, difference_consistency
from dualpixel.nets.mdp import MDP
from dualpixel.recipes.base import Batch, Prediction, Recipe, stack_views
from dualpixel.recipes.outputs import VIEWS

SharpTarget = Literal["sharp", "combined"]


class MDPRecipe(Recipe):
    """L = a MSE(s) + b MSE(l, r) + c L_C + d L_D (equations 8 and 9), from the combined image alone.

    In the first step the sharp decoder is frozen (`freeze_sharp`) and a is 0: the network learns to make views, from pairs that
    need no sharp photograph. In the second all of it is trained.

    Args:
        net: the network.
        freeze_sharp: whether the sharp decoder keeps its weights. Its features still reach the decoders of the views where
            these are stitched.
        sharp_weight: a, of the mean squared error of the sharp image.
        views_weight: b, of the mean squared error of both views together; lambda_1 in the second step.
        combined_weight: c, of L_C, equation 6; lambda_2.
        difference_weight: d, of L_D, equation 7; lambda_3.
        half_sum: whether L_C compares the input with half the sum of the views, as their brightness demands; the paper
            prints the sum.
        sharp_target: what the sharp output is compared with. "combined", the blurry input itself, is what the authors' program
            does in its first step.
        kwargs: as for every recipe: optimizer, scheduler, schedule_interval, init_from.

    Raises:
        ValueError: a negative weight, nothing to train for, or an unknown target.

    Differences: images of any size are mirrored at the bottom and the right to multiples of 16 and cropped back; the authors'
        program adds zeros at the top and the left, and scores them, too. DPDD's sizes need neither. Weights are the paper's;
        the authors' program has others (``recipes/ablations/mdp/code*.yaml``).
    """

    net: MDP

    def __init__(
        self,
        net: MDP,
        freeze_sharp: bool = False,
        sharp_weight: float = 1.0,
        views_weight: float = 0.8,
        combined_weight: float = 0.5,
        difference_weight: float = 0.5,
        half_sum: bool = True,
        sharp_target: SharpTarget = "sharp",
        **kwargs: Any,
    ) -> None:
        super().__init__(net, **kwargs)
        self.weights = {
            "sharp": sharp_weight,
            "views": views_weight,
            "combined": combined_weight,
            "difference": difference_weight,
        }
        self.half_sum, self.sharp_target, self.freeze_sharp = half_sum, sharp_target, freeze_sharp
        if sharp_target not in get_args(SharpTarget):
            raise ValueError(
                f"sharp_target={sharp_target!r}: allowed are {', '.join(map(repr, get_args(SharpTarget)))}"
            )
        for name, value in self.weights.items():
            if value < 0:
                raise ValueError(f"{name}_weight={value}: must not be negative")
        if not any(self.weights.values()):
            raise ValueError("all weights are 0: there is nothing to train for")
        if freeze_sharp and "sharp" in net.decoders.branches:
            net.decoders.branches["sharp"].requires_grad_(False)

    @property
    def name(self) -> str:
        """Which of the two steps this is."""
        return "mdp_views" if self.freeze_sharp else "mdp"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The combined image."""
        return ("combined",)

    @property
    def targets(self) -> tuple[str, ...]:
        """What the loss needs beside the input."""
        views = self.weights["views"] or self.weights["difference"]
        sharp = self.weights["sharp"] and self.sharp_target == "sharp"
        trained = (*(VIEWS if views else ()), *(("sharp",) if sharp else ()))
        return tuple(name for name in trained if name in self.net.decoders.branches)

    def setup(self, stage: str) -> None:
        """Refuse to train for outputs that the network does not have; see `Recipe.setup`."""
        outputs = self.net.options["outputs"]
        if stage == "fit" and outputs != "all":
            useless = [
                f"{name}_weight"
                for name, value in self.weights.items()
                if value and (name == "sharp") is (outputs == "views")
            ]
            useless += ["freeze_sharp"] if self.freeze_sharp else []
            if useless:
                raise DualPixelError(
                    f"{self.name}: a network with outputs={outputs} has nothing for {', '.join(useless)}: set to 0 or false "
                    f"--model.{' and --model.'.join(useless)}"
                )
        super().setup(stage)

    def forward(self, batch: Batch) -> Prediction:
        """Return ``sharp``, ``left`` and ``right``, those that the network has, (B, 3, H, W) in [0, 1]; see `Recipe.forward`."""
        prediction = run_padded(self.net, self.net.multiple, stack_views(batch, self.inputs))
        if self.net.options["residual"] and not self.training:
            return {name: image.clamp(0, 1) for name, image in prediction.items()}
        return prediction  # in training a clamped pixel would have no gradient

    def loss_terms(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """Return the terms that have a weight and an output, each a mean over elements."""
        terms = {}
        views = [prediction[name] for name in VIEWS if name in prediction]
        if self.weights["sharp"] and "sharp" in prediction:
            terms["sharp"] = functional.mse_loss(prediction["sharp"], batch[self.sharp_target])
        if self.weights["views"] and views:
            terms["views"] = functional.mse_loss(torch.cat(views, dim=1), stack_views(batch, VIEWS))
        if self.weights["combined"] and views:
            terms["combined"] = combined_consistency(batch["combined"], *views, half=self.half_sum)
        if self.weights["difference"] and views:
            terms["difference"] = difference_consistency(*views, *(batch[name] for name in VIEWS))
        return {name: self.weights[name] * term for name, term in terms.items()}
