"""Protocols: what exactly was compared with what. The id of one stands beside every score."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dualpixel.data.fields import IMAGES, MAPS
from dualpixel.errors import DualPixelError
from dualpixel.evaluate.quantise import drop_low_bits, halve, truncate
from dualpixel.hints import near


@dataclass(frozen=True)
class Protocol:
    """How a prediction is compared with its target.

    Args:
        id: short name, part of every result.
        description: what is compared, in one sentence.
        source: who defined it.
        data_bits: the bits per channel that a data set may have.
        bits: all images of a batch are cut to so many bits before the network sees them, and outputs before they are scored;
            None leaves both alone.
        halved: whether images are halved in height and width after that; only where `bits` is given.
        metrics: the columns of a result, in order.
    """

    id: str
    description: str
    source: str
    data_bits: tuple[int, ...]
    bits: int | None = None
    halved: bool = False
    metrics: tuple[str, ...] = ("psnr", "ssim", "mae", "lpips")

    def batch(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return a batch as the network is to see it, and as its ``sharp`` is compared.

        Halved batches have no maps: a blur radius in pixels and depths across an edge are not halved like colours.

        Raises:
            DualPixelError: a size that cannot be halved.
        """
        if self.bits is None:
            return dict(batch)
        result = {name: value for name, value in batch.items() if not (self.halved and name in MAPS)}
        for name in IMAGES:
            if name in result:
                cut = drop_low_bits(result[name], self.bits)
                result[name] = halve(cut, self.bits) if self.halved else cut
        return result

    def output(self, image: Tensor) -> Tensor:
        """Return an output, (B, 3, H, W) in [0, 1], as it is compared."""
        return image if self.bits is None else truncate(image, self.bits)


WHOLE_IMAGES = (
    "whole images at their stored size, unquantised float output against the {}-bit target, no border cut, no tiling; each score "
    "per image, then the mean; SSIM 7x7 uniform; LPIPS AlexNet v0.1"
)
EIGHT_BITS = (
    "whole images, inputs and target cut to 8 bits by dropping the low byte{}, output truncated to 8 bits, no border cut, no "
    "tiling; each score per image, then the mean; SSIM 7x7 uniform; LPIPS AlexNet v0.1 (ours: the authors' program has none)"
)
PROTOCOLS = {
    protocol.id: protocol
    for protocol in (
        Protocol(
            "dpdnet-16bit", WHOLE_IMAGES.format(16), "Abuolaim and Brown, ECCV 2020, authors' test program", (16,)
        ),
        Protocol("whole-8bit", WHOLE_IMAGES.format(8), "ours: dpdnet-16bit for sets that have 8 bits", (8,)),
        Protocol(
            "dpanet-8bit",
            EIGHT_BITS.format(""),
            "Li et al., Learning Dual-Pixel Alignment for Defocus Deblurring, authors' test program",
            data_bits=(8, 16),
            bits=8,
        ),
        Protocol(
            "dpanet-half",
            EIGHT_BITS.format(" and halved by the mean of 2x2 pixels, rounded half up to 8 bits"),
            "Li et al., Learning Dual-Pixel Alignment for Defocus Deblurring, table II, for DDDNet",
            data_bits=(8, 16),
            bits=8,
            halved=True,
        ),
    )
}


def get_protocol(name: str) -> Protocol:
    """Return a protocol by its id.

    Raises:
        DualPixelError: there is none.
    """
    if name not in PROTOCOLS:
        raise DualPixelError(f"no protocol {name!r}; {near(name, PROTOCOLS)}")
    return PROTOCOLS[name]
