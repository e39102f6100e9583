"""Commands on data sets whose shards lie on a server."""

import json

import pytest
import torch
from command_line import TOP
from servers import FolderServer

from dualpixel.cli import main
from dualpixel.data.reading import PreparedSplit
from dualpixel.weights.files import load_weights

DPDNET = str(TOP / "recipes" / "dpdnet.yaml")


@pytest.fixture
def server(small_shards, tmp_path, monkeypatch):
    monkeypatch.setenv("DUALPIXEL_CACHE", str(tmp_path / "cache"))
    with FolderServer(small_shards.parent) as running:
        yield running


def test_verify_hashes_what_the_server_gives(server, small_card, small_shards, capsys):
    root = f"{server.url}/{small_shards.name}"
    main(["data", "verify", str(small_card), "--root", root])
    assert "train, val, test as written" in capsys.readouterr().out
    server.faults["test-000000.tar"] = [("status", 403)]
    with pytest.raises(SystemExit):
        main(["data", "verify", str(small_card), "--root", root])
    assert "1 faults" in (said := capsys.readouterr().err) and "test-000000.tar: refused by the server" in said


def test_show_and_preview_read_from_the_address_in_the_environment(
    server, small_card, small_shards, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("DUALPIXEL_SHARDS", server.url)
    main(["data", "show", str(small_card)])
    known = PreparedSplit(small_shards / "test").index.fingerprint
    assert f"{server.url}/{small_shards.name}/test: " in (said := capsys.readouterr().out) and known in said
    main(["data", "preview", str(small_card), "--out", str(tmp_path / "sheet.png")])
    assert (tmp_path / "sheet.png").stat().st_size > 10_000
    with pytest.raises(SystemExit):
        main(["data", "prepare", str(small_card), "--source", str(tmp_path)])
    assert "only read; name a folder by --out" in capsys.readouterr().err


def test_fit_and_test_give_what_they_give_with_local_shards(server, small_shards, overlay, tmp_path):
    weights, scores = [], []
    for name, root in (("here", str(small_shards)), ("there", f"{server.url}/{small_shards.name}")):
        main(["fit", "--config", DPDNET, "--config", overlay, "--run.root", str(tmp_path), "--run.name", name, "--data.root", root,
              "--data.num_workers", "1", "--data.shuffle_shards", "1", "--panels.count", "0", "--scores.lpips", "false",
              "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "3", "--run.test_after_fit", "true"])  # fmt: skip
        weights.append(load_weights(tmp_path / name / "checkpoints" / "last.ckpt")[0])
        (path,) = (tmp_path / name).rglob("result.json")
        scores.append(json.loads(path.read_text()))
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert len(scores[0]["rows"]) == 5
    assert all(scores[0][name] == scores[1][name] for name in ("rows", "means", "fingerprint"))
    assert len(server.names()) == 3  # one shard a split
