import csv
import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from command_line import TOP, refused
from scenes import COUNTS, SIZE, TEST_KEYS, photograph, views

import dualpixel
from dualpixel.cli import main
from dualpixel.data.images import read_image, write_png
from dualpixel.data.reading import PreparedSplit
from dualpixel.evaluate.result import load_result
from dualpixel.metrics import functional
from dualpixel.weights.files import load_weights, save_weights, weights_hash

DPDNET = str(TOP / "recipes" / "dpdnet.yaml")


def test_fit_leaves_everything_in_one_folder(trained):
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["model"]["init_args"]["net"]["init_args"]["width"] == 0.1
    assert (trained / "checkpoints" / "best.ckpt").is_file() and (trained / "checkpoints" / "last.ckpt").is_file()
    with (trained / "logs" / "version_0" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    logged = {name for row in rows for name, value in row.items() if value}
    assert {"train/loss", "train/epoch_loss", "val/psnr", "val/ssim", "val/mae", "val/loss", "val/input_psnr"} <= logged
    assert len(list((trained / "panels").glob("val-step00000050-*.png"))) == COUNTS["val"]


def test_training_learns(trained):
    with (trained / "logs" / "version_0" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("val/psnr")]
    assert float(rows[-1]["val/psnr"]) > float(rows[0]["val/input_psnr"])


def test_the_saved_configuration_runs_again_alone(trained, tmp_path, capsys):
    main(
        [
            "validate",
            "--config",
            str(trained / "config.yaml"),
            "--ckpt_path",
            str(trained),
            "--run.name",
            "again",
            "--run.root",
            str(tmp_path),
        ]
    )
    assert "gain +" in capsys.readouterr().out
    assert (tmp_path / "again" / "config-validate.yaml").is_file()


def test_result_holds_what_was_measured(trained, overlay, small_shards, capsys):
    main(["test", "--config", DPDNET, "--config", overlay, "--ckpt_path", str(trained), "--scores.lpips", "false"])
    said = capsys.readouterr().out
    assert "protocol dpdnet-16bit" in said and "indoor output" in said
    result = load_result(trained / "results" / "dpdd_small-test" / "dpdnet-16bit" / "result.json")
    split = PreparedSplit(small_shards / "test")
    assert result.fingerprint == split.index.fingerprint and result.complete
    assert [row["key"] for row in result.rows] == [sample.key for sample in split.index.samples]

    checkpoint = trained / "checkpoints" / "last.ckpt"
    assert result.weights_sha256 == weights_hash(load_weights(checkpoint)[0])
    recipe = dualpixel.load("dpdnet", weights=checkpoint)
    assert result.parameters == sum(p.numel() for p in recipe.net.parameters()) and result.macs > 0
    for position, row in enumerate(result.rows):
        batch = {
            name: torch.from_numpy(np.asarray(split.array(position, name)).astype(np.float32) / 65535).permute(2, 0, 1)[
                None
            ]
            for name in ("left", "right", "combined", "sharp")
        }
        with torch.no_grad():
            output = recipe(batch)["sharp"]
        assert row["psnr"] == pytest.approx(float(functional.psnr(output, batch["sharp"])), abs=1e-6)
        assert row["ssim"] == pytest.approx(float(functional.ssim(output, batch["sharp"])), abs=1e-6)
        assert row["input_mae"] == pytest.approx(float(functional.mae(batch["combined"], batch["sharp"])), abs=1e-9)
        assert row["lpips"] is None
    for group in ("overall", "indoor", "outdoor"):
        mine = [row["psnr"] for row in result.rows if group in ("overall", row["group"])]
        assert result.means[group]["psnr"] == pytest.approx(sum(mine) / len(mine), abs=1e-12)
    assert result.means["overall"]["lpips"] is None
    assert list(trained.glob("panels/test-dpdd_small-*.png"))


def test_lpips_is_measured_when_its_weights_are_there(trained, overlay, shared, tmp_path):
    weights = shared / "data" / "lpips" / "alexnet_lpips_v0.1.npz"
    main(["test", "--config", DPDNET, "--config", overlay, "--ckpt_path", str(trained), "--run.root", str(tmp_path), "--run.name", "l",
          "--scores.lpips_weights", str(weights), "--panels.count", "0"])  # fmt: skip
    result = load_result(next(tmp_path.rglob("result.json")))
    assert all(0 < row["lpips"] < 1 for row in result.rows)
    assert not (tmp_path / "l" / "panels").exists()


def test_predict_writes_16_bit_images_of_any_size(trained, overlay, tmp_path):
    scene = views(photograph(5, (101, 77)))
    for field in ("left", "right"):
        write_png(tmp_path / "in" / field / "odd.png", scene[field])
    main(["predict", "--config", DPDNET, "--config", overlay, "--ckpt_path", str(trained),
          "--data.predict_source", f"[{tmp_path / 'in'}]", "--predictions.output", str(tmp_path / "out")])  # fmt: skip
    image = read_image(tmp_path / "out" / "odd.png", 16)
    assert image.shape == (101, 77, 3) and len(np.unique(image & 255)) > 100


def test_a_16_bit_value_survives_from_file_to_file(small_card, small_shards, small_source, tmp_path, monkeypatch):
    """A network that corrects nothing gives the stored combined image back, bit for bit."""
    net = {"views": "dual", "width": 0.02, "dropout": 0.0, "residual": True}
    untrained = dualpixel.load("dpdnet", **net)
    save_weights(tmp_path / "identity.safetensors", untrained.net.state_dict(), untrained.weights_metadata())
    options = [f"--model.net.init_args.{name}={json.dumps(value).strip(chr(34))}" for name, value in net.items()]
    main(["predict", "--config", DPDNET, *options, "--model.init_from", str(tmp_path / "identity.safetensors"),
          "--data.dataset", str(small_card), "--data.root", str(small_shards), "--data.num_workers", "0", "--trainer.devices", "1",
          "--run.root", str(tmp_path), "--run.name", "identity"])  # fmt: skip
    for key in TEST_KEYS:
        original = read_image(small_source / f"dd_dp_dataset_canon/test_c/source/{key}.png", 16)
        assert np.array_equal(read_image(tmp_path / "identity" / "predictions" / f"{key}.png", 16), original)


def test_resuming_goes_on_in_the_same_folder(trained, overlay, tmp_path):
    import shutil

    folder = shutil.copytree(trained, tmp_path / "copy")
    main(["fit", "--config", DPDNET, "--config", overlay, "--ckpt_path", str(folder), "--trainer.max_epochs", "3"])
    before, after = (torch.load(one / "checkpoints" / "last.ckpt", weights_only=True) for one in (trained, folder))
    assert after["global_step"] == before["global_step"] // 2 * 3
    logs = [len(list(one.glob("logs/*/metrics.csv"))) for one in (trained, folder)]
    assert logs[1] == logs[0] + 1  # the numbers logged before the resume are still there


def test_a_rectangular_crop_is_read_from_both_places_and_a_resumed_run_knows_it(overlay, tmp_path, capsys):
    sizes = tmp_path / "sizes.yaml"
    sizes.write_text("data: {init_args: {crop_size: [48, 40]}}")
    fit = ["fit", "--config", DPDNET, "--config", overlay, "--run.root", str(tmp_path), "--run.name", "r", "--panels.count", "0",
           "--trainer.limit_val_batches", "0", "--trainer.limit_train_batches", "2"]  # fmt: skip
    main([*fit, "--config", str(sizes), "--trainer.max_epochs", "1"])
    stored = yaml.safe_load((tmp_path / "r" / "config.yaml").read_text())
    assert stored["data"]["init_args"]["crop_size"] == [48, 40]
    resumed = [*fit, "--ckpt_path", str(tmp_path / "r"), "--trainer.max_epochs", "2"]
    for other in ("48", "[40, 48]"):
        message = refused(capsys, *resumed, "--data.crop_size", other)
        assert f"was trained with crop size [48, 40], this run has {other}" in message
    main([*resumed, "--data.crop_size", "[48, 40]"])
    assert torch.load(tmp_path / "r" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4


def test_init_from_starts_a_new_run_from_old_weights(trained, overlay, tmp_path):
    main(["fit", "--config", DPDNET, "--config", overlay, "--model.init_from", str(trained / "checkpoints" / "best.ckpt"),
          "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--model.optimizer.init_args.lr", "0",
          "--run.root", str(tmp_path), "--run.name", "next"])  # fmt: skip
    before, after = (
        load_weights(folder / "checkpoints" / name)[0]
        for folder, name in ((trained, "best.ckpt"), (tmp_path / "next", "last.ckpt"))
    )
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_job_that_its_scheduler_starts_again_goes_on(overlay, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    import shutil

    folder = shutil.copytree(trained, tmp_path / "dpdnet-dpdd_small-4711")
    main(["fit", "--config", DPDNET, "--config", overlay, "--run.root", str(tmp_path), "--trainer.max_epochs", "3"])
    assert (folder / "config-resumed.yaml").is_file()
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 75


def test_a_limited_test_writes_no_result_and_a_trial_run_nothing(overlay, trained, tmp_path, capsys):
    options = ["--config", DPDNET, "--config", overlay, "--run.root", str(tmp_path)]
    main(
        [
            "test",
            *options,
            "--ckpt_path",
            str(trained),
            "--run.name",
            "part",
            "--trainer.limit_test_batches",
            "2",
            "--scores.lpips",
            "false",
        ]
    )
    assert "no result file is written" in capsys.readouterr().out
    main(["fit", *options, "--run.name", "trial", "--trainer.fast_dev_run", "true"])
    assert not list(tmp_path.rglob("result.json")) and not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.parametrize(("limit", "steps"), [("0.5", 12), ("0.1", 2), ("3", 3), ("1.0", 25)])
def test_limits_of_an_epoch_are_taken_once(overlay, tmp_path, limit, steps):
    main(["fit", "--config", DPDNET, "--config", overlay, "--run.root", str(tmp_path), "--run.name", "limited", "--panels.count", "0",
          "--trainer.max_epochs", "2", "--trainer.limit_train_batches", limit, "--trainer.limit_val_batches", "0"])  # fmt: skip
    assert torch.load(tmp_path / "limited" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2 * steps


def test_a_test_after_fit_scores_what_was_trained(small_card, small_shards, trained, tmp_path):
    """Weights to begin with are loaded once, not again before the test."""
    from lightning.pytorch import Trainer

    from dualpixel.data import DualPixelData
    from dualpixel.recipes import KerasAdam

    recipe = dualpixel.load("dpdnet", weights=trained / "checkpoints" / "last.ckpt")
    recipe.init_from, recipe.optimizer = (
        trained / "checkpoints" / "last.ckpt",
        lambda parameters: KerasAdam(parameters, lr=1e-3),
    )
    data = DualPixelData(str(small_card), root=small_shards, batch_size=4, num_workers=0)
    trainer = Trainer(max_steps=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
                      limit_val_batches=0, use_distributed_sampler=False, default_root_dir=tmp_path)  # fmt: skip
    trainer.fit(recipe, datamodule=data)
    after = {name: value.clone() for name, value in recipe.net.state_dict().items()}
    trainer.test(recipe, datamodule=data, verbose=False)
    assert all(torch.equal(after[name], value) for name, value in recipe.net.state_dict().items())


def test_windows_are_validated_but_never_scored_as_images(overlay, tmp_path, trained):
    options = [
        "--config",
        DPDNET,
        "--config",
        overlay,
        "--run.root",
        str(tmp_path),
        "--data.validation",
        "windows",
        "--panels.count",
        "0",
    ]
    main(["validate", *options, "--ckpt_path", str(trained), "--run.name", "w", "--data.evaluation_batch_size", "4"])
    main(
        [
            "test",
            *options,
            "--ckpt_path",
            str(trained),
            "--run.name",
            "w",
            "--data.test_split",
            "val",
            "--scores.lpips",
            "false",
        ]
    )
    result = load_result(next(tmp_path.rglob("result.json")))
    assert len(result.rows) == COUNTS["val"] and result.macs_size == list(SIZE)


def test_a_runs_folder_is_scored_by_its_best_checkpoint_and_named_by_the_steps_of_that(
    overlay, tmp_path, trained, capsys
):
    folder = shutil.copytree(trained, tmp_path / "small")
    best, last = (folder / "checkpoints" / name for name in ("best.ckpt", "last.ckpt"))
    content = torch.load(best, weights_only=True)
    content["global_step"] = 7
    torch.save(content, best)
    options = ["--config", DPDNET, "--config", overlay, "--run.root", str(tmp_path), "--panels.count", "1"]
    main(["validate", *options, "--ckpt_path", str(folder), "--run.name", "scored"])
    assert [path.name.partition("-val")[0][:16] for path in (tmp_path / "scored" / "panels").iterdir()] == [
        "val-step00000007"
    ]
    said = capsys.readouterr().out
    assert "(step 7)" in said and "epoch 0 validated" not in said
    best.unlink()
    main(["validate", *options, "--ckpt_path", str(folder), "--run.name", "last"])
    assert f"(step {torch.load(last, weights_only=True)['global_step']})" in capsys.readouterr().out
