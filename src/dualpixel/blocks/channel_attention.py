"""Channel attention: each channel of a map is mended by those that resemble it least."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn


class ChannelAttention(nn.Module):
    r"""Mix the channels of a map by how they resemble each other, and add the map.

    .. math:: Z' = \gamma A Z + Z, \quad A = \mathrm{softmax}(-Z Z^T)

    with one row of Z for each channel and the softmax along the rows of A. The scalar gamma is learned and begins at 0,
    so that the block begins as the identity.

    Source: Fu et al., "Dual Attention Network for Scene Segmentation", CVPR 2019, section 3.3; Pan et al., "Dual Pixel
    Exploration: Simultaneous Depth Estimation and Image Restoration", CVPR 2021, use it in their code only.

    Differences: the paper's softmax is over +Z Z^T; both published codes subtract the product from the largest of its
        row first, which turns its sign. The products, sums over all pixels, are computed in float32 at least, under
        autocast too.

    Attributes:
        gamma: (1,).
    """

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        device = features.device.type
        known = torch.amp.is_autocast_available(device)  # the meta device, on which costs are counted, has no autocast
        with torch.autocast(device, enabled=False) if known else nullcontext():
            rows = features.flatten(2)
            rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
            attention = torch.softmax(-torch.bmm(rows, rows.transpose(1, 2)), dim=-1)
            mixed = torch.bmm(attention, rows).view_as(features)
        return self.gamma * mixed.to(features.dtype) + features
