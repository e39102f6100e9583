"""MDP, the multi-task dual-pixel network: sharp image and both dual-pixel views from one blurry image.

Source: Abuolaim, Afifi and Brown, "Improving Single-Image Defocus Deblurring: How Dual-Pixel Images Help Through
Multi-Task Learning", WACV 2022, section 3.1 and figure 3; authors' code
https://github.com/Abdullah-Abuolaim/multi-task-defocus-deblurring-dual-pixel-nimat.
"""

from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from dualpixel.blocks.stitched_decoders import StitchedDecoders, Stitching, run
from dualpixel.blocks.unet import EncoderBlock, initialise_as_keras

Outputs = Literal["all", "sharp", "views"]

CHANNELS = (64, 128, 256, 512, 1024)
"""Output channels of E-Block 1 to 4 and of each decoder's bottleneck."""

BRANCHES: dict[Outputs, tuple[str, ...]] = {
    "all": ("left", "right", "sharp"),
    "sharp": ("sharp",),
    "views": ("left", "right"),
}


class MDP(nn.Module):
    """One encoder and three stitched decoders: left view, right view and sharp image; 46,860,397 parameters.

    Args:
        width: factor on the published channel counts, rounded, at least one channel each; 1.0 is the paper's network.
            Ours.
        residual: ours, for short trainings: each output is added to the combined image instead of going through the
            sigmoid, the ReLUs of the three-channel layers are left out, and the last 1x1 convolutions start at zero, so
            that training starts from the blurry image.
        outputs: which decoders there are. "sharp" and "views" are for the single tasks of the paper's table 3; only these
            decoders exist then, and they are stitched among themselves (16,875,599 and 31,720,542 parameters).
        stitching: where the decoders see each other's features (table S1): "middle" is the paper's network, "late" has
            46,196,845 parameters and "none" 45,975,661; see `StitchedDecoders`.
        checkpointing: whether activations are computed again in the backward pass instead of being kept: two fifths of the
            memory and a third more time in a training step, the same gradients.

    Attributes:
        multiple: what height and width must be divisible by.
        halo: how far outside a square of `multiple` pixels the network looks: 70 pixels up and left, 86 down and right,
            rounded up to `multiple`. `blocks.tiling` computes parts of large images exactly with it.
        options: the arguments above, as plain JSON types; stored beside the weights.
        silent_options: those that change what is computed, and neither name nor shape of a weight: weights stored with
            others are refused.

    Raises:
        ValueError: an argument is out of range.

    Differences:
        The paper says that the network is about as large as DPDNet (31.04 million parameters). That of the authors' code,
        which the published weights need, is half as large again, and takes 2.46 times DPDNet's multiply-accumulates. The
        networks of table 3's single tasks, "approximately the same capacity", are not described, and its row for deblurring
        has the scores of DPDNet's single-image variant in table 1: what `outputs` builds is ours. Figure 3 does not give the
        layers; they follow the code, as do the 3x3 convolution to three channels with a ReLU before each last 1x1
        convolution, and the ReLU behind each 2x2 convolution. Channels are RGB here, BGR in the authors' code; the converter
        of published weights permutes the first and the three last layers.
    """

    multiple = 16
    silent_options = ("residual",)
    halo = 96

    def __init__(
        self,
        width: float = 1.0,
        residual: bool = False,
        outputs: Outputs = "all",
        stitching: Stitching = "middle",
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if not width > 0:
            raise ValueError(f"width={width}: must be positive; 1.0 is the published network")
        if outputs not in get_args(Outputs):
            raise ValueError(f"outputs={outputs!r}: allowed are {', '.join(map(repr, get_args(Outputs)))}")
        self.options = {
            "width": width,
            "residual": residual,
            "outputs": outputs,
            "stitching": stitching,
            "checkpointing": checkpointing,
        }
        self.residual = residual

        channels = [max(1, round(width * one)) for one in CHANNELS]
        level1, level2, level3, level4, _ = channels
        self.enc1 = EncoderBlock(3, level1)
        self.enc2 = EncoderBlock(level1, level2)
        self.enc3 = EncoderBlock(level2, level3)
        self.enc4 = EncoderBlock(level3, level4, convolutions=1)
        self.decoders = StitchedDecoders(
            BRANCHES[outputs], channels, stitching, rectify=not residual, checkpointing=checkpointing
        )

        initialise_as_keras(self)
        if residual:
            for branch in self.decoders.branches.values():
                nn.init.zeros_(branch.out.conv1x1.weight)

    def forward(self, image: Tensor, combined: Tensor | None = None) -> dict[str, Tensor]:
        """Deblur, and predict the views (equations 4 and 5).

        Args:
            image: (B, 3, H, W), the combined image, RGB in [0, 1]; H and W multiples of 16.
            combined: (B, 3, H, W), the image that a residual network corrects; without it, `image`. Not used otherwise.

        Returns:
            "left", "right" and "sharp", or those of them that the network has: (B, 3, H, W), in [0, 1]; not clamped where
            the network is residual.

        Raises:
            ValueError: the number of channels, or H or W, does not fit.
        """
        if image.ndim != 4 or image.shape[1] != 3:
            raise ValueError(f"MDP takes one image (B, 3, H, W), found {tuple(image.shape)}")
        if image.shape[-2] % self.multiple or image.shape[-1] % self.multiple:
            raise ValueError(
                f"MDP takes heights and widths that are multiples of {self.multiple}, "
                f"found {image.shape[-2]} x {image.shape[-1]}: pad with dualpixel.blocks.padding.run_padded"
            )
        compute = partial(run, recompute=self.options["checkpointing"])
        skip1, features = compute(self.enc1, image)
        skip2, features = compute(self.enc2, features)
        skip3, features = compute(self.enc3, features)
        skip4, features = compute(self.enc4, features)
        images = self.decoders(features, (skip1, skip2, skip3, skip4))
        if not self.residual:
            return {name: torch.sigmoid(one) for name, one in images.items()}
        blurry = image if combined is None else combined
        return {name: blurry + one for name, one in images.items()}
