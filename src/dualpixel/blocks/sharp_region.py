"""Sharp-region preservation: features before and after deblurring are compared, and weighed by how much they agree."""

import torch
from torch import Tensor, nn

from dualpixel.blocks.correlation import Correlation
from dualpixel.blocks.residual import ResidualBlock


class SharpRegionPreservation(nn.Module):
    r"""The SRP block: x + out(x * value(O)) of x = (old, new), where O is how well a query fits the keys around it.

    .. math:: O_t(y, x) = \frac{1}{c} \sum_i Q_i(y, x) \, K_i(y + \Delta y, x + \Delta x)

    of c = old + new channels, for each place t of a square window, row by row, with zeros outside of the image: see
    :func:`dualpixel.blocks.correlation.correlation`. Query Q and key K are convolutions of x.

    Source: Yang, Pan, Liu and Liu, "K3DN: Disparity-aware Kernel Estimation for Dual-Pixel Defocus Deblurring", CVPR 2023,
    section 3.2, equations 11-16; the authors' code (https://github.com/cjsj166/k3dn) for what follows.

    Differences: from the paper. The block compares an encoder's features (old) with a decoder's that are fused with them
    (new), not those before and after the kernels. Equations 14-16 sum the two weighed maps; here they stay side by side,
    which keeps the number of channels. The similarity has no softmax, and is a mean over channels, not a sum. `identity` is
    ours.

    Args:
        new_channels: of the features after deblurring.
        old_channels: of the features before.
        blocks: residual blocks in `out`, at least 0.
        window: side of the window, odd, pixels.
        identity: whether the last convolution begins as zero, so that the block begins by returning its input: for a stage
            of a training that adds it to a network that can do without.

    Raises:
        ValueError: `window` is even or not positive.
    """

    def __init__(
        self, new_channels: int, old_channels: int, blocks: int, window: int = 9, identity: bool = False
    ) -> None:
        super().__init__()
        if window < 1 or window % 2 == 0:
            raise ValueError(f"window={window}: must be odd and positive, so that it has a middle")
        self.new_channels, self.old_channels = new_channels, old_channels
        channels = new_channels + old_channels
        self.similarity = Correlation(displacement=window // 2)
        self.query = _convolution(channels, channels)
        self.key = _convolution(channels, channels)
        self.value = _convolution(self.similarity.channels, channels)
        residual = [ResidualBlock(channels, 0.2, bias=False, near_identity=False) for _ in range(blocks)]
        last = _convolution(channels, channels)
        self.out = nn.Sequential(_convolution(channels, channels), nn.Sequential(*residual), last)
        if identity:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, old: Tensor, new: Tensor) -> Tensor:
        """Weigh and refine the features.

        Args:
            old: (B, old_channels, H, W), before deblurring.
            new: (B, new_channels, H, W), after.

        Returns:
            (B, old_channels + new_channels, H, W), in this order.

        Raises:
            ValueError: the shapes do not fit each other or the block.
        """
        wanted = (old.shape[0], self.new_channels, *old.shape[2:])
        if old.shape[1] != self.old_channels or new.shape != wanted:
            raise ValueError(
                f"old {tuple(old.shape)} and new {tuple(new.shape)}: (B, {self.old_channels}, H, W) and "
                f"(B, {self.new_channels}, H, W) are needed"
            )
        features = torch.cat((old, new), dim=1)
        similarity = self.similarity(self.query(features), self.key(features))
        return features + self.out(features * self.value(similarity))


def _convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)
