"""Alignment of two views by deformable convolutions: the encoder's module (EAM) and the decoder's (DAM).

Source: Li, Ren, Yi, Li and Zuo, "Learning Dual-Pixel Alignment for Defocus Deblurring" (DPANet), section III-D,
equations 7 to 12, after Zhu et al., "Deformable ConvNets v2", CVPR 2019. Neither module warps one view onto the other:
both views are moved to where the sharp image is.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from dualpixel.blocks.correlation import Correlation
from dualpixel.blocks.deformable import ModulatedDeformableConvolution
from dualpixel.blocks.residual import SameConvolution
from dualpixel.blocks.views import BothViews, Pair

SIDE_CHANNELS = 27
"""Nine taps of a 3x3 kernel, each with an offset in y, an offset in x, and a modulation before its sigmoid."""

NEGATIVE_SLOPE = 0.1

OffsetsFrom = Literal["features_and_volume", "features", "volume"]


class SideBranch(nn.Sequential):
    """The convolutions f that estimate offsets and modulation of a deformable convolution (equations 8 and 10).

    3x3 convolutions with leaky ReLUs of slope 0.1 in between, (B, in_channels, H, W) -> (B, 27, H, W).

    Args:
        in_channels: channels of the concatenated hints.
        convolutions: how many, at least 1. The published network has one, an ablation of the paper has three.
        hidden_channels: channels between the convolutions.
        zero_init: whether the last convolution begins at zero: offsets 0 and modulation 0.5, as the paper says
            (section IV-A); the published code begins with PyTorch's default weights.

    Raises:
        ValueError: `convolutions` is below 1.
    """

    def __init__(
        self, in_channels: int, convolutions: int = 1, hidden_channels: int = 64, zero_init: bool = False
    ) -> None:
        if convolutions < 1:
            raise ValueError(f"convolutions={convolutions}: a side branch has at least 1")
        layers: list[nn.Module] = []
        for _ in range(convolutions - 1):
            layers += [nn.Conv2d(in_channels, hidden_channels, 3, padding=1), nn.LeakyReLU(NEGATIVE_SLOPE)]
            in_channels = hidden_channels
        last = nn.Conv2d(in_channels, SIDE_CHANNELS, 3, padding=1)
        if zero_init:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        super().__init__(*layers, last)


class EncoderAlignment(nn.Module):
    """EAM: align the features of two views by what their correlation says (equations 7 to 9).

    A cost volume V of the two views is embedded by two 1x1 convolutions; offsets and modulation of each view are
    estimated from [left, right, V]; one deformable convolution is applied to each view.

    Args:
        channels: C, channels of each view.
        displacement: V holds displacements from -d to d in y and in x, (2 d + 1)^2 channels.
        offsets_from: what the side branches see: the features of both views and V, the features only (there is no V
            then), or V only.
        share: whether both views have the same deformable convolution. The side branches are always the view's own.
        make_side: makes a side branch from the number of its input channels.

    Raises:
        ValueError: `offsets_from` is none of the three.

    Differences:
        As in the published code: the volume is passed through a leaky ReLU and the two convolutions (the paper says
        nothing of either), the concatenation is [left, right, V] instead of [left, V, right], and by default the two
        weights w_L and w_R of equation 9 are one.
    """

    def __init__(
        self,
        channels: int,
        displacement: int = 4,
        offsets_from: OffsetsFrom = "features_and_volume",
        share: bool = True,
        make_side: Callable[[int], nn.Module] = SideBranch,
    ) -> None:
        super().__init__()
        allowed = get_args(OffsetsFrom)
        if offsets_from not in allowed:
            raise ValueError(f"offsets_from={offsets_from!r}: allowed are {', '.join(map(repr, allowed))}")
        self.offsets_from = offsets_from
        if offsets_from != "features":
            self.correlation = Correlation(displacement, NEGATIVE_SLOPE)
            self.embedding = nn.Sequential(
                SameConvolution(self.correlation.channels, channels, 1),
                nn.ReLU(inplace=True),
                SameConvolution(channels, channels, 1),
                nn.ReLU(inplace=True),
            )
        side_channels = {"features_and_volume": 3, "features": 2, "volume": 1}[offsets_from] * channels
        self.side_left, self.side_right = make_side(side_channels), make_side(side_channels)
        self.deform = BothViews(lambda: ModulatedDeformableConvolution(channels, channels), share)

    def forward(self, left: Tensor, right: Tensor, volume: Tensor | None = None) -> Pair:
        """Align.

        Args:
            left: (B, C, H, W), the tilde E_L of the paper.
            right: (B, C, H, W).
            volume: (B, (2 d + 1)^2, H, W), a cost volume from elsewhere, such as a finer scale; None computes V from
                `left` and `right` (equation 7).

        Returns:
            E_L and E_R, each (B, C, H, W).
        """
        hints = [] if self.offsets_from == "volume" else [left, right]
        if self.offsets_from != "features":
            hints.append(self.embedding(self.correlation(left, right) if volume is None else volume))
        hint = torch.cat(hints, dim=1)
        return self.deform((left, right), (self.side_left(hint), self.side_right(hint)))


class DecoderAlignment(nn.Module):
    """DAM: align the skip-connected features of two views to the decoder's features (equations 10 and 11).

    Offsets and modulation are estimated from [left, right, deep]; each view has a deformable convolution of its own.

    Args:
        channels: C, channels of each view and of the decoder's features.
        sequential: whether the right view's side branch sees the left view after its alignment.
        make_side: makes a side branch from the number of its input channels.

    Differences:
        As in the published code: the concatenation is [left, right, deep] instead of [left, deep, right], and by
        default the right view's branch sees the aligned left view; `sequential=False` is the paper's equation 10.
    """

    def __init__(
        self, channels: int, sequential: bool = True, make_side: Callable[[int], nn.Module] = SideBranch
    ) -> None:
        super().__init__()
        self.sequential = sequential
        self.side_left, self.side_right = make_side(3 * channels), make_side(3 * channels)
        self.deform_left = ModulatedDeformableConvolution(channels, channels)
        self.deform_right = ModulatedDeformableConvolution(channels, channels)

    def forward(self, left: Tensor, right: Tensor, deep: Tensor) -> Pair:
        """Align.

        Args:
            left: (B, C, H, W), the skip-connected E_L of the paper.
            right: (B, C, H, W).
            deep: (B, C, H, W), the decoder's features D.

        Returns:
            The paper's tilde D_L and tilde D_R, each (B, C, H, W); [D_L, D_R, deep] goes into the fusion of equation 12.
        """
        hint = torch.cat((left, right, deep), dim=1)
        aligned = self.deform_left(left, self.side_left(hint))
        if self.sequential:
            hint = torch.cat((aligned, right, deep), dim=1)
        return aligned, self.deform_right(right, self.side_right(hint))


class NoAlignment(nn.Module):
    """What is left of EAM or DAM without offsets: a plain 3x3 convolution in place of each deformable one.

    Args:
        channels: C, channels of each view.
        share: whether both views have the same convolution.
    """

    def __init__(self, channels: int, share: bool = True) -> None:
        super().__init__()
        self.conv = BothViews(lambda: SameConvolution(channels, channels, 3), share)

    def forward(self, left: Tensor, right: Tensor, hint: Tensor | None = None) -> Pair:
        """Map two tensors (B, C, H, W) to two of the same shape; `hint`, volume or deep features, is not looked at."""
        return self.conv((left, right))
