import math
from dataclasses import replace

import pytest
import torch

from dualpixel.optics import MODES, Camera, render, signed_blur, simulate

CAMERA = Camera(focal_length_m=0.035, focal_length_px=3000, aperture_px=1500, focus_distance_m=5)
IMAGE, MAP = torch.rand(2, 3, 9, 12), torch.linspace(2, 8, 2 * 9 * 12).reshape(2, 1, 9, 12)


def test_simulate_renders_the_blur_that_the_camera_has():
    expected = render(IMAGE, CAMERA.blur_radius(MAP.double()))
    for simulated, rendered in zip(simulate(IMAGE, MAP, CAMERA), expected, strict=True):
        assert torch.equal(simulated, rendered)
        assert simulated.dtype == IMAGE.dtype


def test_each_image_can_have_a_camera_of_its_own():
    cameras = [CAMERA, replace(CAMERA, focus_distance_m=3.0)]
    views = simulate(IMAGE, MAP, cameras)
    for position, camera in enumerate(cameras):
        alone = simulate(IMAGE[position : position + 1], MAP[position : position + 1], camera)
        for view, one in zip(views, alone, strict=True):
            assert torch.equal(view[position : position + 1], one)
    with pytest.raises(ValueError, match="3 cameras for 2 images"):
        simulate(IMAGE, MAP, [CAMERA] * 3)


@pytest.mark.parametrize(("focus", "sign"), [("near", -1), ("far", 1)])
def test_near_and_far_focus_on_the_ends_of_each_scene(focus, sign):
    blur = signed_blur(MAP, replace(CAMERA, focus_distance_m=focus))
    assert (blur.flatten(1).abs().min(1).values < 1e-12).all()
    assert ((blur * sign) > -1e-12).all()
    assert blur.abs().max() > 1


def test_the_focus_distance_means_nothing_to_the_released_renderer():
    blur = signed_blur(MAP, CAMERA, mode="released")
    assert torch.allclose(blur, 0.5 * CAMERA.aperture_px * CAMERA.focal_length_m / MAP.double(), rtol=1e-12)
    assert torch.equal(blur, signed_blur(MAP, replace(CAMERA, focus_distance_m="near"), mode="released"))


def test_options_reach_the_mode():
    assert not torch.equal(simulate(IMAGE, MAP, CAMERA, vertical="down")[0], simulate(IMAGE, MAP, CAMERA)[0])
    with pytest.raises(TypeError, match="sideways"):
        render(IMAGE, MAP, sideways=True)


def test_infinitely_far_is_a_depth():
    assert simulate(IMAGE, torch.full_like(MAP, math.inf), CAMERA)[0].isfinite().all()


def test_one_channel_and_one_pixel_will_do():
    left, right = render(torch.full((1, 1, 1, 1), 0.5), torch.full((1, 1, 1, 1), 3.0))
    assert left.item() == right.item() == pytest.approx(0.5)


def test_an_unknown_mode_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="no rendering mode 'rects'; did you mean 'rect'\\? Allowed: released, rect, "):
        render(IMAGE, MAP, mode="rects")
    with pytest.raises(ValueError, match="Allowed: " + ", ".join(MODES)):
        simulate(IMAGE, MAP, CAMERA, mode="wave optics")


@pytest.mark.parametrize(
    ("image", "blur", "words"),
    [
        (IMAGE[0], MAP, r"image has shape \(3, 9, 12\), but must be \(B, C, H, W\)"),
        (IMAGE[:0], MAP[:0], "without a zero"),
        (IMAGE, MAP[:, :, :-1], r"blur has shape \(2, 1, 8, 12\), but must be \(2, 1, 9, 12\)"),
        (IMAGE, MAP[:1], r"but must be \(2, 1, 9, 12\)"),
        (IMAGE, MAP[:, 0], r"blur has shape \(2, 9, 12\)"),
        ((IMAGE * 255).to(torch.uint8), MAP, "image is torch.uint8, but must be floating"),
        (IMAGE, MAP.long(), "blur is torch.int64"),
        (IMAGE, MAP.to("meta"), "image is on cpu and blur on meta"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(image, blur, words):
    with pytest.raises(ValueError, match=words):
        render(image, blur)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan])
def test_depths_that_are_none_are_refused(wrong):
    depth = MAP.clone()
    depth[0, 0, 0, :3] = wrong
    with pytest.raises(ValueError, match="3 of 216 depths are zero, negative or NaN"):
        simulate(IMAGE, depth, CAMERA)


def test_a_depth_of_the_wrong_shape_is_called_a_depth():
    with pytest.raises(ValueError, match="depth has shape"):
        simulate(IMAGE, MAP[:, :, 1:], CAMERA)
