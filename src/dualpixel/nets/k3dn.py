"""K3DN: defocus deblurring by a set of trainable kernels that the disparity of the two views chooses from.

Source: Yang, Pan, Liu and Liu, "K3DN: Disparity-aware Kernel Estimation for Dual-Pixel Defocus Deblurring", CVPR 2023;
authors' code https://github.com/cjsj166/k3dn (inference of the Large network only). Checked against outputs of that
code's network, whole and by parts.
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from dualpixel.blocks.disparity_estimator import DisparityEstimator, SingleDisparityEstimator
from dualpixel.blocks.padding import next_multiples
from dualpixel.blocks.psf import PSFBlock
from dualpixel.blocks.residual import ResidualBlock
from dualpixel.blocks.sharp_region import SharpRegionPreservation
from dualpixel.blocks.window_grid import WindowGrid

Views = Literal["dual", "combined"]
Bottleneck = Literal["kernels", "residual", "none"]

NEGATIVE_SLOPE = 0.2
STYLE_CHANNELS = 256
"""Length of the vector that the disparity estimator gives for each window."""

MIDDLE = 0.5
"""Images in [0, 1] are shifted by this, so that the network sees -0.5 ... 0.5."""


VARIANTS: dict[str, dict[str, int]] = {
    "k3dn_tiny": {"base_channels": 24, "residual_blocks": 2, "psf_blocks": 4, "srp_blocks": 1},
    "k3dn_light": {"base_channels": 32, "residual_blocks": 2, "psf_blocks": 4, "srp_blocks": 2},
    "k3dn": {"base_channels": 48, "residual_blocks": 4, "psf_blocks": 8, "srp_blocks": 4},
}
"""Recipe -> its network; "k3dn" is the paper's Large one."""


def recipe_name(options: Mapping[str, Any]) -> str:
    """Return the recipe whose network has most of these options: an ablation of Lightweight is not Large, whatever its width."""
    if options["views"] == "combined":
        return "k3dn_single"

    def shared(name: str) -> tuple[int, int]:
        same = {option for option, value in VARIANTS[name].items() if options[option] == value}
        return len(same), len(same - {"base_channels"})  # table 5 varies this one

    return max(VARIANTS, key=shared) + ("" if options["srp"] else "_stage1")


