import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from dualpixel.optics import Camera

CAMERA = Camera(focal_length_m=0.035, focal_length_px=3000, aperture_px=1500, focus_distance_m=5)


def test_the_published_example_has_the_slope_and_the_focus_that_its_paper_gives():
    depth = np.array([0.82, 2.0, 4.27, 20.0])
    assert CAMERA.blur_radius(depth) == pytest.approx(26.43 * (1 / depth - 0.2), rel=5e-4)
    assert CAMERA.blur_radius(math.inf) == pytest.approx(-26.43 * 0.2, rel=5e-4)


def test_blur_radius_is_that_of_the_stored_scene(reference):
    stored = np.load(reference / "simulator.npz")
    camera = Camera(*stored["params"])
    radius = camera.blur_radius(stored["depth"].astype(np.float64))
    assert np.abs(radius - stored["signed_radius"]).max() < 1e-12


def test_sensor_stands_where_the_lens_equation_says():
    assert 1 / CAMERA.sensor_distance_m + 1 / 5 == pytest.approx(1 / 0.035, rel=1e-12)
    assert Camera(0.035, 3000, 1500, math.inf).sensor_distance_m == 0.035


def test_nearer_is_positive_and_the_focus_plane_is_sharp():
    assert CAMERA.blur_radius(4.0) > 0 > CAMERA.blur_radius(6.0)
    assert CAMERA.blur_radius(5.0) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("scale", [1.0, 0.2])
def test_depth_is_the_inverse(scale):
    camera = Camera(0.035, 3000, 1500, 5, scale)
    depth = torch.linspace(0.3, 40, 200, dtype=torch.float64)
    assert torch.allclose(camera.depth(camera.blur_radius(depth)), depth, rtol=1e-12)
    assert camera.depth(camera.blur_radius(1.5)) == pytest.approx(1.5)


def test_depth_scale_stretches_the_scene():
    scaled = Camera(0.035, 3000, 1500, 5, depth_scale=0.2)
    assert scaled.blur_radius(1.2) == pytest.approx(CAMERA.blur_radius(6.0))


def test_no_depth_has_a_blur_beyond_that_of_infinity():
    with pytest.raises(ValueError, match=r"-5\.287"):
        CAMERA.depth(torch.tensor([0.0, -5.3]))
    with pytest.raises(ValueError, match="infinitely far"):
        CAMERA.depth(-5.3)


def test_a_camera_focused_near_or_far_needs_a_scene():
    depth = torch.tensor([[2.0, 0.8], [4.0, 1.5]])
    for focus, distance in (("near", 4.0), ("far", 20.0)):
        camera = replace(CAMERA, focus_distance_m=focus, depth_scale=0.2)
        assert camera.focused(depth).focus_distance_m == pytest.approx(distance)
        for ask in (lambda one: one.blur_radius(1.0), lambda one: one.depth(0.5), lambda one: one.sensor_distance_m):
            with pytest.raises(ValueError, match=f"focused '{focus}'.*focused\\(depth\\)"):
                ask(camera)
    assert CAMERA.focused(depth) is CAMERA
    with pytest.raises(ValueError, match="within the focal length"):
        replace(CAMERA, focus_distance_m="near").focused(depth / 1000)


def test_f_number_and_pitch_give_the_aperture_in_pixels():
    camera = Camera.from_f_number(focal_length_m=0.05, f_number=4, pixel_pitch_m=5e-6, focus_distance_m=2)
    assert camera.focal_length_px == pytest.approx(10000)
    assert camera.aperture_px == pytest.approx(2500)
    assert camera.f_number == pytest.approx(4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"focal_length_m": 0}, "focal_length_m is 0"),
        ({"aperture_px": -1.0}, "aperture_px is -1.0"),
        ({"focal_length_px": math.nan}, "focal_length_px is nan"),
        ({"depth_scale": math.inf}, "depth_scale is inf"),
        ({"focus_distance_m": 0.03}, "within the focal length"),
        (
            {"focus_distance_m": "middle"},
            "focus_distance_m is 'middle', but must be a positive number, 'near' or 'far'",
        ),
        ({"aperture_px": "near"}, "aperture_px is 'near'"),
    ],
)
def test_impossible_cameras_are_refused(change, words):
    whole = {"focal_length_m": 0.035, "focal_length_px": 3000, "aperture_px": 1500, "focus_distance_m": 5}
    with pytest.raises(ValueError, match=words):
        Camera(**{**whole, **change})


def test_impossible_lenses_are_refused():
    with pytest.raises(ValueError, match="f_number is 0"):
        Camera.from_f_number(0.05, 0, 5e-6, 2)
