"""Features of one view for matching two: dilated convolutions, and averages over large squares beside them.

Source: Yang, Pan, Liu and Liu, "K3DN: Disparity-aware Kernel Estimation for Dual-Pixel Defocus Deblurring", CVPR 2023,
section 3.2, disparity estimator; the layers are those of the authors' code (https://github.com/cjsj166/k3dn). DDDNet
(Pan et al., "Dual Pixel Exploration: Simultaneous Depth Estimation and Image Restoration", CVPR 2021) has the same with
stride 1 and other squares.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from dualpixel.blocks.normalised_convolution import ConvolutionNormReLU, scaled_channels


class StereoFeatures(nn.Module):
    """Features of a view, the same weights for both views.

    Two 3x3 convolutions, then two with dilation 4 and 8 make the map f. f is also averaged over large squares and over
    smaller ones; each average goes through a 1x1 convolution and is stretched to the size of f again. The three,
    concatenated (coarse, fine, f), are fused by a 3x3 convolution and a plain 1x1 convolution.

    The 1x1 convolutions of the averages add a ring of zeros, as in the authors' code, so that the pooled map is larger
    by 2 on each axis before it is stretched.

    Args:
        stride: of the last dilated convolution, and so of the result.
        pools: sides of the squares of the coarse and of the fine branch, in pixels of f. Rows and columns that fill no
            square are left out.
        width: factor on all channel counts but the image's 3, rounded, at least one each; 1.0 is the published size.

    Attributes:
        start, wide, coarse, fine, fuse, out: the layers, in this order.

    Raises:
        ValueError: `width` is not positive.
    """

    def __init__(self, stride: int = 2, pools: tuple[int, int] = (32, 16), width: float = 1.0) -> None:
        super().__init__()
        self.pools = tuple(pools)
        thin, start, wide, fused = (scaled_channels(channels, width) for channels in (32, 64, 128, 96))
        self.start = nn.Sequential(ConvolutionNormReLU(3, thin), ConvolutionNormReLU(thin, start))
        self.wide = nn.Sequential(
            ConvolutionNormReLU(start, wide, dilation=4),
            ConvolutionNormReLU(wide, wide, stride=stride, dilation=8),
        )
        branch = partial(ConvolutionNormReLU, wide, thin, kernel_size=1, padding=1)
        self.coarse, self.fine = branch(), branch()
        self.fuse = ConvolutionNormReLU(2 * thin + wide, fused)
        self.out = nn.Conv2d(fused, thin, 1, bias=False)
        nn.init.kaiming_normal_(self.out.weight, mode="fan_out", nonlinearity="relu")

    @property
    def out_channels(self) -> int:
        """Channels of the result."""
        return self.out.out_channels

    def forward(self, view: Tensor) -> Tensor:
        """Extract.

        Args:
            view: (B, 3, H, W).

        Returns:
            (B, out_channels, ceil(H / stride), ceil(W / stride)), of either sign.

        Raises:
            ValueError: f is smaller than one of the squares.
        """
        features = self.wide(self.start(view))
        if min(features.shape[-2:]) < max(self.pools):
            height, width = features.shape[-2:]
            side = max(self.pools)
            raise ValueError(
                f"averages over squares of {side} x {side} need features of that size, found {height} x {width}"
            )
        coarse, fine = (
            _stretched(branch(functional.avg_pool2d(features, side)), features)
            for branch, side in zip((self.coarse, self.fine), self.pools, strict=True)
        )
        return self.out(self.fuse(torch.cat((coarse, fine, features), dim=1)))

    def both(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Extract from both views.

        In eval mode they go through as one batch. In train mode, where batch normalisation would mix them, the left
        view goes first and the right one after it: the running statistics are updated twice.

        Args:
            left: (B, 3, H, W).
            right: of the same shape.

        Returns:
            The features of the left and of the right view.
        """
        if self.training:
            return self(left), self(right)
        left, right = self(torch.cat((left, right))).chunk(2)
        return left, right


def _stretched(pooled: Tensor, features: Tensor) -> Tensor:
    """Enlarge to the size of `features` so that the corner pixels of both lie upon each other."""
    return functional.interpolate(pooled, features.shape[-2:], mode="bilinear", align_corners=True)
