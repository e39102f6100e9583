"""Protocols: what exactly was compared with what. The id of one stands beside every score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dualpixel.data.fields import IMAGES, MAPS
from dualpixel.errors import DualPixelError
from dualpixel.evaluate.quantise import check_even, drop_low_bits, halve, truncate
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
        resized: (height, width) at which the network sees all images; its output is brought back to the size of the target, which
            is never resized (see `dualpixel.evaluate.resize`). None for their own size.
        views_predicted: whether the left and the right view are replaced by those that another network predicts from the combined
            image (see `dualpixel.evaluate.predicted_views`).
        metrics: the columns of a result, in order.
    """

    id: str
    description: str
    source: str
    data_bits: tuple[int, ...]
    bits: int | None = None
    halved: bool = False
    resized: tuple[int, int] | None = None
    views_predicted: bool = False
    metrics: tuple[str, ...] = ("psnr", "ssim", "mae", "lpips")

    def check_fields(self, fields: Sequence[str]) -> None:
        """Refuse a recipe that needs maps where images change their size.

        Args:
            fields: what the recipe needs, inputs and targets.

        Raises:
            DualPixelError: a map is among them.
        """
        maps = [name for name in fields if name in MAPS]
        if maps and (self.halved or self.resized):
            raise DualPixelError(
                f"protocol {self.id} {'halves' if self.halved else 'resizes'} images, which maps cannot follow; the recipe needs "
                f"{', '.join(maps)}: choose another --scores.protocol"
            )

    def check_views(self, given: bool) -> None:
        """Refuse to predict views without a network, and a network that nobody asks.

        Args:
            given: whether there is a network that predicts views.

        Raises:
            DualPixelError: it is missing, or of no use.
        """
        if self.views_predicted and not given:
            raise DualPixelError(
                f"protocol {self.id} needs the weights of the network that predicts the views, such as MDP's: --scores.views_from FILE"
            )
        if given and not self.views_predicted:
            asking = [name for name, one in PROTOCOLS.items() if one.views_predicted]
            raise DualPixelError(
                f"--scores.views_from: protocol {self.id} takes the views of the data; choose --scores.protocol {' or '.join(asking)}"
            )

    def check_size(self, height: int, width: int, what: str) -> None:
        """Refuse a scene whose images cannot be made what the network is to see.

        Args:
            height: of the scene as stored, pixels.
            width: of the same.
            what: its name, for the message.

        Raises:
            DualPixelError: an odd side where images are halved; where they are enlarged to one size, a scene that is larger, or
                whose aspect ratio is more than `STRETCH` away from that size's.
        """
        if self.halved:
            check_even(height, width, what)
        if self.resized is None:
            return
        rows, columns = self.resized
        found = f"{what} of {height} x {width} pixels cannot be enlarged to {rows} x {columns}"
        mended = "choose another --scores.protocol"
        stretch = (height / width) / (rows / columns)
        if not 1 / (1 + STRETCH) <= stretch <= 1 + STRETCH:
            raise DualPixelError(
                f"{found} without distortion: height / width is {height / width:.3f}, more than {STRETCH:.0%} away from "
                f"{rows / columns:.3f}; {mended}"
            )
        if height > rows or width > columns:
            raise DualPixelError(f"{found}: it is larger; {mended}")

    def batch(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return a batch as the network is to see it, and as its outputs are compared; predicted views are not put in here.

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


STRETCH = 0.08
"""How far the aspect ratio of a scene may be from the one it is resized to. The authors of K3DN stretch 1120 x 1680 by 3.7 %; 8 %
takes other photographs of about 3 : 2, and neither upright ones nor 4 : 3 or 16 : 9."""

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
        Protocol(
            "k3dn-1152x1792",
            "whole images, inputs resized to 1152x1792 by bicubic (a = -3/4) of the 16-bit values, rounded; output in [0, 1] resized "
            "back to the target's size by the same bicubic, clipped again, unquantised; 16-bit target as stored, no border cut, no "
            "tiling; each score per image, then the mean; SSIM 7x7 uniform; LPIPS AlexNet v0.1",
            "Yang et al., K3DN, CVPR 2023, authors' test program",
            data_bits=(16,),
            resized=(1152, 1792),
        ),
        Protocol(
            "mdp-views-16bit",
            "left and right view replaced by those that another network predicts from the combined image, in full precision, each "
            "truncated to 16 bits as if written and read again; the tested network sees them, its multiply-accumulates alone are "
            "counted; else as dpdnet-16bit: " + WHOLE_IMAGES.format(16),
            "Abuolaim, Afifi and Brown, WACV 2022, table 2, DPDNet on synthesised views",
            data_bits=(16,),
            views_predicted=True,
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
