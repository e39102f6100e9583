import pytest
import torch
from keras_files import stored, to_torch
from torch.nn.functional import mse_loss

from dualpixel.losses.views import combined_consistency, difference_consistency

TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def example(reference):
    """The authors' values, the true left, right, sharp and combined image, and the predictions of the first three."""
    arrays = stored(reference, "mdp_extras")
    return arrays, to_torch(arrays["loss_true"]).split(3, dim=1), to_torch(arrays["loss_pred"]).split(3, dim=1)


def images(number, shape=(2, 3, 4, 5)):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(number, *shape, dtype=torch.float64, generator=generator).unbind()


def test_both_losses_are_those_of_the_authors_program(example):
    values, (true_left, true_right, _, combined), (left, right, _) = example
    assert combined_consistency(combined, left, right).item() == pytest.approx(values["l_c"].item(), abs=TOLERANCE)
    found = difference_consistency(left, right, true_left, true_right).item()
    assert found == pytest.approx(values["l_d"].item(), abs=TOLERANCE)


def test_squared_errors_are_those_of_the_authors_program(example):
    values, (true_left, true_right, true_sharp, _), (left, right, sharp) = example
    assert mse_loss(sharp, true_sharp).item() == pytest.approx(values["mse_s"].item(), abs=TOLERANCE)
    views = mse_loss(torch.cat((left, right), dim=1), torch.cat((true_left, true_right), dim=1))
    assert views.item() == pytest.approx(values["mse_lr"].item(), abs=TOLERANCE)


def test_by_hand():
    combined, left, right = torch.tensor([[1.0, 2.0], [2.0, 4.0], [4.0, 8.0]]).unbind()
    assert combined_consistency(combined, left, right).item() == ((1 - 3) ** 2 + (2 - 6) ** 2) / 2
    assert combined_consistency(combined, left, right, half=False).item() == ((1 - 6) ** 2 + (2 - 12) ** 2) / 2
    found = difference_consistency(left, right, combined, combined)
    assert found.item() == ((0 + 2) ** 2 + (0 + 4) ** 2) / 2


def test_views_as_bright_as_the_combined_image_need_the_half():
    (combined,) = images(1)
    assert combined_consistency(combined, combined, combined).item() == 0
    assert combined_consistency(combined, combined / 2, combined / 2, half=False).item() == 0
    whole = combined_consistency(combined, combined, combined, half=False).item()
    assert whole == pytest.approx(combined.square().mean().item(), abs=1e-12)


def test_errors_of_opposite_sign_cost_nothing_in_one_loss_and_double_in_the_other():
    combined, left, right = images(3)
    average = (left + right) / 2
    assert combined_consistency(average, left + 0.1, right - 0.1).item() == pytest.approx(0, abs=1e-12)
    assert difference_consistency(left + 0.1, right - 0.1, left, right).item() == pytest.approx(0.2**2, abs=1e-12)
    assert difference_consistency(left + 0.1, right + 0.1, left, right).item() == pytest.approx(0, abs=1e-12)
    assert combined_consistency(average, left + 0.1, right + 0.1).item() == pytest.approx(0.1**2, abs=1e-12)


def test_views_that_change_places_are_told_by_their_difference_alone():
    combined, left, right = images(3)
    assert combined_consistency(combined, left, right) == pytest.approx(combined_consistency(combined, right, left))
    swapped = difference_consistency(right, left, left, right).item()
    assert swapped == pytest.approx((2 * (left - right)).square().mean().item(), abs=1e-12)
    assert swapped > 0.3


def test_gradients_are_those_of_finite_differences():
    combined, left, right, other = (image[:1, :1].clone().requires_grad_() for image in images(4))
    assert torch.autograd.gradcheck(combined_consistency, (combined, left, right))
    assert torch.autograd.gradcheck(difference_consistency, (left, right, combined, other))


def test_predictions_of_half_precision_are_compared_in_single():
    combined, left, right, true_left, true_right = (
        image.float() for image in images(5, shape=(2, 3, 64, 64))
    )  # fmt: skip
    left, right = left.bfloat16(), right.bfloat16()
    found = combined_consistency(combined, left, right)
    assert found.dtype == torch.float32
    assert torch.equal(found, combined_consistency(combined, left.float(), right.float()))
    found = difference_consistency(left, right, true_left, true_right)
    assert torch.equal(found, difference_consistency(left.float(), right.float(), true_left, true_right))


def test_images_of_different_sizes_are_refused():
    one, other = torch.zeros(1, 3, 4, 4), torch.zeros(3, 4, 4)
    with pytest.raises(ValueError, match=r"combined \(3, 4, 4\), left \(1, 3, 4, 4\), .* differ in shape"):
        combined_consistency(other, one, one)
    with pytest.raises(ValueError, match=r"target_right \(3, 4, 4\) differ in shape"):
        difference_consistency(one, one, one, other)
