"""The table of scores per image, gathered exactly over processes, and its means.

Every row of a result file is one image, so the table itself is the metric state. Averages are taken once, at the end,
from the whole table: the number of processes and of images in each batch cannot change a digit.
"""

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from dualpixel.errors import DualPixelError

SEEN = "seen"
OVERALL = "overall"


class PerImageScores(Metric):
    """Named scores of `count` images, each scored on one process.

    The states are a table (count, columns) and a count of visits, zero where this process saw nothing. Their sum over
    processes adds zeros to each row, and x + 0 = x, so the reduction is exact and processes may see any number of
    images, also none. Use `update` and `compute`; the call of the metric itself has no meaning for one batch.

    Args:
        names: the columns, such as psnr, ssim, mae, lpips.
        count: number of images in the whole data set, over all processes.
        partial: accept that some images are never scored, as in sanity checks and limited runs.
        **kwargs: passed to `torchmetrics.Metric`.

    Raises:
        DualPixelError: no, repeated or reserved names, or a count below 1.
    """

    full_state_update = False
    is_differentiable = False
    scores: Tensor
    seen: Tensor

    def __init__(self, names: Sequence[str], count: int, partial: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.names = tuple(names)
        self.count = count
        self.partial = partial
        if not self.names or len(set(self.names)) < len(self.names) or SEEN in self.names:
            raise DualPixelError(f"column names must be given once each and not be {SEEN!r}, found {list(self.names)}")
        if count < 1:
            raise DualPixelError(f"a table of scores needs at least one image, found count = {count}")
        self.add_state("scores", torch.zeros(count, len(self.names), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state(SEEN, torch.zeros(count, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, index: Tensor, values: dict[str, Tensor]) -> None:
        """Enter the scores of one batch.

        Args:
            index: (B,) integers, position of each image in the data set, 0 to count - 1.
            values: column -> (B,) scores; a column that is not given becomes NaN.

        Raises:
            DualPixelError: an unknown column, an index outside the table or of no integers, or shapes that differ.
        """
        unknown = [name for name in values if name not in self.names]
        if unknown:
            raise DualPixelError(f"unknown column {unknown[0]!r}; this table has {', '.join(self.names)}")
        lengths = {name: tuple(value.shape) for name, value in values.items() if value.shape != index.shape}
        if index.ndim != 1 or index.is_floating_point() or lengths:
            raise DualPixelError(
                f"the index must be (B,) integers, found {tuple(index.shape)} {index.dtype}; "
                f"values of another shape: {lengths or 'none'}"
            )
        index = index.to(self.seen.device, torch.int64)
        if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < self.count:
            raise DualPixelError(
                f"image index from {int(index.min())} to {int(index.max())}; "
                f"this table has images 0 to {self.count - 1}"
            )
        rows = self.scores.new_full((len(index), len(self.names)), math.nan)
        for name, value in values.items():
            rows[:, self.names.index(name)] = value.detach().to(rows)
        # New tensors instead of writing in place: a table made in inference mode cannot be written outside of it.
        self.scores = self.scores.index_copy(0, index, rows)
        self.seen = self.seen.index_add(0, index, torch.ones_like(index))

    def compute(self) -> dict[str, Tensor]:
        """Return the whole table.

        Returns:
            Column -> (count,) float64, in the order of the data set, NaN for images that were not scored; and under
            "seen" how often each image was scored, (count,) int64 of ones (and zeros when `partial`).

        Raises:
            DualPixelError: an image was scored more than once, or never and the table is not `partial`.
        """
        twice, never = (self.seen > 1).nonzero().flatten().tolist(), (self.seen == 0).nonzero().flatten().tolist()
        if twice:
            raise DualPixelError(
                f"scored more than once: images {_listed(twice)} of {self.count}; each image belongs to one process "
                "and one batch (switch off the sampler that pads: use_distributed_sampler=False)"
            )
        if never and not self.partial:
            raise DualPixelError(
                f"never scored: images {_listed(never)} of {self.count}; a limited run must say partial=True"
            )
        scores = self.scores.masked_fill((self.seen == 0)[:, None], math.nan)
        return {name: scores[:, column] for column, name in enumerate(self.names)} | {SEEN: self.seen}

    def _wrap_compute(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        """Keep columns of one image as columns: torchmetrics makes scalars of all one-element tensors."""
        wrapped = super()._wrap_compute(compute)

        @wraps(compute)
        def whole(*args: Any, **kwargs: Any) -> dict[str, Tensor]:
            return {name: column.reshape(self.count) for name, column in wrapped(*args, **kwargs).items()}

        return whole

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> "PerImageScores":
        """Follow the module to its device, but keep double precision when a setting casts the whole module."""

        def moved(tensor: Tensor) -> Tensor:
            result = fn(tensor)
            return result if result.dtype == tensor.dtype else tensor.to(result.device)

        return super()._apply(moved, exclude_state)


def summarise(columns: dict[str, Tensor], groups: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Average a table over all images and over each group.

    The sums are correctly rounded (`math.fsum`), hence the same for every order of the images.

    Args:
        columns: column -> (count,) scores, as `PerImageScores.compute` returns them. Where a column "seen" is among
            them, images with a zero there are left out.
        groups: the group of each image, in the same order; images with an empty group count in "overall" only.

    Returns:
        {"overall": {column: mean}, group: {column: mean}, ...}, groups in order of appearance. A mean is None where a
        value is NaN (or there is no image): an average over fewer images than the row claims would not be comparable.

    Raises:
        DualPixelError: the lengths differ, or a group is called "overall".
    """
    lengths = {name: len(column) for name, column in columns.items() if len(column) != len(groups)}
    if lengths:
        raise DualPixelError(f"{len(groups)} groups for columns of other lengths: {lengths}")
    if OVERALL in groups:
        raise DualPixelError(f"a group may not be called {OVERALL!r}: that is the mean over all images")
    seen = columns[SEEN].tolist() if SEEN in columns else [1] * len(groups)
    kept = [row for row, visits in enumerate(seen) if visits]
    members: dict[str, list[int]] = {OVERALL: kept}
    for row in kept:
        if groups[row]:
            members.setdefault(groups[row], []).append(row)
    table = {name: column.tolist() for name, column in columns.items() if name != SEEN}
    return {
        group: {name: _mean([values[row] for row in rows]) for name, values in table.items()}
        for group, rows in members.items()
    }


def _mean(values: list[float]) -> float | None:
    if not values or any(math.isnan(value) for value in values):
        return None
    return math.fsum(values) / len(values)


def _listed(images: list[int]) -> str:
    return ", ".join(map(str, images[:5])) + (" …" if len(images) > 5 else "")
