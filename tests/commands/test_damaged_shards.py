"""Commands that meet damaged shards end with status 2 and one line that names shard and scene, whichever process met them."""

import logging
import shutil
from types import SimpleNamespace

import pytest
from command_line import TOP, refused
from servers import FolderServer

from dualpixel.data import remote
from dualpixel.data.index import load_index

DPDNET = str(TOP / "recipes" / "dpdnet.yaml")


@pytest.fixture(autouse=True)
def no_complaints(monkeypatch):
    """Lightning logs to the standard error of an earlier test, which is closed."""
    monkeypatch.setattr(logging, "raiseExceptions", False)


def flip_a_pixel(folder):
    """Alter the last bit of the first pixel of a split's second scene; return its key."""
    index = load_index(folder)
    sample = index.samples[1]
    path = folder / index.shards[sample.shard].name
    content = bytearray(path.read_bytes())
    content[sample.members["left"].offset] ^= 1
    path.write_bytes(content)
    return sample.key


@pytest.mark.parametrize(("split", "workers"), [("train", 1), ("val", 0)])
def test_a_flipped_bit_is_one_line(small_shards, overlay, tmp_path, capsys, split, workers):
    root = shutil.copytree(small_shards, tmp_path / "set")
    key = flip_a_pixel(root / split)
    said = refused(
        capsys, "fit", "--config", DPDNET, "--config", overlay, "--run.root", str(tmp_path), "--data.root", str(root),
        "--data.num_workers", str(workers), "--panels.count", "0", "--scores.lpips", "false", "--trainer.max_epochs", "1",
    )  # fmt: skip
    assert len(said.splitlines()) == 1
    assert f"{small_shards.name}-{split}-000000.tar: the pixels of {key} are not those of the index" in said
    assert not list(tmp_path.rglob("result.json"))


@pytest.mark.parametrize("fault", [("status", 500), ("wrong",), ("drop", 100)])
def test_a_server_that_keeps_failing_is_one_line(small_shards, overlay, tmp_path, capsys, monkeypatch, fault):
    monkeypatch.setattr(remote, "time", SimpleNamespace(sleep=lambda seconds: None))
    with FolderServer(small_shards) as server:
        server.faults["train-000000.tar"] = [fault] * 100
        said = refused(
            capsys, "fit", "--config", DPDNET, "--config", overlay, "--run.root", str(tmp_path), "--data.root", server.url,
            "--data.cache", str(tmp_path / "cache"), "--data.num_workers", "1", "--panels.count", "0", "--scores.lpips", "false",
            "--trainer.max_epochs", "1", "--trainer.num_sanity_val_steps", "0",
        )  # fmt: skip
    assert len(said.splitlines()) == 1
    assert "train-000000.tar: not got in 6 tries" in said and "for the sample " in said
