import pytest
import torch

from dualpixel.losses.functional import charbonnier


def test_charbonnier_by_hand():
    prediction, target = torch.tensor([[3.0, 1.0]]), torch.tensor([[0.0, 1.0]])
    assert charbonnier(prediction, target, epsilon=4.0).item() == pytest.approx((5 + 4) / 2)


def test_charbonnier_is_nearly_the_mean_absolute_difference():
    prediction, target = torch.rand(2, 2, 3, 16, 16).unbind()
    difference = (prediction - target).abs().mean()
    assert 0 < charbonnier(prediction, target) - difference < 1e-3


def test_the_gradient_is_finite_everywhere_and_bounded():
    difference = torch.tensor([0.0, 1e-3, 1.0, -1.0], requires_grad=True)
    charbonnier(difference, torch.zeros(4)).backward()
    assert torch.allclose(difference.grad * 4, torch.tensor([0.0, 0.5**0.5, 1.0, -1.0]), atol=1e-5)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        charbonnier(torch.zeros(3), torch.zeros(3, 1))
    with pytest.raises(ValueError, match="epsilon=0"):
        charbonnier(torch.zeros(3), torch.zeros(3), epsilon=0)
