import numpy as np
import pytest
from PIL import Image
from torch import from_numpy
from torch.nn.functional import interpolate

from dualpixel.data.resizing import bicubic_weights, resize_bicubic, to_8_bit


def test_the_weights_are_those_of_keys():
    # doubling: positions at a quarter and three quarters between pixels; cubic convolution with a = -1/2 there
    quarter = np.array([-0.0703125, 0.8671875, 0.2265625, -0.0234375])
    weights = bicubic_weights(8, 16)
    assert weights[9, 3:7] == pytest.approx(quarter, abs=1e-15)  # position 4.25
    assert weights[8, 2:6] == pytest.approx(quarter[::-1], abs=1e-15)  # position 3.75


@pytest.mark.parametrize(("size", "new_size"), [(7, 7), (441, 480), (601, 640), (100, 37), (2, 5), (3, 1)])
def test_weights_of_a_pixel_sum_to_one(size, new_size):
    weights = bicubic_weights(size, new_size)
    assert weights.shape == (new_size, size)
    assert weights.sum(1) == pytest.approx(np.ones(new_size), abs=1e-14)


def test_the_same_size_is_the_same_image():
    image = np.random.default_rng(0).random((9, 14, 3))
    assert np.array_equal(resize_bicubic(image, 9, 14), image)


def test_beyond_the_border_the_image_is_mirrored():
    image = np.random.default_rng(1).random((6, 9))
    padded = np.pad(image, 3, mode="symmetric")
    assert resize_bicubic(image, 12, 18) == pytest.approx(resize_bicubic(padded, 24, 30)[6:-6, 6:-6], abs=1e-14)


def test_a_line_is_continued_where_nothing_is_mirrored():
    line = np.linspace(0, 1, 50)[None].repeat(3, 0)
    expected = ((np.arange(60) + 0.5) * 50 / 60 - 0.5) / 49
    assert resize_bicubic(line, 3, 60)[1, 3:-3] == pytest.approx(expected[3:-3], abs=1e-12)


@pytest.mark.parametrize("size", [(40, 31), (17, 53), (90, 90)])
def test_inside_it_is_the_bicubic_of_pillow(size):
    # Pillow has a = -1/2 and averages when shrinking, but leaves out what lies beyond the border
    image = np.random.default_rng(2).random((60, 70)).astype(np.float32)
    theirs = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))
    inside = tuple(slice(-(-length // 6), -(-length // -6)) for length in size)
    assert resize_bicubic(image, *size)[inside] == pytest.approx(theirs[inside], abs=1e-5)


def test_enlarged_it_differs_from_the_bicubic_of_torch_and_opencv():
    image = np.random.default_rng(3).random((20, 20))
    theirs = interpolate(from_numpy(image)[None, None], size=(30, 30), mode="bicubic").numpy()[0, 0]  # a = -3/4
    assert np.abs(resize_bicubic(image, 30, 30) - theirs).max() > 0.01


def test_halves_are_rounded_up_and_overshoot_is_clipped():
    assert to_8_bit(np.array([-0.1, 0.5 / 255, 1.5 / 255, 2.4999 / 255, 1, 1.2])).tolist() == [0, 1, 2, 2, 255, 255]
