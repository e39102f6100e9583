"""Losses that tie two predicted dual-pixel views to how a sensor forms them.

Source: Abuolaim, Afifi and Brown, "Improving Single-Image Defocus Deblurring: How Dual-Pixel Images Help Through
Multi-Task Learning", WACV 2022, section 3.2.
"""

from torch import Tensor


def combined_consistency(combined: Tensor, left: Tensor, right: Tensor, half: bool = True) -> Tensor:
    r"""MDP's :math:`\mathcal{L}_C`: both views together make the combined image (equation 6).

    .. math:: \mathcal{L}_C = \frac{1}{n} \sum \left(I_c - \frac{I^*_l + I^*_r}{2}\right)^2

    over all n elements.

    Differences: the paper's equations 3 and 6 have the sum of the views, without the half. So it is with the light that the
    two photodiodes collect, but the views of the data sets are as bright as the combined image, and two correct views would
    add up to twice of it. The authors' code halves the sum.

    Args:
        combined: (B, 3, H, W), the combined image, the network's input.
        left: the same shape, the predicted left view.
        right: the same shape, the predicted right view.
        half: false takes the sum of the views, for views that are half as bright as the combined image.

    Returns:
        A scalar.

    Raises:
        ValueError: the shapes differ.
    """
    _check_shapes(combined=combined, left=left, right=right)
    factor = 0.5 if half else 1.0
    # one view after the other: in half precision no predicted sum is rounded
    return (combined - factor * left - factor * right).square().mean()


def difference_consistency(left: Tensor, right: Tensor, target_left: Tensor, target_right: Tensor) -> Tensor:
    r"""MDP's :math:`\mathcal{L}_D`: the views differ as the true ones do (equation 7).

    .. math:: \mathcal{L}_D = \frac{1}{n} \sum \left((I_l - I_r) - (I^*_l - I^*_r)\right)^2

    over all n elements. The sign of the difference tells what lies before the focus plane from what lies behind it. An error
    that both views share costs nothing here.

    Args:
        left: (B, 3, H, W), the predicted left view.
        right: the same shape, the predicted right view.
        target_left: the same shape, the true left view.
        target_right: the same shape, the true right view.

    Returns:
        A scalar.

    Raises:
        ValueError: the shapes differ.
    """
    _check_shapes(left=left, right=right, target_left=target_left, target_right=target_right)
    return ((target_left - left) - (target_right - right)).square().mean()


def _check_shapes(**images: Tensor) -> None:
    if len({image.shape for image in images.values()}) > 1:
        found = ", ".join(f"{name} {tuple(image.shape)}" for name, image in images.items())
        raise ValueError(f"{found} differ in shape")
