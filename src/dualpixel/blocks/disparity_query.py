"""The query of K3DN: what a disparity feature vector finds in the kernel set.

Source: Yang, Pan, Liu and Liu, "K3DN: Disparity-aware Kernel Estimation for Dual-Pixel Defocus Deblurring", CVPR 2023,
section 3.2, equation 8; the authors' code (https://github.com/cjsj166/k3dn) for its form and initial values.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

NEGATIVE_SLOPE = 0.2
"""Of the leaky ReLUs of the network."""

DEVIATION = 0.001


class DisparityQuery(nn.Module):
    r"""Compare a style, the disparity feature vector r of equation 8, with the kernel set, and return a refined style.

    .. math:: e = \mathrm{Sum}(W_k \odot K), \qquad r' = r + \mathrm{LeakyReLU}(W_v (e \odot W_r r))

    with one number of e for each kernel. Since the kernels are symmetric, their left halves with the middle column are
    enough. The softmax of equation 8 is applied where r' is used, see
    :class:`~dualpixel.blocks.gated_convolution.GatedInvertibleConvolution`.

    `kernel_weight` W_k begins at zero, so that r' = r at first. The matrices begin normal with a standard deviation of
    0.001, their biases at zero.

    After :meth:`cache` e is kept as a buffer, which is not written to files.

    Source: K3DN, section 3.2, equation 8.

    Args:
        channels: C, number of kernels.
        style_channels: S, width of the style.
        size: rows and columns of a kernel, pixels, odd.

    Raises:
        ValueError: an even or non-positive `size`.

    Differences:
        As in the authors' code: W_v is C x S, with a leaky ReLU of slope 0.2 and a sum with r behind it, and another
        linear layer S -> C before the softmax. In the paper it is N x N with the softmax right behind it.
    """

    def __init__(self, channels: int, style_channels: int = 256, size: int = 9) -> None:
        super().__init__()
        if size < 1 or size % 2 == 0:
            raise ValueError(f"size={size}: must be odd and positive, so that a kernel has a middle")
        self.kernel_weight = nn.Parameter(torch.zeros(channels, size, (size + 1) // 2))
        self.to_kernels = nn.Linear(style_channels, channels)
        self.to_style = nn.Linear(channels, style_channels)
        for linear in (self.to_kernels, self.to_style):
            nn.init.trunc_normal_(linear.weight, std=DEVIATION)
            nn.init.zeros_(linear.bias)
        self.register_buffer("embedding", None, persistent=False)

    @property
    def cached(self) -> bool:
        """Whether e is kept instead of computed at every call."""
        return self.embedding is not None

    def embed(self, kernels: Tensor) -> Tensor:
        """Compute e: kernels (C, 1, size, size) -> (C,).

        Raises:
            ValueError: kernels of another number or size.
        """
        channels, size, half = self.kernel_weight.shape
        if kernels.shape != (channels, 1, size, size):
            raise ValueError(f"kernels {tuple(kernels.shape)}: {(channels, 1, size, size)} is needed")
        return (self.kernel_weight * kernels[:, 0, :, :half]).sum((1, 2))

    def cache(self, kernels: Tensor) -> None:
        """Compute e of `kernels` once and keep it; called again, it follows parameters and kernels."""
        with torch.no_grad():
            self.embedding = self.embed(kernels)

    def forward(self, style: Tensor, kernels: Tensor) -> Tensor:
        """Refine a style.

        Args:
            style: r, (B, S).
            kernels: (C, 1, size, size), those that deblur, whichever direction follows. Not looked at after :meth:`cache`.

        Returns:
            r', (B, S).

        Raises:
            ValueError: kernels of another number or size.
        """
        embedding = self.embedding if self.cached else self.embed(kernels)
        answer = self.to_kernels(style)
        answer = self.to_style(answer * embedding.to(answer.dtype))
        return functional.leaky_relu(answer, NEGATIVE_SLOPE) + style
