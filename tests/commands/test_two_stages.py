"""A training in two stages, as K3DN's: the second begins with the weights of the first, and trains what it adds."""

import shutil

import pytest
import torch
import yaml
from command_line import TOP, refused

from dualpixel.cli import main
from dualpixel.data.reading import PreparedSplit
from dualpixel.evaluate.result import load_result
from dualpixel.weights.files import load_weights, weights_hash

FIRST, SECOND = (["--config", str(TOP / "recipes" / f"{name}.yaml")] for name in ("k3dn_tiny_stage1", "k3dn_tiny"))
QUICK = {
    "model": {"init_args": {"net": {"init_args": {"width": 0.04}}}},
    "data": {"init_args": {"batch_size": 2, "crop_size": [48, 40], "crops_per_scene": 1}},
    "trainer": {"max_epochs": 1, "limit_train_batches": 2, "limit_val_batches": 1},
    "panels": {"count": 0},
    "scores": {"lpips": False},
}


@pytest.fixture(scope="module")
def quick(overlay, tmp_path_factory):
    path = tmp_path_factory.mktemp("quick") / "quick.yaml"
    path.write_text(yaml.safe_dump(QUICK))
    return ["--config", overlay, "--config", str(path)]


@pytest.fixture(scope="module")
def runs(quick, tmp_path_factory):
    """A folder with the run of the first stage, and that of the second on top of it."""
    root = tmp_path_factory.mktemp("stages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        main(["fit", *FIRST, *quick, "--run.root", str(root), "--run.name", "first"])
        main(["fit", *SECOND, *quick, "--run.root", str(root), "--run.name", "second",
              "--model.init_from", last_of(root / "first")])  # fmt: skip
    return root


def last_of(run):
    return str(run / "checkpoints" / "last.ckpt")


def weights_of(run):
    return load_weights(last_of(run))[0]


def changed(one, other):
    return {name for name in one.keys() | other.keys() if name not in other or not torch.equal(one[name], other[name])}


def test_the_second_stage_keeps_the_first_ones_weights_and_running_statistics(runs):
    first, second = weights_of(runs / "first"), weights_of(runs / "second")
    assert {name for name in second if name.startswith("srp.")} == changed(second, first)


def test_the_second_stage_is_resumed_without_the_weights_of_the_first(runs, quick, tmp_path):
    folder = shutil.copytree(runs / "second", tmp_path / "second")
    main(["fit", *SECOND, *quick, "--ckpt_path", str(folder), "--trainer.max_epochs", "2"])
    before, after = (torch.load(last_of(one), weights_only=True) for one in (runs / "second", folder))
    assert (before["global_step"], after["global_step"]) == (2, 4)
    trained = changed(weights_of(folder), weights_of(runs / "second"))
    assert trained and all(name.startswith("srp.") for name in trained)


def test_the_second_stage_is_tested_and_predicts(runs, quick, small_shards, tmp_path):
    place = ["--model.init_from", last_of(runs / "second"), "--run.root", str(tmp_path), "--run.name", "scored"]
    main(["test", *SECOND, *quick, *place])
    result = load_result(next((tmp_path / "scored").rglob("result.json")))
    assert result.recipe == "k3dn_tiny" and result.complete
    main(["predict", *SECOND, *quick, *place])
    keys = [sample.key for sample in PreparedSplit(small_shards / "test").index.samples]
    assert sorted(path.stem for path in (tmp_path / "scored" / "predictions").iterdir()) == sorted(keys)


def test_a_run_is_tested_by_its_own_configuration_also_without_the_weights_it_began_with(runs, quick, tmp_path):
    folder = shutil.copytree(runs / "second", tmp_path / "second")
    content = yaml.safe_load((folder / "config.yaml").read_text())
    assert content["model"]["init_args"]["init_from"] == last_of(runs / "first")
    for began_with in (last_of(runs / "first"), str(tmp_path / "gone.ckpt")):
        content["model"]["init_args"]["init_from"] = began_with
        content["run"] |= {"root": str(tmp_path), "name": "second"}
        (folder / "config.yaml").write_text(yaml.safe_dump(content))
        main(["test", "--config", str(folder / "config.yaml"), "--ckpt_path", str(folder)])
    result = load_result(next(folder.rglob("result.json")))
    assert result.weights_sha256 == weights_hash(weights_of(folder))


def test_a_stage_without_what_it_needs_is_refused(runs, quick, capsys, tmp_path):
    place = ["--run.root", str(tmp_path), "--run.name", "refused"]
    first = ["--model.init_from", last_of(runs / "first")]
    alone = refused(capsys, "fit", *SECOND, *quick, *place)
    assert "k3dn_tiny trains its SRP blocks on top of the first stage: give its weights by --model.init_from" in alone
    for command in ("test", "predict"):
        assert "missing: srp.0.query.weight" in refused(capsys, command, *SECOND, *quick, *place, *first)
    assert "missing: srp.0.query.weight" in refused(
        capsys, "fit", *SECOND, *quick, *place, "--ckpt_path", last_of(runs / "first")
    )
    cached = ["--model.net.init_args.cached", "true", "--model.reblur_weight", "0"]
    assert "cannot be trained: set model.net.init_args.cached to false" in refused(
        capsys, "fit", *FIRST, *quick, *place, *cached
    )
    assert not list((tmp_path / "refused").rglob("*.ckpt"))
