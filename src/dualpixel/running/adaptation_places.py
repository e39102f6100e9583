"""Where photographs are adapted to, and where it is measured: places of crops that do not touch each other."""

import math

import numpy as np

from dualpixel.data.simulated import Place


class CropPlaces:
    """Where one photograph is trained on, and where its error is measured.

    A photograph with room for two crops side by side or above each other is measured at one crop, whose place is drawn
    once, and never trained on there. A smaller one is measured whole, and trained on everywhere.

    Args:
        size: height and width of the photograph.
        crop: height and width of a crop, not larger.
        random: draws the place.

    Attributes:
        evaluated: where the error is measured.
        held_out: whether no training crop touches that.
    """

    def __init__(self, size: tuple[int, int], crop: tuple[int, int], random: np.random.Generator) -> None:
        self.size, self.crop = size, crop
        axis = int(size[1] / crop[1] >= size[0] / crop[0])  # the one with more room
        self.held_out = size[axis] >= 2 * crop[axis]
        self.evaluated = Place(0, 0, *size)
        if self.held_out:
            start = [int(random.integers(whole - part + 1)) for whole, part in zip(size, crop, strict=True)]
            # a crop's length is left free on one side of it, drawn before or behind
            start[axis] = int(random.integers(size[axis] - 2 * crop[axis] + 1))
            if random.random() < 0.5:
                start[axis] = size[axis] - crop[axis] - start[axis]
            self.evaluated = Place(*start, *crop)

    def draw(self, random: np.random.Generator) -> Place:
        """Draw a place to train on."""
        ranges = [(0, whole - part) for whole, part in zip(self.size, self.crop, strict=True)]
        if self.held_out:
            beside = []  # the places above, below, left and right of what is held out; first and last start
            for axis in (0, 1):
                start, (first, last) = self.evaluated[axis], ranges[axis]
                for low, high in ((first, start - self.crop[axis]), (start + self.crop[axis], last)):
                    if low <= high:
                        beside.append([(low, high) if one == axis else ranges[one] for one in (0, 1)])
            counts = np.array([math.prod(high - low + 1 for low, high in place) for place in beside], float)
            ranges = beside[random.choice(len(beside), p=counts / counts.sum())]
        row, column = (int(random.integers(low, high + 1)) for low, high in ranges)
        return Place(row, column, *self.crop)
