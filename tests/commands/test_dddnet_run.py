"""DDDNet through the command line: trained with depth, killed and resumed, fine-tuned without depth, tested, and run on any size."""

import csv
import os
import signal

import numpy as np
import pytest
import torch
import yaml
from command_line import TOP, refused, run_module
from rgbd_scenes import write_rgbd

import dualpixel
from dualpixel.cli import main
from dualpixel.data.images import read_image
from dualpixel.data.reading import PreparedSplit
from dualpixel.evaluate.result import load_result
from dualpixel.nets import DDDNet
from dualpixel.recipes import DDDNetRecipe
from dualpixel.weights.files import load_weights

SHIFTS, LEVELS, LARGEST = list(range(-4, 4)), (-12, 11), 16.0
SIZE = (100, 132)
"""Of all scenes; neither is a multiple of 8."""
SCENES = {"train": 8, "val": 1, "test": 4}
STEPS_AN_EPOCH, KILLED_AT, SAVED_AT = 4, 7, 6
QUICK = {
    "model": {"init_args": {"net": {"init_args": {"width": 0.05}}, "reblur_after": 0}},
    "data": {"init_args": {"batch_size": 2, "crop_size": 64, "crops_per_scene": 1}},
    "trainer": {
        "max_epochs": 2, "limit_train_batches": STEPS_AN_EPOCH, "limit_val_batches": 1, "check_val_every_n_epoch": 2,
        "log_every_n_steps": 1,
    },
    "run": {"test_after_fit": False},
    "last": {"every_n_steps": 2},
    "panels": {"count": 0},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder for data and runs. One thread, so that this process and one of its own give the same bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path_factory.mktemp("dddnet")
    torch.set_num_threads(threads)


def made_set(folder, name, scenes, **camera):
    """Card and shards of scenes of so many a split, rendered with a camera."""
    for split, count in scenes.items():
        write_rgbd(folder / f"rgbd_{name}" / split, [f"{split}{number}" for number in range(count)], size=SIZE)
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(camera))
    main(["simulate", "--source", str(folder / f"rgbd_{name}"), "--out", str(folder / name), "--camera",
          str(folder / f"{name}.yaml"), "--processes", "1"])  # fmt: skip
    card = folder / name / "card.yaml"
    main(["data", "prepare", str(card), "--source", str(folder / name), "--out", str(folder / "shards" / name),
          "--processes", "1"])  # fmt: skip
    return card, folder / "shards" / name


@pytest.fixture(scope="module")
def prepared(folder):
    """Card and shards of a set whose blur has both signs and lies within what the network knows."""
    return made_set(folder, "pairs", SCENES, f_number=2.8, focus=1.7)


@pytest.fixture(scope="module")
def shards(prepared):
    return prepared[1]


@pytest.fixture(scope="module")
def place(folder, prepared):
    """The options that say what a command reads, and where it writes."""
    card, root = map(str, prepared)
    return ["--data.dataset", card, "--data.root", root, "--run.root", str(folder / "runs")]


@pytest.fixture(scope="module")
def settings(folder, place):
    """Recipe -> all that a command is told of it."""
    quick = folder / "quick.yaml"
    quick.write_text(yaml.safe_dump(QUICK))
    others = ("ablations/dddnet/signed", "overlays/quickstart", "overlays/quickstart_dddnet")
    files = {
        recipe: [*(TOP / "recipes" / f"{name}.yaml" for name in (recipe, *others)), quick]
        for recipe in ("dddnet_syn", "dddnet")
    }
    return {
        recipe: [word for one in names for word in ("--config", str(one))] + place for recipe, names in files.items()
    }


@pytest.fixture(scope="module")
def trained(folder, settings):
    """A run with depth, uninterrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        main(["fit", *settings["dddnet_syn"], "--run.name", "trained"])
    return folder / "runs" / "trained"


@pytest.fixture(scope="module")
def tuned(folder, settings, trained):
    """A run without depth on top of it, of two tiny steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        main(["fit", *settings["dddnet"], "--run.name", "tuned", "--model.init_from", str(last_of(trained)),
              "--trainer.max_steps", "2", "--model.optimizer.init_args.lr", "1e-6"])  # fmt: skip
    return folder / "runs" / "tuned"


def last_of(run):
    return run / "checkpoints" / "last.ckpt"


