import copy

import pytest
import torch
from k3dn_parts import drawn, fill_part, stored

from dualpixel.blocks.symmetric_kernels import SymmetricKernelSet

PUBLISHED = {"weight": (1, 16, 1, 10, 6, 2)}


def made(channels=5, size=9, seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    return SymmetricKernelSet(channels, size).to(dtype)


@pytest.fixture
def filled(fill):
    return fill_part(SymmetricKernelSet(16), fill, PUBLISHED, "deblur.0.conv1.", "psf.0.kernels.")


def spectrum_of(kernels):
    return torch.view_as_complex(kernels.spectrum.detach())


def finished(enlarged, size):
    """Crop, mirror and normalise kernels of one pixel more."""
    columns = [min(x, size - 1 - x) for x in range(size)]
    kernels = enlarged[:, :size, columns]
    return (kernels / (kernels.square().sum((1, 2), keepdim=True) + 1e-8).sqrt())[:, None]


def completed(half):
    """The whole spectrum of the real kernel, entry by entry: what is left out is the conjugate of the opposite entry."""
    length = half.shape[1]
    whole = torch.zeros(len(half), length, length, dtype=half.dtype)
    for y in range(length):
        for x in range(length):
            here = half[:, y, x] if x <= length // 2 else half[:, -y % length, length - x].conj()
            there = half[:, -y % length, -x % length].conj() if x in (0, length // 2) else here
            whole[:, y, x] = (here + there) / 2
    return whole


@pytest.mark.parametrize(("inverse", "name"), [(False, "forward"), (True, "inverse")])
def test_kernels_and_convolution_are_those_of_the_authors(inverse, name, filled, reference):
    arrays = stored(reference)
    (features,) = drawn((3, 16, 18, 14))
    with torch.no_grad():
        assert (filled.kernels(inverse) - arrays[f"idw/get_weight_{name}"][0]).abs().max() < 1e-5
        assert (filled(features, inverse)[:1] - arrays[f"idw/out_{name}"]).abs().max() < 1e-5


def test_the_cached_left_half_is_that_of_the_authors(filled, reference):
    filled.cache()
    assert (filled.left - stored(reference)["idw/cached_weight_left"]).abs().max() < 1e-5


@pytest.mark.parametrize("inverse", [False, True])
def test_what_is_cut_out_of_the_spectrum_is_what_the_fft_of_a_cpu_ignores(inverse):
    kernels = made(dtype=torch.float32)
    spectrum = spectrum_of(kernels)
    assert (spectrum[:, 0, 0].imag.abs() > 0.01).all()  # no real kernel has that
    if inverse:
        spectrum = 1 / (spectrum + 1e-8)
    expected = finished(torch.fft.irfft2(spectrum, s=(10, 10)), 9)
    assert (kernels.kernels(inverse) - expected).abs().max() < 1e-7


@pytest.mark.parametrize("size", [1, 3, 9])
@pytest.mark.parametrize("inverse", [False, True])
def test_kernels_are_those_of_the_whole_spectrum(inverse, size):
    kernels = made(size=size)
    spectrum = spectrum_of(kernels)
    if inverse:
        spectrum = 1 / (spectrum + 1e-8)
    enlarged = torch.fft.ifft2(completed(spectrum))
    assert enlarged.imag.abs().max() < 1e-15 * enlarged.real.abs().max() + 1e-15
    torch.testing.assert_close(kernels.kernels(inverse), finished(enlarged.real, size), rtol=0, atol=1e-12)


@pytest.mark.parametrize("inverse", [False, True])
def test_another_fft_that_reads_only_half_of_the_outer_columns_gives_the_same(inverse, monkeypatch):
    kernels = made()
    expected = kernels.kernels(inverse)

    def inverse_fft(half, s):
        outer = half[..., [0, 5]]
        rest = outer[:, 1:5].flip(1).conj()
        ends = torch.complex(outer[:, [0, 5]].real, torch.zeros(5, 2, 2, dtype=torch.float64))
        outer = torch.cat((ends[:, :1], outer[:, 1:5], ends[:, 1:], rest), dim=1)
        half = torch.cat((outer[..., :1], half[..., 1:5], outer[..., 1:]), dim=2)
        return torch.fft.ifft2(completed(half), s=s).real

    assert (inverse_fft(spectrum_of(kernels), (10, 10)) - torch.fft.irfft2(spectrum_of(kernels))).abs().max() > 0.01
    monkeypatch.setattr(torch.fft, "irfft2", inverse_fft)
    torch.testing.assert_close(kernels.kernels(inverse), expected, rtol=0, atol=1e-12)


def test_the_part_of_the_spectrum_that_no_real_kernel_has_changes_nothing():
    kernels = made()
    before = kernels.kernels()
    change = torch.view_as_complex(torch.randn(5, 10, 6, 2, dtype=torch.float64))
    change = change - change.flip(1).roll(1, 1).conj()
    with torch.no_grad():
        kernels.spectrum[:, :, [0, 5]] += torch.view_as_real(change)[:, :, [0, 5]]
    torch.testing.assert_close(kernels.kernels(), before, rtol=0, atol=1e-13)
    with torch.no_grad():
        kernels.spectrum[:, :, 2] += torch.view_as_real(change)[:, :, 2]
    assert (kernels.kernels() - before).abs().max() > 0.01


@pytest.mark.parametrize("inverse", [False, True])
def test_kernels_are_mirrored_from_left_to_right_only_and_of_norm_one(inverse):
    kernels = made().kernels(inverse)
    assert kernels.shape == (5, 1, 9, 9)
    assert torch.equal(kernels, kernels.flip(3))
    assert ((kernels - kernels.flip(2)).abs().amax((1, 2, 3)) > 0.05).all()
    torch.testing.assert_close(kernels.square().sum((1, 2, 3)), torch.ones(5, dtype=torch.float64), rtol=0, atol=1e-7)


def test_each_channel_is_convolved_with_its_own_kernel():
    kernels = made(3)
    dot = torch.zeros(1, 3, 11, 11, dtype=torch.float64)
    dot[..., 5, 5] = 1
    spread = kernels(dot)
    torch.testing.assert_close(spread[0, :, None, 1:10, 1:10], kernels.kernels().flip(2, 3), rtol=0, atol=1e-12)
    assert not spread[..., 0, :].any()
    assert not spread[..., 0].any()


def test_a_spectrum_entry_without_reciprocal_counts_as_zero_and_has_no_gradient():
    kernels = made(2, 3)
    with torch.no_grad():
        kernels.spectrum[0, 1, 1] = torch.tensor([-1e-8, 0.0], dtype=torch.float64)
    inverse = kernels.kernels(inverse=True)
    large = copy.deepcopy(kernels)
    with torch.no_grad():
        large.spectrum[0, 1, 1] = 1e30
    torch.testing.assert_close(inverse, large.kernels(inverse=True), rtol=0, atol=1e-12)
    inverse[..., 0].sum().backward()
    assert kernels.spectrum.grad.isfinite().all()
    assert not kernels.spectrum.grad[0, 1, 1].any()
    assert kernels.spectrum.grad[1, 1, 1].any()


def test_kernels_begin_from_spectra_of_unit_variance():
    assert made(500).spectrum.std().item() == pytest.approx(1, abs=0.01)
    assert made(192).spectrum.numel() == 192 * 10 * 6 * 2


def test_caching_changes_nothing_but_the_form():
    kernels = made(dtype=torch.float32)
    features = torch.randn(2, 5, 12, 10)
    before = kernels(features)
    kernels.cache()
    kernels.cache()
    assert kernels.cached
    assert list(kernels.state_dict()) == ["left"]
    assert kernels.left.shape == (5, 1, 9, 5)
    assert not list(kernels.parameters())
    assert torch.equal(kernels(features), before)
    with pytest.raises(ValueError, match="cached for deblurring only"):
        kernels(features, inverse=True)
    fresh = SymmetricKernelSet(5, cached=True)
    fresh.load_state_dict(copy.deepcopy(kernels).state_dict())
    assert torch.equal(fresh(features), before)


@pytest.mark.parametrize("inverse", [False, True])
def test_kernels_are_made_in_single_precision_at_least(inverse):
    kernels = made(dtype=torch.float32)
    expected = kernels.kernels(inverse)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(kernels.kernels(inverse), expected)
    half = copy.deepcopy(kernels).bfloat16()
    rounded = copy.deepcopy(half).float()
    assert torch.equal(half.kernels(inverse), rounded.kernels(inverse))
    assert half(torch.randn(1, 5, 9, 9, dtype=torch.bfloat16), inverse).dtype == torch.bfloat16


@pytest.mark.parametrize("cached", [False, True])
def test_shapes_are_known_without_values(cached):
    kernels = SymmetricKernelSet(5, cached=cached).to("meta")
    assert kernels(torch.empty(2, 5, 18, 14, device="meta")).shape == (2, 5, 18, 14)


@pytest.mark.parametrize("inverse", [False, True])
def test_gradients_are_those_of_finite_differences(inverse):
    kernels = made(2, 3)

    def convolved(spectrum, features):
        return torch.func.functional_call(kernels, {"spectrum": spectrum}, (features, inverse))

    features = torch.randn(1, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(convolved, (kernels.spectrum, features))


def test_mistakes_are_named():
    for size in (8, 0, -1):
        with pytest.raises(ValueError, match=f"size={size}"):
            SymmetricKernelSet(4, size)
    with pytest.raises(ValueError, match=r"\(1, 3, 9, 9\): \(B, 4, H, W\)"):
        SymmetricKernelSet(4)(torch.rand(1, 3, 9, 9))


@pytest.mark.gpu
@pytest.mark.parametrize("inverse", [False, True])
def test_gpu_gives_what_the_cpu_gives(inverse):
    kernels = made(192, dtype=torch.float32)
    on_cpu = kernels.kernels(inverse)
    assert (kernels.cuda().kernels(inverse).cpu() - on_cpu).abs().max() < 1e-5
