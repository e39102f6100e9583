"""What the two tables of maps share: the same numbers on a GPU, and over two processes."""

import math
from pathlib import Path

import pytest
import torch
from gloo_processes import run_processes

from dualpixel.metrics import affine_invariant, depth, summarise


def maps(count):
    """An estimate and a positive truth in [0, 1]."""
    generator = torch.Generator().manual_seed(5)
    truth = 0.1 + 0.9 * torch.rand(count, 1, 13, 17, generator=generator)
    return truth * (0.5 + 0.5 * torch.rand(truth.shape, generator=generator)), truth


TABLES = [
    (depth.DepthScores, depth.depth_scores),
    (affine_invariant.AffineInvariantScores, affine_invariant.affine_invariant_scores),
]


@pytest.mark.gpu
@pytest.mark.parametrize(("kind", "score"), TABLES)
def test_scores_on_a_gpu(kind, score):
    estimate, truth = maps(2)
    truth[0, 0, :3] = math.nan
    expected, table = score(estimate, truth), kind(2).to("cuda")
    table.update(torch.arange(2), estimate.cuda(), truth.cuda())
    for name, column in table.compute().items():
        assert column.device.type == "cuda"
        assert name == "seen" or column.tolist() == pytest.approx(expected[name].tolist(), rel=1e-9, abs=1e-11)


PROCESS = """
from dualpixel.metrics import summarise
from this_test import TABLES, maps

estimate, truth = maps(count)
result = {}
for kind, _ in TABLES:
    table = kind(count)
    for image in range(rank, count, world):
        one = slice(image, image + 1)
        table.update(torch.tensor([image]), estimate[one], truth[one])
    columns = table.compute()
    result[kind.__name__] = {name: column.tolist() for name, column in columns.items()}, summarise(columns, [""] * count)
"""


def test_two_processes_equal_one(tmp_path):
    first, second = run_processes(tmp_path / "two", Path(__file__), PROCESS, 2, 3)
    assert first == second
    for kind, score in TABLES:
        columns, summary = first[kind.__name__]
        expected = score(*maps(3))
        assert columns == {name: column.tolist() for name, column in expected.items()} | {"seen": [1, 1, 1]}
        assert summary == summarise(expected, [""] * 3)
