"""DDDNet: a sharp image and an inverse depth map from the two dual-pixel views.

Source: Pan, Chowdhury, Hartley, Liu, Zhang and Li, "Dual Pixel Exploration: Simultaneous Depth Estimation and Image
Restoration", CVPR 2021, section 4.1 and figure 5; the layers are those of the authors' code,
https://github.com/panpanfei/Dual-Pixel-Exploration-Simultaneous-Depth-Estimation-and-Image-Restoration. Checked against
outputs of that code's network, whole and by parts.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dualpixel.blocks.channel_attention import ChannelAttention
from dualpixel.blocks.cost_volume import ConcatenationConvolution
from dualpixel.blocks.multi_patch import PatchDecoder, PatchEncoder, halves, joined
from dualpixel.blocks.normalised_convolution import ConvolutionNormReLU, scaled_channels
from dualpixel.blocks.padding import next_multiples
from dualpixel.blocks.stereo_features import StereoFeatures

SMALLEST = 64
"""Least height and width: the largest squares that features are averaged over have this side."""

LEVELS_PER_SHIFT = 3
"""The cost of each shift of the cost volume is spread over this many levels of inverse depth."""


class VolumeMatching(nn.Module):
    """3-D convolutions of a cost volume to one cost for each shift and pixel, at three sizes (an hourglass).

    Args:
        in_channels: channels of the features of one view.
        width: factor on all other channel counts but the result's one, rounded, at least one each.

    Attributes:
        start, down, up, fuse, enlarge, out: the layers, in this order.
    """

    def __init__(self, in_channels: int, width: float = 1.0) -> None:
        super().__init__()
        thin, middle, deep, last = (scaled_channels(channels, width) for channels in (32, 48, 64, 24))
        self.start = nn.Sequential(
            ConcatenationConvolution(in_channels, thin),
            ConvolutionNormReLU(thin, middle, stride=2, dimensions=3),
            ConvolutionNormReLU(middle, middle, dimensions=3),
        )
        self.down = nn.Sequential(
            ConvolutionNormReLU(middle, deep, stride=2, dimensions=3), ConvolutionNormReLU(deep, deep, dimensions=3)
        )
        self.up = ConvolutionNormReLU(deep, middle, dimensions=3)
        self.fuse = ConvolutionNormReLU(2 * middle, middle, dimensions=3)
        self.enlarge = nn.Sequential(
            nn.ConvTranspose3d(middle, last, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm3d(last),
            nn.ReLU(inplace=True),
        )
        self.out = nn.Conv3d(last, 1, 3, padding=1, bias=False)

    def forward(self, left: Tensor, right: Tensor, shifts: Sequence[int]) -> Tensor:
        """Match.

        Args:
            left: (B, in_channels, H, W), H and W multiples of 4.
            right: of the same shape.
            shifts: the disparities, a multiple of four of them, see `concatenation_volume`.

        Returns:
            (B, 1, number of shifts, H, W), of either sign.
        """
        if left.is_cpu and torch.is_autocast_enabled("cpu"):
            # seen with torch 2.15 on a processor with AMX: the backward pass of 3-D convolutions of few channels in
            # bfloat16 writes beyond its memory ("double free or corruption"), which ends the process
            dtype = self.out.weight.dtype
            with torch.autocast("cpu", enabled=False):
                return self._match(left.to(dtype), right.to(dtype), shifts)
        return self._match(left, right, shifts)

    def _match(self, left: Tensor, right: Tensor, shifts: Sequence[int]) -> Tensor:
        skip = self.start[1:](self.start[0](left, right, shifts))
        deep = functional.interpolate(self.down(skip), skip.shape[-3:], mode="trilinear", align_corners=True)
        return self.out(self.enlarge(self.fuse(torch.cat((self.up(deep), skip), dim=1))))


class DepthNet(nn.Module):
    """Coarse inverse depth from the two views by matching their features; 1,053,656 parameters.

    All is at the size of the views. `features` of both are paired in a cost volume, `matching` brings it to one cost for
    each shift. That is resized linearly to three levels for each shift; the mean of the levels, weighted by the softmax
    of minus their costs, is the result.

    Args:
        width: see `DDDNet`.
        shifts: see `DDDNet`.

    Attributes:
        levels: the inverse depths that the costs stand for.
    """

    levels: Tensor

    def __init__(self, width: float = 1.0, shifts: Sequence[int] = (0, 1, 2, 3)) -> None:
        super().__init__()
        self.shifts = tuple(shifts)
        self.features = StereoFeatures(stride=1, pools=(SMALLEST, 16), width=width)
        self.matching = VolumeMatching(self.features.out_channels, width)
        first, count = LEVELS_PER_SHIFT * self.shifts[0], LEVELS_PER_SHIFT * len(self.shifts)
        levels = torch.arange(first, first + count, dtype=torch.float32).view(1, -1, 1, 1)
        self.register_buffer("levels", levels, persistent=False)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Estimate.

        Args:
            left: (B, 3, H, W), in [0, 1].
            right: of the same shape.

        Returns:
            (B, 1, H, W), within the levels: 0 to 11 for the authors' shifts.
        """
        features = self.features(left), self.features(right)  # as one batch they would take twice the memory
        cost = self.matching(*features, self.shifts)
        size = (LEVELS_PER_SHIFT * len(self.shifts), *cost.shape[-2:])
        cost = functional.interpolate(cost, size, mode="trilinear", align_corners=False).squeeze(1)
        return (torch.softmax(-cost, dim=1) * self.levels).sum(dim=1, keepdim=True)