def column(run, name):
    """What was logged; of a resumed run, after it was."""
    with sorted(run.rglob("metrics.csv"))[-1].open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def terms_of(run):
    with next(run.rglob("metrics.csv")).open() as file:
        names = next(csv.reader(file))
    return {name.removeprefix("train/") for name in names if name.startswith("train/")} - {"loss", "epoch_loss"}


def first_scene(split):
    """The first scene of a split, as the recipe reads it."""
    prepared = PreparedSplit(split)
    batch = {}
    for name in ("left", "right", "combined", "sharp", "blur"):
        values = np.asarray(prepared.array(0, name)).astype(np.float32)
        batch[name] = torch.from_numpy(values / 65535 if values.ndim == 3 else values[..., None]).permute(2, 0, 1)[None]
    return prepared.index.samples[0].key, batch


def same(one, other):
    """Whether two trees of plain values and tensors hold the same bits."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_a_run_killed_in_mid_epoch_and_resumed_ends_bit_for_bit_like_an_uninterrupted_one(folder, settings, trained):
    kill = folder / "kill.yaml"
    callback = {"class_path": "killing.KillAt", "init_args": {"step": KILLED_AT}}
    kill.write_text(yaml.safe_dump({"trainer": {"callbacks": [callback]}}))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(TOP / "tests")}
    fit = ["fit", *settings["dddnet_syn"]]
    ended = run_module(*fit, "--config", str(kill), "--run.name", "killed", env=environment)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    killed = folder / "runs" / "killed"
    saved = torch.load(last_of(killed), weights_only=True)
    assert saved["global_step"] == SAVED_AT and SAVED_AT % STEPS_AN_EPOCH

    main([*fit, "--ckpt_path", str(killed)])
    whole, again = (torch.load(last_of(run), weights_only=True) for run in (trained, killed))
    assert whole["global_step"] == again["global_step"] == 2 * STEPS_AN_EPOCH
    assert not same(saved["state_dict"], whole["state_dict"])
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert same(whole[part], again[part]), part
    assert column(killed, "val/loss") == column(trained, "val/loss") != []


def test_with_depth_all_terms_are_trained_from_the_first_epoch_on(trained):
    assert terms_of(trained) == {"restoration", "depth", "coarse", "reblur"}
    assert len(column(trained, "train/reblur")) == 2 * STEPS_AN_EPOCH and min(column(trained, "train/reblur")) > 0
    assert column(trained, "val/blur_beyond/network") == [0]  # the set's blur lies within the levels


def test_fine_tuning_without_depth_begins_with_the_weights_of_the_run_before(trained, tuned):
    assert terms_of(tuned) == {"restoration", "reblur"}
    before, after = (load_weights(last_of(run))[0] for run in (trained, tuned))
    assert before.keys() == after.keys()
    counted = ("running_mean", "running_var", "num_batches_tracked")
    moved = max((after[name] - before[name]).abs().max() for name in before if not name.endswith(counted))
    assert 0 < moved < 1e-5  # two steps of 1e-6; the eight of the run before were of up to 2e-3


def test_the_test_scores_what_the_network_restores_and_the_depth_it_finds(folder, settings, shards, tuned):
    main(["test", *settings["dddnet"], "--ckpt_path", str(tuned)])
    result = load_result(next(tuned.rglob("result.json")))
    assert result.recipe == "dddnet" and result.complete and len(result.rows) == 4
    assert all(20 < row["psnr"] < 40 for row in result.rows)
    recipe = dualpixel.load("dddnet", weights=last_of(tuned)).eval()
    key, batch = first_scene(shards / "test")
    with torch.no_grad():
        error = (recipe(batch)["sharp"] - batch["sharp"]).square().mean()
    row = next(row for row in result.rows if row["key"] == key)
    assert row["psnr"] == pytest.approx(-10 * float(error.log10()), abs=1e-3)


def test_predictions_and_maps_of_blur_have_the_size_of_the_input(folder, settings, shards, tuned):
    out = folder / "predicted"
    main(["predict", *settings["dddnet"], "--ckpt_path", str(tuned), "--predictions.output", str(out)])
    keys = [sample.key for sample in PreparedSplit(shards / "test").index.samples]
    assert sorted(path.stem for path in out.glob("*.png")) == sorted(keys)
    for key in keys:
        assert read_image(out / f"{key}.png", 16).shape == (*SIZE, 3)
        blur = np.load(out / "blur" / f"{key}.npy")
        assert blur.shape == SIZE and blur.dtype == np.float32 and np.isfinite(blur).all()
        assert np.abs(blur).max() < 2 * LARGEST
    key, batch = first_scene(shards / "test")
    recipe = dualpixel.load("dddnet", weights=last_of(tuned)).eval()
    with torch.no_grad():
        prediction = recipe({name: batch[name] for name in ("left", "right", "combined")})
    assert recipe.net.options["shifts"] == SHIFTS
    assert LEVELS[0] <= prediction["coarse"].min() and prediction["coarse"].max() <= LEVELS[1]
    np.testing.assert_allclose(np.load(out / "blur" / f"{key}.npy"), prediction["blur"][0, 0], atol=1e-4)


@pytest.fixture(scope="module")
def wide(folder):
    """A scene taken with so wide an aperture that its blur lies beyond what the network knows, to either side."""
    return made_set(folder, "wide", {"val": 1}, f_number=0.4, focus=1.7, maximum_radius=60.0)


def test_blur_beyond_the_levels_and_beyond_the_renderer_is_logged(folder, settings, trained, wide):
    card, root = wide
    main(["validate", *settings["dddnet_syn"], "--ckpt_path", str(trained), "--data.dataset", str(card), "--data.root", str(root),
          "--model.reblur_scale", "40", "--run.name", "wide"])  # fmt: skip
    _, batch = first_scene(root / "val")
    blur = batch["blur"]
    assert blur.min() < LEVELS[0] and blur.max() > LARGEST
    outside = ((blur < LEVELS[0]) | (blur > LEVELS[1])).double().mean()
    recipe = dualpixel.load("dddnet_syn", weights=last_of(trained)).eval()
    with torch.no_grad():
        clamped = (40 * recipe(batch)["blur"]).abs() > LARGEST
    shares = {"network": outside, "renderer": clamped.double().mean()}
    for name, share in shares.items():
        assert 0.02 < share < 0.98
        assert column(folder / "runs" / "wide", f"val/blur_beyond/{name}") == [pytest.approx(float(share), abs=1e-3)]


def test_blur_beyond_the_renderer_is_clamped_and_never_wrapped(wide):
    _, batch = first_scene(wide[1] / "val")
    recipe = DDDNetRecipe(DDDNet(width=0.05), reblur_after=0, reblur_maximum=LARGEST)

    def reblurred(blur):
        prediction = {"sharp": batch["sharp"], "blur": blur, "coarse": blur}
        return float(recipe.loss_terms(batch, prediction)["reblur"])

    blur = batch["blur"]
    beyond = reblurred(blur)
    assert beyond == reblurred(blur.clamp(-LARGEST, LARGEST))
    assert beyond < reblurred(blur.clamp(1 - LARGEST, LARGEST - 1))
    assert beyond < 0.8 * reblurred((blur + LARGEST).remainder(2 * LARGEST) - LARGEST)
    for radius in (-60.0, 60.0):
        nearest = radius / abs(radius) * LARGEST
        assert reblurred(torch.full_like(blur, radius)) == reblurred(torch.full_like(blur, nearest))
        assert reblurred(torch.full_like(blur, radius)) != reblurred(torch.full_like(blur, -nearest))


@pytest.mark.parametrize("by", ["--ckpt_path", "--model.init_from"])
def test_weights_are_refused_where_options_differ_that_no_shape_tells(place, trained, capsys, by):
    given = ["--config", str(TOP / "recipes" / "dddnet_syn.yaml"), "--model.net.width", "0.05", *place, "--trainer.accelerator",
             "cpu", "--trainer.devices", "1", "--run.name", "refused", "--data.num_workers", "0", "--scores.lpips", "false", by,
             str(last_of(trained))]  # fmt: skip
    said = refused(capsys, "test", *given)
    assert "residual is false, theirs true; shifts is [0, 1, 2, 3], theirs [-4, -3, -2, -1, 0, 1, 2, 3]" in said
    assert "Give --model.net.residual true --model.net.shifts '[-4, -3, -2, -1, 0, 1, 2, 3]'" in said
    options = ["--model.net.residual", "true", "--model.net.shifts", str(SHIFTS), "--trainer.limit_test_batches", "1"]
    main(["test", *given, *options])  # as it says
    assert "dddnet_syn on pairs test" in capsys.readouterr().out


def test_radii_of_one_sign_are_not_written_of_a_network_that_knows_both(folder, shards, trained, settings, capsys):
    predict = ["predict", *settings["dddnet"], "--ckpt_path", str(trained), "--model.reblur_minimum", "0"]
    said = refused(capsys, *predict)
    assert "the network knows blur of both signs" in said and "--config runs/RUN/config.yaml" in said
