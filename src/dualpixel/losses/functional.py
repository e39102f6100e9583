"""Losses as pure functions of a prediction and a target, each one scalar over the whole batch."""

import torch
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
    if prediction.shape != target.shape:
        raise ValueError(f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape")
    if not epsilon > 0:
        raise ValueError(f"epsilon={epsilon}: must be positive")
    return torch.sqrt((prediction - target).square() + epsilon**2).mean()
