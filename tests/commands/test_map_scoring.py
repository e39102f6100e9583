"""Predicted blur scored by `test`: on synthetic scenes with blur, on photographs with disparity, and where there is neither."""

import json

import cv2
import numpy as np
import pytest
import torch
import yaml
from command_line import TOP, refused, run_module
from scenes import SIZE, TEST_KEYS, photograph, views
from scipy.stats import rankdata
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

import dualpixel
from dualpixel.cli import main
from dualpixel.data.images import write_png
from dualpixel.data.maps import write_map
from dualpixel.data.prepare import prepare
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.registry import get_card
from dualpixel.data.resizing import resize_bicubic
from dualpixel.evaluate.result import load_result
from dualpixel.nets import DDDNet, DPDNet
from dualpixel.paths import find
from dualpixel.weights.files import save_weights

GROUPS = {"near": ["a", "b"], "far": ["c"]}
WIDTH = 0.05
AFFINE = ("ai1", "ai2", "one_minus_abs_rho", "one_minus_abs_rho_average_ranks", "geometric_mean")
STANDARD = ("abs_rel", "sq_rel", "rmse", "rmse_log", "delta1", "delta2", "delta3")
IMAGES = ("psnr", "ssim", "rmse_relative", "mae", "lpips")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Recipe -> a file with weights of a narrow network; those of DDDNet predict blur of some pixels."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    net = DDDNet(width=WIDTH)
    last = [layer for layer in net.deblur.depth.modules() if isinstance(layer, torch.nn.Conv2d)][-1]
    last.weight.data *= 20
    last.bias.data += 5
    recipes = {"dddnet_syn": dualpixel.load("dddnet_syn", width=WIDTH), "dpdnet": dualpixel.load("dpdnet", width=WIDTH)}
    recipes["dddnet_syn"].net.load_state_dict(net.state_dict())
    assert isinstance(recipes["dpdnet"].net, DPDNet)
    for name, recipe in recipes.items():
        save_weights(folder / f"{name}.safetensors", recipe.net.state_dict(), recipe.weights_metadata())
    return {**{name: folder / f"{name}.safetensors" for name in recipes}, "dddnet": folder / "dddnet_syn.safetensors"}


@pytest.fixture
def arguments(weights, tmp_path, monkeypatch):
    """Return a function that makes what stands behind ``test``."""
    monkeypatch.chdir(tmp_path)

    def make(recipe, card, shards, *others):
        return ["--config", str(TOP / "recipes" / f"{recipe}.yaml"), f"--model.net.init_args.width={WIDTH}",
                "--model.init_from", str(weights[recipe]), "--data.dataset", str(card), "--data.root", str(shards),
                "--data.num_workers", "0", "--trainer.accelerator", "cpu", "--trainer.devices", "1", "--run.root",
                str(tmp_path / "runs"), "--run.name", "t", "--scores.lpips", "false", *others]  # fmt: skip

    return make


def result_of(tmp_path, card, protocol):
    return load_result(tmp_path / "runs" / "t" / "results" / f"{card}-test" / protocol / "result.json")


def write_set(folder, name, base, fields, scenes, **changes):
    """Write the card of a set that `base` is like, with one folder a field, and prepare it."""
    patterns = {field: f"{{split}}/{field}/*" for field in fields}
    card = yaml.safe_load(find("registry", base).read_text())
    card |= {
        "name": name,
        "fields": list(fields),
        "size": None,
        "splits": {"test": scenes},
        "preparation": {},
        **changes,
    }
    card["reader"] = {"name": "folders", "options": {"patterns": patterns, "key": "left"}}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(card))
    return folder / f"{name}.yaml", prepare(
        get_card(folder / f"{name}.yaml"), folder, folder / f"shards-{name}", processes=1
    )


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    """Card and shards of three scenes of 8 bits with blur, unknown at some pixels of the last."""
    folder = tmp_path_factory.mktemp("synthetic")
    random = np.random.default_rng(0)
    for number, key in enumerate("abc"):
        for name, image in views(photograph(number, (72, 104))).items():
            write_png(folder / "test" / name / f"{key}.png", (image >> 8).astype(np.uint8))
        blur = random.uniform(1, 9, (72, 104)).astype(np.float32)
        if key == "c":
            blur[10:20] = np.nan
        write_map(folder / "test" / "blur" / f"{key}.npy", blur)
    fields = ("left", "right", "sharp", "blur")
    return write_set(folder, "synthetic", "ddd_syn", fields, {"scenes": 3, "groups": GROUPS})


