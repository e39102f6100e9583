"""Losses as pure functions of a prediction and a target, each one scalar over the whole batch."""

import torch
from kornia.filters import laplacian
from torch import Tensor


def charbonnier(prediction: Tensor, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    r"""Charbonnier loss, a mean absolute difference that is smooth at zero.

    .. math:: \frac{1}{n} \sum_i \sqrt{(p_i - t_i)^2 + \epsilon^2}

    over all n elements. Its gradient with regard to one element never exceeds 1 / n.

    Source: Charbonnier et al., ICIP 1994; in DPANet equation 6, where it is the square root over the squared norm of
    each image, summed over images. The mean over elements is what the authors' program minimises.

    Args:
        prediction: any shape.
        target: the same shape.
        epsilon: differences well below it count quadratically; in the units of the tensors.

    Returns:
        A scalar; `epsilon` where the two are equal.

    Raises:
        ValueError: the shapes differ, or `epsilon` is not positive.
    """
    _check_shapes(prediction, target)
    if not epsilon > 0:
        raise ValueError(f"epsilon={epsilon}: must be positive")
    return torch.sqrt((prediction - target).square() + epsilon**2).mean()


def edge_charbonnier(prediction: Tensor, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    r"""Charbonnier loss of the edges, which a constant or a linear change of brightness does not alter inside the image.

    .. math:: \frac{1}{n} \sum_i \sqrt{(L * (p - t))_i^2 + \epsilon^2}, \qquad
              L = \frac{1}{16} \begin{pmatrix} 1 & 1 & 1 \\ 1 & -8 & 1 \\ 1 & 1 & 1 \end{pmatrix}

    The Laplacian takes each channel by itself, and mirrors the image at its border. Its weights sum up to 1 in absolute
    value, so that edges are no larger than the brightness: half the difference of a pixel's neighbours' mean and itself.

    Source: after the edge loss of Zamir et al., "Multi-Stage Progressive Image Restoration" (MPRNet), CVPR 2021, where
    it counts 0.05 beside a Charbonnier loss of the images.

    Differences: MPRNet's paper has the norm of a whole image under the root; here it is the mean over pixels. The filter of
    its program is the finest level of a Laplacian pyramid, an image minus its coarse version enlarged: it sees a wider band
    of frequencies, and its scale is about twice ours at the highest.

    Args:
        prediction: (B, C, H, W), at least 2 x 2. It is filtered in float32 or wider, under autocast too.
        target: the same shape.
        epsilon: differences well below it count quadratically; in the units of the tensors.

    Returns:
        A scalar; `epsilon` where the edges are equal.

    Raises:
        ValueError: the shapes differ or are not four-dimensional, a side is shorter than 2, or `epsilon` is not positive.
    """
    _check_images(prediction, target, smallest=2)
    with torch.autocast(prediction.device.type, enabled=False):
        edges = laplacian(_wide(prediction) - _wide(target), kernel_size=3, normalized=True)
    return charbonnier(edges, torch.zeros_like(edges), epsilon)


def frequency_l1(prediction: Tensor, target: Tensor) -> Tensor:
    r"""Mean absolute difference of the amplitudes of all frequencies.

    .. math:: \frac{1}{n} \sum_k \bigl|\, |\mathcal{F} p|_k - |\mathcal{F} t|_k \,\bigr|

    over all n = B C H W coefficients of the unitary Fourier transforms of the channels, so that noise of a given strength
    gives the same loss at all sizes of the image. Blur lowers the amplitudes of high frequencies. Where things lie is in the
    phases, which do not count: this loss is of use beside one that compares pixels.

    Args:
        prediction: (B, C, H, W). It is transformed in float32 or wider, under autocast too.
        target: the same shape.

    Returns:
        A scalar. The gradient of an amplitude that is zero is zero.

    Raises:
        ValueError: the shapes differ, are not four-dimensional or hold no pixels.
    """
    _check_images(prediction, target, smallest=1)
    with torch.autocast(prediction.device.type, enabled=False):
        amplitudes = (torch.fft.rfft2(_wide(image), norm="ortho").abs() for image in (prediction, target))
        half = torch.sub(*amplitudes).abs()
    twice = half[
        ..., 1 : (prediction.shape[-1] + 1) // 2
    ]  # real images: these columns stand for their mirrored ones, too
    return (half.sum() + twice.sum()) / prediction.numel()


def _wide(image: Tensor) -> Tensor:
    return image.to(torch.promote_types(image.dtype, torch.float32))


def _check_shapes(prediction: Tensor, target: Tensor) -> None:
    if prediction.shape != target.shape:
        raise ValueError(f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape")


def _check_images(prediction: Tensor, target: Tensor, smallest: int) -> None:
    _check_shapes(prediction, target)
    if prediction.ndim != 4 or min(prediction.shape[2:]) < smallest:
        raise ValueError(
            f"prediction and target {tuple(prediction.shape)}: (B, C, H, W) with H and W of at least {smallest} are needed"
        )
