"""K3DN: training in two stages, or in one, and prediction.

Yang, Pan, Liu and Liu, "K3DN: Disparity-aware Kernel Estimation for Dual-Pixel Defocus Deblurring", CVPR 2023.
"""

from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from dualpixel.blocks.padding import pad_to, run_padded
from dualpixel.errors import DualPixelError
from dualpixel.losses.functional import charbonnier, edge_charbonnier, frequency_l1
from dualpixel.nets.k3dn import K3DN, recipe_name
from dualpixel.recipes.base import Batch, Prediction, Recipe, stack_views

Loss = Literal["charbonnier", "l1", "mse"]
LOSSES = {"charbonnier": charbonnier, "l1": functional.l1_loss, "mse": functional.mse_loss}


class K3DNRecipe(Recipe):
    """L = L_deb(I, I^) + lambda_1 L_reb(B, B^) (equation 18): deblur the pair, and blur the sharp image by the same kernels.

    A network without SRP blocks is trained whole: the first stage. One with SRP blocks trains these alone, on top of the
    first stage's weights (`init_from`), with everything else frozen and the disparity estimator in eval mode, whose
    running statistics would drift otherwise: the second stage. `joint` trains such a network whole, from scratch.

    Args:
        net: the network.
        joint: whether a network with SRP blocks is trained whole.
        reblur_weight: lambda_1; 0 leaves the reblurring out (table 4).
        loss: what both losses measure between an image and its target, a mean over elements.
        edge_weight: how much of the same between their edges is added, as a Charbonnier loss.
        frequency_weight: how much of the difference of their amplitudes in the frequency domain is added.
        kwargs: as for every recipe: optimizer, scheduler, schedule_interval, init_from.

    Raises:
        ValueError: an unknown loss, a negative weight, or reblurring with a network that has no PSF blocks.

    Differences:
        The paper says only optimizer, learning rate, batch size and equation 18, and that the network is trained end to end;
        the released networks come from two stages. Losses, weights, schedule, crops and lengths are not published: all
        of these are ours. Reblurring takes place in training only, as in the paper, so the loss of validation is L_deb
        alone. Images of any size are mirrored at the bottom and the right up to the next size that the network's windows
        take; the authors resize, which the protocol k3dn-1152x1792 does.
    """

    net: K3DN

    def __init__(
        self,
        net: K3DN,
        joint: bool = False,
        reblur_weight: float = 0.1,
        loss: Loss = "charbonnier",
        edge_weight: float = 0.05,
        frequency_weight: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(net, **kwargs)
        if loss not in get_args(Loss):
            raise ValueError(f"loss={loss!r}: allowed are {', '.join(map(repr, get_args(Loss)))}")
        weights = {"reblur_weight": reblur_weight, "edge_weight": edge_weight, "frequency_weight": frequency_weight}
        for name, value in weights.items():
            if value < 0:
                raise ValueError(f"{name}={value}: must not be negative")
        if reblur_weight and net.estimator is None:
            raise ValueError(
                f"reblur_weight={reblur_weight}: psf={net.options['psf']!r} has no kernels to blur by; set it to 0"
            )
        self.reblur_weight, self.loss, self.edge_weight, self.frequency_weight = (
            reblur_weight,
            loss,
            edge_weight,
            frequency_weight,
        )
        self.only_srp = net.srp is not None and not joint
        if self.only_srp:
            net.requires_grad_(False)
            net.srp.requires_grad_(True)
            self.train()

    @property
    def name(self) -> str:
        """Which variant and stage this is."""
        return recipe_name(self.net.options)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Left and right view, or the combined image."""
        return ("left", "right") if self.net.options["views"] == "dual" else ("combined",)

    def train(self, mode: bool = True) -> "K3DNRecipe":
        """Set the mode; a frozen disparity estimator stays in eval mode."""
        super().train(mode)
        if self.only_srp and self.net.estimator is not None:
            self.net.estimator.eval()
        return self

    def setup(self, stage: str) -> None:
        """Refuse to train a network in its form for inference; see `Recipe.setup`."""
        if stage == "fit" and self.net.cached:
            raise DualPixelError(
                f"{self.name}: kernels in the form for inference cannot be trained: set model.net.init_args.cached to false"
            )
        super().setup(stage)

    def on_fit_start(self) -> None:
        """Refuse to train SRP blocks on top of random weights. Only from here on is known whether a run is resumed."""
        if self.only_srp and self.init_from is None and not self.trainer.ckpt_path:
            raise DualPixelError(
                f"{self.name} trains its SRP blocks on top of the first stage: give its weights by --model.init_from "
                "RUN/checkpoints/best.ckpt, or train the whole network by --model.joint true"
            )

    def complete(self, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of a first stage with new SRP blocks, where training begins with them."""
        lacking = self.net.srp is not None and not any(name.startswith("srp.") for name in state_dict)
        if not lacking or self._trainer is None or self.trainer.state.fn != "fit":
            return state_dict
        own = {name: value for name, value in self.net.state_dict().items() if name.startswith("srp.")}
        return {**state_dict, **own}

    def forward(self, batch: Batch) -> Prediction:
        """Return ``sharp`` (B, 3, H, W) in [0, 1], see `Recipe.forward`; in training, of a batch with ``sharp``, ``reblurred`` too."""
        views, combined = stack_views(batch, self.inputs), batch.get("combined")
        if not self.training:
            return {"sharp": run_padded(self.net, self.net.padded_size, views, combined).clamp(0, 1)}
        reblur = self.reblur_weight > 0 and "sharp" in batch
        return run_padded(self._both, self.net.padded_size, views, combined, batch["sharp"] if reblur else None)

    def _both(self, views: Tensor, combined: Tensor | None, sharp: Tensor | None) -> Prediction:
        """Deblur, and blur by the same kernels; not clamped, since a clamped pixel would have no gradient."""
        style = self.net.estimate(views)
        prediction = {"sharp": self.net.deblur(views, style, combined)}
        return prediction if sharp is None else {**prediction, "reblurred": self.net.reblur(sharp, style)}

    def loss_terms(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """Return ``deblur`` and, where the prediction has ``reblurred``, ``reblur``."""
        terms = {"deblur": self.distance(prediction["sharp"], batch["sharp"])}
        if "reblurred" in prediction:
            terms["reblur"] = self.reblur_weight * self.distance(prediction["reblurred"], self.blurry(batch))
        return terms

    def blurry(self, batch: Batch) -> Tensor:
        """Return B, what a sensor without halves would see: the mean of the views (equation 2), or the one image there is."""
        return torch.stack([batch[name] for name in self.inputs]).mean(0)

    def distance(self, image: Tensor, target: Tensor) -> Tensor:
        """Measure an image against its target as the settings say."""
        total = LOSSES[self.loss](image, target)
        if self.edge_weight:
            total = total + self.edge_weight * edge_charbonnier(image, target)
        if self.frequency_weight:
            total = total + self.frequency_weight * frequency_l1(image, target)
        return total

    @torch.no_grad()
    def diagnostics(self, batch: Batch, prediction: Prediction) -> dict[str, float]:
        """Say how far blurring is from inverting deblurring.

        Returns:
            ``reverse_error/block I`` and ``reverse_error/all``: see `K3DN.reverse_errors`. ``reblur_error/of sharp``: the root mean
            square difference of the blurred sharp image from B, which the reblur loss makes small; ``reblur_error/of
            output``: of the blurred output; ``reblur_error/not blurred``: of the sharp image as it is, which blurring should
            fall below. Nothing for networks that cannot blur.
        """
        if self.net.estimator is None or self.net.cached:
            return {}
        views, blurry = stack_views(batch, self.inputs), self.blurry(batch)
        padded = pad_to(views, *self.net.padded_size(*views.shape[-2:]))
        style = self.net.estimate(padded)
        figures = {f"reverse_error/{name}": value for name, value in self.net.reverse_errors(padded, style).items()}
        compared = {"not blurred": batch["sharp"]}
        for name, image in {"of sharp": batch["sharp"], "of output": prediction["sharp"]}.items():
            compared[name] = run_padded(lambda one: self.net.reblur(one, style), self.net.padded_size, image)
        for name, image in compared.items():
            figures[f"reblur_error/{name}"] = float((image - blurry).square().mean().sqrt())
        return figures
