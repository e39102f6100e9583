"""The first command of the README, and the full-size recipe, on the data set that is made on first use."""

import csv

import pytest
from command_line import TOP

from dualpixel.cli import main
from dualpixel.evaluate.result import load_result

DPDNET = str(TOP / "recipes" / "dpdnet.yaml")
QUICKSTART = str(TOP / "recipes" / "overlays" / "quickstart.yaml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the quickstart set is made once."""
    return tmp_path_factory.mktemp("quickstart")


def column(folder, name):
    with next(folder.rglob("metrics.csv")).open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def test_fit_makes_the_data_set_trains_tests_and_shows_what_came_out(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    main(["fit", "--config", DPDNET, "--config", QUICKSTART, "--run.name", "short", "--trainer.limit_train_batches", "40",
          "--trainer.max_epochs", "1"])  # fmt: skip
    said = capsys.readouterr().out
    assert "best validation PSNR" in said and "its panel: " in said and "gain +" in said
    assert column(folder / "runs" / "short", "val/psnr")[-1] > column(folder / "runs" / "short", "val/input_psnr")[-1]
    result = load_result(folder / "runs/short/results/quickstart-test/dpdnet-16bit/result.json")
    assert len(result.rows) == 4 and result.complete
    assert (folder / "shards" / "quickstart" / "train" / "index.json").is_file()


@pytest.mark.slow
def test_quickstart_gains_half_a_decibel(folder, monkeypatch):
    monkeypatch.chdir(folder)
    main(["fit", "--config", DPDNET, "--config", QUICKSTART, "--run.name", "whole"])
    gain = max(column(folder / "runs" / "whole", "val/psnr")) - column(folder / "runs" / "whole", "val/input_psnr")[0]
    print(f"gain {gain:.2f} dB")
    assert gain >= 0.5


@pytest.mark.slow
def test_the_full_size_recipe_takes_twenty_steps_with_falling_loss(folder, monkeypatch):
    monkeypatch.chdir(folder)
    main(["fit", "--config", DPDNET, "--run.name", "full", "--data.dataset", "quickstart", "--data.crops", "random",
          "--data.crop_size", "128", "--data.batch_size", "5", "--data.num_workers", "0", "--trainer.accelerator", "cpu",
          "--trainer.devices", "1", "--trainer.max_steps", "20", "--trainer.log_every_n_steps", "1",
          "--trainer.limit_val_batches", "0"])  # fmt: skip
    losses = column(folder / "runs" / "full", "train/loss")
    print("losses", [round(loss, 4) for loss in losses])
    assert len(losses) == 20
    assert sum(losses[-5:]) < sum(losses[:5])
