"""The PSF block of K3DN: features are deblurred, or blurred again, by kernels that a disparity feature vector asks for.

Source: Yang, Pan, Liu and Liu, "K3DN: Disparity-aware Kernel Estimation for Dual-Pixel Defocus Deblurring", CVPR 2023,
section 3.2 (deblurring, equations 8 to 10) and section 3.3 (reblurring, equation 17); the authors' code
(https://github.com/cjsj166/k3dn) for how the parts are put together.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dualpixel.blocks.disparity_query import NEGATIVE_SLOPE, DisparityQuery
from dualpixel.blocks.gated_convolution import GatedInvertibleConvolution
from dualpixel.blocks.symmetric_kernels import SymmetricKernelSet


class PSFBlock(nn.Module):
    r"""Deblur features by the kernels that fit their disparity (equation 10), or blur sharp ones (equation 17).

    With the kernel set K, the gated convolution W_a and the leaky ReLU :math:`\phi` of slope 0.2:

    .. math:: \text{deblur:} \quad y = x + \phi(W_a \, \phi(K * x)), \qquad
              \text{reblur:} \quad y = x + \phi(K^{-1} * \phi(W_a^{-1} x))

    The features of one window share one style, the disparity feature vector of the window; the style is refined by
    :class:`~dualpixel.blocks.disparity_query.DisparityQuery` first, with the same kernels in both directions.

    After :meth:`cache` the block is in its inference form: kernels, W and the query's e are computed once. The state dict
    then holds `kernels.left` in place of `kernels.spectrum`; W and e are not written, but computed anew whenever a state
    dict is loaded into the block. There is no reblurring in this form, and no training of what was computed.

    Source: K3DN, sections 3.2 and 3.3, equations 8 to 10 and 17.

    Args:
        channels: C.
        style_channels: S, width of the style.
        truncate: see :class:`~dualpixel.blocks.gated_convolution.GatedInvertibleConvolution`, where it matters how small it is.
        size: rows and columns of a kernel, pixels, odd.
        cached: whether to begin in inference form, such as to load a file that was written in it.

    Raises:
        ValueError: an even or non-positive `size`; `truncate` is not positive.

    Differences:
        As in the authors' code:

        - N = C: each kernel of the set is non-zero in one channel, and equation 9 is a factor for each channel.
        - W_v of equation 8 is a linear layer back to the style, with a leaky ReLU and a sum, and a second layer to the
          channels.
        - The kept spectrum deblurs and its reciprocal blurs; the paper keeps the kernel that blurs.
        - Reblurring undoes deblurring only roughly: kernels and inverses are cropped, mirrored and normalised each for
          itself, the reverse gate is truncated, and leaky ReLUs, mixing and the sum with x lie between.
          :meth:`reverse_error` measures how roughly.
        - One style holds for a window of features, instead of one for each place of the disparity map.
    """

    def __init__(
        self, channels: int, style_channels: int = 256, truncate: float = 100.0, size: int = 9, cached: bool = False
    ) -> None:
        super().__init__()
        self.kernels = SymmetricKernelSet(channels, size, cached)
        self.mixing = GatedInvertibleConvolution(channels, style_channels, truncate)
        self.query = DisparityQuery(channels, style_channels, size)
        self.register_load_state_dict_post_hook(_query_again)
        if cached:
            self.cache()

    @property
    def cached(self) -> bool:
        """Whether the block is in inference form."""
        return self.kernels.cached

    def cache(self) -> None:
        """Bring the block into inference form, in place and for good. Deblurring gives what it gave before."""
        self.query.cache(self.kernels.kernels())
        self.kernels.cache()
        self.mixing.cache()

    def forward(self, features: Tensor, style: Tensor, reverse: bool = False) -> Tensor:
        """Deblur features, or blur them.

        Args:
            features: (B, C, H, W), of B windows.
            style: (B, S), their disparity feature vectors.
            reverse: reblur instead of deblur.

        Returns:
            (B, C, H, W).

        Raises:
            ValueError: shapes that do not fit; `reverse` after :meth:`cache`.
        """
        style = self.query(style, self.kernels.kernels())
        if reverse:
            result = _rectified(self.kernels(_rectified(self.mixing(features, style, reverse)), inverse=True))
        else:
            result = _rectified(self.mixing(_rectified(self.kernels(features)), style))
        return result + features

    @torch.no_grad()
    def reverse_error(self, features: Tensor, style: Tensor) -> Tensor:
        r"""Measure how far reblurring is from undoing deblurring: a diagnosis, not a loss.

        .. math:: \lVert \mathrm{reblur}(\mathrm{deblur}(x)) - x \rVert \, / \, \lVert x \rVert

        Were equation 17 the inverse of equation 10, as in the paper, it would be zero. Since both directions add to their
        input, it is small as well where they do little: about 0.03 in an untrained block of 192 channels, which is the
        change that reblurring makes.

        Args:
            features: x, (B, C, H, W), none of them all zero.
            style: (B, S).

        Returns:
            (B,), at least 0, in float32 or float64, without gradient.

        Raises:
            ValueError: shapes that do not fit; the block is in inference form.
        """
        wide = torch.promote_types(features.dtype, torch.float32)
        difference = self(self(features, style), style, reverse=True) - features
        error, size = (torch.linalg.vector_norm(one, dim=(1, 2, 3), dtype=wide) for one in (difference, features))
        return error / size


def _rectified(features: Tensor) -> Tensor:
    return functional.leaky_relu(features, NEGATIVE_SLOPE)


def _query_again(block: PSFBlock, _: Any) -> None:
    if block.cached:
        block.query.cache(block.kernels.kernels())
