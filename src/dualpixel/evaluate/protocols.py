"""Protocols: what exactly was compared with what. The id of one stands beside every score."""

from dataclasses import dataclass

from dualpixel.errors import DualPixelError
from dualpixel.hints import near


@dataclass(frozen=True)
class Protocol:
    """How a prediction is compared with its target.

    Args:
        id: short name, part of every result.
        description: what is compared, in one sentence.
        source: who defined it.
        metrics: the columns of a result, in order.
    """

    id: str
    description: str
    source: str
    metrics: tuple[str, ...] = ("psnr", "ssim", "mae", "lpips")


WHOLE_IMAGES = (
    "whole images at their stored size, unquantised float output against the {}-bit target, no border cut, no tiling; each score "
    "per image, then the mean; SSIM 7x7 uniform; LPIPS AlexNet v0.1"
)
PROTOCOLS = {
    protocol.id: protocol
    for protocol in (
        Protocol("dpdnet-16bit", WHOLE_IMAGES.format(16), "Abuolaim and Brown, ECCV 2020, authors' test program"),
        Protocol("whole-8bit", WHOLE_IMAGES.format(8), "ours: dpdnet-16bit for sets that have 8 bits"),
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