def usual_errors(estimate, truth):
    """The seven numbers by their definitions, all known pixels."""
    known = np.isfinite(truth)
    p, g = np.maximum(estimate[known].astype(np.float64), 1e-3), truth[known].astype(np.float64)
    ratio = np.maximum(p / g, g / p)
    return [np.mean(np.abs(p - g) / g), np.mean((p - g) ** 2 / g), np.sqrt(np.mean((p - g) ** 2)),
            np.sqrt(np.mean(np.log(p / g) ** 2)), *(np.mean(ratio < 1.25**power) for power in (1, 2, 3))]  # fmt: skip


def predict(recipe, weights, images):
    """Predict from 8-bit arrays; return arrays."""
    batch = {name: torch.tensor(image).permute(2, 0, 1)[None].float() / 255 for name, image in images.items()}
    with torch.inference_mode():
        found = dualpixel.load(recipe, weights=weights[recipe])(batch)
    return {
        "sharp": found["sharp"][0].permute(1, 2, 0).numpy(),
        **{n: found[n][0, 0].numpy() for n in ("blur", "coarse")},
    }


def test_the_final_and_the_coarse_map_are_scored_beside_the_image(synthetic, weights, arguments, tmp_path, capsys):
    main(["test", *arguments("dddnet_syn", *synthetic)])
    said = capsys.readouterr().out
    assert "dddnet_syn on synthetic test, protocol ddd-syn: predicted blur" in said
    assert {"overall output", "overall blur", "overall coarse", "near coarse"} <= {
        " ".join(line.replace("│", " ").split()[:2]) for line in said.splitlines()
    }
    assert "ABS_REL" in said and "RMSE %" in said
    assert list((tmp_path / "runs" / "t" / "panels").glob("test-*.png"))

    result = result_of(tmp_path, "synthetic", "ddd-syn")
    coarse = [f"coarse_{name}" for name in STANDARD]
    assert list(result.rows[0]) == ["key", "group", *IMAGES, *STANDARD, *coarse] and result.complete
    assert list(result.means) == ["overall", *GROUPS] and set(result.means["far"]) == {*IMAGES, *STANDARD, *coarse}
    split = PreparedSplit(synthetic[1] / "test")
    for position, row in enumerate(result.rows):
        images = {name: np.asarray(split.array(position, name)) for name in ("left", "right", "sharp")}
        truth, found = np.asarray(split.array(position, "blur")), predict("dddnet_syn", weights, images)
        assert [row[name] for name in STANDARD] == pytest.approx(usual_errors(found["blur"], truth), rel=1e-4)
        assert [row[name] for name in coarse] == pytest.approx(usual_errors(found["coarse"], truth), rel=1e-4)
        assert abs(row["abs_rel"] - row["coarse_abs_rel"]) > 0.01 and 0 < row["delta1"] < 1
        psnr = peak_signal_noise_ratio(images["sharp"] / 255, found["sharp"].astype(np.float64), data_range=1)
        assert row["psnr"] == pytest.approx(psnr, abs=1e-4) and row["lpips"] is None
        assert row["rmse_relative"] == pytest.approx(100 * 10 ** (-psnr / 20), rel=1e-5)
    for name in (*STANDARD, *coarse):
        values = [row[name] for row in result.rows]
        assert result.means["overall"][name] == pytest.approx(np.mean(values), rel=1e-12)
        assert result.means["near"][name] == pytest.approx(np.mean(values[:2]), rel=1e-12)
        assert result.means["far"][name] == values[2]


def test_another_protocol_scores_the_same_image_without_the_maps(synthetic, arguments, tmp_path):
    for protocol in ("ddd-syn", "whole-8bit"):
        main(["test", *arguments("dddnet_syn", *synthetic, "--scores.protocol", protocol, "--panels.count", "0")])
    both = [result_of(tmp_path, "synthetic", protocol) for protocol in ("ddd-syn", "whole-8bit")]
    assert list(both[1].rows[0]) == ["key", "group", "psnr", "ssim", "rmse_relative", "mae", "lpips"]
    for mine, other in zip(*(one.rows for one in both), strict=True):
        assert [mine[name] for name in ("psnr", "ssim", "mae")] == [other[name] for name in ("psnr", "ssim", "mae")]


def test_a_recipe_without_blur_is_scored_for_its_image_alone(synthetic, arguments, tmp_path, capsys):
    main(["test", *arguments("dpdnet", *synthetic)])
    assert "predicted blur" not in capsys.readouterr().out
    result = result_of(tmp_path, "synthetic", "ddd-syn")
    assert result.recipe == "dpdnet" and list(result.rows[0]) == ["key", "group", *IMAGES]