class K3DN(nn.Module):
    """Encoder, PSF blocks, decoder with SRP blocks at its three fusions; the disparity estimator steers the PSF blocks.

    | variant | base_channels | residual_blocks | psf_blocks | srp_blocks | parameters |
    |---|---|---|---|---|---|
    | Tiny | 24 | 2 | 4 | 1 | 3,086,438 |
    | Lightweight | 32 | 2 | 4 | 2 | 5,034,694 |
    | Large | 48 | 4 | 8 | 4 | 16,099,350 |

    Only Large is published. The other two are those whose size and cost fit the paper's table 1 best; counts alone do not
    prove them. Lightweight's runner-up is (28, 2, 7, 4) with 5,113,514 parameters.

    Args:
        views: "dual" takes the left and the right view, "combined" one blurry image.
        width: factor on all channel counts, rounded, at least one each; 1.0 is the paper's network. Ours.
        residual: ours, for short trainings: the output is added to the blurry image, and the last convolution starts at
            zero, so that training starts from the blurry image.
        base_channels: channels at half the image's size; the kernel set holds N = 4 base_channels kernels (table 5).
        residual_blocks: residual blocks at each scale of encoder and decoder.
        psf_blocks: PSF blocks behind each other, each with a kernel set of its own.
        srp_blocks: residual blocks inside each SRP block.
        srp: whether the SRP blocks are there (table 4); without them this is the network of the first training stage.
        psf: "kernels" for PSF blocks. In their place "residual" has as many residual blocks, "none" nothing; neither has a
            disparity estimator. What table 4's row without PSF blocks had is not stated; both are ours.
        truncate: largest reciprocal of a weighting when blurring; see `PSFBlock`.
        identity_srp: whether new SRP blocks begin as the identity, so that the second stage begins where the first ended.
            Ours.
        cached: the form for inference: the kernels are stored in place of their spectra, and `reblur` is refused.

    Attributes:
        options: the arguments above, as plain JSON types; stored beside the weights.
        silent_options: those that change what is computed, and neither name nor shape of a weight: weights stored with
            others are refused.

    Raises:
        ValueError: an argument is out of range.

    Differences:
        The paper compares features before and after the PSF blocks (equations 11 to 16); as in the authors' code, an SRP
        block stands at each of the three fusions of the decoder and compares a skip with the enlarged features. The
        published inference code has no training functions; `reblur` is built from the direction switch that its blocks
        have. The columns of the cost volume that the published code leaves unwritten are zero. The composition of the
        network for one image is ours: the published code lacks it.
    """

    silent_options = ("residual",)

    def __init__(
        self,
        views: Views = "dual",
        width: float = 1.0,
        residual: bool = False,
        base_channels: int = 48,
        residual_blocks: int = 4,
        psf_blocks: int = 8,
        srp_blocks: int = 4,
        srp: bool = True,
        psf: Bottleneck = "kernels",
        truncate: float = 100.0,
        identity_srp: bool = False,
        cached: bool = False,
    ) -> None:
        super().__init__()
        self.options: dict[str, Any] = {
            name: value for name, value in locals().items() if name not in ("self", "__class__")
        }
        for name, choice in {"views": Views, "psf": Bottleneck}.items():
            if self.options[name] not in get_args(choice):
                raise ValueError(f"{name}={self.options[name]!r}: allowed are {', '.join(map(repr, get_args(choice)))}")
        if not width > 0:
            raise ValueError(f"width={width}: must be positive; 1.0 is the paper's network")
        for name, least in {"base_channels": 1, "residual_blocks": 0, "psf_blocks": 0, "srp_blocks": 0}.items():
            if self.options[name] < least:
                raise ValueError(f"{name}={self.options[name]}: must be at least {least}")
        if cached and psf != "kernels":
            raise ValueError(f"cached=True is for PSF blocks; psf={psf!r} has no kernels")

        level1 = max(1, round(width * base_channels))
        level2, level3 = 2 * level1, 4 * level1
        images = 6 if views == "dual" else 3
        style = max(1, round(width * STYLE_CHANNELS))
        self.residual, self.in_channels = residual, images

        def blocks(channels: int, count: int = residual_blocks) -> nn.Sequential:
            return nn.Sequential(
                *(ResidualBlock(channels, NEGATIVE_SLOPE, bias=False, near_identity=False) for _ in range(count))
            )

        self.down = nn.ModuleList(map(_halving, (images, level1, level2), (level1, level2, level3)))
        self.enc = nn.ModuleList(map(blocks, (level1, level2, level3)))
        self.grid = WindowGrid()
        self.estimator = None
        if psf == "kernels":
            estimator = DisparityEstimator if views == "dual" else SingleDisparityEstimator
            self.estimator = estimator(self.grid, style, width)
            self.psf = nn.ModuleList(PSFBlock(level3, style, truncate, cached=cached) for _ in range(psf_blocks))
        else:
            self.psf = blocks(level3, psf_blocks if psf == "residual" else 0)
        self.up = nn.ModuleList(map(_doubling, (level3, 2 * level2, 2 * level1), (level2, level1, level1)))
        skips = ((level2, level2), (level1, level1), (level1, images))  # enlarged features, skip
        self.srp = None
        if srp:
            self.srp = nn.ModuleList(
                SharpRegionPreservation(new, old, srp_blocks, identity=identity_srp) for new, old in skips
            )
        self.dec = nn.ModuleList(blocks(new + old) for new, old in skips)
        self.out = nn.Conv2d(level1 + images, 3, 3, padding=1, bias=False)
        if residual:
            nn.init.zeros_(self.out.weight)

    @property
    def cached(self) -> bool:
        """Whether the network is in its form for inference."""
        return bool(self.options["cached"])

    def cache(self) -> "K3DN":
        """Bring the network into its form for inference, in place: kernels, 1x1 weights and interactions are computed once.

        Returns:
            The network itself. `deblur` gives what it gave before; `reblur` raises ValueError from now on.
        """
        if self.options["psf"] == "kernels":
            for block in self.psf:
                block.cache()
            self.options = {**self.options, "cached": True}
        return self

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the smallest height and width that the network takes and that are not below those given."""
        return next_multiples(height, width, 8) if self.estimator is None else self.grid.next_size(height, width)

    def forward(self, views: Tensor, combined: Tensor | None = None) -> Tensor:
        """Deblur.

        Args:
            views: (B, 6, H, W), the left view's RGB before the right view's, or (B, 3, H, W) for `views="combined"`;
                in [0, 1]; H and W as `padded_size` gives them.
            combined: (B, 3, H, W), the combined image that a residual network corrects; without it, the mean of the
                two views (or the input itself). Not used otherwise.

        Returns:
            (B, 3, H, W): the sharp image, in about [0, 1]; not clamped.

        Raises:
            ValueError: the number of channels, or H or W, does not fit.
        """
        return self.deblur(views, self.estimate(views), combined)

    def estimate(self, views: Tensor) -> Tensor | None:
        """Return a vector r for each window (B p1 p2, 256), which its kernels are chosen by; None without PSF blocks.

        Arguments and errors as for `forward`.
        """
        self._check(views)
        return None if self.estimator is None else self.estimator(*(views - MIDDLE).split(3, dim=1))

    def deblur(self, views: Tensor, style: Tensor | None, combined: Tensor | None = None) -> Tensor:
        """Deblur with given vectors; see `forward` and `estimate`."""
        self._check(views)
        image = self.restore(views - MIDDLE, style)
        return image + (_mean(views) if combined is None else combined) if self.residual else image + MIDDLE

    def reblur(self, sharp: Tensor, style: Tensor) -> Tensor:
        """Blur a sharp image by the kernels that deblur the pair it belongs to (section 3.3, equation 17, figure 5).

        Args:
            sharp: (B, 3, H, W), in [0, 1].
            style: what `estimate` gave for the blurry pair; gradients reach the estimator through it.

        Returns:
            (B, 3, H, W), to be compared with the mean of the two views (equation 2).

        Raises:
            ValueError: the network has no PSF blocks, or its kernels were cached for deblurring.
        """
        if self.estimator is None:
            raise ValueError("a network without PSF blocks cannot blur: psf='kernels' has them")
        images = torch.cat([sharp] * (self.in_channels // 3), dim=1)
        image = self.restore(images - MIDDLE, style, reverse=True)
        return image + (sharp if self.residual else MIDDLE)

    def restore(self, images: Tensor, style: Tensor | None, reverse: bool = False) -> Tensor:
        """Run encoder, bottleneck and decoder.

        Args:
            images: (B, 6, H, W) or (B, 3, H, W), shifted to -0.5 ... 0.5.
            style: see `estimate`.
            reverse: blur in place of deblurring.

        Returns:
            (B, 3, H, W), what leaves the last convolution.
        """
        *skips, deep = self.encode(images)
        features = self.bottleneck(deep, style, reverse)
        for level, (up, decode) in enumerate(zip(self.up, self.dec, strict=True)):
            skip, features = skips.pop(), up(features)
            fused = torch.cat((skip, features), dim=1) if self.srp is None else self.srp[level](skip, features)
            features = decode(fused)
        return self.out(features)

    def encode(self, images: Tensor) -> list[Tensor]:
        """Return the images and their features at a half, a quarter and an eighth of their size; see `restore`."""
        levels = [images]
        for down, encode in zip(self.down, self.enc, strict=True):
            levels.append(encode(down(levels[-1])))
        return levels

    def bottleneck(self, features: Tensor, style: Tensor | None, reverse: bool = False) -> Tensor:
        """Run the PSF blocks window by window (equations 10 and 17), or what stands in their place.

        Args:
            features: (B, C, H / 8, W / 8).
            style: a vector for each window, in the order batch, row, column.
            reverse: blur in place of deblurring.
        """
        if self.estimator is None:
            return self.psf(features)
        rows, columns = self.grid.shape(*(8 * size for size in features.shape[-2:]))
        windows = self.grid.split(features, rows, columns)
        for block in self.psf:
            windows = block(windows, style, reverse)
        return self.grid.merge(windows, rows, columns)

    @torch.no_grad()
    def reverse_errors(self, views: Tensor, style: Tensor) -> dict[str, float]:
        """Measure how far the PSF blocks' blurring is from inverting their deblurring, for the features of an image.

        Args:
            views: see `forward`.
            style: see `estimate`.

        Returns:
            "block 0", "block 1" ...: |reverse(forward(x)) - x| / |x| of each block for the features x it is given, the mean
            over windows; "all": the same for all of them behind each other.
        """
        features = self.encode(views - MIDDLE)[-1]
        begin = windows = self.grid.split(features, *self.grid.shape(*views.shape[-2:]))
        errors = {}
        for number, block in enumerate(self.psf):
            errors[f"block {number}"] = float(block.reverse_error(windows, style).mean())
            windows = block(windows, style)
        for block in self.psf:
            windows = block(windows, style, reverse=True)
        apart = (windows - begin).flatten(1).norm(dim=1) / begin.flatten(1).norm(dim=1)
        return {**errors, "all": float(apart.mean())}

    def _check(self, views: Tensor) -> None:
        if views.ndim != 4 or views.shape[1] != self.in_channels:
            raise ValueError(
                f"K3DN with views={self.options['views']!r} takes (B, {self.in_channels}, H, W), found {tuple(views.shape)}"
            )
        if self.estimator is not None:
            self.grid.require(*views.shape[-2:])
        elif any(size % 8 for size in views.shape[-2:]):
            raise ValueError(
                f"K3DN without PSF blocks takes multiples of 8, found {views.shape[-2]} x {views.shape[-1]}: "
                "pad with dualpixel.blocks.padding.run_padded"
            )


def _mean(views: Tensor) -> Tensor:
    return views.unflatten(1, (-1, 3)).mean(dim=1)


def _halving(in_channels: int, out_channels: int) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True))


def _doubling(in_channels: int, out_channels: int) -> nn.Sequential:
    convolution = nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True))
