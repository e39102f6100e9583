import pytest
import torch
from torch import nn

from dualpixel.blocks.views import BothViews


class Product(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.randn(()))

    def forward(self, first, second):
        return self.factor * first * second


@pytest.mark.parametrize("share", [True, False])
def test_each_view_meets_its_own_arguments(share):
    module = BothViews(Product, share)
    left, right, third, fourth = torch.randn(4, 2, 3).unbind()
    result = module((left, right), (third, fourth))
    factors = [one.item() for one in module.parameters()] * (2 if share else 1)
    assert torch.allclose(result[0], factors[0] * left * third)
    assert torch.allclose(result[1], factors[1] * right * fourth)
    assert len(set(factors)) == (1 if share else 2)


def test_shared_weights_are_stored_once():
    assert list(BothViews(Product).state_dict()) == ["both.factor"]
    assert list(BothViews(Product, share=False).state_dict()) == ["left.factor", "right.factor"]