def test_blur_that_is_known_nowhere_is_said_in_a_line(synthetic, arguments, tmp_path, capsys):
    card, _ = synthetic
    folder = tmp_path / "unknown"
    (folder / "test").mkdir(parents=True)
    for name in ("left", "right", "sharp"):
        (folder / "test" / name).symlink_to(card.parent / "test" / name)
    for key in "abc":
        write_map(folder / "test" / "blur" / f"{key}.npy", np.full((72, 104), np.nan, np.float32))
    unknown = write_set(folder, "unknown", "ddd_syn", ("left", "right", "sharp", "blur"), {"scenes": 3})
    main(["test", *arguments("dddnet_syn", *unknown, "--panels.count", "0")])
    said = " ".join(capsys.readouterr().out.split())
    assert "predicted blur has no mean: 3 of 3 images have no score (a and 2 more)" in said and "ABS_REL" not in said
    means = result_of(tmp_path, "unknown", "ddd-syn").means["overall"]
    assert means["abs_rel"] is None and means["coarse_delta1"] is None and means["psnr"] > 0


@pytest.mark.slow
def test_two_processes_score_the_same_maps(synthetic, arguments, tmp_path):
    main(["test", *arguments("dddnet_syn", *synthetic, "--panels.count", "0")])
    one = result_of(tmp_path, "synthetic", "ddd-syn")
    given = [str(argument) for argument in arguments("dddnet_syn", *synthetic, "--panels.count", "0")]
    done = run_module("test", *given, "--trainer.devices", "2")
    assert done.returncode == 0, done.stderr
    two = result_of(tmp_path, "synthetic", "ddd-syn")
    assert two.made >= one.made and [row["key"] for row in two.rows] == ["a", "b", "c"]
    for mine, other in zip(one.rows, two.rows, strict=True):  # a network's last bit depends on its threads
        assert [mine[name] for name in STANDARD] == pytest.approx([other[name] for name in STANDARD], rel=1e-4)


def test_blur_of_both_signs_has_no_relative_errors(synthetic, arguments, tmp_path, capsys):
    card, _ = synthetic
    folder = tmp_path / "signed"
    for name in ("left", "right", "sharp", "blur"):
        (folder / "test").mkdir(parents=True, exist_ok=True)
        (folder / "test" / name).symlink_to(card.parent / "test" / name)
    (folder / "test" / "blur").unlink()
    for key in "abc":
        write_map(folder / "test" / "blur" / f"{key}.npy", np.linspace(-3, 3, 72 * 104).reshape(72, 104))
    both = write_set(folder, "signed", "ddd_syn", ("left", "right", "sharp", "blur"), {"scenes": 3})
    message = refused(capsys, "test", *arguments("dddnet_syn", *both))
    assert "a: relative errors of inverse depth need blur above 0, and the data's goes down to -3 pixels" in message
    main(["test", *arguments("dddnet_syn", *both, "--scores.protocol", "whole-8bit")])
    plain = write_set(folder, "plain", "ddd_syn", ("left", "right", "sharp"), {"scenes": 3})
    message = refused(capsys, "test", *arguments("dddnet_syn", *plain))
    assert "ddd-syn compares predicted blur with the blur of the data; plain test has left, right, sharp" in message


