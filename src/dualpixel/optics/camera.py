"""The thin lens: from depth in metres to signed blur radius in pixels, and back."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import torch

Quantity = TypeVar("Quantity", float, "np.ndarray", "torch.Tensor")
Focus = float | Literal["near", "far"]


@dataclass(frozen=True)
class Camera:
    """A thin lens focused at one distance, in front of a sensor of square pixels.

    A scene point at depth d is imaged at d' = f d / (d - f) behind the lens; the sensor stands at F = f D / (D - f),
    where depth D is in focus. The lens, projected through the point onto the sensor, is a copy of itself scaled by

        sigma = 1 - F / d' = F (1/d - 1/D),

    upright (sigma > 0) for points nearer than D, inverted beyond it. The signed blur radius is r = (A/2) sigma, with A
    the aperture's diameter in pixels. A full aperture blurs to a width of 2|r|; the two rectangular half apertures see
    centroids r apart.

    Source: Pan et al., "Dual Pixel Exploration", CVPR 2021, section 3, whose "inverse depth" is sigma times a constant.

    Differences: the paper's global magnification F/f (0.7 % for 35 mm focused at 5 m) is left out, as it is in the
        authors' data.

    Args:
        focal_length_m: focal length f, metres.
        focal_length_px: focal length in pixels; the pixel pitch is focal_length_m / focal_length_px.
        aperture_px: diameter A of the aperture, in pixels of the sensor.
        focus_distance_m: depth D in focus, metres, after the division by `depth_scale`; may be infinite. "near" or
            "far" focuses on the nearest or the farthest depth of each scene: see :meth:`focused`.
        depth_scale: every depth is divided by it first; 0.2 makes a room of 1 to 4 m a scene of 5 to 20 m.

    Raises:
        ValueError: a length that is not a positive number, or a focus plane within the focal length.

    Example:
        >>> camera = Camera(focal_length_m=0.035, focal_length_px=3000, aperture_px=1500, focus_distance_m=5)
        >>> round(camera.blur_radius(2.5), 2), camera.f_number
        (5.29, 2.0)
    """

    focal_length_m: float
    focal_length_px: float
    aperture_px: float
    focus_distance_m: Focus
    depth_scale: float = 1.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name == "focus_distance_m" and value in ("near", "far"):
                continue
            if isinstance(value, str) or not value > 0 or (math.isinf(value) and name != "focus_distance_m"):
                or_near = ", 'near' or 'far'" if name == "focus_distance_m" else ""
                raise ValueError(f"Camera: {name} is {value!r}, but must be a positive number{or_near}")
        if not isinstance(self.focus_distance_m, str) and self.focus_distance_m <= self.focal_length_m:
            raise ValueError(
                f"Camera: focus_distance_m is {self.focus_distance_m}, within the focal length of "
                f"{self.focal_length_m} m; a lens can only be focused beyond it. Are both in metres?"
            )

    @classmethod
    def from_f_number(
        cls,
        focal_length_m: float,
        f_number: float,
        pixel_pitch_m: float,
        focus_distance_m: Focus,
        depth_scale: float = 1.0,
    ) -> "Camera":
        """Make a camera from what is written on a lens: A = (f / N) / pitch.

        Args:
            focal_length_m: focal length f, metres.
            f_number: f-number N, focal length over aperture diameter, without unit.
            pixel_pitch_m: distance between the centres of neighbouring pixels, metres (5.36e-6 for the Canon 5D Mark
                IV).
            focus_distance_m: depth in focus, metres, or "near" or "far".
            depth_scale: as in the class.

        Raises:
            ValueError: a value that is not a positive number, or a focus plane within the focal length.
        """
        for name, value in (("f_number", f_number), ("pixel_pitch_m", pixel_pitch_m)):
            if not 0 < value < math.inf:
                raise ValueError(f"Camera: {name} is {value}, but must be a positive number")
        focal_length_px = focal_length_m / pixel_pitch_m
        return cls(focal_length_m, focal_length_px, focal_length_px / f_number, focus_distance_m, depth_scale)

    def focused(self, depth: "np.ndarray | torch.Tensor") -> "Camera":
        """Return this camera focused on a scene: one whose focus distance is a number.

        Args:
            depth: the depth map of one scene, metres, before the division by `depth_scale`; any shape.

        Returns:
            The camera itself where its focus distance is a number already; else one focused on the smallest ("near") or
            the largest ("far") depth of the map.

        Raises:
            ValueError: the chosen depth lies within the focal length, or is not a positive number.
        """
        if not isinstance(self.focus_distance_m, str):
            return self
        chosen = depth.min() if self.focus_distance_m == "near" else depth.max()
        return replace(self, focus_distance_m=float(chosen) / self.depth_scale)

    @property
    def sensor_distance_m(self) -> float:
        """Distance F from the lens to the sensor, metres."""
        return self.focal_length_m / (1 - self.focal_length_m / self._focus_distance_m)

    @property
    def f_number(self) -> float:
        """Focal length over aperture diameter, without unit."""
        return self.focal_length_px / self.aperture_px

    def blur_radius(self, depth: Quantity) -> Quantity:
        """Return the signed blur radius r = (A/2) F (depth_scale / depth - 1/D), pixels.

        Args:
            depth: metres, positive, infinity allowed; a number, an array or a tensor of any shape. Not checked here.

        Returns:
            Pixels, of the same kind and shape; positive nearer than the focus plane, zero on it.
        """
        return self._slope * (self.depth_scale / depth - 1 / self._focus_distance_m)

    def depth(self, blur_radius: Quantity) -> Quantity:
        """Return the depth, metres, that has this signed blur radius: the inverse of :meth:`blur_radius`.

        Args:
            blur_radius: pixels, positive nearer than the focus plane; above ``blur_radius(math.inf)``, which is that of
                an infinitely far point.

        Returns:
            Metres, of the same kind and shape.

        Raises:
            ValueError: a radius that no depth has.
        """
        inverse_depth = blur_radius / self._slope + 1 / self._focus_distance_m
        possible = inverse_depth > 0
        if not (possible if isinstance(possible, bool) else bool(possible.all())):
            raise ValueError(
                f"Camera: no depth has a blur radius at or below {self.blur_radius(math.inf):.4g} pixels, "
                "that of an infinitely far point"
            )
        return self.depth_scale / inverse_depth

    @property
    def _focus_distance_m(self) -> float:
        if isinstance(self.focus_distance_m, str):
            raise ValueError(
                f"Camera: focused {self.focus_distance_m!r}, so its blur depends on the scene; ask camera.focused(depth)"
            )
        return self.focus_distance_m

    @property
    def _slope(self) -> float:
        """Pixels of radius per unit of inverse depth (1/m): A F / 2."""
        return self.aperture_px / 2 * self.sensor_distance_m
