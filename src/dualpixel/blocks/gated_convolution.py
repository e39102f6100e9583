"""An invertible 1x1 convolution whose channels are weighted by a style, after the invertible convolution of Glow.

Source: Yang, Pan, Liu and Liu, "K3DN: Disparity-aware Kernel Estimation for Dual-Pixel Defocus Deblurring", CVPR 2023,
section 3.2; the form of the convolution from the authors' code (https://github.com/cjsj166/k3dn), after Kingma and
Dhariwal, "Glow: Generative Flow with Invertible 1x1 Convolutions", NeurIPS 2018.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dualpixel.blocks.symmetric_kernels import SMALL, without_autocast


class EqualisedLinear(nn.Module):
    """A linear layer whose weights are of unit variance and are divided by the root of the inputs where they are used.

    Source: Karras et al., "Progressive Growing of GANs", ICLR 2018, section 4.1.

    Args:
        inputs: width of the input.
        outputs: width of the result. The biases begin at 1.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.ones(outputs))
        nn.init.normal_(self.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (B, inputs) to (B, outputs)."""
        return functional.linear(inputs, self.weight / math.sqrt(self.weight.shape[1]), self.bias)


class GatedInvertibleConvolution(nn.Module):
    r"""A 1x1 convolution W = P L U of features that are weighted, channel by channel, with a of equation 8.

    P is a fixed permutation, L lower triangular with ones on the diagonal, U upper triangular with s = +-exp(log_scale) on
    it. The weights are :math:`a = \sigma(\mathrm{gate}(\mathrm{style}))`, a softmax over the channels: the last step of
    equation 8, and the sum of equation 9, since each kernel of the set has one channel.

    .. math:: y = W (a \odot x), \qquad \text{in reverse} \quad y = a' \odot W^{-1} x, \quad
              a' = \frac{\tilde a}{\lVert \tilde a \rVert}, \quad \tilde a = \min(1 / a, t)

    with t = `truncate`. W begins as a random rotation.

    **Truncation.** The weights sum to 1, so that 1 / a is about C where the style has no strong preference. With C = 128 or
    192 and t = 100 nearly every channel is cut off at the beginning of a training: a' is :math:`1 / \sqrt{C}` in all of
    them, whatever the style, and no gradient reaches the style in reverse. A larger `truncate` avoids this.

    After :meth:`cache` W is kept as a buffer, which is not written to files, and is computed anew whenever a state dict is
    loaded.

    Source: K3DN, section 3.2, equations 8 and 9; convolution, gate and its reverse from the authors' code.

    Args:
        channels: C.
        style_channels: S, width of the style.
        truncate: t, the largest factor that the reverse gate has before it is normalised, positive.

    Raises:
        ValueError: `truncate` is not positive.

    Differences:
        The inverse comes from :math:`P^T` and two triangular systems, where the authors' code inverts three matrices.
        A style that holds NaN gives NaN in reverse, where theirs puts zero.
    """

    def __init__(self, channels: int, style_channels: int = 256, truncate: float = 100.0) -> None:
        super().__init__()
        if not truncate > 0:
            raise ValueError(f"truncate={truncate}: must be positive")
        self.channels = channels
        self.truncate = truncate
        rotation, _ = torch.linalg.qr(torch.randn(channels, channels))
        permutation, lower, upper = torch.linalg.lu(rotation)
        scale = upper.diagonal()
        self.lower = nn.Parameter(lower.tril(-1))
        self.upper = nn.Parameter(upper.triu(1))
        self.log_scale = nn.Parameter(scale.abs().log())
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", scale.sign())
        self.register_buffer("product", None, persistent=False)
        self.gate = EqualisedLinear(style_channels, channels)
        self.register_load_state_dict_post_hook(_cache_again)

    @property
    def cached(self) -> bool:
        """Whether W is kept instead of computed at every call."""
        return self.product is not None

    def weight(self, reverse: bool = False) -> Tensor:
        """Compute W, or its inverse: (C, C), outputs by inputs.

        In float32 or float64, also for half precision and under autocast, with gradients (but for a cached W).
        """
        if self.cached and not reverse:
            return self.product
        dtype = torch.promote_types(self.lower.dtype, torch.float32)
        lower, upper, log_scale, permutation = (
            one.to(dtype) for one in (self.lower, self.upper, self.log_scale, self.permutation)
        )
        with without_autocast(lower):
            lower = lower.tril(-1) + torch.eye(self.channels, dtype=dtype, device=lower.device)
            upper = upper.triu(1) + torch.diag(self.sign * log_scale.exp())
            if not reverse:
                return permutation @ lower @ upper
            right = torch.linalg.solve_triangular(lower, permutation.T, upper=False, unitriangular=True)
            return torch.linalg.solve_triangular(upper, right, upper=True)

    def weights_of(self, style: Tensor) -> Tensor:
        """Compute a of equation 8: (B, S) -> (B, C), positive, with sum 1, in float32 or float64."""
        logits = self.gate(style)
        return logits.softmax(1, dtype=torch.promote_types(logits.dtype, torch.float32))

    def cache(self) -> None:
        """Compute W once and keep it; called again, it follows the parameters. The reverse direction is left as it was."""
        self.product = None
        with torch.no_grad():
            self.product = self.weight().to(self.lower.dtype)

    def forward(self, features: Tensor, style: Tensor, reverse: bool = False) -> Tensor:
        """Weight and mix, or mix with the inverse and weight with the truncated reciprocals.

        Args:
            features: (B, C, H, W).
            style: (B, S).
            reverse: the direction.

        Returns:
            (B, C, H, W).

        Raises:
            ValueError: features of other channels, or another number of styles than of features.
        """
        if features.ndim != 4 or features.shape[1] != self.channels:
            raise ValueError(f"features {tuple(features.shape)}: (B, {self.channels}, H, W) is needed")
        if style.ndim != 2 or len(style) != len(features):
            raise ValueError(
                f"style {tuple(style.shape)} and features {tuple(features.shape)}: one style for each is needed"
            )
        weights = self.weights_of(style)
        if reverse:
            weights = (weights + SMALL).reciprocal().clamp(max=self.truncate)
            weights = weights / (weights.square().sum(1, keepdim=True) + SMALL).sqrt()
        weights = weights[:, :, None, None].to(features.dtype)
        matrix = self.weight(reverse)[:, :, None, None].to(features.dtype)
        if reverse:
            return functional.conv2d(features, matrix) * weights
        return functional.conv2d(features * weights, matrix)

    def extra_repr(self) -> str:
        """Show the settings when printed."""
        return f"{self.channels}, truncate={self.truncate}, cached={self.cached}"


def _cache_again(convolution: GatedInvertibleConvolution, _: Any) -> None:
    if convolution.cached:
        convolution.cache()
