"""DPDNet: defocus deblurring from the two dual-pixel views.

Source: Abuolaim and Brown, "Defocus deblurring using dual-pixel data", ECCV 2020, section 4 and figure 5; authors' code
https://github.com/Abdullah-Abuolaim/defocus-deblurring-dual-pixel. Checked layer by layer against that code's network.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from dualpixel.blocks.unet import ConvolutionBlock, DecoderBlock, EncoderBlock, ImageOutput, initialise_as_keras

Views = Literal["dual", "combined"]

CHANNELS = (64, 128, 256, 512, 1024)
"""Output channels of E-Block 1 to 4 and of the bottleneck (figure 5)."""


class DPDNet(nn.Module):
    """U-Net of four levels from two views, or from the combined image alone, to the sharp image.

    31,035,151 parameters with two views, 31,033,423 with the combined image (the paper's DPDNet-Single).

    Args:
        views: "dual" takes the left and the right view, "combined" the one blurry image.
        width: factor on the published channel counts, rounded, at least one channel each; 1.0 is the paper's network.
            Ours.
        dropout: rate of the two dropout layers, at the end of E-Block 4 and of the bottleneck; elements, not channels.
        residual: ours, for short trainings: the network's output is added to the combined image instead of going
            through the sigmoid, the ReLU of the three-channel layer is left out (a channel that it closes for ever
            would have no correction), and the last 1x1 convolution starts at zero, so that training starts from the
            blurry image.

    Attributes:
        multiple: what height and width must be divisible by.
        options: the arguments above, as plain JSON types; stored beside the weights.
        silent_options: those that change what is computed, and neither name nor shape of a weight: weights stored with
            others are refused.

    Raises:
        ValueError: an argument is out of range.

    Differences:
        Three things follow the authors' code where the paper is silent or says otherwise; the published weights need
        them: a 3x3 convolution to three channels with a ReLU stands before the last 1x1 convolution, the skip of
        level 4 is taken after the dropout, and the 2x2 convolution of each D-Block has a ReLU. Channels are RGB here,
        BGR in the authors' code; the converter of published weights permutes the first and the last layer.
    """

    multiple = 16
    silent_options = ("residual",)

    def __init__(
        self,
        views: Views = "dual",
        width: float = 1.0,
        dropout: float = 0.4,
        residual: bool = False,
    ) -> None:
        super().__init__()
        if views not in get_args(Views):
            raise ValueError(f"views={views!r}: allowed are {', '.join(map(repr, get_args(Views)))}")
        if not width > 0:
            raise ValueError(f"width={width}: must be positive; 1.0 is the published network")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout}: must be at least 0 and below 1; 0.4 is the paper's")
        self.options = {"views": views, "width": width, "dropout": dropout, "residual": residual}
        self.in_channels = 6 if views == "dual" else 3
        self.residual = residual

        level1, level2, level3, level4, bottleneck = (max(1, round(width * channels)) for channels in CHANNELS)
        self.enc1 = EncoderBlock(self.in_channels, level1)
        self.enc2 = EncoderBlock(level1, level2)
        self.enc3 = EncoderBlock(level2, level3)
        self.enc4 = EncoderBlock(level3, level4, dropout=dropout)
        self.mid = ConvolutionBlock(level4, bottleneck, dropout=dropout)
        self.dec4 = DecoderBlock(bottleneck, level4)
        self.dec3 = DecoderBlock(level4, level3)
        self.dec2 = DecoderBlock(level3, level2)
        self.dec1 = DecoderBlock(level2, level1)
        self.out = ImageOutput(level1, rectify=not residual)

        initialise_as_keras(self)
        if residual:
            nn.init.zeros_(self.out.conv1x1.weight)

    def forward(self, views: Tensor, combined: Tensor | None = None) -> Tensor:
        """Deblur.

        Args:
            views: (B, 6, H, W), the left view's RGB before the right view's, or (B, 3, H, W) for `views="combined"`;
                in [0, 1]; H and W multiples of 16.
            combined: (B, 3, H, W), the combined image that a residual network corrects; without it, the mean of the
                two views (or the input itself). Not used otherwise.

        Returns:
            (B, 3, H, W): the sharp image, in [0, 1]; not clamped where the network is residual.

        Raises:
            ValueError: the number of channels, or H or W, does not fit.
        """
        if views.ndim != 4 or views.shape[1] != self.in_channels:
            raise ValueError(
                f"DPDNet with views={self.options['views']!r} takes (B, {self.in_channels}, H, W), "
                f"found {tuple(views.shape)}"
            )
        if views.shape[-2] % self.multiple or views.shape[-1] % self.multiple:
            raise ValueError(
                f"DPDNet takes heights and widths that are multiples of {self.multiple}, "
                f"found {views.shape[-2]} x {views.shape[-1]}: pad with dualpixel.blocks.padding.run_padded"
            )
        skip1, features = self.enc1(views)
        skip2, features = self.enc2(features)
        skip3, features = self.enc3(features)
        skip4, features = self.enc4(features)
        features = self.mid(features)
        features = self.dec4(features, skip4)
        features = self.dec3(features, skip3)
        features = self.dec2(features, skip2)
        features = self.dec1(features, skip1)
        image = self.out(features)
        if not self.residual:
            return torch.sigmoid(image)
        if combined is None:
            combined = views.unflatten(1, (-1, 3)).mean(dim=1)
        return combined + image
