import re
import shutil
import subprocess
from types import SimpleNamespace

import pytest
import torch
from tiny_shards import make_tiny_set, opened

from dualpixel.data.mixture import MixedSet
from dualpixel.running import provenance
from dualpixel.running.provenance import code_state, describe_batch, describe_data, describe_run


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_the_code_is_told_by_its_commit_and_whether_it_was_changed(tmp_path, monkeypatch):
    package = tmp_path / "src" / "dualpixel"
    package.mkdir(parents=True)
    monkeypatch.setattr(provenance, "PACKAGE", package)
    assert code_state() == {"version": code_state()["version"], "commit": None, "dirty": None}
    (package / "a.py").write_text("1")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "a")
    clean = code_state()
    assert re.fullmatch("[0-9a-f]{40}", clean["commit"]) and clean["dirty"] is False
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "log").write_text("not part of it")
    assert code_state() == clean
    (package / "a.py").write_text("2")
    assert code_state() == clean | {"dirty": True}


def test_without_git_there_is_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert code_state()["commit"] is None


def test_the_effective_batch_counts_processes_and_accumulated_steps():
    training = SimpleNamespace(batch_size=3)
    trainer = SimpleNamespace(
        datamodule=SimpleNamespace(training=training),
        accumulate_grad_batches=2,
        world_size=8,
        num_nodes=2,
        num_devices=4,
    )
    assert describe_batch(trainer) == {
        "effective": 48, "per_process": 3, "processes": 8, "nodes": 2, "devices": 4, "accumulated": 2,
    }  # fmt: skip


def test_data_are_told_by_the_fingerprints_of_the_splits_that_are_here(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    card, root = make_tiny_set(tmp_path / "a", shards=2)
    other, beside = make_tiny_set(tmp_path / "b", shards=1, name="other")
    shutil.rmtree(root / "test")
    data = opened(card, root, mix=[MixedSet(str(other), 0.5, str(beside))])
    assert describe_data(data) == {
        "name": "tiny",
        "version": "1",
        "splits": {name: {"scenes": 4, "fingerprint": data.fingerprint(name)} for name in ("train", "val")},
        "mixed": {"other": {"train": {"scenes": 2, "fingerprint": data.sets[1].fingerprint("train")}}},
    }
    assert data.fingerprint("train") != data.fingerprint("val")


@pytest.mark.parametrize("frozen", [True, False])
def test_parameters_that_are_trained_are_counted_apart(frozen):
    recipe = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    recipe[0].requires_grad_(not frozen)
    recipe.name = "some"
    trainer = SimpleNamespace(
        datamodule=None, accumulate_grad_batches=1, world_size=1, num_nodes=1, num_devices=1, precision="32-true"
    )
    found = describe_run(trainer, recipe)
    assert found["parameters"] == {"all": 13, "trained": 4 if frozen else 13} and found["dataset"] == {}
    assert found["packages"]["torch"] == torch.__version__.partition("+")[0] and found["recipe"] == "some"
