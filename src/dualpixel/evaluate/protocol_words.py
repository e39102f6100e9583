"""A protocol in words, made of its keys, so that the words cannot say anything else."""

from typing import TYPE_CHECKING

from dualpixel.evaluate.quantise import STORED_BITS

if TYPE_CHECKING:  # it imports this module
    from dualpixel.evaluate.protocol import Protocol

NAMES = {
    "psnr": "PSNR",
    "ssim": "SSIM",
    "rmse_relative": "RMSE in per cent of full scale",
    "mae": "MAE",
    "lpips": "LPIPS",
}
VARIANTS = {"uniform7": "7x7 uniform", "gaussian11": "11x11 Gaussian, sigma 1.5", "alex-0.1": "AlexNet v0.1"}
TRUTHS = {
    "blur": "predicted blur against the data's blur, in pixels, all pixels that are known, unscaled",
    "disparity": "predicted blur against disparity halved by bicubic (8 bits), both cut as published for DPD-disp, affine-invariant; blur "
    "written to 8 bits between its smallest and largest value",
}


def describe(protocol: "Protocol") -> str:
    """Return what is compared with what, in one sentence."""
    said = [_sizes(protocol), _views(protocol), _inference(protocol), _bits(protocol)]
    said.append(f"{protocol.border} pixels cut off every side" if protocol.border else "no border cut")
    scores = [_metric(protocol, name) for name in protocol.metrics]
    if scores:
        said.append(", ".join(scores))
    if protocol.truth:
        said.append(TRUTHS[protocol.truth])
    said.append("each score per image, then the mean")
    return "; ".join(part for part in [*said, protocol.notes] if part)


def _sizes(protocol: "Protocol") -> str:
    if not protocol.halved:
        return "images at their stored size"
    bits = {protocol.quantisation.input or STORED_BITS, protocol.quantisation.target or STORED_BITS}
    return f"images halved by the mean of 2x2 pixels, rounded half up to {' or '.join(map(str, sorted(bits)))} bits"


def _views(protocol: "Protocol") -> str:
    if protocol.views == "data":
        return ""
    return (
        "left and right view replaced by those that another network predicts from the combined image, in full precision, each truncated "
        f"to {STORED_BITS} bits as if written and read again; the multiply-accumulates of the tested network alone are counted"
    )


def _inference(protocol: "Protocol") -> str:
    how = protocol.inference
    if how.mode == "tiled":
        return f"seen in tiles of {how.tile} pixels with {how.overlap} around each"
    if how.mode == "resized":
        return (
            f"seen resized to {how.size[0]}x{how.size[1]} by {how.filter} (a = -3/4) of the {STORED_BITS}-bit values, rounded; output in "
            "[0, 1] resized back by the same, and clipped"
        )
    return "seen whole"


def _bits(protocol: "Protocol") -> str:
    cut, stored = protocol.quantisation, f"of {' or '.join(map(str, protocol.data_bits))} bits as stored"
    inputs, target = (
        f"cut to {bits} bits by dropping the low ones" if bits else stored for bits in (cut.input, cut.target)
    )
    output = f"output truncated to {cut.output} bits" if cut.output else "output unquantised"
    if inputs == target:
        return f"inputs and target {inputs}, {output}"
    return f"inputs {inputs}, target {target}, {output}"


def _metric(protocol: "Protocol", name: str) -> str:
    variant = VARIANTS.get({"ssim": protocol.ssim, "lpips": protocol.lpips}.get(name) or "")
    return f"{NAMES[name]} {variant}" if variant else NAMES[name]
