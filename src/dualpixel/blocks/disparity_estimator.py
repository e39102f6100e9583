"""K3DN's disparity estimator: one vector ("style") for each window of an image, from two views or from one image.

Source: Yang, Pan, Liu and Liu, "K3DN: Disparity-aware Kernel Estimation for Dual-Pixel Defocus Deblurring", CVPR 2023,
section 3.2, D(B_L, B_R) and its vectors r^i; the layers are those of the authors' code
(https://github.com/cjsj166/k3dn). No disparity is ever supervised: the vectors only have to help choosing kernels.
"""

from torch import Tensor, nn
from torch.nn import functional

from dualpixel.blocks.cost_volume import ConcatenationConvolution
from dualpixel.blocks.normalised_convolution import ConvolutionNormReLU, scaled_channels
from dualpixel.blocks.stereo_features import StereoFeatures
from dualpixel.blocks.window_grid import WindowGrid

REDUCTION = 4
"""The views are averaged over squares of 4 x 4 pixels first."""

SHIFTS = range(4)
"""Disparities that are matched, in pixels of the features (8 of the image). One sign only, as in the authors' code."""

NEGATIVE_SLOPE = 0.2

SINGLE_LAYERS = (
    # channels, kernel size, stride, dilation
    (32, 3, 1, 1),
    (64, 3, 1, 1),
    (128, 3, 1, 4),
    (128, 3, 1, 1),
    (128, 3, 2, 4),
    (256, 1, 1, 1),
    (128, 3, 1, 1),
    (64, 3, 2, 1),
    (64, 3, 1, 1),
    (64, 3, 2, 1),
    (64, 3, 1, 1),
)
"""Layers of the estimator for one image."""


class DisparityEstimator(nn.Module):
    """One vector for each window from the left and the right view; 788,320 parameters.

    Features of both views (`features`) are paired in a cost volume, five 3-D convolutions (`matching`) bring it to one
    plane of ceil(H / 32) x ceil(W / 32), which is pooled to windows; a linear layer (`linear`) and a leaky ReLU end it.

    Args:
        grid: the windows.
        style_channels: length of a vector.
        width: factor on all other channel counts, rounded, at least one each; 1.0 is the published size.

    Raises:
        ValueError: `width` is not positive.

    Differences: as in the authors' code, only disparities of 0, 8, 16 and 24 pixels are paired, none of the other sign;
        the paper names no range. Columns without a partner are zeros, see :func:`~dualpixel.blocks.cost_volume.concatenation_volume`.
    """

    def __init__(self, grid: WindowGrid, style_channels: int = 256, width: float = 1.0) -> None:
        super().__init__()
        self.grid = grid
        self.features = StereoFeatures(stride=2, pools=(32, 16), width=width)
        first, second, last = (scaled_channels(channels, width) for channels in (32, 48, 64))
        self.matching = nn.Sequential(
            ConcatenationConvolution(self.features.out_channels, first),
            ConvolutionNormReLU(first, second, stride=2, dimensions=3),
            ConvolutionNormReLU(second, second, dimensions=3),
            ConvolutionNormReLU(second, last, stride=2, dimensions=3),
            ConvolutionNormReLU(last, last, dimensions=3),
        )
        self.linear = nn.Linear(last, style_channels)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Estimate.

        Args:
            left: (B, 3, H, W), -0.5 to 0.5.
            right: of the same shape.

        Returns:
            (B p1 p2, style_channels), in the order of `WindowGrid.split`.

        Raises:
            ValueError: the shapes differ, or the size does not fit the grid.
        """
        if left.shape != right.shape:
            raise ValueError(f"left {tuple(left.shape)} and right {tuple(right.shape)} must have one shape")
        height, width = left.shape[-2:]
        self.grid.require(height, width)
        features = self.features.both(*(functional.avg_pool2d(view, REDUCTION) for view in (left, right)))
        matched = self.matching[1:](self.matching[0](*features, SHIFTS)).squeeze(2)
        return _styles(self.linear, self.grid.pool_styles(matched, height, width))


class SingleDisparityEstimator(nn.Module):
    """One vector for each window from one image: eleven convolutions (`features`) and a linear layer (`linear`).

    Args:
        grid: the windows.
        style_channels: length of a vector.
        width: factor on all other channel counts, rounded, at least one each; 1.0 is the published size.

    Raises:
        ValueError: `width` is not positive.
    """

    def __init__(self, grid: WindowGrid, style_channels: int = 256, width: float = 1.0) -> None:
        super().__init__()
        self.grid = grid
        self.features = nn.Sequential()
        last = 3
        for published, kernel_size, stride, dilation in SINGLE_LAYERS:
            channels = scaled_channels(published, width)
            self.features.append(ConvolutionNormReLU(last, channels, kernel_size, stride, dilation))
            last = channels
        self.linear = nn.Linear(last, style_channels)

    def forward(self, image: Tensor) -> Tensor:
        """Estimate.

        Args:
            image: (B, 3, H, W), -0.5 to 0.5.

        Returns:
            (B p1 p2, style_channels), in the order of `WindowGrid.split`.

        Raises:
            ValueError: the size does not fit the grid.
        """
        height, width = image.shape[-2:]
        self.grid.require(height, width)
        features = self.features(functional.avg_pool2d(image, REDUCTION))
        return _styles(self.linear, self.grid.pool_styles(features, height, width))


def _styles(linear: nn.Linear, pooled: Tensor) -> Tensor:
    return functional.leaky_relu(linear(pooled), NEGATIVE_SLOPE)
