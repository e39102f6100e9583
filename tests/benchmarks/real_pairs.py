"""The models that real dual-pixel pairs are compared with: what each draws of a point, and of a scene."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dualpixel.optics import blur_of_disparity, disparity_of_blur, point_spread_functions, render

KERNEL_OPTIONS = ("order", "cutoff", "beta", "smoothing")
# Beyond every radius that is tried.
CLAMP = {"maximum_radius": 40.0}


@dataclass(frozen=True)
class Model:
    """A mode of the renderer, with its options."""

    name: str
    mode: str
    options: dict[str, Any] = field(default_factory=dict)
    largest: float = 18.0  # radius that is tried, pixels

    def render(self, image: Tensor, blur: Tensor) -> tuple[Tensor, Tensor]:
        """Draw the two views of (B, 1, H, W), with a blur radius for each pixel."""
        return render(image, blur, self.mode, **self.options)

    def points(self, radius: float) -> tuple[Tensor, Tensor]:
        """Return the two views' point spread functions, each (n, n) with sum one."""
        return point_spread_functions(radius, self.mode, **self.options)

    def radius(self, disparity: float) -> float:
        """Return the blur radius at which the views' points are so far apart."""
        return blur_of_disparity(torch.tensor(float(disparity)), self.mode, **self._of_kernels).item()

    def disparity(self, radius: float) -> float:
        """Return how far apart the views' points are at a blur radius."""
        return disparity_of_blur(torch.tensor(float(radius)), self.mode, **self._of_kernels).item()

    @property
    def _of_kernels(self) -> dict[str, Any]:
        return {name: value for name, value in self.options.items() if name in KERNEL_OPTIONS}


@dataclass(frozen=True)
class Displacement:
    """No blur: each view is the sharp image moved by half the disparity, which is called the radius here."""

    name: str = "displacement, no blur"
    largest: float = 12.0

    def render(self, image: Tensor, blur: Tensor) -> tuple[Tensor, Tensor]:
        """Read every pixel half a disparity away."""
        height, width = image.shape[-2:]
        rows, columns = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
        views = []
        for side in (-0.5, 0.5):
            across = columns + side * blur[:, 0].double()
            place = torch.stack(torch.broadcast_tensors(across / (width - 1), rows / (height - 1)), -1) * 2 - 1
            views.append(
                functional.grid_sample(image.double(), place, "bicubic", padding_mode="border", align_corners=True)
            )
        return views[0].to(image.dtype), views[1].to(image.dtype)

    def points(self, radius: float) -> tuple[Tensor, Tensor]:
        """Return a point between two pixels, and its mirror image."""
        reach = int(abs(radius) / 2) + 1
        places = torch.arange(-reach, reach + 1).double()
        left = torch.zeros(2 * reach + 1, 2 * reach + 1, dtype=torch.float64)
        left[reach] = (1 - (places - radius / 2).abs()).clamp(min=0)
        return left, left.flip(1)

    def radius(self, disparity: float) -> float:
        """Return the disparity itself."""
        return disparity

    def disparity(self, radius: float) -> float:
        """Return the radius itself."""
        return radius


@dataclass(frozen=True)
class NoBlur:
    """The sharp image in both views: all that gain and offset can do."""

    name: str = "no blur"
    largest: float = 0.0

    def render(self, image: Tensor, blur: Tensor) -> tuple[Tensor, Tensor]:
        """Return the image twice."""
        return image, image

    def radius(self, disparity: float) -> float:
        """Return zero: there is nothing to fit."""
        return 0.0

    def disparity(self, radius: float) -> float:
        """Return zero."""
        return 0.0


MODELS = (
    Model("rect, sym, energy", "rect", CLAMP),
    Model("rect, down, count", "rect", {"vertical": "down", "weight": "count", **CLAMP}),
    Model("halfdisc", "halfdisc", CLAMP),
    Model("translating_disk", "translating_disk", CLAMP),
    Model("butterworth (order 3, cutoff 2.5, beta 0.1)", "butterworth", CLAMP),
    Model("butterworth (order 1, cutoff 2.5, beta 0.4)", "butterworth", {"order": 1, "beta": 0.4, **CLAMP}),
    Model("released", "released"),
)


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
