import copy
import math
import pickle
from pathlib import Path

import pytest
import torch
from gloo_processes import run_processes

from dualpixel.errors import DualPixelError
from dualpixel.metrics.per_image import PerImageScores, summarise

GROUPS = ["indoor", "outdoor", "indoor", "outdoor", "outdoor"]


def made_up_scores(count):
    generator = torch.Generator().manual_seed(3)
    return {name: 30 * torch.rand(count, generator=generator, dtype=torch.float64) for name in ("psnr", "ssim")}


def filled(count, batches, **options):
    table, scores = PerImageScores(["psnr", "ssim", "lpips"], count, **options), made_up_scores(count)
    for batch in batches:
        index = torch.tensor(batch)
        table.update(index, {name: column[index] for name, column in scores.items()})
    return table


def test_table_in_data_set_order_whatever_the_batches():
    scores = made_up_scores(5)
    for batches in ([[0, 1, 2, 3, 4]], [[4], [2, 0], [3, 1]]):
        table = filled(5, batches).compute()
        assert list(table) == ["psnr", "ssim", "lpips", "seen"]
        assert torch.equal(table["psnr"], scores["psnr"])
        assert torch.equal(table["ssim"], scores["ssim"])
        assert table["lpips"].isnan().all()
        assert table["seen"].tolist() == [1, 1, 1, 1, 1]


def test_an_image_scored_never_or_twice_is_named():
    with pytest.raises(DualPixelError, match="never scored: images 1, 3 of 5"):
        filled(5, [[0, 2, 4]]).compute()
    with pytest.raises(DualPixelError, match="more than once: images 2 of 5"):
        filled(5, [[0, 1, 2], [2, 3, 4]]).compute()
    with pytest.raises(DualPixelError, match="more than once: images 2 of 5"):
        filled(5, [[2, 2]], partial=True).compute()


def test_partial_tables_say_what_was_seen():
    table = filled(5, [[3, 1]], partial=True).compute()
    assert table["seen"].tolist() == [0, 1, 0, 1, 0]
    assert table["psnr"].isnan().tolist() == [True, False, True, False, True]


def test_a_table_of_one_image_has_columns_too():
    table = filled(1, [[0]])
    for metric in (table, copy.deepcopy(table), pickle.loads(pickle.dumps(table))):
        assert [column.shape for column in metric.compute().values()] == [(1,)] * 4
    assert summarise(table.compute(), ["indoor"])["indoor"]["psnr"] == made_up_scores(1)["psnr"].item()


def test_reset_empties_the_table():
    table = filled(3, [[0, 1, 2]])
    table.reset()
    table.update(torch.arange(3), {"psnr": torch.ones(3)})
    assert table.compute()["psnr"].tolist() == [1.0, 1.0, 1.0]


def test_infinity_and_float32_scores_are_kept():
    table = PerImageScores(["psnr"], 2)
    table.update(torch.tensor([1, 0]), {"psnr": torch.tensor([math.inf, 0.1])})
    column = table.compute()["psnr"]
    assert column.tolist() == [float(torch.tensor(0.1)), math.inf]
    assert column.dtype == torch.float64


def test_a_table_made_in_inference_mode_goes_on_outside():
    with torch.inference_mode():
        table = filled(2, [[0]])
        table.reset()
        table.update(torch.tensor([0]), {"psnr": torch.ones(1)})
    table.update(torch.tensor([1]), {"psnr": torch.ones(1, requires_grad=True)})
    assert not table.compute()["psnr"].requires_grad


def test_casting_the_module_keeps_double_precision():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), filled(5, [[0, 1]])).to(torch.bfloat16)
    table = module[1]
    assert module[0].weight.dtype == torch.bfloat16
    assert torch.equal(table.scores[:2, 0], made_up_scores(5)["psnr"][:2])
    table.reset()
    assert table.scores.dtype == torch.float64
    assert table.seen.dtype == torch.int64


