import cv2
import numpy as np
import pytest
import torch

from dualpixel import DualPixelError
from dualpixel.evaluate.quantise import drop_low_bits, halve, truncate

ALL_8 = torch.arange(256)
ALL_16 = torch.arange(65536)


def levels(image, bits=8):
    """Whole steps of an image, which must be whole."""
    steps = image.double() * (2**bits - 1)
    assert torch.allclose(steps, steps.round(), atol=1e-4)
    return steps.round().to(torch.int64)


def eight_bits(values):
    """(H, W, 3) uint8 as (1, 3, H, W) floats."""
    return torch.from_numpy(values).permute(2, 0, 1)[None].float() / 255


def test_every_16_bit_value_keeps_its_upper_byte():
    assert torch.equal(levels(drop_low_bits(ALL_16.float().div(65535)[None])), ALL_16[None] >> 8)


@pytest.mark.parametrize("bits", [1, 10, 16])
def test_other_numbers_of_bits_are_kept_likewise(bits):
    assert torch.equal(levels(drop_low_bits(ALL_16.float().div(65535)[None], bits), bits), ALL_16[None] >> (16 - bits))


def test_an_8_bit_image_has_nothing_to_drop():
    image = ALL_8.float().div(255)[None]
    assert torch.equal(drop_low_bits(image), image)


def test_values_outside_of_the_range_go_to_its_ends():
    image = torch.tensor([[-0.1, 1.2, 1.0, 0.0]])
    assert levels(drop_low_bits(image)).tolist() == levels(truncate(image)).tolist() == [[0, 255, 255, 0]]


def test_the_bits_are_those_that_opencv_reads(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (24, 32, 3), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "image.png"), values)
    read = cv2.imread(str(tmp_path / "image.png"), cv2.IMREAD_COLOR)
    ours = drop_low_bits(torch.from_numpy(values.astype(np.float32) / 65535).permute(2, 0, 1)[None])
    assert torch.equal(ours, eight_bits(read))


def test_outputs_lose_their_fraction_of_a_step():
    image = torch.tensor([[0.0, 0.999 / 255, 1.001 / 255, 0.5, 254.999 / 255, 1.0]])
    assert levels(truncate(image)).tolist() == [[0, 0, 1, 127, 254, 255]]


def test_whole_steps_survive_truncation():
    image = ALL_8.float().div(255)[None]
    assert torch.equal(truncate(image), image)


def test_means_are_rounded_half_up():
    squares = torch.tensor([[0, 0, 1, 1, 1, 1, 255, 255], [0, 1, 0, 0, 1, 0, 254, 254]])
    # quarters: 0.25, 0.5, 0.75, 254.5
    assert levels(halve(squares[None, None].float() / 255)).tolist() == [[[[0, 1, 1, 255]]]]


def test_halving_is_opencvs_resize():
    values = np.random.default_rng(1).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    assert torch.equal(halve(eight_bits(values)), eight_bits(cv2.resize(values, (20, 12))))


@pytest.mark.parametrize("size", [(6, 7), (7, 6)])
def test_odd_sizes_are_not_halved(size):
    with pytest.raises(DualPixelError, match=f"{size[0]} x {size[1]} pixels cannot be halved"):
        halve(torch.zeros(1, 3, *size))