def halved(stored):
    """uint16 or uint8 (H, W, 3) as 8 bits, halved, by integers alone."""
    image = (stored >> 8 if stored.dtype == np.uint16 else stored).astype(int)
    height, width = image.shape[:2]
    return ((image.reshape(height // 2, 2, width // 2, 2, 3).sum(axis=(1, 3)) + 2) // 4).astype(np.uint8)


def test_dddnet_on_photographs_of_half_the_size(small_card, small_shards, weights, arguments, tmp_path):
    """Its training needs blur, which these data do not have and the protocol does not score."""
    main(["test", *arguments("dddnet_syn", small_card, small_shards, "--scores.protocol", "dddnet-half")])
    result = result_of(tmp_path, "dpdd_small", "dddnet-half")
    assert list(result.rows[0]) == ["key", "group", *IMAGES, *(f"input_{name}" for name in IMAGES)]
    assert result.macs_size == [side // 2 for side in SIZE] and "unquantised" in result.protocol_description
    split = PreparedSplit(small_shards / "test")
    assert [row["key"] for row in result.rows] == list(TEST_KEYS)
    for position, row in enumerate(result.rows):
        stored = {n: halved(np.asarray(split.array(position, n))) for n in ("left", "right", "combined", "sharp")}
        sharp, found = stored["sharp"] / 255, predict("dddnet_syn", weights, stored)["sharp"].astype(np.float64)
        assert row["psnr"] == pytest.approx(peak_signal_noise_ratio(sharp, found, data_range=1), abs=1e-4)
        truncated = np.floor(found * 255) / 255
        assert abs(row["psnr"] - peak_signal_noise_ratio(sharp, truncated, data_range=1)) > 1e-3
        ssim = structural_similarity(found, sharp, channel_axis=-1, data_range=1.0)
        assert row["ssim"] == pytest.approx(ssim, abs=1e-5)
        assert row["mae"] == pytest.approx(np.abs(found - sharp).mean(), abs=1e-6)
        before = np.sqrt(np.mean((stored["combined"] / 255 - sharp) ** 2))
        assert row["input_rmse_relative"] == pytest.approx(100 * before, rel=1e-5)


@pytest.mark.parametrize("protocol", ["dpdnet-16bit", pytest.param("k3dn-1152x1792", marks=pytest.mark.slow)])
def test_a_test_asks_for_no_more_than_it_scores(small_card, small_shards, arguments, capsys, protocol):
    """Neither blur for a loss, nor maps of the size of images that were resized."""
    limited = ["--scores.protocol", protocol, "--trainer.limit_test_batches", "1", "--panels.count", "0"]
    main(["test", *arguments("dddnet_syn", small_card, small_shards, *limited)])
    said = capsys.readouterr().out
    assert f"protocol {protocol}" in said and "predicted blur" not in said


def test_a_validation_needs_all_that_the_loss_needs(small_card, small_shards, arguments, capsys):
    message = refused(capsys, "validate", *arguments("dddnet_syn", small_card, small_shards))
    assert "the recipe needs left, right, sharp, blur; dpdd_small val has no blur" in message


def write_disparity_set(folder, scenes):
    """Write scenes by the names of DPD-disp, key -> (8-bit images, disparity); return card and shards."""
    folder.mkdir(parents=True, exist_ok=True)
    for key, (images, disparity) in scenes.items():
        for name, letter in {"left": "L", "right": "R", "combined": "B"}.items():
            assert cv2.imwrite(str(folder / f"{key}_{letter}.jpg"), images[name][:, :, ::-1])
        assert cv2.imwrite(str(folder / f"{key}_D.TIF"), disparity)
    card = yaml.safe_load(find("registry", "dpd_disp").read_text())
    card |= {"name": "canon", "splits": {"test": {"scenes": len(scenes)}}}
    (folder / "canon.yaml").write_text(yaml.safe_dump(card))
    return folder / "canon.yaml", prepare(get_card(folder / "canon.yaml"), folder, folder / "shards", processes=1)


def affine_errors(estimate, truth):
    """AI(1), AI(2), 1 - |rho| of dense and of average ranks, and the geometric mean, by their definitions."""
    e, g = estimate.ravel(), truth.ravel()
    matrix = np.stack([e, np.ones_like(e)], axis=1)
    line = np.linalg.lstsq(matrix, g, rcond=None)[0]
    second = np.sqrt(np.mean((matrix @ line - g) ** 2))
    for _ in range(5):
        root = np.sqrt(1 / np.maximum(np.abs(matrix @ line - g), 0.001))
        line = np.linalg.lstsq(matrix * root[:, None], g * root, rcond=None)[0]
    first = np.mean(np.abs(matrix @ line - g))
    dense, average = (
        1 - abs(np.corrcoef(rankdata(e, method), rankdata(g, method))[0, 1]) for method in ("dense", "average")
    )
    return [first, second, dense, average, (first * second * dense) ** (1 / 3)]


def expected_affine_errors(recipe, weights, split, position):
    """What a scene scores: both maps as the published evaluation cuts them."""
    stored = {name: halved(np.asarray(split.array(position, name))) for name in ("left", "right", "combined")}
    blur = predict(recipe, weights, stored)["blur"]
    disparity = (np.asarray(split.array(position, "disparity"), np.float64) * 255).round()
    height, width = blur.shape
    rows = np.floor(resize_bicubic(disparity, height, 2 * width) + 0.5).clip(0, 255)
    truth = np.floor(resize_bicubic(rows, height, width) + 0.5).clip(0, 255) / 255
    last = [max(range(56, side - 55 + 1, 33)) for side in blur.shape]  # centres of the windows, counted from 1
    cut = tuple(slice(56 - 16 - 1 + 100, one + 16 - 100) for one in last)
    estimate = blur[cut].astype(np.float64)
    scaled = np.round(255 * (estimate - estimate.min()) / (estimate.max() - estimate.min())) / 255
    return affine_errors(scaled, truth[cut])


def check_affine_scores(result, recipe, weights, shards):
    split = PreparedSplit(shards / "test")
    for position, row in enumerate(result.rows):
        expected = expected_affine_errors(recipe, weights, split, position)
        assert [row[name] for name in AFFINE] == pytest.approx(expected, rel=2e-3)
        assert 0 < row["ai1"] < row["ai2"] < 0.5 and row["one_minus_abs_rho"] <= 1


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Card and shards of two scenes with disparity and without a sharp image."""
    scenes = {}
    for number, key in enumerate(("001", "002")):
        small = {name: (image >> 8).astype(np.uint8) for name, image in views(photograph(number)).items()}
        images = {name: cv2.resize(image, (660, 620)) for name, image in small.items()}
        disparity = cv2.GaussianBlur(images["combined"][:, :, 1], (0, 0), 9)
        scenes[key] = images, disparity
    return write_disparity_set(tmp_path_factory.mktemp("photographs"), scenes)


@pytest.mark.parametrize("recipe", ["dddnet", "dddnet_syn"])
def test_predicted_blur_is_scored_against_disparity(photographs, weights, arguments, tmp_path, capsys, recipe):
    main(["test", *arguments(recipe, *photographs)])
    said = capsys.readouterr().out
    assert f"{recipe} on canon test, protocol dpd-disp: predicted blur" in said and "AI(1)" in said
    assert "overall output" not in said and not list((tmp_path / "runs").rglob("panels/*.png"))
    result = result_of(tmp_path, "canon", "dpd-disp")
    assert list(result.rows[0]) == ["key", "group", *AFFINE] and result.macs_size == [310, 330] and result.complete
    check_affine_scores(result, recipe, weights, photographs[1])
    logged = next((tmp_path / "runs").rglob("metrics.csv")).read_text().splitlines()[0]
    assert "test/ai1" in logged and "psnr" not in logged and "loss" not in logged


def test_a_part_of_the_real_scene_goes_all_the_way(shared, weights, arguments, tmp_path):
    files = {name: shared / "data" / "canon_dpdisp" / f"005_{letter}.jpg" for name, letter in zip(
        ("left", "right", "combined"), "LRB", strict=True)}  # fmt: skip
    part = np.s_[1000:1640, 3900:4600]  # what the cuts leave holds an edge in depth
    images = {name: cv2.imread(str(file))[:, :, ::-1][part] for name, file in files.items()}
    truth = cv2.imread(str(shared / "data" / "canon_dpdisp" / "005_D.TIF"), cv2.IMREAD_UNCHANGED)[part]
    card, shards = write_disparity_set(tmp_path / "real", {"005": (images, truth)})
    assert np.array_equal(PreparedSplit(shards / "test").array(0, "disparity"), (truth / 255).astype(np.float32))
    main(["test", *arguments("dddnet", card, shards)])
    check_affine_scores(result_of(tmp_path, "canon", "dpd-disp"), "dddnet", weights, shards)


def test_what_cannot_be_scored_on_photographs_is_refused(photographs, arguments, tmp_path, capsys):
    message = refused(capsys, "test", *arguments("dpdnet", *photographs))
    assert (
        "protocol dpd-disp: nothing can be scored. It compares predicted blur with disparity; dpdnet predicts sharp"
        in message
    )
    for recipe in ("dpdnet", "dddnet_syn"):
        message = refused(capsys, "test", *arguments(recipe, *photographs, "--scores.protocol", "whole-8bit"))
        assert "whole-8bit: nothing can be scored. The recipe is trained to predict sharp; canon test has" in message
    message = refused(capsys, "test", *arguments("dddnet", *photographs, "--sharp_regions.enabled", "true"))
    assert "--sharp_regions.enabled" in message and "canon test has left, right, combined, disparity" in message
    assert not list((tmp_path / "runs").rglob("result.json"))

    stored = views(photograph(0, (64, 96)))
    images = {name: cv2.resize((image >> 8).astype(np.uint8), (616, 700)) for name, image in stored.items()}
    small = write_disparity_set(tmp_path / "small", {"007": (images, images["left"][:, :, 0])})
    message = refused(capsys, "test", *arguments("dddnet", *small))
    assert "canon test 007 of 700 x 616 pixels is too small" in message and "618 pixels a side" in message


def test_scores_of_maps_survive_the_file(photographs, arguments, tmp_path):
    main(["test", *arguments("dddnet", *photographs)])
    path = next((tmp_path / "runs").rglob("result.json"))
    content = json.loads(path.read_text())
    assert content["schema"] == 1 and content["protocol"] == "dpd-disp"
    assert content["means"]["overall"] == {name: np.mean([row[name] for row in content["rows"]]) for name in AFFINE}
