import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from dualpixel.blocks.cost_volume import ConcatenationConvolution, concatenation_convolution, concatenation_volume
from dualpixel.blocks.normalised_convolution import ConvolutionNormReLU

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


CONVOLVED = [range(4), range(-4, 4), [3, -2, 0], [0], [5], [-1, 0]]


def kernel(channels, dtype=torch.float64):
    return torch.randn(5, 2 * channels, 3, 3, 3, generator=torch.Generator().manual_seed(1), dtype=dtype)


def of_the_volume(left, right, shifts, weight):
    return functional.conv3d(concatenation_volume(left, right, shifts), weight, padding=1)


@pytest.mark.parametrize("shifts", CONVOLVED)
@pytest.mark.parametrize("extra", [-2, 0, 1, 2, 17])
def test_the_convolution_is_that_of_the_volume(shifts, extra):
    """Down to maps in which no column has a partner at every shift: there are some from `extra` 1 on."""
    width = max(0, *shifts) - min(0, *shifts) + 2 + extra
    left, right = views(2, 3, 5, max(1, width), requires_grad=False)
    found, wanted = (form(left, right, shifts, kernel(3)) for form in (concatenation_convolution, of_the_volume))
    assert found.shape == wanted.shape and (extra < 0 or wanted.abs().max() > 1)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shifts", CONVOLVED)
def test_the_convolution_has_the_gradients_of_that_of_the_volume(shifts):
    left, right = views(1, 2, 3, 14)
    weight = kernel(2).requires_grad_()
    found, wanted = (
        torch.autograd.grad(form(left, right, shifts, weight).sin().sum(), (left, right, weight))
        for form in (concatenation_convolution, of_the_volume)
    )
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-11)
    left, right = views(1, 1, 2, 12)
    weight = kernel(1)[:2].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda *inputs: concatenation_convolution(*inputs[:2], shifts, inputs[2]),
                                    (left, right, weight))  # fmt: skip


def test_single_precision_and_autocast_are_as_exact_as_they_are_on_the_volume():
    left, right = (view.detach().float() for view in views(1, 16, 12, 40))
    weight = kernel(16).float() / 20
    exact = of_the_volume(left.double(), right.double(), range(4), weight.double())
    assert (concatenation_convolution(left, right, range(4), weight) - exact).abs().max() < 1e-5 * exact.abs().max()
    with torch.autocast("cpu", torch.bfloat16):
        found, wanted = (form(left, right, range(4), weight) for form in (concatenation_convolution, of_the_volume))
    assert found.dtype == wanted.dtype == torch.bfloat16
    assert (found - exact).square().mean() < 2 * (wanted - exact).square().mean()


def operations(form, shifts, device):
    left, right = torch.ones(2, 1, 4, 20, 200, device=device).unbind()
    with FlopCounterMode(display=False) as counter:
        form(left, right, shifts, kernel(4, torch.float32).to(device))
    return counter.get_total_flops()


@pytest.mark.parametrize(("shifts", "most"), [(range(4), 0.31), (range(-4, 4), 0.22)])
def test_fewer_products_are_made_than_are_counted_for_the_published_network(shifts, most):
    published = operations(of_the_volume, shifts, "meta")
    assert operations(concatenation_convolution, shifts, "meta") == published
    assert operations(concatenation_convolution, shifts, "cpu") < most * published


def test_the_layer_is_convolution_norm_and_relu_of_the_volume_with_the_same_weights():
    torch.manual_seed(0)
    layer, plain = ConcatenationConvolution(3, 5), ConvolutionNormReLU(6, 5, dimensions=3)
    plain.load_state_dict(layer.state_dict(), strict=True)
    left, right = (view.detach().float() for view in views(2, 3, 6, 20))
    for mode in (True, False):
        layer.train(mode), plain.train(mode)
        found, wanted = layer(left, right, range(4)), plain(concatenation_volume(left, right, range(4)))
        assert wanted.min() == 0 and (found - wanted).abs().max() < 1e-5
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(layer.state_dict()[name], value, msg=name)


@pytest.mark.parametrize("shape", [(5, 4, 3, 3), (5, 3, 3, 3, 3), (5, 4, 1, 3, 3)])
def test_a_weight_that_does_not_fit_is_refused(shape):
    with pytest.raises(ValueError, match=r"must be \(O, 4, 3, 3, 3\)"):
        concatenation_convolution(*views(1, 2, 3, 12), range(4), torch.zeros(shape))