@pytest.mark.gpu
def test_gpu_table():
    table = filled(5, []).to("cuda")
    table.update(torch.arange(5), {"psnr": torch.arange(5.0)})
    assert table.compute()["psnr"].device.type == "cuda"
    assert table.compute()["psnr"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("index", "values", "message"),
    [
        (torch.tensor([0]), {"pnsr": torch.ones(1)}, "unknown column 'pnsr'"),
        (torch.tensor([0, 5]), {}, "from 0 to 5"),
        (torch.tensor([-1]), {}, "from -1 to -1"),
        (torch.tensor([0, 1]), {"psnr": torch.ones(1)}, "another shape"),
        (torch.tensor([0, 1]), {"psnr": torch.ones(2, 1)}, "another shape"),
        (torch.tensor(0), {}, r"\(B,\) integers"),
        (torch.tensor([0.0]), {}, r"\(B,\) integers"),
    ],
)
def test_refused_updates(index, values, message):
    with pytest.raises(DualPixelError, match=message):
        filled(5, []).update(index, values)


@pytest.mark.parametrize(("names", "count"), [([], 1), (["psnr", "psnr"], 1), (["seen"], 1), (["psnr"], 0)])
def test_refused_tables(names, count):
    with pytest.raises(DualPixelError):
        PerImageScores(names, count)


def test_summary_by_group():
    columns = {"psnr": torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]), "lpips": torch.tensor([1.0, math.nan, 2.0, 3.0, 4.0])}
    assert summarise(columns, GROUPS) == {
        "overall": {"psnr": 31 / 5, "lpips": None},
        "indoor": {"psnr": 2.5, "lpips": 1.5},
        "outdoor": {"psnr": 26 / 3, "lpips": None},
    }
    assert list(summarise(columns, GROUPS)) == ["overall", "indoor", "outdoor"]
    assert summarise(columns, [""] * 5) == {"overall": {"psnr": 31 / 5, "lpips": None}}


def test_summary_leaves_out_what_was_not_seen():
    summary = summarise(filled(5, [[0, 1, 2]], partial=True).compute(), GROUPS)
    scores = made_up_scores(5)["psnr"]
    assert summary["overall"]["psnr"] == pytest.approx(scores[:3].mean().item(), rel=1e-15)
    assert summary["outdoor"] == {"psnr": scores[1].item(), "ssim": made_up_scores(5)["ssim"][1].item(), "lpips": None}
    assert summarise(filled(5, [], partial=True).compute(), GROUPS)["overall"]["psnr"] is None


def test_summary_does_not_depend_on_the_order():
    values = torch.tensor([1e16, 1.0, -1e16, 1.0, 0.1], dtype=torch.float64)
    expected = summarise({"psnr": values}, ["a"] * 5)
    for shift in range(5):
        assert summarise({"psnr": values.roll(shift)}, ["a"] * 5) == expected
    assert summarise({"psnr": torch.tensor([math.inf, 1.0])}, ["a", "a"])["a"]["psnr"] == math.inf


def test_refused_groups():
    with pytest.raises(DualPixelError, match="4 groups"):
        summarise({"psnr": torch.ones(5)}, GROUPS[:4])
    with pytest.raises(DualPixelError, match="overall"):
        summarise({"psnr": torch.ones(1)}, ["overall"])


PROCESS = """
from dualpixel.metrics.per_image import PerImageScores, summarise
from this_test import GROUPS, made_up_scores

table, scores = PerImageScores(["psnr", "ssim", "lpips"], count), made_up_scores(count)
for repeat in range(2):
    table.reset()
    for image in range(rank, count, world):
        table.update(torch.tensor([image]), {name: column[image : image + 1] for name, column in scores.items()})
    columns = table.compute()
result = {
    "columns": {name: column.nan_to_num(-1.0).tolist() for name, column in columns.items()},
    "summary": summarise(columns, (GROUPS * count)[:count]),
    "own": len(range(rank, count, world)),
}
"""


@pytest.mark.parametrize(("count", "shares"), [(5, [3, 2]), (1, [1, 0])])
def test_two_processes_equal_one(tmp_path, count, shares):
    first, second = run_processes(tmp_path / "two", Path(__file__), PROCESS, 2, count)
    assert [first.pop("own"), second.pop("own")] == shares
    (alone,) = run_processes(tmp_path / "one", Path(__file__), PROCESS, 1, count)
    assert alone.pop("own") == count
    assert first == second == alone
    assert alone["columns"]["psnr"] == made_up_scores(count)["psnr"].tolist()
    assert alone["columns"]["seen"] == [1] * count
