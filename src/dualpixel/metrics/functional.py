"""PSNR, SSIM, mean absolute error and relative RMSE per image, as the dual-pixel papers report them.

The settings are those of the test program of Abuolaim and Brown, ECCV 2020, which the later papers took over: values
in [0, 1], data range 1, one score per image over all pixels and channels, in double precision. Averages over a data
set are means of these scores.
"""

import torch
from torch import Tensor

SSIM_WINDOW = 7
SSIM_GAUSSIAN_WINDOW = 11
SSIM_K1 = 0.01
SSIM_K2 = 0.03

# Elements of one strip of one channel: its dozen intermediate maps then stay in the second-level cache of a CPU core.
_CPU_STRIP = 1 << 17
_DEVICE_STRIP = 1 << 22


def psnr(prediction: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio, 10 log10(1 / MSE), of each image.

    Args:
        prediction: (B, C, H, W), values in [0, 1].
        target: the same shape and range.

    Returns:
        (B,) float64, decibels. Identical images give infinity.

    Raises:
        ValueError: the shapes differ, are not (B, C, H, W) or are empty, or a tensor holds no floating-point numbers.
    """
    return -10.0 * torch.log10(_mean_square_error(prediction, target))


def mae(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of each image.

    Args:
        prediction: (B, C, H, W), values in [0, 1].
        target: the same shape and range.

    Returns:
        (B,) float64, in units of full scale.

    Raises:
        ValueError: as `psnr`.
    """
    prediction, target = comparable(prediction, target)
    return (prediction.double() - target.double()).abs().mean(dim=(1, 2, 3))


def rmse_relative(prediction: Tensor, target: Tensor) -> Tensor:
    """Root mean square error of each image in percent of full scale, 100 * 10^(-PSNR / 20).

    Source: the column "RMSE_rel" in the tables of Pan et al. (DDDNet), CVPR 2021.

    Args:
        prediction: (B, C, H, W), values in [0, 1].
        target: the same shape and range.

    Returns:
        (B,) float64, percent.

    Raises:
        ValueError: as `psnr`.
    """
    return 100.0 * _mean_square_error(prediction, target).sqrt()


def ssim(prediction: Tensor, target: Tensor) -> Tensor:
    """Structural similarity of each image, in the variant of the dual-pixel papers.

    That is `skimage.metrics.structural_similarity(channel_axis=..., data_range=1)`: uniform 7 x 7 window, sample
    covariance (49 / 48), K1 = 0.01, K2 = 0.03, only windows that lie wholly inside the image, mean over windows and
    channels (Wang et al., TIP 2004, equation 13). Gradients flow to both images.

    Differences: scikit-image forms the five moments of x and y. The index only needs the means u and variances v of
    the sum p = x + y and of the difference q = x - y,

        SSIM = (u_p^2 - u_q^2 + 2 C1) (v_p - v_q + 2 C2) / ((u_p^2 + u_q^2 + 2 C1) (v_p + v_q + 2 C2)),

    four box sums instead of five. On a CPU the sums stay in the precision of the input, strip by strip, each strip
    less its own mean: for float32 the score is then within 1e-6 of the score in float64. Other devices work in
    float64.

    Args:
        prediction: (B, C, H, W), values in [0, 1], H and W at least 7.
        target: the same shape and range.

    Returns:
        (B,) float64, 1 for identical images.

    Raises:
        ValueError: as `psnr`, or the image is smaller than the window.
    """
    prediction, target = comparable(prediction, target)
    _, channels, height, width = prediction.shape
    _check_window(prediction, SSIM_WINDOW)
    on_cpu = prediction.device.type == "cpu"
    if not on_cpu:
        prediction, target = prediction.double(), target.double()
    margin = SSIM_WINDOW - 1
    rows = max(16, (_CPU_STRIP if on_cpu else _DEVICE_STRIP) // width)
    scores = []
    for image, truth in zip(prediction, target, strict=True):
        strips = [
            _ssim_sum(image[channel, top : top + rows + margin], truth[channel, top : top + rows + margin])
            for channel in range(channels)
            for top in range(0, height - margin, rows)
        ]
        scores.append(torch.stack(strips).sum())
    return torch.stack(scores) / (channels * (height - margin) * (width - margin))


def ssim_gaussian(prediction: Tensor, target: Tensor) -> Tensor:
    """Structural similarity of each image with a Gaussian window, as the paper that introduced it has it; no dual-pixel paper does.

    That is `skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1)` with
    ``channel_axis``: 11 x 11 pixels, only windows that lie wholly inside the image, mean over windows and channels.

    Source: Wang et al., TIP 2004, by kornia, in float64.

    Args:
        prediction: (B, C, H, W), values in [0, 1], H and W at least 11.
        target: the same shape and range.

    Returns:
        (B,) float64, 1 for identical images.

    Raises:
        ValueError: as `ssim`.
    """
    from kornia.metrics import ssim as index_map  # takes longer to import than all else here

    prediction, target = comparable(prediction, target)
    _check_window(prediction, SSIM_GAUSSIAN_WINDOW)
    scores = [
        index_map(image[None].double(), truth[None].double(), SSIM_GAUSSIAN_WINDOW, eps=0.0, padding="valid").mean()
        for image, truth in zip(prediction, target, strict=True)
    ]
    return torch.stack(scores)


def _check_window(image: Tensor, window: int) -> None:
    height, width = image.shape[-2:]
    if min(height, width) < window:
        raise ValueError(f"images of {height} x {width} pixels are smaller than the {window} x {window} window of SSIM")


def _ssim_sum(first: Tensor, second: Tensor) -> Tensor:
    """Return the sum of the index over all windows inside one strip, (H, W), as a float64 scalar."""
    count = SSIM_WINDOW**2
    # Both constants belong to the scales below: means appear times `count`, variances times `count` (`count` - 1).
    # Whole numbers as factors keep float32 free of the systematic rounding that 1/49 and 49/48 would bring.
    twice_c1 = 2 * SSIM_K1**2 * count**2
    twice_c2 = 2 * SSIM_K2**2 * count * (count - 1)
    total, difference = first + second, first - second
    # A constant less changes no variance, but decides how many digits of it survive the subtraction of squares.
    total_shift, difference_shift = total.detach().mean(), difference.detach().mean()
    total -= total_shift
    difference -= difference_shift
    total_sum, difference_sum = _box_sum(total), _box_sum(difference)
    total_variance = _box_sum(total * total).mul_(count).addcmul_(total_sum, total_sum, value=-1)
    difference_variance = _box_sum(difference * difference).mul_(count)
    difference_variance.addcmul_(difference_sum, difference_sum, value=-1)
    total_mean = (total_sum + total_shift * count).square()
    difference_mean = (difference_sum + difference_shift * count).square()
    alike = (total_mean - difference_mean).add_(twice_c1) * (total_variance - difference_variance).add_(twice_c2)
    power = (total_mean + difference_mean).add_(twice_c1) * (total_variance + difference_variance).add_(twice_c2)
    return (alike / power).sum(dtype=torch.float64)


def _box_sum(image: Tensor) -> Tensor:
    """Return the sums over all 7 x 7 windows inside an image: (H, W) -> (H - 6, W - 6).

    Pairs, then pairs of pairs: 7 = 4 + 2 + 1 takes four additions per axis, and rounds less than a running sum.
    """
    for axis in (0, 1):
        length = image.shape[axis] - (SSIM_WINDOW - 1)
        pairs = image.narrow(axis, 0, length + 5) + image.narrow(axis, 1, length + 5)
        fours = pairs.narrow(axis, 0, length) + pairs.narrow(axis, 2, length)
        image = fours.add_(pairs.narrow(axis, 4, length)).add_(image.narrow(axis, 6, length))
    return image


def _mean_square_error(prediction: Tensor, target: Tensor) -> Tensor:
    prediction, target = comparable(prediction, target)
    return (prediction.double() - target.double()).square().mean(dim=(1, 2, 3))


def comparable(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Check a pair of images and bring both to their wider type; half precision becomes float32, which loses nothing.

    Raises:
        ValueError: the shapes differ, are not (B, C, H, W) or are empty, or a tensor holds no floating-point numbers.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"prediction and target differ in shape: {tuple(prediction.shape)} and {tuple(target.shape)}")
    if prediction.ndim != 4 or prediction.numel() == 0:
        raise ValueError(
            f"images must have the shape (B, C, H, W) and at least one pixel, not {tuple(prediction.shape)}"
        )
    for name, image in (("prediction", prediction), ("target", target)):
        if not image.is_floating_point():
            raise ValueError(
                f"the {name} is {image.dtype}; scores are taken of floating-point images in [0, 1]: "
                "divide by full scale first"
            )
    dtype = torch.promote_types(torch.promote_types(prediction.dtype, target.dtype), torch.float32)
    return prediction.to(dtype), target.to(dtype)
