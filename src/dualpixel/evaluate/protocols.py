"""Protocols: what exactly was compared with what. The id of one stands beside every score."""

from dualpixel.errors import DualPixelError
from dualpixel.evaluate.protocol import Protocol
from dualpixel.hints import near

WHOLE_IMAGES = (
    "whole images at their stored size, unquantised float output against the {}-bit target, no border cut, no tiling; each score "
    "per image, then the mean; SSIM 7x7 uniform; LPIPS AlexNet v0.1"
)
EIGHT_BITS = (
    "whole images, inputs and target cut to 8 bits by dropping the low byte{}, output {}, no border cut, no "
    "tiling; each score per image, then the mean; SSIM 7x7 uniform; LPIPS AlexNet v0.1 (ours: the authors' program has none)"
)
HALVED = " and halved by the mean of 2x2 pixels, rounded half up to 8 bits"
TRUNCATED = "truncated to 8 bits"
IMAGES_OF_DDDNET = ("psnr", "ssim", "rmse_relative", "mae", "lpips")
PROTOCOLS = {
    protocol.id: protocol
    for protocol in (
        Protocol(
            "dpdnet-16bit", WHOLE_IMAGES.format(16), "Abuolaim and Brown, ECCV 2020, authors' test program", (16,)
        ),
        Protocol("whole-8bit", WHOLE_IMAGES.format(8), "ours: dpdnet-16bit for sets that have 8 bits", (8,)),
        Protocol(
            "dpanet-8bit",
            EIGHT_BITS.format("", TRUNCATED),
            "Li et al., Learning Dual-Pixel Alignment for Defocus Deblurring, authors' test program",
            data_bits=(8, 16),
            bits=8,
        ),
        Protocol(
            "dpanet-half",
            EIGHT_BITS.format(HALVED, TRUNCATED),
            "Li et al., Learning Dual-Pixel Alignment for Defocus Deblurring, table II, for DDDNet",
            data_bits=(8, 16),
            bits=8,
            halved=True,
        ),
        Protocol(
            "dddnet-half",
            EIGHT_BITS.format(HALVED, "clipped to [0, 1], unquantised")
            + "; which filter halves, and how 16 bits become 8, is not published: both are those of dpanet-half",
            "Pan et al., DDDNet, CVPR 2021, table of DPD-blur, which is at 840x560 by the authors' word; clipping as in their test program",
            data_bits=(8, 16),
            bits=8,
            quantised=False,
            halved=True,
            metrics=IMAGES_OF_DDDNET,
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
        Protocol(
            "ddd-syn",
            WHOLE_IMAGES.format(8)
            + "; output clipped to [0, 1]; inverse depth in pixels against the data's blur, the coarse estimate as "
            "well, all pixels, unscaled, predictions below 0.001 counted as 0.001; per image, where the authors average over batches of 8",
            "Pan et al., DDDNet, CVPR 2021, tables of the synthetic set",
            data_bits=(8,),
            metrics=IMAGES_OF_DDDNET,
            truth="blur",
        ),
        Protocol(
            "dpd-disp",
            "8-bit views halved by the mean of 2x2 pixels, rounded half up (ours: the size at which DDDNet's authors ran it is not "
            "published); predicted blur and halved truth (bicubic, 8 bits) cut to the windows of 111 pixels, 33 apart, and 100 pixels off "
            "every side, as published; blur written to 8 bits between its smallest and largest value (ours: dense ranks depend on it); all "
            "pixels, affine-invariant, per image, then the mean",
            "Punnappurath et al., ICCP 2020, authors' evaluation, taken over by Pan et al., DDDNet, CVPR 2021",
            data_bits=(8,),
            bits=8,
            halved=True,
            metrics=(),
            truth="disparity",
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


def check_views(protocol: Protocol, given: bool) -> None:
    """Refuse to predict views without a network, and a network that nobody asks.

    Args:
        protocol: of the test.
        given: whether there is a network that predicts views.

    Raises:
        DualPixelError: it is missing, or of no use.
    """
    if protocol.views_predicted and not given:
        raise DualPixelError(
            f"protocol {protocol.id} needs the weights of the network that predicts the views, such as MDP's: --scores.views_from FILE"
        )
    if given and not protocol.views_predicted:
        asking = [name for name, one in PROTOCOLS.items() if one.views_predicted]
        raise DualPixelError(
            f"--scores.views_from: protocol {protocol.id} takes the views of the data; choose --scores.protocol {' or '.join(asking)}"
        )
