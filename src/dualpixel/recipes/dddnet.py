"""DDDNet: training with depth or without, tied to the camera by rendering what comes out, and prediction.

Pan, Chowdhury, Hartley, Liu, Zhang and Li, "Dual Pixel Exploration: Simultaneous Depth Estimation and Image
Restoration", CVPR 2021.
"""

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from dualpixel.blocks.padding import run_padded
from dualpixel.losses.depth import reblur_loss, root_norm, share_beyond
from dualpixel.losses.functional import charbonnier
from dualpixel.nets.dddnet import DDDNet
from dualpixel.recipes.base import Batch, Prediction, Recipe, stack_views

Loss = Literal["norm", "mse", "l1", "charbonnier"]
LOSSES = {"norm": root_norm, "mse": functional.mse_loss, "l1": functional.l1_loss, "charbonnier": charbonnier}
Vertical = Literal["sym", "down"]
Weight = Literal["count", "energy"]


class DDDNetRecipe(Recipe):
    """L = L_res + L_d + L_reb (equations 8 to 11): the sharp image, the inverse depth, and the views that both make together.

    Args:
        net: the network.
        restoration: what L_res measures; "norm" is the paper's equation 9 to the letter, the mean length of the pixels'
            differences in colour.
        restoration_weight: of L_res; positive, since photographs without sharp ones are for ``dualpixel adapt``.
        depth_weight: of L_d (equation 10), smooth l1 between the final inverse depth and the data's `blur`; 0 for data without.
        coarse_weight: of the same for the coarse inverse depth.
        reblur_weight: of L_reb (equation 11), which needs no truth; 0 leaves it out.
        reblur_after: epochs before L_reb is switched on, since a blur from random weights renders nothing that can be compared.
        reblur_scale: a of r = a d + b, by which an inverse depth d becomes the signed blur radius r, pixels, that is rendered.
        reblur_offset: b.
        reblur_minimum: radii are not rendered below this, pixels; 0 for data whose blur has one sign, None where it has both.
        reblur_margin: pixels at the borders of a crop that L_reb leaves out, since light from beyond is not known there; at most a
            quarter of the crop is.
        reblur_vertical: vertical place of what is rendered, see `dualpixel.optics.render`; "down" for data rendered by mode
            "released", whose views slide down with the blur.
        reblur_normalise: "count" for such data, "energy" for all other, see there.
        reblur_maximum: radii are clamped to this, pixels.
        kwargs: as for every recipe: optimizer, scheduler, schedule_interval, init_from.

    Raises:
        ValueError: an unknown loss or way to render, a weight that is negative or no number, or radii that cannot be.

    Differences: the paper states the losses and that they are weighted alike; whether the coarse map has a loss, the
        warm-up, the map from depth to radius and the clamp are ours. On data without depth the authors take a monocular
        network's; here L_d is left out. Images of any size are mirrored at the bottom and the right to multiples of 8, from 64 on,
        and cropped back; the authors' program takes such sizes only. The published renderer has no gradient to the blur;
        "rect" stands in for it.
    """

    net: DDDNet

    def __init__(
        self,
        net: DDDNet,
        restoration: Loss = "norm",
        restoration_weight: float = 1.0,
        depth_weight: float = 1.0,
        coarse_weight: float = 1.0,
        reblur_weight: float = 1.0,
        reblur_after: int = 3,
        reblur_scale: float = 1.0,
        reblur_offset: float = 0.0,
        reblur_minimum: float | None = None,
        reblur_margin: int = 0,
        reblur_vertical: Vertical = "sym",
        reblur_normalise: Weight = "energy",
        reblur_maximum: float = 16.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(net, **kwargs)
        self.weights = {
            "restoration": restoration_weight,
            "depth": depth_weight,
            "coarse": coarse_weight,
            "reblur": reblur_weight,
        }
        choices = {"restoration": Loss, "reblur_vertical": Vertical, "reblur_normalise": Weight}
        for name, kind in choices.items():
            value = locals()[name]
            if value not in get_args(kind):
                raise ValueError(f"{name}={value!r}: allowed are {', '.join(map(repr, get_args(kind)))}")
        counts = {"reblur_after": reblur_after, "reblur_margin": reblur_margin}
        for name, value in {**{f"{term}_weight": one for term, one in self.weights.items()}, **counts}.items():
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}={value}: must be a number, and not negative")
        for name, value in {"restoration_weight": restoration_weight, "reblur_maximum": reblur_maximum}.items():
            if not 0 < value < math.inf:
                raise ValueError(f"{name}={value}: must be positive")
        if not math.isfinite(reblur_scale) or reblur_scale == 0 or not math.isfinite(reblur_offset):
            raise ValueError(
                f"reblur_scale={reblur_scale}, reblur_offset={reblur_offset}: must be numbers, and the scale not 0"
            )
        if reblur_minimum is not None and not -math.inf < reblur_minimum < reblur_maximum:
            raise ValueError(f"reblur_minimum={reblur_minimum}: must be below reblur_maximum, {reblur_maximum}")
        self.restoration, self.reblur_after = restoration, reblur_after
        self.reblur_scale, self.reblur_offset, self.reblur_minimum = reblur_scale, reblur_offset, reblur_minimum
        self.reblur_margin = reblur_margin
        self.rendering = {
            "vertical": reblur_vertical,
            "weight": reblur_normalise,
            "maximum_radius": reblur_maximum,
        }
        # nothing asks for the final blur then, and DDP wants all that trains to be used
        if not depth_weight and not reblur_weight:
            net.deblur.depth.requires_grad_(False)

    @property
    def name(self) -> str:
        """Whether this is trained with depth, as on the synthetic set, or without."""
        return "dddnet_syn" if self.weights["depth"] or self.weights["coarse"] else "dddnet"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Left and right view."""
        return ("left", "right")

    @property
    def targets(self) -> tuple[str, ...]:
        """What the loss needs beside the inputs."""
        return ("sharp", "blur") if self.name == "dddnet_syn" else ("sharp",)

    def forward(self, batch: Batch) -> Prediction:
        """Return ``sharp`` (B, 3, H, W) in [0, 1], ``blur`` and ``coarse`` (B, 1, H, W); see `Recipe.forward`.

        ``blur`` is the inverse depth in the units of the data that the network was trained with: for DDD-syn's, the blur
        radius in pixels that the renderer was given.
        """
        left, right = stack_views(batch, self.inputs).chunk(2, dim=1)
        found = run_padded(self.net, self.net.padded_size, left, right, batch.get("combined"))
        sharp = found["sharp"] if self.training else found["sharp"].clamp(0, 1)  # a clamped pixel has no gradient
        return {"sharp": sharp, "blur": found["inverse_depth"], "coarse": found["coarse"]}

    def loss_terms(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """Return ``restoration``, ``depth``, ``coarse`` and ``reblur``, those that have a weight at this epoch.

        A crop without any known blur has terms of zero.
        """
        terms = {"restoration": LOSSES[self.restoration](prediction["sharp"], batch["sharp"])}
        for name, found in {"depth": "blur", "coarse": "coarse"}.items():
            if self.weights[name]:
                known = batch["blur"].isfinite()
                error = functional.smooth_l1_loss(prediction[found][known], batch["blur"][known], reduction="sum")
                terms[name] = error / known.sum().clamp(min=1)
        if self.weights["reblur"] and self.current_epoch >= self.reblur_after:
            terms["reblur"] = self.reblur(prediction["sharp"], self.radius(prediction["blur"]), batch)
        elif self.weights["reblur"] and "depth" not in terms:  # the depth decoder waits, and DDP wants its gradient
            terms["restoration"] = terms["restoration"] + 0 * prediction["blur"].sum()
        return {name: self.weights[name] * term for name, term in terms.items()}

    def reblur(self, sharp: Tensor, radius: Tensor, batch: Batch) -> Tensor:
        """Return L_reb of an image (B, 3, H, W) and signed radii (B, 1, H, W) against the views of a batch, without its weight."""
        margin = min(self.reblur_margin, min(radius.shape[-2:]) // 4)
        return reblur_loss(sharp, radius, batch["left"], batch["right"], margin=margin, **self.rendering)

    def radius(self, blur: Tensor) -> Tensor:
        """Return the signed blur radius in pixels that is rendered for an inverse depth."""
        radius = self.reblur_scale * blur + self.reblur_offset
        return radius if self.reblur_minimum is None else radius.clamp(min=self.reblur_minimum)

    @property
    def renders_half(self) -> bool:
        """Whether the network knows blur of both signs, of which only one is rendered: options of another training."""
        return self.reblur_minimum is not None and self.reblur_minimum >= 0 and bool(self.net.depth.levels.min() < 0)

    @torch.no_grad()
    def diagnostics(self, batch: Batch, prediction: Prediction) -> dict[str, float]:
        """Report blur that lies beyond what network and renderer can do; it is clamped there, never wrapped.

        Returns:
            ``blur_beyond/renderer``: the share of predicted radii that `reblur_maximum` clamps; ``blur_beyond/network``, of data
            with blur: the share of known true ones outside of the levels that the coarse estimate knows.
        """
        figures = {
            "blur_beyond/renderer": float(
                share_beyond(self.radius(prediction["blur"]), self.rendering["maximum_radius"])
            )
        }
        if "blur" in batch:
            levels, known = self.net.depth.levels, batch["blur"].isfinite()
            outside = (batch["blur"] < levels.min()) | (batch["blur"] > levels.max())
            figures["blur_beyond/network"] = float(outside[known].sum() / known.sum().clamp(min=1))
        return figures
