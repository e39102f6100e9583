import json
import math
import os
import subprocess
import sys

import cv2
import pytest
import torch
from command_line import TOP
from diagnosed import Diagnosed, Heard, Scenes, trainer_for
from matplotlib.figure import Figure
from torch.utils.data import DataLoader

from dualpixel.data.samplers import NOT_COUNTED
from dualpixel.errors import DualPixelError
from dualpixel.running.diagnostics import Diagnostics, _draw, _plots, draw_diagnostics

NAMES = ["precision", "mean_output", "bias/red", "bias/green", "undefined"]


def fitted(folder, callback=None, silent=False, ckpt_path=None, **options):
    callback = callback or Diagnostics()
    recipe = Diagnosed(silent=silent)
    trainer = trainer_for(folder, callback, **options)
    trainer.fit(recipe, ckpt_path=ckpt_path, weights_only=True)
    return callback, recipe, trainer


def exact(history):
    """A history in which NaN equals NaN, and nothing else but the very same number."""
    return {step: {name: value.hex() for name, value in values.items()} for step, values in history.items()}


def test_the_first_batch_of_each_validation_is_diagnosed_logged_remembered_and_drawn(tmp_path):
    heard = Heard()
    callback, recipe, _ = fitted(tmp_path, logger=heard)
    assert recipe.asked == [[0, 1]] * 3  # not in the sanity check before training
    assert list(callback.history) == [3, 6, 9]
    assert all(list(values) == NAMES and type(values["mean_output"]) is float for values in callback.history.values())
    assert callback.history[9]["bias/red"] == recipe.net.bias[0].item()
    told = [metrics for metrics in heard.metrics if metrics]
    assert len(told) == 3
    for metrics, values in zip(told, callback.history.values(), strict=True):
        assert list(metrics) == [f"val/{name}" for name in NAMES]
        assert metrics["val/bias/green"] == pytest.approx(values["bias/green"], rel=1e-6)
    assert heard.images == [("val/diagnostics", [str(tmp_path / "diagnostics.png")])] * 3
    assert heard.steps["images"] == sorted(set(heard.steps["metrics"]))  # at one place of a chart
    assert [path.name for path in tmp_path.glob("*.*")] == ["diagnostics.png"]
    assert cv2.imread(str(tmp_path / "diagnostics.png")).std() > 20


def test_it_asks_at_every_nth_validation_also_after_a_resumption(tmp_path):
    callback, recipe, trainer = fitted(tmp_path, Diagnostics(every_n_validations=2), epochs=4)
    assert list(callback.history) == [3, 9] and len(recipe.asked) == 2
    trainer.save_checkpoint(tmp_path / "kept.ckpt")
    again, recipe, _ = fitted(tmp_path, Diagnostics(every_n_validations=2), epochs=6, ckpt_path=tmp_path / "kept.ckpt")
    assert list(again.history) == [3, 9, 15] and len(recipe.asked) == 1


@pytest.mark.parametrize("options", [{"callback": Diagnostics(enabled=False)}, {"silent": True}])
def test_switched_off_or_without_any_diagnostics_nothing_is_written(tmp_path, options):
    heard = Heard()
    callback, recipe, _ = fitted(tmp_path, logger=heard, **options)
    assert recipe.asked == ([] if not callback.enabled else [[0, 1]] * 3)
    assert not callback.history and not any(heard.metrics) and not heard.images
    assert not list(tmp_path.glob("*.png"))


def test_a_resumed_run_continues_the_curve_to_the_last_bit(tmp_path):
    whole, _, _ = fitted(tmp_path / "whole", epochs=4)
    part, _, trainer = fitted(tmp_path / "part", epochs=2)
    assert exact(part.history).items() <= exact(whole.history).items()
    trainer.save_checkpoint(tmp_path / "kept.ckpt")
    kept = torch.load(tmp_path / "kept.ckpt", weights_only=True)["callbacks"]["Diagnostics"]
    assert exact(kept["history"]) == exact(part.history)
    again, recipe, _ = fitted(tmp_path / "part", epochs=4, ckpt_path=tmp_path / "kept.ckpt")
    assert exact(again.history) == exact(whole.history) and len(recipe.asked) == 2
    pictures = [(tmp_path / name / "diagnostics.png").read_bytes() for name in ("whole", "part")]
    assert pictures[0] == pictures[1]


def test_what_is_loaded_and_what_is_kept_share_nothing():
    callback = Diagnostics()
    callback.load_state_dict({"history": (kept := {3: {"a": 1.0}}), "validations": 1})
    state = callback.state_dict()
    callback.history[3]["a"] = 2.0
    assert kept == {3: {"a": 1.0}} == state["history"]


