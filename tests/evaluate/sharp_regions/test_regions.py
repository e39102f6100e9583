import cv2
import numpy as np
import pytest
import torch
from scenes import photograph

from dualpixel.data.images import write_png
from dualpixel.errors import DualPixelError
from dualpixel.evaluate.sharp_regions import regions
from dualpixel.evaluate.sharp_regions.regions import (
    THRESHOLDS,
    error_distribution,
    in_focus_by_blur,
    in_focus_by_mask,
    in_focus_by_target,
    intensity_error,
)


def batch_of(*images):
    return torch.stack([torch.from_numpy(image / 65535).float().permute(2, 0, 1) for image in images])


def test_the_error_of_a_pixel_is_the_root_mean_square_over_its_colours():
    blurry = torch.full((2, 3, 4, 5), 0.25)
    output = blurry.clone()
    output[1, :, 2, 3] += torch.tensor([0.03, -0.04, 0.12])
    errors = intensity_error(output, blurry)
    assert errors.shape == (2, 4, 5) and errors.dtype == torch.float64
    assert errors[1, 2, 3] == pytest.approx(0.13 / 3**0.5, abs=1e-8)
    assert errors.count_nonzero() == 1


def test_an_unaltered_input_has_no_error_at_all():
    image = batch_of(photograph(0))
    in_focus = torch.ones(1, *image.shape[2:], dtype=torch.bool)
    counts = error_distribution(intensity_error(image, image), in_focus)
    assert (counts == in_focus.sum()).all() and counts.shape == (1, 101)


def test_the_distribution_counts_what_is_in_focus_and_at_most_the_threshold():
    errors = torch.tensor([[[0.0, 0.1, 0.2, 0.25, torch.nan]], [[0.2, 0.2, 0.2, 0.3, 0.0]]], dtype=torch.float64)
    in_focus = torch.tensor([[[1, 1, 0, 1, 1]], [[1, 1, 1, 1, 0]]]).bool()
    counts = error_distribution(errors, in_focus, (0.0, 0.1, 0.2, 0.3))
    assert counts.tolist() == [[1, 2, 2, 3], [0, 0, 3, 4]] and counts.dtype == torch.int64


def test_the_distribution_is_that_of_sorting():
    random = np.random.default_rng(0)
    errors, in_focus = random.exponential(0.03, (3, 40, 50)), random.random((3, 40, 50)) < 0.3
    counts = error_distribution(torch.from_numpy(errors), torch.from_numpy(in_focus))
    for row in range(3):
        expected = np.searchsorted(np.sort(errors[row][in_focus[row]]), THRESHOLDS, side="right")
        assert counts[row].tolist() == expected.tolist()


def test_up_to_half_a_pixel_of_blur_is_in_focus_on_both_sides():
    blur = torch.tensor([0.0, 0.5, -0.5, 0.51, -0.51, 3.0]).view(1, 1, 2, 3)
    assert in_focus_by_blur(blur).tolist() == [[[True, True, True], [False, False, False]]]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_blur_takes_textured_places_out_of_focus(number):
    sharp = photograph(number)
    blurry = sharp.copy()
    blurry[:, 104:] = cv2.GaussianBlur(sharp, (0, 0), 3)[:, 104:]
    target = batch_of(sharp)
    textured = in_focus_by_target(target, target)[0]
    found = in_focus_by_target(batch_of(blurry), target)[0]
    assert textured[:, :96].float().mean() > 0.3
    assert torch.equal(found[:, :97], textured[:, :97])  # windows that see no blur
    assert found[:, 111:].sum() < 0.1 * textured[:, 111:].sum()


def test_the_agreement_is_measured_in_units_of_the_texture():
    rows, columns = torch.meshgrid(torch.arange(40), torch.arange(60), indexing="ij")
    board = ((rows + columns) % 2 - 0.5).double()  # its standard deviation is 1/2
    target = 0.5 + 0.2 * board.expand(1, 3, -1, -1)  # a texture of 0.1
    inside = (..., slice(8, -8), slice(8, -8))  # windows that the repeated border does not reach
    assert in_focus_by_target(target + 0.0098, target)[inside].all()
    assert not in_focus_by_target(target + 0.0102, target)[inside].any()
    assert in_focus_by_target(0.5 + (target - 0.5) * 0.902, target)[inside].all()
    assert not in_focus_by_target(0.5 + (target - 0.5) * 0.898, target)[inside].any()


def test_a_flat_wall_is_never_in_focus_by_its_target():
    board = torch.zeros(1, 3, 20, 30, dtype=torch.float64)
    board[..., ::2] = 1
    for contrast, found in ((0.0, False), (0.038, False), (0.042, True)):  # twice the texture
        target = 0.3 + contrast * board
        assert in_focus_by_target(target, target)[..., 10, 15].item() is found


def test_images_smaller_than_the_window_can_be_looked_at():
    target = torch.rand(2, 3, 3, 5, generator=torch.Generator().manual_seed(0))
    assert in_focus_by_target(target, target).all()


def test_without_a_combined_image_the_mean_of_the_views_is_the_input():
    left, right = torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)
    assert (regions.blurry_image({"left": left, "right": right}) == 0.5).all()
    assert (regions.blurry_image({"left": left, "right": right, "combined": right}) == 1).all()
    assert (regions.blurry_image({"left": left}) == 0).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_is_not_black_in_a_mask_is_in_focus(tmp_path, dtype):
    mask = np.zeros((4, 6, 3), dtype)
    mask[1, 2], mask[3, 5, 1] = 1, 1
    write_png(tmp_path / "scene.png", mask)
    found = in_focus_by_mask(tmp_path / "scene.png", 4, 6)
    assert found.nonzero().tolist() == [[1, 2], [3, 5]]
    cv2.imwrite(str(tmp_path / "grey.png"), mask[..., 1])
    assert torch.equal(in_focus_by_mask(tmp_path / "grey.png", 4, 6), found)


def test_a_mask_of_another_size_is_refused(tmp_path):
    write_png(tmp_path / "scene.png", np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(DualPixelError, match=r"scene.png: 4 x 6 pixels, .* has 8 x 12"):
        in_focus_by_mask(tmp_path / "scene.png", 8, 12)
