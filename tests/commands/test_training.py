import csv
import json

import numpy as np
import pytest
import torch
import yaml
from command_line import TOP, refused
from scenes import COUNTS, SIZE, TEST_KEYS, photograph, views, write_card

import dualpixel
from dualpixel.cli import main
from dualpixel.data.images import read_image, write_png
from dualpixel.data.reading import PreparedSplit
from dualpixel.evaluate.result import load_result
from dualpixel.metrics import functional
from dualpixel.weights.files import load_weights, save_weights, weights_hash

DPDNET = str(TOP / "recipes" / "dpdnet.yaml")


@pytest.fixture(scope="module")
def overlay(tmp_path_factory, small_card, small_shards):
    """A narrow network on the small scenes: seconds on a CPU."""
    path = tmp_path_factory.mktemp("overlay") / "small.yaml"
    content = {
        "model": {
            "init_args": {
                "net": {"init_args": {"width": 0.1, "residual": True}},
                "optimizer": {"init_args": {"lr": 1e-3}},
            }
        },
        "data": {
            "init_args": {"dataset": str(small_card), "root": str(small_shards), "batch_size": 4, "num_workers": 0}
        },
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "devices": 1, "log_every_n_steps": 1},
        "panels": {"every_n_validations": 1},
        "last": {"every_n_steps": 5},
    }
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, overlay):
    """The folder of a finished run."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        main(["fit", "--config", DPDNET, "--config", overlay, "--run.root", str(root), "--run.name", "small"])
    return root / "small"


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
    assert (folder / "logs" / "version_0" / "metrics.csv").is_file() and (
        folder / "logs" / "version_1" / "metrics.csv"
    ).is_file()


def test_init_from_starts_a_new_run_from_old_weights(trained, overlay, tmp_path):
    main(["fit", "--config", DPDNET, "--config", overlay, "--model.init_from", str(trained / "checkpoints" / "best.ckpt"),
          "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1", "--model.optimizer.init_args.lr", "0",
          "--run.root", str(tmp_path), "--run.name", "next"])  # fmt: skip
    before, after = (
        load_weights(folder / "checkpoints" / name)[0]
        for folder, name in ((trained, "best.ckpt"), (tmp_path / "next", "last.ckpt"))
    )
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_fit_without_the_data_says_how_to_get_them(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = refused(capsys, "fit", "--config", "recipes/dpdnet.yaml")
    assert "'dpdd' is not prepared" in message and "data prepare dpdd --source" in message
    assert not (tmp_path / "runs").exists()


def test_unknown_keys_get_near_matches(capsys, tmp_path):
    for content, said in (
        (
            {"model": {"init_args": {"net": {"init_args": {"widht": 0.5}}}}},
            "DPDNet has no argument 'widht'; did you mean 'width'",
        ),
        (
            {"model": {"init_args": {"optimizer": {"init_args": {"learning_rate": 1}}}}},
            "KerasAdam has no argument 'learning_rate'",
        ),
        ({"data": {"init_args": {"batchsize": 2}}}, "did you mean 'batch_size'"),
        ({"trainer": {"max_epoch": 2}}, "did you mean 'max_epochs'"),
        ({"modle": {}}, "did you mean 'model'"),
        ({"model": {"class_path": "dualpixel.recipes.DPDNetRecip"}}, "did you mean"),
    ):
        path = tmp_path / "wrong.yaml"
        path.write_text(yaml.safe_dump(content))
        assert said in refused(capsys, "fit", "--config", DPDNET, "--config", str(path))
    for option, said in (
        ("--model.init_args.nett", "DPDNetRecipe has no argument 'nett'; did you mean 'net'"),
        ("--model.net.widht", "DPDNet has no argument 'widht'; did you mean 'width'"),
        ("--data.datset", "did you mean 'dataset'"),
        ("--trainer.max_epoch", "did you mean 'max_epochs'"),
        ("--rnu.name", "--rnu.name"),
    ):
        assert said in refused(capsys, "fit", "--config", DPDNET, option, "3")


def test_wrong_weights_are_refused(capsys, overlay, trained, tmp_path, small_shards):
    small = ["--config", DPDNET, "--config", overlay, "--run.root", str(tmp_path)]
    assert "do not fit DPDNet" in refused(
        capsys, "test", *small, "--ckpt_path", str(trained), "--model.net.init_args.width", "0.2"
    )
    (tmp_path / "text.safetensors").write_text("no weights")
    assert "not a weights file" in refused(
        capsys, "test", *small, "--model.init_from", str(tmp_path / "text.safetensors")
    )
    assert "no such file" in refused(capsys, "test", *small, "--model.init_from", str(tmp_path / "none.ckpt"))
    assert "no such file" in refused(capsys, "test", *small, "--ckpt_path", str(tmp_path / "none.ckpt"))


def test_random_weights_are_not_scored(capsys, overlay):
    assert "test needs weights" in refused(capsys, "test", "--config", DPDNET, "--config", overlay)


def test_a_checkpoint_of_another_stream_is_not_resumed(capsys, overlay, trained):
    assert "effective batch 4, this run has 2" in refused(
        capsys, "fit", "--config", DPDNET, "--config", overlay, "--ckpt_path", str(trained), "--data.batch_size", "2",
        "--trainer.max_epochs", "3",
    )  # fmt: skip


def test_a_recipe_refuses_data_without_its_fields(capsys, overlay, small_source, tmp_path):
    from dualpixel.data.prepare import prepare
    from dualpixel.data.registry import get_card

    patterns = {"combined": "{split}_c/source/*.png", "sharp": "{split}_c/target/*.png"}
    card = write_card(
        tmp_path / "single.yaml",
        fields=list(patterns),
        reader={"name": "folders", "options": {"patterns": patterns, "roots": ["dd_dp_dataset_canon"]}},
    )
    prepare(get_card(card), small_source, tmp_path / "single", processes=1)
    data = ["--data.dataset", str(card), "--data.root", str(tmp_path / "single"), "--run.root", str(tmp_path)]
    message = refused(capsys, "fit", "--config", DPDNET, "--config", overlay, *data)
    assert "needs left, right, sharp" in message and "has no left, right" in message


def test_no_recipe_at_all(capsys):
    assert "no recipe is given" in refused(capsys, "fit")
    assert "no recipe is given" in refused(capsys, "fit", "--config", "overlays/quickstart")
    assert "given by --config dpdnet" in refused(capsys, "fit", "dpdnet")


def test_a_run_is_never_begun_over_another(capsys, overlay, trained):
    before = (trained / "config.yaml").read_bytes(), (trained / "checkpoints" / "last.ckpt").read_bytes()
    arguments = [
        "fit",
        "--config",
        DPDNET,
        "--config",
        overlay,
        "--run.root",
        str(trained.parent),
        "--run.name",
        trained.name,
    ]
    assert "holds the checkpoints of another run" in refused(capsys, *arguments)
    refused(capsys, *arguments, "--ckpt_path", str(trained), "--data.batch_size", "2", "--trainer.max_epochs", "3")
    assert before == ((trained / "config.yaml").read_bytes(), (trained / "checkpoints" / "last.ckpt").read_bytes())
    assert not list(trained.glob("config-resumed*"))


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


def test_shards_of_another_card_are_not_scored_under_its_name(capsys, overlay, trained, tmp_path):
    other = write_card(tmp_path / "other.yaml")
    test = ["test", "--config", DPDNET, "--config", overlay, "--ckpt_path", str(trained), "--run.root", str(tmp_path)]
    assert "holds data set dpdd_small, the card other says other" in refused(
        capsys, *test, "--data.dataset", str(other)
    )
    newer = write_card(tmp_path / "dpdd_small.yaml", version="2")
    assert "holds version 1, the card dpdd_small says 2" in refused(capsys, *test, "--data.dataset", str(newer))


def test_mistakes_on_the_command_line_get_short_answers(capsys, overlay, trained, tmp_path):
    fit = ["fit", "--config", DPDNET, "--config", overlay, "--run.root", str(tmp_path)]
    test = ["test", *fit[1:]]
    weights = tmp_path / "w.safetensors"
    state_dict, metadata = load_weights(trained / "checkpoints" / "last.ckpt")
    save_weights(weights, state_dict, metadata)
    torch.save(state_dict, tmp_path / "plain.ckpt")
    (tmp_path / "cut.ckpt").write_bytes((trained / "checkpoints" / "last.ckpt").read_bytes()[:50_000])
    for said, arguments in {
        "give it by --model.init_from": [*test, "--ckpt_path", str(weights)],
        "holds weights, not a checkpoint": [*test, "--ckpt_path", str(tmp_path / "plain.ckpt")],
        "truncated, damaged": [*test, "--ckpt_path", str(tmp_path / "cut.ckpt")],
        "data.batch_size 0: must be at least 1": [*fit, "--data.batch_size", "0"],
        "data.num_workers -1": [*fit, "--data.num_workers", "-1"],
        "lpips_weights nope": [*test, "--ckpt_path", str(trained), "--scores.lpips_weights", "nope"],
        "width=-1": [*fit, "--model.net.width", "-1"],
        "width": [*fit, "--model.net.width", "abc"],
        "no protocol 'dpdnet-8bit'": [*fit, "--scores.protocol", "dpdnet-8bit"],
        "did you mean 'monitor'": [*fit, "--best.moniter", "val/psnr"],
        "did you mean 'DPDNetRecipe'": [*fit, "--model", "DPDNetRecip"],
        "trainer.precision bf16-true": [*fit, "--trainer.precision", "bf16-true"],
    }.items():
        assert said in refused(capsys, *arguments), arguments
