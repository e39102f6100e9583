"""Several decoders behind one encoder that see each other's enlarged features at one level ("stitching").

Source: Abuolaim, Afifi and Brown, "Improving Single-Image Defocus Deblurring: How Dual-Pixel Images Help Through
Multi-Task Learning", WACV 2022, section 3.1, figure 3 and supplement S1.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dualpixel.blocks.unet import ConvolutionBlock, DecoderBlock, ImageOutput

Stitching = Literal["middle", "late", "none"]
Skips = tuple[Tensor, Tensor, Tensor, Tensor]


def run(function: Callable[..., Any], *features: Tensor, recompute: bool) -> Any:
    """Return ``function(*features)``; with `recompute`, what its gradient needs is not kept but computed again then.

    Gradients are the same to the last bit. The function must not draw random numbers: they would differ.
    """
    if recompute:
        return checkpoint(function, *features, use_reentrant=False, preserve_rng_state=False)
    return function(*features)


class DecoderBranch(nn.Module):
    """One decoder: bottleneck, D-Blocks 4 to 1 and the output layers, in three parts between which maps are exchanged.

    Bottleneck and D-Block 4 have one 3x3 convolution, the other D-Blocks two.

    Args:
        channels: of levels 1 to 4 and of the bottleneck.
        middle_sources: how many enlarged feature maps D-Block 2 merges.
        late_sources: the same of D-Block 1.
        rectify: whether the three-channel layer before the last has its ReLU.
    """

    def __init__(self, channels: Sequence[int], middle_sources: int, late_sources: int, rectify: bool) -> None:
        super().__init__()
        level1, level2, level3, level4, bottleneck = channels
        self.mid = ConvolutionBlock(level4, bottleneck, convolutions=1)
        self.dec4 = DecoderBlock(bottleneck, level4, convolutions=1)
        self.dec3 = DecoderBlock(level4, level3)
        self.dec2 = DecoderBlock(level3, level2, sources=middle_sources)
        self.dec1 = DecoderBlock(level2, level1, sources=late_sources)
        self.out = ImageOutput(level1, rectify)

    def early(self, deep: Tensor, skip4: Tensor, skip3: Tensor) -> Tensor:
        """Map (B, level4, H/16, W/16) and two skips to the enlarged features of level 2, (B, level2, H/2, W/2)."""
        return self.dec2.enlarge(self.dec3(self.dec4(self.mid(deep), skip4), skip3))

    def middle(self, *maps: Tensor) -> Tensor:
        """Map skip and enlarged features of level 2, or one map that holds them all, to (B, level1, H, W)."""
        return self.dec1.enlarge(self.dec2.convolve(_joined(maps)))

    def late(self, *maps: Tensor) -> Tensor:
        """Map skip and enlarged features of level 1, or one map that holds them all, to (B, 3, H, W), unbounded."""
        return self.out(self.dec1.convolve(_joined(maps)))


class StitchedDecoders(nn.Module):
    """Decoders with weights of their own; stitched, they merge the enlarged features of all where each had its own.

    Args:
        names: of the decoders, in the order in which their features are concatenated, behind the skip.
        channels: of levels 1 to 4 and of the bottleneck.
        stitching: "middle" stitches at D-Block 2, where all decoders then see one and the same map; "late" does so at
            D-Block 1; with "none" the decoders have nothing but the encoder in common.
        rectify: whether the three-channel layers before the last have their ReLU.
        checkpointing: whether activations are computed again in the backward pass instead of being kept: less memory,
            more time, the same gradients.

    Raises:
        ValueError: another `stitching`.

    Differences:
        The paper speaks of sharing weights; what is shared are features. It calls the middle stage two more skips for
        each block in a box of figure 3; the authors' code has one concatenation, at the level of 128 channels, and it
        is this one. Only the middle stitching is in their code: "late" and "none" are our reading of the supplement,
        which stitches "at the last block", or nowhere behind the encoder.
    """

    def __init__(
        self,
        names: Sequence[str],
        channels: Sequence[int],
        stitching: Stitching = "middle",
        rectify: bool = True,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if stitching not in get_args(Stitching):
            raise ValueError(f"stitching={stitching!r}: allowed are {', '.join(map(repr, get_args(Stitching)))}")
        self.stitching, self.checkpointing = stitching, checkpointing
        sources = [len(names) if stitching == stage else 1 for stage in ("middle", "late")]
        self.branches = nn.ModuleDict({name: DecoderBranch(channels, *sources, rectify) for name in names})

    def forward(self, deep: Tensor, skips: Skips) -> dict[str, Tensor]:
        """Decode.

        Args:
            deep: (B, level4, H/16, W/16), the encoder's last features after pooling.
            skips: of levels 1 to 4, (B, level1, H, W) to (B, level4, H/8, W/8).

        Returns:
            (B, 3, H, W) of each decoder, unbounded.
        """
        skip1, skip2, skip3, skip4 = skips
        compute = partial(run, recompute=self.checkpointing)
        branches = self.branches.items()
        enlarged = {name: compute(branch.early, deep, skip4, skip3) for name, branch in branches}
        if self.stitching == "late":
            enlarged = {name: compute(branch.middle, skip2, enlarged[name]) for name, branch in branches}
            stitched = _joined((skip1, *enlarged.values()))
            return {name: compute(branch.late, stitched) for name, branch in branches}
        if self.stitching == "middle":
            maps = dict.fromkeys(enlarged, (_joined((skip2, *enlarged.values())),))
        else:
            maps = {name: (skip2, own) for name, own in enlarged.items()}
        enlarged.clear()
        images = {}
        for name, branch in branches:  # each up to its end, so that its large maps are gone before the next begins
            images[name] = compute(branch.late, skip1, compute(branch.middle, *maps.pop(name)))
        return images


def _joined(maps: Sequence[Tensor]) -> Tensor:
    return maps[0] if len(maps) == 1 else torch.cat(tuple(maps), dim=1)
