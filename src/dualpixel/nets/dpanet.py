"""DPANet: defocus deblurring that aligns the two dual-pixel views on its way.

Source: Li, Ren, Yi, Li and Zuo, "Learning Dual-Pixel Alignment for Defocus Deblurring"; authors' code
https://github.com/liyucs/DPANet. Checked against outputs of that code's network, whole and by parts.
"""

from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from dualpixel.blocks.alignment import (
    NEGATIVE_SLOPE,
    DecoderAlignment,
    EncoderAlignment,
    NoAlignment,
    OffsetsFrom,
    SideBranch,
)
from dualpixel.blocks.padding import fit_centre
from dualpixel.blocks.pyramid import PyramidExtractor
from dualpixel.blocks.residual import ConvolutionResidualBlock, SameConvolution
from dualpixel.blocks.unet import UpConvolution
from dualpixel.blocks.views import BothViews, Pair

VolumeSource = Literal["previous", "current"]
BottleneckResize = Literal["crop", "none"]

CHANNELS = (64, 128, 256, 512)
"""Channels of each view at levels 1 to 4; level 5 has as many as level 4."""


class EncoderLevel(nn.Module):
    """F_E and A_E of one level (equation 3): 2x2 max pooling, features of each view, alignment.

    Args:
        in_channels: channels of each view.
        out_channels: channels of each aligned view.
        alignment: called with left, right and a volume or None; it has a `correlation` where `volume_first` is true.
        share: whether both views have the same feature extractor.
        pool: whether height and width are halved.
        volume_first: whether the volume is that of the incoming features, pooled with them.
    """

    def __init__(
        self, in_channels: int, out_channels: int, alignment: nn.Module, share: bool, pool: bool, volume_first: bool
    ) -> None:
        super().__init__()
        self.pool, self.volume_first = pool, volume_first
        self.block = BothViews(lambda: ConvolutionResidualBlock(in_channels, out_channels), share)
        self.alignment = alignment

    def forward(self, left: Tensor, right: Tensor) -> Pair:
        """Map two tensors (B, in_channels, H, W) to two of (B, out_channels, H/2, W/2), or of H x W without pooling."""
        volume = self.alignment.correlation(left, right) if self.volume_first else None
        if self.pool:
            left, right = functional.max_pool2d(left, 2), functional.max_pool2d(right, 2)
            volume = None if volume is None else functional.max_pool2d(volume, 2)
        return self.alignment(*self.block((left, right)), volume)


