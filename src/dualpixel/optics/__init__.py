"""How a dual-pixel sensor sees a scene: the thin lens, the point spread functions, and the differentiable simulator.

The one convention of signs: a blur radius is positive where the scene is nearer than the focus plane. There the left
view's copy of a point lies to the right of its place, the right view's to the left. Lengths in the scene are metres,
lengths on the sensor are pixels.
"""

from dualpixel.optics.blur import (
    blur_of_disparity,
    combine,
    depth_of_blur,
    disparity_of_blur,
    mirror,
    point_spread_functions,
)
from dualpixel.optics.camera import Camera
from dualpixel.optics.distortion import distort
from dualpixel.optics.render import MODES, render, signed_blur, simulate
from dualpixel.optics.sensor import Sensor

__all__ = [
    "MODES",
    "Camera",
    "Sensor",
    "blur_of_disparity",
    "combine",
    "depth_of_blur",
    "disparity_of_blur",
    "distort",
    "mirror",
    "point_spread_functions",
    "render",
    "signed_blur",
    "simulate",
]