def test_validate_alone_logs_and_leaves_the_curves_of_training_alone(tmp_path):
    callback, recipe, trainer = fitted(tmp_path, Diagnostics(every_n_validations=2))
    trainer.save_checkpoint(tmp_path / "kept.ckpt")
    drawn = (tmp_path / "diagnostics.png").read_bytes()
    again = Diagnostics(every_n_validations=2)
    other = Diagnosed()
    trainer = trainer_for(tmp_path, again)
    (metrics,) = trainer.validate(other, ckpt_path=tmp_path / "kept.ckpt", weights_only=True, verbose=False)
    assert other.asked == [[0, 1]]
    assert metrics["val/bias/red"] == pytest.approx(recipe.net.bias[0].item(), rel=1e-6)
    assert exact(again.history) == exact(callback.history)
    trainer.test(other, verbose=False)
    assert other.asked == [[0, 1]]
    assert (tmp_path / "diagnostics.png").read_bytes() == drawn


@pytest.mark.parametrize(("precision", "size"), [("32-true", 4), ("bf16-mixed", 2)])
def test_the_recipe_is_asked_at_the_precision_of_training(tmp_path, precision, size):
    callback, _, _ = fitted(tmp_path, epochs=1, precision=precision)
    assert callback.history[3]["precision"] == size


def test_a_process_without_the_first_scene_is_not_asked(tmp_path):
    recipe, callback = Diagnosed(), Diagnostics()
    recipe.val_dataloader = lambda: DataLoader(Scenes(), batch_size=2, sampler=[1, 3, NOT_COUNTED])
    trainer_for(tmp_path, callback).fit(recipe)
    assert recipe.asked == [] and not callback.history and not list(tmp_path.glob("*.png"))


def test_two_processes_agree_also_where_one_of_them_has_no_scene(tmp_path):
    path = os.pathsep.join(map(str, (TOP / "tests", TOP / "src")))
    done = subprocess.run(
        [sys.executable, TOP / "tests" / "diagnosed.py", tmp_path, "1"],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"process{rank}.json").read_text()) for rank in (0, 1))
    assert first["asked"] == [[0]] * 3 and second["asked"] == []
    assert list(first["history"]) == ["3", "6", "9"] and list(first["history"]["3"]) == NAMES
    for name in ("history", "logged"):
        assert json.dumps(first[name]) == json.dumps(second[name])
    assert first["logged"]["val/bias/red"] == pytest.approx(first["history"]["9"]["bias/red"], rel=1e-6)
    assert (tmp_path / "diagnostics.png").is_file()


def drawn(history):
    """The axes of each plot, by its title."""
    axes = {}
    for group, lines in _plots(history).items():
        axis = Figure().subplots()
        _draw(axis, group, lines)
        axes[axis.get_title()] = axis
    return axes


def test_a_group_is_one_plot_with_a_line_and_a_word_of_the_legend_for_each_member():
    history = {20: {"reverse_error/block0": 0.5, "reverse_error/block1": 0.25, "reblur_psnr": 21.0}}
    history[10] = {"reverse_error/block0": 0.75, "reblur_psnr": 20.0}
    axes = drawn(history)
    assert list(axes) == ["reverse error", "reblur psnr: 21"]
    group, alone = axes.values()
    assert [line.get_xydata().tolist() for line in group.lines] == [[[10, 0.75], [20, 0.5]], [[20, 0.25]]]
    assert [text.get_text() for text in group.get_legend().get_texts()] == ["block0 0.5", "block1 0.25"]
    assert group.lines[0].get_color() != group.lines[1].get_color()
    assert alone.get_legend() is None
    assert [axis.get_ylabel() for axis in axes.values()] == ["val/reverse_error", "val/reblur_psnr"]
    assert {axis.get_xlabel() for axis in axes.values()} == {"training step"}


def test_wide_spans_are_drawn_in_decades_and_what_is_not_finite_leaves_a_gap():
    history = {1: {"a": 1.0, "b": 1.0, "c": -1.0}, 2: {"a": math.inf, "b": math.nan, "c": 1.0}}
    history[3] = {"a": 100.0, "b": 99.0, "c": 1e4}
    axes = list(drawn(history).values())
    assert [axis.get_yscale() for axis in axes] == ["log", "linear", "linear"]
    for axis in axes[:2]:
        assert math.isnan(axis.lines[0].get_ydata()[1])


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (3, 3, 1), (5, 3, 2)])
def test_the_picture_grows_with_the_plots(tmp_path, count, columns, rows):
    draw_diagnostics(tmp_path / "d.png", {1: {f"name{number}": math.nan for number in range(count)}})
    height, width = cv2.imread(str(tmp_path / "d.png")).shape[:2]
    assert (width, height) == (pytest.approx(462 * columns, abs=1), pytest.approx(297 * rows, abs=1))


def test_a_turn_that_never_comes_is_refused():
    with pytest.raises(DualPixelError, match="every_n_validations 0: must be at least 1"):
        Diagnostics(every_n_validations=0)
