import numpy as np
import pytest
import torch

from dualpixel.blocks.cost_volume import concatenation_volume

SHIFTS = [[0, 1, 2, 3], [-2, 0, 3], [5], [-1]]


def by_definition(left, right, shifts):
    """One column after the other."""
    images, channels, height, width = left.shape
    volume = np.zeros((images, 2 * channels, len(shifts), height, width))
    for place, shift in enumerate(shifts):
        for x in range(width):
            if 0 <= x - shift < width:
                volume[:, :channels, place, :, x] = left[..., x]
                volume[:, channels:, place, :, x] = right[..., x - shift]
    return volume


def views(*shape, **options):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_(**options) for _ in range(2)]


@pytest.mark.parametrize("shifts", SHIFTS)
def test_the_volume_pairs_each_column_with_the_shifted_one(shifts):
    left, right = views(2, 3, 4, 7, requires_grad=False)
    volume = concatenation_volume(left, right, shifts)
    assert volume.shape == (2, 6, len(shifts), 4, 7)
    np.testing.assert_array_equal(volume.numpy(), by_definition(left.numpy(), right.numpy(), shifts))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_columns_without_a_partner_are_zero_in_both_halves(dtype):
    left, right = torch.ones(2, 1, 2, 3, 6, dtype=dtype).unbind()
    volume = concatenation_volume(left, right, [2, -2])
    assert volume.dtype == dtype
    margin, rest = volume[:, :, 0].split((2, 4), dim=-1)
    assert not margin.any()
    assert (rest == 1).all()
    rest, margin = volume[:, :, 1].split((4, 2), dim=-1)
    assert not margin.any()
    assert (rest == 1).all()


def test_a_point_meets_itself_at_its_disparity():
    left, right = torch.zeros(2, 1, 1, 1, 9).unbind()
    left[..., 6] = right[..., 4] = 1  # two pixels further to the right in the left view
    volume = concatenation_volume(left, right, range(4))
    assert volume[0, :, 2, 0, 6].tolist() == [1, 1]
    assert (volume.prod(1) > 0).nonzero().tolist() == [[0, 2, 0, 6]]


@pytest.mark.parametrize("shift", [7, -7, 8, -100])
def test_shifts_beyond_the_width_leave_nothing(shift):
    volume = concatenation_volume(*views(1, 2, 3, 7), [shift])
    assert volume.shape == (1, 4, 1, 3, 7)
    assert not volume.any()


@pytest.mark.parametrize("shifts", SHIFTS)
def test_gradients_are_those_of_the_volume(shifts):
    left, right = views(1, 2, 2, 5)
    assert torch.autograd.gradcheck(lambda *pair: concatenation_volume(*pair, shifts), (left, right))


def test_wrong_maps_and_no_shifts_are_refused():
    left, right = views(1, 2, 3, 4)
    with pytest.raises(ValueError, match="two maps of one shape"):
        concatenation_volume(left, right[..., 1:], [0])
    with pytest.raises(ValueError, match="two maps of one shape"):
        concatenation_volume(left[0], right[0], [0])
    with pytest.raises(ValueError, match="at least one"):
        concatenation_volume(left, right, [])
