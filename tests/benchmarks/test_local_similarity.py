"""The similarity of sharp-region preservation beside unfold and one batched matmul, and beside a pass for each shift, on one thread."""

from functools import partial

import pytest
import torch
from side_by_side import extra_mebibytes, process_seconds
from straightforward import shifted_products, unfolded_products

from dualpixel.blocks.correlation import correlation

FORMS = {"dualpixel": correlation, "unfold + matmul": unfolded_products, "81 shifted products": shifted_products}
FASTER, MEMORY = 5, 0.25
SIZES = [(54, 288, 448), (192, 144, 224)]
"""Channels, height and width of the two costliest blocks of Large at 576 x 896."""


def maps(size):
    return torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(0)).unbind()


def forward(form, *pair):
    with torch.inference_mode():
        return form(*pair)


def with_backward(form, *pair):
    leaves = [one.detach().requires_grad_() for one in pair]
    return torch.autograd.grad(form(*leaves).square().sum(), leaves)


def prepared(form, way, size):
    return partial(way, form, *maps(size))


@pytest.mark.benchmark
@pytest.mark.parametrize("size", SIZES)
def test_rate_and_memory_of_the_local_similarity(size):
    pair = maps(size)
    volume = correlation(*pair)
    for form in FORMS.values():
        torch.testing.assert_close(forward(form, *pair), volume, rtol=0, atol=1e-6)
    print(f"\n| similarity, {' x '.join(map(str, size))} |", " | ".join(FORMS), "| unfold / ours | shifts / ours |")
    ratios = {}
    for way, passes in ((forward, 2), (with_backward, 1)):
        seconds = process_seconds({name: partial(way, form, *pair) for name, form in FORMS.items()}, passes=passes)
        memory = {name: extra_mebibytes(prepared, form, way, size) for name, form in FORMS.items()}
        for values, unit, digits in ((seconds, "s", 3), (memory, "MiB", 0)):
            ours, unfold, shifts = values.values()
            ratios[way, unit] = unfold / ours
            said = " | ".join(f"{value:.{digits}f} {unit}" for value in values.values())
            print(f"| {way.__name__} | {said} | {unfold / ours:.1f} x | {shifts / ours:.1f} x |")
    assert ratios[forward, "s"] >= FASTER
    assert ratios[forward, "MiB"] >= 1 / MEMORY
