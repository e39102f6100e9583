import os

import cv2
import numpy as np
import pytest
import torch
from scenes import photograph, views

from dualpixel.data.stream import collate, to_floats
from dualpixel.errors import DualPixelError
from dualpixel.running import panel_sheet
from dualpixel.running.folder import CHOSEN, choose_folder, find_checkpoint
from dualpixel.running.panel_sheet import _detail, draw_panel, draw_views_panel


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("SLURM_JOB_ID", "TORCHELASTIC_RUN_ID", CHOSEN, "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    yield
    os.environ.pop(CHOSEN, None)


def test_runs_are_numbered_and_never_overwritten(tmp_path):
    first = choose_folder(tmp_path, None, "dpdnet-dpdd", None)
    first.mkdir()
    assert first.name == "dpdnet-dpdd-1"
    assert choose_folder(tmp_path, None, "dpdnet-dpdd", None).name == "dpdnet-dpdd-2"
    assert choose_folder(tmp_path, "mine", "dpdnet-dpdd", None) == tmp_path / "mine"


def test_a_resumed_run_goes_on_in_its_folder(tmp_path):
    checkpoint = tmp_path / "old" / "checkpoints" / "last.ckpt"
    assert choose_folder(tmp_path, None, "x", checkpoint) == tmp_path / "old"
    assert choose_folder(tmp_path, None, "x", tmp_path / "elsewhere.ckpt") == tmp_path / "x-1"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    assert find_checkpoint(str(tmp_path / "old")) == str(checkpoint)


def test_processes_of_one_job_agree(tmp_path, monkeypatch):
    chosen = choose_folder(tmp_path, None, "x", None)
    chosen.mkdir()
    monkeypatch.setenv("LOCAL_RANK", "1")  # as Lightning starts its further processes
    assert choose_folder(tmp_path, None, "x", None) == chosen
    monkeypatch.delenv("LOCAL_RANK")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    assert choose_folder(tmp_path, None, "x", None).name == "x-4711"


def test_a_job_that_torchrun_starts_again_without_a_name_is_refused(tmp_path, monkeypatch):
    """Its folder would be a new one, and training would begin at zero."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # as without --rdzv-id
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    assert choose_folder(tmp_path, None, "x", None).name == "x-1"
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    with pytest.raises(DualPixelError, match="--rdzv-id JOB, or --run.name NAME"):
        choose_folder(tmp_path, None, "x", None)
    assert choose_folder(tmp_path, "mine", "x", None).name == "mine"
    assert choose_folder(tmp_path, None, "x", tmp_path / "old" / "checkpoints" / "last.ckpt").name == "old"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")
    assert choose_folder(tmp_path, None, "x", None).name == "x-job"


def test_a_panel_shows_the_detail_that_improved_most(tmp_path):
    scene = {**views(photograph(0)), "key": "a", "group": "", "index": 0}
    batch = to_floats(collate([scene]))
    output = batch["combined"][0].clone()
    output[:, 60:130, 100:170] = batch["sharp"][0, :, 60:130, 100:170]
    before = (batch["combined"][0] - batch["sharp"][0]).abs().mean(0)
    row, column, side = _detail(before - (output - batch["sharp"][0]).abs().mean(0))
    assert abs(row - 60) <= 18 and abs(column - 100) <= 18 and side == 72
    draw_panel(
        tmp_path / "p.png", "a", {n: batch[n][0] for n in ("left", "right", "combined")}, output, batch["sharp"][0]
    )
    picture = cv2.imread(str(tmp_path / "p.png"))
    assert picture.shape[1] > 7 * 200 and picture.std() > 20
    assert [path.name for path in tmp_path.iterdir()] == ["p.png"]


@pytest.fixture
def predicted():
    """A scene, and outputs half-way between input and target."""
    batch = to_floats(collate([{**views(photograph(0)), "key": "a", "group": "", "index": 0}]))
    scene = {name: batch[name][0] for name in ("left", "right", "combined", "sharp")}
    return scene, {name: (scene[name] + scene["combined"]) / 2 for name in ("left", "right", "sharp")}


def test_a_panel_of_views_has_a_row_for_each_output_and_one_for_their_difference(tmp_path, predicted):
    scene, outputs = predicted
    draw_views_panel(tmp_path / "all.png", "a", scene["combined"], outputs, scene)
    del outputs["sharp"]
    draw_views_panel(tmp_path / "views.png", "a", scene["combined"], outputs, scene)
    whole, part = (cv2.imread(str(tmp_path / f"{name}.png")) for name in ("all", "views"))
    assert whole.shape[1] == part.shape[1] > 5 * 200 and 250 < whole.shape[0] - part.shape[0] < 400
    blue, _, red = cv2.split(part[part.shape[0] // 2 :].astype(int))  # of left - right
    assert (blue - red > 80).mean() > 0.01 and (red - blue > 80).mean() > 0.01


def test_differences_of_views_are_shown_with_their_sign_and_the_gain_that_is_said(tmp_path, predicted, monkeypatch):
    scene, outputs = predicted
    drawn = []
    monkeypatch.setattr(panel_sheet, "_draw", lambda path, title, blocks, detail: drawn.extend(blocks))
    draw_views_panel(tmp_path / "p.png", "a", scene["combined"], outputs, scene, gain=2.0)
    cells = {name.strip(): cell for block, _ in drawn for name, (cell, _) in block.items()}
    true = (scene["left"] - scene["right"]).mean(0).numpy()
    assert np.abs(true).max() > 0.02
    assert cells["left - right: target x2"] == pytest.approx((2 * true).clip(-1, 1), abs=1e-6)
    assert cells["left - right: output x2"] == pytest.approx(true.clip(-1, 1), abs=1e-6)
    assert cells["left - right: error of input x2"] == pytest.approx(np.abs(2 * true).clip(0, 1), abs=1e-6)
    assert cells["left - right: error of output x2"] == pytest.approx(np.abs(true).clip(0, 1), abs=1e-6)
    error = (scene["combined"] - scene["left"]).abs().mean(0).numpy()
    assert cells["left: error of output x2"] == pytest.approx(error.clip(0, 1), abs=1e-6)
    whole = [next(iter(block)).partition(":")[0] for block, with_whole in drawn if with_whole]
    assert whole == ["sharp", "left - right"]


def test_maps_of_a_panel_share_the_scale_of_the_last(tmp_path, predicted, monkeypatch):
    scene, outputs = predicted
    drawn = []
    monkeypatch.setattr(panel_sheet, "_draw", lambda path, title, blocks, detail: drawn.extend(blocks))
    truth = torch.linspace(-3, 5, scene["sharp"][0].numel()).view_as(scene["sharp"][:1])
    maps = {"coarse": truth + 40, "blur": -truth, "true blur": truth}
    draw_panel(tmp_path / "p.png", "a", {"left": scene["left"]}, outputs["sharp"], scene["sharp"], maps=maps)
    ((cells, _),) = drawn
    assert [name for name in cells][-3:] == [
        f"{name}\n-4.92 to 4.92" for name in maps
    ]  # of 99 % of the truth, symmetric
    for (values, options), name in zip(list(cells.values())[-3:], maps, strict=True):
        assert values == pytest.approx(maps[name][0].numpy())
        assert (options["vmin"], options["vmax"]) == pytest.approx((-4.92, 4.92), abs=0.01)
        assert options["cmap"].name == "coolwarm"
