"""Pyramid feature extractor: three scales of an image, summed from the coarsest to the finest.

Source: the pre-deblurring module of Wang et al., "EDVR: Video restoration with enhanced deformable convolutional
networks", CVPR Workshops 2019, as DPANet uses it for its initial features (Li et al., "Learning Dual-Pixel Alignment
for Defocus Deblurring", section III-C, F_E^0).
"""

from torch import Tensor, nn
from torch.nn import functional

from dualpixel.blocks.residual import ResidualBlock

NEGATIVE_SLOPE = 0.1


class PyramidExtractor(nn.Module):
    """Features at full size that have seen the image at full, half and quarter size.

    Each scale begins with a 3x3 convolution and a leaky ReLU of slope 0.1 (stride 1, 2, 2); one residual block stands
    at quarter size, two at half size, five at full size. A coarser scale is enlarged bilinearly and added to the finer
    one after that one's first block (half size) or second block (full size).

    Args:
        channels: channels of the result and of everything in between.
        in_channels: channels of the image.

    Attributes:
        multiple: what height and width must be divisible by.
    """

    multiple = 4

    def __init__(self, channels: int = 64, in_channels: int = 3) -> None:
        super().__init__()
        self.stem1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.stem2 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.stem3 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.coarse = ResidualBlock(channels)
        self.middle = nn.Sequential(*(ResidualBlock(channels) for _ in range(2)))
        self.fine = nn.Sequential(*(ResidualBlock(channels) for _ in range(5)))

    def forward(self, image: Tensor) -> Tensor:
        """Extract.

        Args:
            image: (B, in_channels, H, W), H and W multiples of 4.

        Returns:
            (B, channels, H, W).

        Raises:
            ValueError: H or W is no multiple of 4.
        """
        if image.shape[-2] % self.multiple or image.shape[-1] % self.multiple:
            raise ValueError(
                f"the pyramid takes heights and widths that are multiples of {self.multiple}, "
                f"found {image.shape[-2]} x {image.shape[-1]}"
            )
        full = functional.leaky_relu(self.stem1(image), NEGATIVE_SLOPE, inplace=True)
        half = functional.leaky_relu(self.stem2(full), NEGATIVE_SLOPE, inplace=True)
        quarter = functional.leaky_relu(self.stem3(half), NEGATIVE_SLOPE, inplace=True)
        half = self.middle[1](self.middle[0](half) + _twice(self.coarse(quarter)))
        return self.fine[2:](self.fine[:2](full) + _twice(half))


def _twice(features: Tensor) -> Tensor:
    """Enlarge by two, bilinearly; corners are not aligned, as pixels have an extent."""
    return functional.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
