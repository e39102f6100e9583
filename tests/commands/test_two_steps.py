"""MDP's training in two steps through the command line: views first, then the sharp image, too."""

import pytest
import torch
import yaml
from command_line import TOP, refused

from dualpixel.cli import main
from dualpixel.evaluate.result import load_result
from dualpixel.weights.files import load_weights

FIRST, SECOND = (["--config", str(TOP / "recipes" / f"{name}.yaml")] for name in ("mdp_views", "mdp"))
QUICK = {
    "model": {"init_args": {"net": {"init_args": {"width": 0.05}}}},
    "data": {"init_args": {"batch_size": 2, "crop_size": 32, "crops_per_scene": 1}},
    "trainer": {"max_epochs": 1, "limit_train_batches": 2, "limit_val_batches": 1},
    "panels": {"count": 0},
    "best": {"monitor": "val/views_psnr"},
    "scores": {"lpips": False},
}
SHARP = "decoders.branches.sharp."


@pytest.fixture(scope="module")
def quick(overlay, tmp_path_factory):
    path = tmp_path_factory.mktemp("quick") / "quick.yaml"
    path.write_text(yaml.safe_dump(QUICK))
    return ["--config", overlay, "--config", str(path)]


@pytest.fixture(scope="module")
def runs(quick, tmp_path_factory):
    """A folder with the first step stopped after one update and after two, and the second step on top of the latter."""
    root = tmp_path_factory.mktemp("steps")
    place = ["--run.root", str(root), "--run.name"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        main(["fit", *FIRST, *quick, *place, "one", "--trainer.max_steps", "1"])
        main(["fit", *FIRST, *quick, *place, "two"])
        main(["fit", *SECOND, *quick, *place, "second", "--model.init_from", last_of(root / "two")])
    return root


def last_of(run):
    return str(run / "checkpoints" / "last.ckpt")


def differing(one, other):
    one, other = (load_weights(last_of(run))[0] for run in (one, other))
    return {name for name in one if not torch.equal(one[name], other[name])}, set(one)


def test_the_first_step_moves_all_but_the_sharp_decoder(runs):
    moved, names = differing(runs / "one", runs / "two")
    assert moved == {name for name in names if not name.startswith(SHARP)}


def test_the_second_step_begins_there_and_moves_the_sharp_decoder_too(runs):
    moved, names = differing(runs / "two", runs / "second")
    biases = {name for name in names if name.startswith(SHARP) and name.endswith("bias")}
    assert {name for name in names if name.startswith(SHARP)} - biases <= moved
    assert len(names - moved) < 0.1 * len(names)  # a ReLU of so narrow a network may be closed


def test_a_run_of_the_first_step_is_not_resumed_by_the_second(runs, quick, capsys):
    resumed = ["fit", *SECOND, *quick, "--run.root", str(runs), "--ckpt_path", last_of(runs / "one")]
    said = refused(capsys, *resumed)
    assert "one of mdp_views, this run trains mdp" in said and "--model.init_from" in said


def test_both_steps_are_tested_each_with_what_it_predicts(runs, quick, tmp_path):
    for step, name in ((FIRST, "two"), (SECOND, "second")):
        main(["test", *step, *quick, "--model.init_from", last_of(runs / name), "--run.root", str(tmp_path),
              "--run.name", name])  # fmt: skip
    first, second = (load_result(next((tmp_path / name).rglob("result.json"))) for name in ("two", "second"))
    assert (first.recipe, second.recipe) == ("mdp_views", "mdp")
    views = {"left_psnr", "right_psnr", "views_psnr", "input_views_psnr"}
    assert views <= set(first.means["overall"]) and "psnr" not in first.means["overall"]
    assert views | {"psnr", "input_psnr"} <= set(second.means["overall"])