class DecoderLevel(nn.Module):
    """A_D and F_D of one level (equations 4, 5 and 12): enlargement, alignment of the skips to it, fusion.

    Args:
        deep_channels: channels of the coarse input.
        channels: channels of each skip and of the result.
        alignment: called with left, right and the enlarged features.
        enlarge: whether the coarse input is enlarged by two before its 2x2 convolution.
    """

    def __init__(self, deep_channels: int, channels: int, alignment: nn.Module, enlarge: bool = True) -> None:
        super().__init__()
        self.up = UpConvolution(deep_channels, channels) if enlarge else SameConvolution(deep_channels, channels, 2)
        self.alignment = alignment
        self.block = ConvolutionResidualBlock(3 * channels, channels)

    def forward(self, deep: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """Map deep features (B, deep_channels, h, w) and two skips (B, channels, H, W) to (B, channels, H, W).

        Where 2 h x 2 w is not H x W, zeros are added around the enlarged features or their central window is taken.
        """
        deep = fit_centre(self.up(deep), *left.shape[-2:])
        return self.block(torch.cat((*self.alignment(left, right, deep), deep), dim=1))


class DPANet(nn.Module):
    """Two encoders with shared weights whose features are aligned level by level, and one decoder; 63,983,859 parameters.

    Every argument's default is the published code; the ablations of the paper's tables III and IV are named below.

    Args:
        width: factor on all channel counts but those of images, volumes and offsets, rounded, at least one each; 1.0 is
            the published network. Ours.
        residual: ours, for short trainings: the network's output is added to the combined image instead of going through
            the sigmoid, the last convolution starts at zero, so that training starts from the blurry image, and the
            ReLU before it is leaky (at a high learning rate all of its channels closed for ever within 20 steps).
        share_encoder: whether both views have the same weights in F_E^1 to F_E^5 and in EAM's deformable convolutions
            (ablation 1 takes two sets).
        share_extractor: the same for the initial extractor (ablation 1).
        initial_extractor: whether the pyramid extractor F_E^0 is there; without it level 1 takes the images (ablation 2).
        side_convolutions: convolutions of each side branch (ablation 4 takes three).
        side_channels: channels between them where there is more than one. Not stated in the paper; ours.
        eam: whether the encoder aligns; without it plain convolutions stand in place of the deformable ones (ablation 5).
        offsets_from: what the encoder's side branches see; "features" has no correlation (ablation 6), "volume" nothing
            but it (ablation 7).
        dam: whether the decoder aligns; without it as for `eam` (ablation 8).
        max_displacement: d of the cost volume, in pixels of each level; (2 d + 1)^2 channels.
        volume_source: "previous" correlates what a level receives, before its pooling; "current", the paper's equation 7,
            correlates the features that are to be aligned.
        dam_sequential: whether the right view's offsets in the decoder are estimated from the aligned left view; false
            is the paper's equation 10.
        bottleneck_resize: "crop" enlarges the deepest features by two and takes their central window, although they have
            the size of the skips; "none", the paper, leaves their size alone.
        zero_init_offsets: whether all offsets begin at 0 and modulations at 0.5, as the paper says (section IV-A).

    Attributes:
        multiple: what height and width should be divisible by; 4 is enough, but then the decoder adds zeros.
        options: the arguments above, as plain JSON types; stored beside the weights.
        silent_options: those that change what is computed, and neither name nor shape of a weight: weights stored with
            others are refused.

    Raises:
        ValueError: an argument is out of range.

    Differences:
        Where paper and published code differ, the code is the default, since only then the published weights fit: see
        `max_displacement` (the paper says d = 9), `volume_source`, `dam_sequential`, `bottleneck_resize` and
        `zero_init_offsets`, and the notes in `dualpixel.blocks.alignment`. The last block has two convolutions and a
        sigmoid, one convolution in the paper. Channels are RGB here, BGR in the authors' code; the converter of
        published weights permutes the first and the last layer. The right view's half of a shared step is computed in
        one batch with the left view's.
    """

    multiple = 8
    silent_options = ("residual", "volume_source", "dam_sequential", "bottleneck_resize")

    def __init__(
        self,
        width: float = 1.0,
        residual: bool = False,
        share_encoder: bool = True,
        share_extractor: bool = True,
        initial_extractor: bool = True,
        side_convolutions: int = 1,
        side_channels: int = 64,
        eam: bool = True,
        offsets_from: OffsetsFrom = "features_and_volume",
        dam: bool = True,
        max_displacement: int = 4,
        volume_source: VolumeSource = "previous",
        dam_sequential: bool = True,
        bottleneck_resize: BottleneckResize = "crop",
        zero_init_offsets: bool = False,
    ) -> None:
        super().__init__()
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        self.options = given
        if not width > 0:
            raise ValueError(f"width={width}: must be positive; 1.0 is the published network")
        for name, least in {"side_convolutions": 1, "side_channels": 1, "max_displacement": 0}.items():
            if given[name] < least:
                raise ValueError(f"{name}={given[name]}: must be at least {least}")
        choices = {"offsets_from": OffsetsFrom, "volume_source": VolumeSource, "bottleneck_resize": BottleneckResize}
        for name, choice in choices.items():
            if given[name] not in get_args(choice):
                raise ValueError(f"{name}={given[name]!r}: allowed are {', '.join(map(repr, get_args(choice)))}")

        level1, level2, level3, level4, hidden = (max(1, round(width * one)) for one in (*CHANNELS, side_channels))
        make_side = partial(
            SideBranch, convolutions=side_convolutions, hidden_channels=hidden, zero_init=zero_init_offsets
        )
        self.residual = residual
        extract = partial(PyramidExtractor, level1) if initial_extractor else nn.Identity
        self.extractor = BothViews(extract, share_extractor)

        def encoder(in_channels: int, channels: int, pool: bool = True) -> EncoderLevel:
            alignment = (
                EncoderAlignment(channels, max_displacement, offsets_from, share_encoder, make_side)
                if eam
                else NoAlignment(channels, share_encoder)
            )
            volume_first = eam and offsets_from != "features" and volume_source == "previous"
            return EncoderLevel(in_channels, channels, alignment, share_encoder, pool, volume_first)

        def decoder(deep_channels: int, channels: int, enlarge: bool = True) -> DecoderLevel:
            alignment = (
                DecoderAlignment(channels, dam_sequential, make_side) if dam else NoAlignment(channels, share=False)
            )
            return DecoderLevel(deep_channels, channels, alignment, enlarge)

        self.enc1 = encoder(level1 if initial_extractor else 3, level1, pool=False)
        self.enc2 = encoder(level1, level2)
        self.enc3 = encoder(level2, level3)
        self.enc4 = encoder(level3, level4)
        self.enc5 = BothViews(lambda: ConvolutionResidualBlock(level4, level4), share_encoder)
        self.dec4 = decoder(2 * level4, level4, enlarge=bottleneck_resize == "crop")
        self.dec3 = decoder(level4, level3)
        self.dec2 = decoder(level3, level2)
        self.dec1 = decoder(level2, level1)
        activation = nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True) if residual else nn.ReLU(inplace=True)
        self.out = nn.Sequential(SameConvolution(level1, level1, 3), activation, SameConvolution(level1, 3, 3))
        if residual:
            nn.init.zeros_(self.out[-1].weight)
            nn.init.zeros_(self.out[-1].bias)

    def forward(self, left: Tensor, right: Tensor, combined: Tensor | None = None) -> Tensor:
        """Deblur.

        Args:
            left: (B, 3, H, W), RGB in [0, 1]; H and W multiples of 4 from 8 on.
            right: as `left`.
            combined: (B, 3, H, W), the combined image that a residual network corrects; without it, the mean of the
                two views. Not used otherwise.

        Returns:
            (B, 3, H, W): the sharp image, in [0, 1]; not clamped where the network is residual.

        Raises:
            ValueError: the number of channels, or H or W, does not fit.
        """
        if left.ndim != 4 or left.shape[1] != 3 or left.shape != right.shape:
            raise ValueError(
                f"DPANet takes two views (B, 3, H, W) of one size, found {tuple(left.shape)} and {tuple(right.shape)}"
            )
        if any(size % 4 or size < 8 for size in left.shape[-2:]):
            raise ValueError(
                f"DPANet takes heights and widths that are multiples of 4 and at least 8, "
                f"found {left.shape[-2]} x {left.shape[-1]}: pad with dualpixel.blocks.padding.run_padded"
            )
        skips = []
        features = self.extractor((left, right))
        for level in (self.enc1, self.enc2, self.enc3, self.enc4):
            features = level(*features)
            skips.append(features)
        deep = torch.cat(self.enc5(features), dim=1)
        for level in (self.dec4, self.dec3, self.dec2, self.dec1):
            deep = level(deep, *skips.pop())
        image = self.out(deep)
        if not self.residual:
            return torch.sigmoid(image)
        return ((left + right) / 2 if combined is None else combined) + image