class DeblurNet(nn.Module):
    """Sharp image and inverse depth from the views and a coarse inverse depth; 6,402,323 parameters.

    A multi-patch network of three levels. Each has an encoder: `enc3` sees the four quarters of the input, `enc2` its top
    and its bottom half, `enc1` the whole. What `dec3` and `dec2` make of a level's features is added to the input of the
    next one, the features themselves to its features. Beside them, channel attention goes over features of the
    difference of the views and the coarse depth (`difference`, `attention`). Two decoders, `image` and `depth`, end it.

    Args:
        width: see `DDDNet`.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        views_and_depth, difference_and_depth = 7, 4
        self.enc1, self.enc2, self.enc3 = (PatchEncoder(views_and_depth, width) for _ in range(3))
        self.dec2, self.dec3 = (PatchDecoder(views_and_depth, width) for _ in range(2))
        self.difference = nn.Conv2d(difference_and_depth, self.enc1.out_channels, 8, stride=4, padding=2)
        self.attention = ChannelAttention()
        self.image, self.depth = PatchDecoder(3, width), PatchDecoder(1, width)

    def forward(self, left: Tensor, right: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        """Restore.

        Args:
            left: (B, 3, H, W), in [0, 1]; H and W multiples of 8.
            right: of the same shape.
            coarse: (B, 1, H, W), inverse depth; as it is, not scaled to the range of the views.

        Returns:
            What leaves the two decoders: the image (B, 3, H, W) and the inverse depth (B, 1, H, W), both unbounded.
        """
        whole = torch.cat((left, right, coarse), dim=1)
        top_and_bottom = halves(whole, -2)
        strips = joined(self.enc3(halves(top_and_bottom, -1)), -1)
        features = joined(self.enc2(top_and_bottom + self.dec3(strips)) + strips, -2)
        features = self.enc1(whole + self.dec2(features)) + features
        difference = torch.sigmoid(self.difference(torch.cat((left - right, coarse), dim=1)))
        features = features + self.attention(difference)
        return self.image(features), self.depth(features)


class DDDNet(nn.Module):
    """DepthNet and DeblurNet behind each other; 7,455,979 parameters. Gradients go through both.

    The inverse depth is what the authors' generator of DDD-syn makes maps of, not 1 / metre: as far as its files tell, the
    size s in pixels of the blur that a camera focused at infinity has, (A / 2) f scale / depth. It is positive and the
    larger the nearer; `dualpixel.optics.released.render_released` takes it as its `blur`. The squares of about floor(s)
    pixels that are drawn there have a disparity, and so a signed blur radius in the sense of mode "rect", of floor(s) - 1:
    what is sharp has an s of 1 to 2, not of 0.

    Args:
        width: factor on all channel counts but those of images and depths, rounded, at least one each; 1.0 is the
            published network. Ours.
        residual: ours, for short trainings: the image decoder's output is added to the combined image, and its last
            convolution starts at zero, so that training starts from the blurry image.
        shifts: the disparities that DepthNet matches, in pixels: consecutive whole numbers, a multiple of four of them,
            since their axis is halved twice. Each shift d has the levels 3 d, 3 d + 1 and 3 d + 2 of inverse depth. The
            authors' match one sign only, that of points nearer than the focus plane; range(-4, 4), whose levels are -12
            to 11, takes both. Other shifts than the authors' are ours.

    Attributes:
        depth: the DepthNet.
        deblur: the DeblurNet.
        multiple: what height and width must be divisible by.
        options: the arguments above, as plain JSON types; stored beside the weights.
        silent_options: those that change what is computed, and neither name nor shape of a weight: weights stored with
            others are refused.

    Raises:
        ValueError: an argument is out of range.

    Differences:
        The paper combines a coarse with a "blurred" depth map and does not mention the attention; as in the authors'
        code, there is one coarse map, and the attention is there. Layers that the authors' code makes and never calls are
        left out, 3.5 million parameters. The columns of the cost volume that it leaves uninitialised are zeros. In
        training the two views are normalised one after the other, and the running statistics updated twice; training
        code is not published.
    """

    multiple = 8
    silent_options = ("residual", "shifts")

    def __init__(self, width: float = 1.0, residual: bool = False, shifts: Sequence[int] = (0, 1, 2, 3)) -> None:
        super().__init__()
        self.options: dict[str, Any] = {"width": width, "residual": residual, "shifts": list(shifts)}
        if not width > 0:
            raise ValueError(f"width={width}: must be positive; 1.0 is the published network")
        if (
            not len(shifts)
            or len(shifts) % 4
            or list(shifts) != list(range(int(shifts[0]), int(shifts[0]) + len(shifts)))
        ):
            raise ValueError(
                f"shifts={list(shifts)}: must be consecutive whole numbers, a multiple of four of them; "
                "0, 1, 2, 3 are the published network's"
            )
        self.residual = residual
        self.depth = DepthNet(width, shifts)
        self.deblur = DeblurNet(width)
        if residual:
            nn.init.zeros_(self.deblur.image[-1].weight)

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the smallest height and width that the network takes and that are not below those given."""
        return next_multiples(max(height, SMALLEST), max(width, SMALLEST), self.multiple)

    def forward(self, left: Tensor, right: Tensor, combined: Tensor | None = None) -> dict[str, Tensor]:
        """Deblur and estimate the inverse depth.

        Args:
            left: (B, 3, H, W), RGB in [0, 1]; H and W multiples of 8 from 64 on.
            right: as `left`.
            combined: (B, 3, H, W), the combined image that a residual network corrects; without it, the mean of the
                two views. Not used otherwise.

        Returns:
            "sharp": (B, 3, H, W), in about [0, 1]; not clamped. "inverse_depth": (B, 1, H, W), not bounded. "coarse":
            (B, 1, H, W), DepthNet's inverse depth, 0 to 11 for the authors' shifts.

        Raises:
            ValueError: the number of channels, or H or W, does not fit.
        """
        if left.ndim != 4 or left.shape[1] != 3 or left.shape != right.shape:
            raise ValueError(
                f"DDDNet takes two views (B, 3, H, W) of one size, found {tuple(left.shape)} and {tuple(right.shape)}"
            )
        if any(size % self.multiple or size < SMALLEST for size in left.shape[-2:]):
            raise ValueError(
                f"DDDNet takes heights and widths that are multiples of {self.multiple} and at least {SMALLEST}, "
                f"found {left.shape[-2]} x {left.shape[-1]}: pad with dualpixel.blocks.padding.run_padded"
            )
        coarse = self.depth(left, right)
        image, inverse_depth = self.deblur(left, right, coarse)
        if self.residual:
            image = image + ((left + right) / 2 if combined is None else combined)
        return {"sharp": image, "inverse_depth": inverse_depth, "coarse": coarse}
