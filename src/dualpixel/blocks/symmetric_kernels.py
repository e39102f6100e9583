"""A trainable set of horizontally symmetric kernels, kept as spectra: one kernel for each channel of a feature map.

Source: Yang, Pan, Liu and Liu, "K3DN: Disparity-aware Kernel Estimation for Dual-Pixel Defocus Deblurring", CVPR 2023,
section 3.2; the authors' code (https://github.com/cjsj166/k3dn) for what the paper leaves open.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

SMALL = 1e-8
"""Added to what is divided by, as the authors' code does."""


class SymmetricKernelSet(nn.Module):
    r"""The kernel set K of equation 8, applied channel by channel: with the kernels (equation 10) or their inverses (17).

    For each channel the parameter `spectrum` holds the half spectrum Z of a real kernel that is one pixel larger on both
    axes. The kernel is :math:`\mathcal{F}'(Z)`, its inverse :math:`\mathcal{F}'(1 / Z)`. Either one is cropped by its
    last row, its left half is mirrored (equation 2: the sum of both views blurs symmetrically), and it is divided by its
    Euclidean norm.

    Two columns of a half spectrum, frequency zero and the highest one, belong to real kernels only where they mirror
    their own conjugates from top to bottom. The free parameters do not, and FFT libraries differ in what they make of
    that. The part that does is therefore cut out first, so that all devices agree. On a CPU this changes nothing.

    After :meth:`cache` the kernels themselves are kept: the parameter `spectrum` is gone, and the buffer `left`
    (C, 1, size, (size + 1) / 2), left half and middle column, is in its place.

    Source: K3DN, section 3.2, equations 2, 7, 8, 10 and 17; initial values, sizes and normalisation from the authors' code.

    Args:
        channels: C, of the feature map, and number of kernels N.
        size: rows and columns of a kernel, pixels, odd.
        cached: whether to begin in the form after :meth:`cache`, such as to load a file that was written in it.

    Raises:
        ValueError: an even or non-positive `size`.

    Differences:
        As in the authors' code:

        - Kernel j of the set is zero in all channels but j, and N = C (the paper: "only one sub-kernel non-zero"). The set
          is one depthwise convolution, and the weighted sum of equation 9 is a factor for each channel, which
          :class:`~dualpixel.blocks.gated_convolution.GatedInvertibleConvolution` applies.
        - The paper keeps the kernel that blurs and deblurs with the reciprocal of its spectrum. Here it is the other way
          round: the spectrum itself deblurs, and its reciprocal blurs.
        - Kernel and inverse are cropped, mirrored and normalised each for itself. One is therefore not the exact inverse of
          the other.

        Not as there: a spectrum that holds NaN gives NaN, where theirs puts zero.
    """

    def __init__(self, channels: int, size: int = 9, cached: bool = False) -> None:
        super().__init__()
        if size < 1 or size % 2 == 0:
            raise ValueError(f"size={size}: must be odd and positive, so that a kernel has a middle")
        self.channels = channels
        self.size = size
        self.spectrum = nn.Parameter(torch.empty(channels, size + 1, (size + 1) // 2 + 1, 2))
        nn.init.normal_(self.spectrum)
        if cached:
            self.cache()

    @property
    def cached(self) -> bool:
        """Whether the kernels themselves are kept instead of their spectra."""
        return "left" in self._buffers

    def kernels(self, inverse: bool = False) -> Tensor:
        """Compute the kernels.

        Args:
            inverse: from the reciprocal of the spectra (they blur), instead of from the spectra (they deblur).

        Returns:
            (C, 1, size, size), mirror images of themselves from left to right and of norm 1, with gradients. Computed in
            float32 or float64, also for half precision and under autocast.

        Raises:
            ValueError: `inverse` after :meth:`cache`.
        """
        if self.cached:
            if inverse:
                raise ValueError(
                    "the kernels were cached for deblurring only: their inverses need the spectra, which are gone"
                )
            return _mirrored(self.left)
        dtype = torch.promote_types(self.spectrum.dtype, torch.float32)
        with without_autocast(self.spectrum):
            spectrum = torch.complex(*self.spectrum.to(dtype).unbind(-1))
            if inverse:
                spectrum = _reciprocal(spectrum)
            length = self.size + 1
            enlarged = torch.fft.irfft2(_of_real_kernels(spectrum), s=(length, length))
            kernels = _mirrored(enlarged[:, None, :-1, : length // 2])
            return kernels / (kernels.square().sum((2, 3), keepdim=True) + SMALL).sqrt()

    def cache(self) -> None:
        """Replace the spectra by the kernels, in place and for good; the second call does nothing.

        The result stays what it was. There is no inverse any more, and nothing left to train.
        """
        if self.cached:
            return
        with torch.no_grad():
            left = self.kernels()[..., : (self.size + 1) // 2].to(self.spectrum.dtype)
        del self.spectrum
        self.register_buffer("left", left.contiguous())

    def forward(self, features: Tensor, inverse: bool = False) -> Tensor:
        """Convolve each channel with its kernel, with zeros around.

        Args:
            features: (B, C, H, W).
            inverse: see :meth:`kernels`.

        Returns:
            (B, C, H, W).

        Raises:
            ValueError: features of other channels; `inverse` after :meth:`cache`.
        """
        if features.ndim != 4 or features.shape[1] != self.channels:
            raise ValueError(f"features {tuple(features.shape)}: (B, {self.channels}, H, W) is needed")
        kernels = self.kernels(inverse).to(features.dtype)
        return functional.conv2d(features, kernels, padding=self.size // 2, groups=self.channels)

    def extra_repr(self) -> str:
        """Show the settings when printed."""
        return f"{self.channels}, size={self.size}, cached={self.cached}"


def without_autocast(tensor: Tensor) -> AbstractContextManager:
    """Return a context in which autocast leaves the precision of `tensor`'s device alone."""
    if tensor.is_meta:  # autocast does not know this device
        return nullcontext()
    return torch.autocast(tensor.device.type, enabled=False)


def _reciprocal(spectrum: Tensor) -> Tensor:
    """Return 1 / (Z + 1e-8), zero where there is none; the gradient is zero there as well."""
    spectrum = spectrum + SMALL
    vanished = spectrum == 0
    return spectrum.masked_fill(vanished, 1).reciprocal().masked_fill(vanished, 0)


def _of_real_kernels(spectrum: Tensor) -> Tensor:
    """Leave of half spectra (C, n, n / 2 + 1), n even, what real kernels have: the Hermitian part of the outer columns."""
    outer = spectrum[..., :: spectrum.shape[2] - 1]
    mirrored = outer.flip(1).roll(1, 1).conj()  # row r becomes row -r, modulo n
    outer = (outer + mirrored) / 2
    return torch.cat((outer[..., :1], spectrum[..., 1:-1], outer[..., 1:]), dim=2)


def _mirrored(left: Tensor) -> Tensor:
    """Complete a left half with the middle column: (..., (size + 1) / 2) -> (..., size)."""
    return torch.cat((left, left[..., :-1].flip(-1)), dim=-1)
