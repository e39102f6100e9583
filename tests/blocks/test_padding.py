import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpixel.blocks.padding import crop_to, fit_centre, pad_to_multiple, run_padded

SIZES = st.integers(1, 40)
MULTIPLES = st.integers(1, 32)


@settings(max_examples=100, deadline=None)
@given(SIZES, SIZES, MULTIPLES)
def test_padding_is_numpys_reflection_at_the_bottom_and_the_right(height, width, multiple):
    image = torch.arange(height * width, dtype=torch.int32).reshape(1, height, width)
    padded = pad_to_multiple(image, multiple)
    assert padded.shape[-2] % multiple == padded.shape[-1] % multiple == 0
    assert 0 <= padded.shape[-2] - height < multiple
    assert 0 <= padded.shape[-1] - width < multiple
    added = ((0, 0), (0, padded.shape[-2] - height), (0, padded.shape[-1] - width))
    np.testing.assert_array_equal(padded.numpy(), np.pad(image.numpy(), added, mode="reflect"))
    assert torch.equal(crop_to(padded, height, width), image)


def test_nothing_is_copied_where_the_size_fits():
    image = torch.rand(1, 3, 32, 16)
    assert pad_to_multiple(image, 16) is image
    assert crop_to(image, 32, 16) is image
    assert run_padded(lambda given: given, 16, image) is image


@settings(max_examples=40, deadline=None)
@given(SIZES, SIZES)
def test_results_of_the_padded_size_are_cropped_in_every_container(height, width):
    images = [torch.rand(2, 3, height, width), None, torch.rand(2, 1, height, width)]

    def network(first, absent, second):
        assert absent is None
        assert first.shape[-2:] == second.shape[-2:]
        half = first[..., ::2, ::2]
        return {"sharp": first, "views": (first, [second]), "half": half, "scale": 2.0, "mean": first.mean()}

    result = run_padded(network, 16, *images)
    assert torch.equal(result["sharp"], images[0])
    assert torch.equal(result["views"][0], images[0])
    assert torch.equal(result["views"][1][0], images[2])
    assert result["half"].shape[-1] == -(-width // 16) * 8
    assert result["scale"] == 2.0
    assert result["mean"].shape == ()


def test_gradients_pass_through_the_mirror():
    image = torch.rand(1, 1, 1, 3, requires_grad=True)
    pad_to_multiple(image, 4).sum().backward()
    assert image.grad.tolist() == [[[[4.0, 8.0, 4.0]]]]


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="multiple=0"):
        pad_to_multiple(torch.rand(1, 4, 4), 0)
    with pytest.raises(ValueError, match="0 x 4"):
        pad_to_multiple(torch.rand(1, 0, 4), 8)
    with pytest.raises(ValueError, match="cannot be cropped to 5 x 4"):
        crop_to(torch.rand(1, 4, 4), 5, 4)
    with pytest.raises(ValueError, match=r"\(4, 4\), \(4, 5\)"):
        run_padded(lambda *_: None, 8, torch.rand(1, 4, 4), torch.rand(1, 4, 5))
    with pytest.raises(ValueError, match="none"):
        run_padded(lambda *_: None, 8, None)


def test_fitting_to_the_centre_cuts_at_the_start_and_adds_at_the_end():
    line = torch.arange(1, 6)[None]
    assert fit_centre(line, 1, 4).tolist() == [[2, 3, 4, 5]]
    assert fit_centre(line, 1, 3).tolist() == [[2, 3, 4]]
    assert fit_centre(line, 1, 2).tolist() == [[3, 4]]
    assert fit_centre(line, 1, 6).tolist() == [[1, 2, 3, 4, 5, 0]]
    assert fit_centre(line, 1, 8).tolist() == [[0, 1, 2, 3, 4, 5, 0, 0]]
    assert fit_centre(line.T, 4, 2).tolist() == [[2, 0], [3, 0], [4, 0], [5, 0]]
    assert fit_centre(line, 1, 5) is line


def test_sizes_may_be_given_by_a_rule():
    seen = []

    def network(image):
        seen.append(tuple(image.shape[-2:]))
        return image

    image = torch.rand(1, 3, 5, 7)
    assert torch.equal(run_padded(network, lambda height, width: (2 * height, width + 1), image), image)
    assert seen == [(10, 8)]
    with pytest.raises(ValueError, match="an image of 5 x 7 pixels cannot be padded to 4 x 7"):
        run_padded(network, lambda height, width: (4, width), image)
