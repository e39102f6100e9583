"""Recipes that predict views: trained, scored, written, and their views tested by a recipe for dual-pixel photographs."""

import csv
import json

import numpy as np
import pytest
import torch
import yaml
from command_line import TOP, refused
from predicting_views import NAME, write_recipe, write_weights
from scenes import SIZE, TEST_KEYS, photograph, views, write_card

import dualpixel
from dualpixel.cli import main
from dualpixel.data.images import read_image, write_png
from dualpixel.data.prepare import prepare
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.registry import get_card
from dualpixel.evaluate.result import load_result
from dualpixel.metrics import functional
from dualpixel.nets import MDP
from dualpixel.weights.files import load_weights, save_weights, weights_hash

DPDNET = str(TOP / "recipes" / "dpdnet.yaml")
FROZEN = ["--model.freeze_sharp", "true"]
PROTOCOL = "mdp-views-16bit"


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A working folder in which the recipe of this file is found by its name."""
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def views_only(small_source, tmp_path_factory):
    """A card and shards of scenes without a sharp image."""
    folder = tmp_path_factory.mktemp("views_only")
    fields = ["left", "right", "combined"]
    whole = yaml.safe_load(write_card(folder / "whole.yaml").read_text())
    reader = whole["reader"]
    reader["options"]["patterns"] = {name: reader["options"]["patterns"][name] for name in fields}
    card = write_card(folder / "views_small.yaml", fields=fields, reader=reader, preparation={})
    return card, prepare(get_card(card), small_source, folder / "shards", processes=1)


def on(card, shards, name="v"):
    return ["--data.dataset", str(card), "--data.root", str(shards), "--data.num_workers", "0", "--trainer.accelerator", "cpu",
            "--trainer.devices", "1", "--run.root", "runs", "--run.name", name, "--data.crops", "random", "--data.crop_size", "64",
            "--data.crops_per_scene", "40", "--data.batch_size", "4", "--scores.lpips", "false"]  # fmt: skip


def logged(run):
    with next(run.glob("logs/*/metrics.csv")).open() as file:
        return {
            name for row in csv.DictReader(file) for name, value in row.items() if value and name.startswith("val/")
        }


def floats(split, position, *names):
    arrays = {name: np.asarray(split.array(position, name)).astype(np.float32) / 65535 for name in names}
    return {name: torch.from_numpy(array).permute(2, 0, 1)[None] for name, array in arrays.items()}


def test_views_are_trained_and_scored_where_there_is_no_sharp_image(work, views_only, capsys):
    options = ["--config", NAME, *FROZEN, *on(*views_only)]
    main(["fit", *options, "--trainer.max_epochs", "2", "--best.monitor", "val/views_psnr"])
    said = capsys.readouterr().out
    assert "best validation PSNR of the views" in said and "both views = input" in said and "dB: gain +" in said
    run = work / "runs" / "v"
    measured = {
        f"{prefix}_{name}" for prefix in ("left", "right", "views", "input_views") for name in ("psnr", "ssim", "mae")
    }
    assert logged(run) == {f"val/{name}" for name in (*measured, "loss")}
    assert list(run.glob("panels/val-step*.png"))

    main(["test", *options, "--ckpt_path", str(run / "checkpoints" / "best.ckpt")])
    assert "overall views = input" in capsys.readouterr().out
    result = load_result(next(run.rglob("result.json")))
    assert result.complete and set(result.means["overall"]) == measured
    assert list(run.glob("panels/test-*.png")) and result.macs == 5 * 5 * 3 * 9 * SIZE[0] * SIZE[1]

    recipe = dualpixel.load(NAME, weights=run / "checkpoints" / "best.ckpt")
    split = PreparedSplit(views_only[1] / "test")
    for position, row in enumerate(result.rows):
        batch = floats(split, position, "left", "right", "combined")
        with torch.no_grad():
            output = recipe(batch)
        scores = [float(functional.psnr(output[view], batch[view])) for view in ("left", "right")]
        assert [row["left_psnr"], row["right_psnr"]] == pytest.approx(scores, abs=1e-6)
        assert row["views_psnr"] == pytest.approx(sum(scores) / 2, abs=1e-6)
        before = [float(functional.psnr(batch["combined"], batch[view])) for view in ("left", "right")]
        assert row["input_views_psnr"] == pytest.approx(sum(before) / 2, abs=1e-6)
    assert result.means["overall"]["views_psnr"] > result.means["overall"]["input_views_psnr"]


def test_a_sharp_image_is_scored_beside_the_views_where_the_recipe_is_trained_for_it(
    work, small_card, small_shards, capsys
):
    weights = write_weights(work / "w.safetensors")
    options = [
        "--config",
        NAME,
        *on(small_card, small_shards),
        "--model.init_from",
        str(weights),
        "--panels.count",
        "0",
    ]
    main(["test", *options])
    said = capsys.readouterr().out
    assert "overall output" in said and "indoor views" in said
    both = load_result(next(work.rglob("result.json")))
    plain = ["psnr", "ssim", "mae", "lpips"]
    assert list(both.rows[0])[:10] == ["key", "group", *plain, *(f"input_{name}" for name in plain)]
    recipe, split = dualpixel.load(NAME, weights=weights), PreparedSplit(small_shards / "test")
    for position, row in enumerate(both.rows):
        batch = floats(split, position, "left", "right", "combined", "sharp")
        with torch.no_grad():
            output = recipe(batch)
        found = [row[prefix + "psnr"] for prefix in ("", "left_", "right_")]
        expected = [float(functional.psnr(output[name], batch[name])) for name in ("sharp", "left", "right")]
        assert found == pytest.approx(expected, abs=1e-6)

    main(["validate", *options])
    assert "best validation PSNR " in capsys.readouterr().out
    main(["test", *options, *FROZEN])  # predicted still, but by weights that nothing was asked of
    frozen = load_result(next(work.rglob("result.json")))
    assert "psnr" not in frozen.rows[0] and frozen.rows[0]["left_psnr"] == both.rows[0]["left_psnr"]
    message = refused(capsys, "test", *options, *FROZEN, "--sharp_regions.enabled", "true")
    assert f"{NAME} is not trained to predict the sharp image" in message
    main(["validate", *options, *FROZEN])
    assert "best validation PSNR of the views" in capsys.readouterr().out


def test_a_checkpoint_is_not_chosen_by_a_score_that_is_never_there(work, views_only, capsys):
    options = ["--config", NAME, *FROZEN, *on(*views_only)]
    message = refused(capsys, "fit", *options)
    assert "val/psnr cannot decide" in message and "val/views_psnr" in message


def test_written_views_are_taken_by_a_recipe_for_dual_pixel_photographs(work, trained, overlay, capsys):
    scenes = {"deep": views(photograph(3, (101, 77))), "shallow": views(photograph(4, (64, 80)))}
    scenes["shallow"] = {name: (image >> 8).astype(np.uint8) for name, image in scenes["shallow"].items()}
    for name, scene in scenes.items():
        write_png(work / "in" / f"{name}.png", scene["combined"])
    weights = write_weights(work / "w.safetensors")
    base = ["predict", "--config", NAME, "--model.init_from", str(weights), "--data.dataset", "quickstart", "--data.num_workers", "0",
            "--trainer.accelerator", "cpu", "--trainer.devices", "1", "--run.root", "runs"]  # fmt: skip
    source = ["--data.predict_source", f"[{work / 'in'}]"]
    main([*base, *source, "--run.name", "views", "--write", "views"])
    folder = work / "runs" / "views" / "predictions"
    assert f"6 images written to {folder.relative_to(work)}" in capsys.readouterr().out
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png")) == [
        f"{field}/{name}.png" for field in ("combined", "left", "right") for name in ("deep", "shallow")
    ]
    deep, shallow = (read_image(folder / "combined" / f"{name}.png", 16) for name in scenes)
    assert np.array_equal(deep, scenes["deep"]["combined"])  # bit for bit
    assert np.array_equal(shallow, scenes["shallow"]["combined"].astype(np.uint16) * 257)
    for field, sign in (("left", 1), ("right", -1)):
        expected = np.round(np.clip(scenes["deep"]["combined"] / 65535 + sign * 0.02, 0, 1) * 65535)
        assert np.abs(read_image(folder / field / "deep.png", 16) - expected).max() <= 1

    dpdnet = ["predict", "--config", DPDNET, "--config", overlay, "--ckpt_path", str(trained)]
    main([*dpdnet, "--data.predict_source", f"[{folder}]", "--predictions.output", str(work / "sharp")])
    assert sorted(path.name for path in (work / "sharp").iterdir()) == ["deep.png", "shallow.png"]
    assert read_image(work / "sharp" / "deep.png", 16).shape == (101, 77, 3)

    for option in (["--write=all"], ["--predictions.write", "all"]):
        main([*base, *source, "--run.name", "all", *option])
    everything = work / "runs" / "all" / "predictions"
    assert sorted(path.name for path in everything.iterdir()) == ["combined", "left", "right", "sharp"]
    main([*base, *source, "--run.name", "sharp"])
    sharp = work / "runs" / "sharp" / "predictions" / "deep.png"
    assert sharp.read_bytes() == (everything / "sharp" / "deep.png").read_bytes()
    main([*dpdnet, "--data.predict_source", f"[{everything}]", "--predictions.output", str(work / "again")])
    assert (work / "again" / "deep.png").read_bytes() == (work / "sharp" / "deep.png").read_bytes()


def test_nothing_is_written_that_a_recipe_is_not_trained_for(work, trained, overlay, capsys):
    dpdnet = ["predict", "--config", DPDNET, "--config", overlay, "--ckpt_path", str(trained), "--run.root", "runs"]
    message = refused(capsys, *dpdnet, "--write", "views")
    assert "--write views: dpdnet is trained to predict sharp, not left and right; give --write sharp" in message
    weights = write_weights(work / "w.safetensors")
    frozen = ["predict", "--config", NAME, *FROZEN, "--model.init_from", str(weights), "--run.root", "runs",
              "--data.dataset", "quickstart", "--data.predict_source", "[nothing]"]  # fmt: skip
    message = refused(capsys, *frozen)
    assert "trained to predict left and right, not sharp; give --write views" in message
    assert "--predictions.write" in refused(capsys, *frozen, "--write", "view")
    assert not [path for path in (work / "runs").rglob("*") if path.is_file()]


@pytest.fixture
def chained(work, trained, overlay):
    """A test of DPDNet on the views of another network, without the weights of the latter."""
    return ["test", "--config", DPDNET, "--config", overlay, "--ckpt_path", str(trained), "--run.root", "runs", "--run.name", "c",
            "--scores.lpips", "false", "--panels.count", "0"]  # fmt: skip


@pytest.mark.parametrize("kind", ["safetensors", "ckpt"])
def test_a_test_on_predicted_views_sees_them_in_16_bits(chained, work, trained, small_shards, capsys, kind):
    weights = write_weights(work / "w.safetensors")
    if kind == "ckpt":
        state, metadata = load_weights(weights)
        weights = work / "w.ckpt"
        torch.save(
            {"state_dict": {f"net.{name}": one for name, one in state.items()}, "dualpixel_metadata": metadata}, weights
        )
    main([*chained, "--scores.protocol", PROTOCOL, "--scores.views_from", str(weights)])
    assert f"protocol {PROTOCOL}" in capsys.readouterr().out
    path = work / "runs" / "c" / "results" / "dpdd_small-test" / PROTOCOL / "result.json"
    result = load_result(path)
    digest = weights_hash(load_weights(weights)[0])
    assert result.views_from == {"recipe": NAME, "weights_sha256": digest, "source": str(weights)}
    assert json.loads(path.read_text())["schema"] == 1 and result.recipe == "dpdnet" and result.complete

    main([*chained, "--scores.protocol", "dpdnet-16bit"])
    real = load_result(path.parents[1] / "dpdnet-16bit" / "result.json")
    assert real.views_from is None and real.macs == result.macs  # of DPDNet alone

    recipe = dualpixel.load("dpdnet", weights=trained / "checkpoints" / "last.ckpt")
    split = PreparedSplit(small_shards / "test")
    for position, row in enumerate(result.rows):
        batch = floats(split, position, "left", "right", "combined", "sharp")
        for view, sign in (("left", 1), ("right", -1)):
            made = batch["combined"] + sign * torch.tensor(0.02)
            batch[view] = torch.floor(made.clamp(0, 1) * 65535) / 65535
        with torch.no_grad():
            output = recipe(batch)["sharp"]
        assert row["psnr"] == pytest.approx(float(functional.psnr(output, batch["sharp"])), abs=1e-6)
        assert abs(row["psnr"] - real.rows[position]["psnr"]) > 1e-3
        assert row["input_psnr"] == real.rows[position]["input_psnr"]
    assert [row["key"] for row in result.rows] == list(TEST_KEYS)


def test_protocols_and_weights_for_predicted_views_go_together(chained, work, trained, capsys):
    weights = str(write_weights(work / "w.safetensors"))
    message = refused(capsys, *chained, "--scores.protocol", PROTOCOL)
    assert (
        f"{PROTOCOL} needs the weights of the network that predicts the views" in message
        and "--scores.views_from" in message
    )
    message = refused(capsys, *chained, "--scores.views_from", weights)
    assert f"dpdnet-16bit takes the views of the data; choose --protocol {PROTOCOL}" in message
    both = [*chained, "--scores.protocol", PROTOCOL, "--scores.views_from"]
    assert "no such file" in refused(capsys, *both, "none.safetensors")
    message = refused(capsys, *both, str(trained / "checkpoints" / "last.ckpt"))
    assert "recipe dpdnet predicts sharp from left, right; a network is needed that predicts left and right" in message
    save_weights(work / "bare.safetensors", *[load_weights(weights)[0], {}])
    assert "does not say which recipe it is for" in refused(capsys, *both, str(work / "bare.safetensors"))
    assert not [path for path in (work / "runs").rglob("*") if path.is_file()]


def test_predicted_views_are_for_recipes_that_take_views_and_data_that_have_the_input(
    work, trained, overlay, small_card, small_shards, small_source, capsys
):
    weights = str(write_weights(work / "w.safetensors"))
    options = ["--scores.protocol", PROTOCOL, "--scores.views_from", weights]
    message = refused(
        capsys, "test", "--config", NAME, *on(small_card, small_shards), "--model.init_from", weights, *options
    )
    assert f"replaces the left and the right view, {NAME} takes combined" in message
    fields = ["left", "right", "sharp"]
    reader = yaml.safe_load(small_card.read_text())["reader"]
    reader["options"]["patterns"] = {name: reader["options"]["patterns"][name] for name in fields}
    reader["options"] = {name: reader["options"][name] for name in ("roots", "patterns")}
    card = write_card(work / "no_input.yaml", fields=fields, reader=reader)
    shards = prepare(get_card(card), small_source, work / "shards", processes=1)
    dpdnet = ["test", "--config", DPDNET, "--config", overlay, "--ckpt_path", str(trained), *on(card, shards)]
    assert "no_input test has none (it has left, right, sharp)" in refused(capsys, *dpdnet, *options)


def test_mdp_predicts_the_views_of_a_test_but_not_without_its_decoders_of_views(chained, work, capsys):
    for outputs in ("all", "views", "sharp"):
        net = MDP(width=0.02, residual=True, outputs=outputs)
        options = {"recipe": "mdp", "options": json.dumps(net.options)}
        save_weights(work / f"{outputs}.safetensors", net.state_dict(), options)
    with_views = [*chained, "--scores.protocol", PROTOCOL, "--scores.views_from"]
    for outputs in ("all", "views"):
        main([*with_views, str(work / f"{outputs}.safetensors")])
        result = load_result(next(work.rglob("result.json")))
        assert result.views_from["source"].endswith(f"{outputs}.safetensors") and result.complete
    message = refused(capsys, *with_views, str(work / "sharp.safetensors"))
    assert "recipe mdp predicts sharp from combined; a network is needed" in message
