"""One module for both views, or one for each."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Pair = tuple[Tensor, Tensor]
"""What belongs to the left view, and what belongs to the right one; both of one shape."""


class BothViews(nn.Module):
    """Applies a module to the left and to the right view.

    With shared weights the two views go through as one batch of twice the size, which gives the same result and needs
    one call instead of two. A module that mixes the samples of a batch (batch normalisation) would mix the views.

    Args:
        make: makes the module; called once where it is shared, else twice.
        share: whether both views go through the same weights.

    Attributes:
        both: the shared module; or
        left, right: the two.
    """

    def __init__(self, make: Callable[[], nn.Module], share: bool = True) -> None:
        super().__init__()
        self.share = share
        if share:
            self.both = make()
        else:
            self.left, self.right = make(), make()

    def forward(self, *arguments: Pair) -> Pair:
        """Apply the module.

        Args:
            arguments: for each argument of the module the pair (left, right), each (B, ...).

        Returns:
            The result for the left and for the right view.
        """
        if self.share:
            return self.both(*(torch.cat(pair) for pair in arguments)).chunk(2)
        left, right = zip(*arguments, strict=True)
        return self.left(*left), self.right(*right)
