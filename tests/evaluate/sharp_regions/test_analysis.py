import json

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from scenes import SIZE, TEST_KEYS
from torch import nn

from dualpixel.blocks.sharp_region import SharpRegionPreservation
from dualpixel.data.datamodule import DualPixelData
from dualpixel.data.images import write_png
from dualpixel.data.reading import PreparedSplit
from dualpixel.errors import DualPixelError
from dualpixel.evaluate.result import load_result
from dualpixel.evaluate.scores import Scores
from dualpixel.evaluate.sharp_regions import analysis
from dualpixel.evaluate.sharp_regions.analysis import SharpRegions
from dualpixel.evaluate.sharp_regions.curve import CURVE, curve_folder, load_curve
from dualpixel.evaluate.sharp_regions.regions import THRESHOLDS
from dualpixel.recipes import Recipe


class Darkening(nn.Module):
    """Takes a tenth away; beside that, an SRP block looks at the image at half its size."""

    multiple, options = 32, {"by": 0.1}

    def __init__(self):
        super().__init__()
        self.srp = SharpRegionPreservation(1, 2, 0, window=3)

    def forward(self, combined):
        half = combined[..., ::2, ::2]
        self.srp(half[:, :2], half[:, 2:])
        return combined - 0.1 * combined


class DarkeningRecipe(Recipe):
    name, inputs = "darkening", ("combined",)

    def forward(self, batch):
        return {"sharp": self.net(batch["combined"])}

    def loss_terms(self, batch, prediction):
        return {"none": prediction["sharp"].mean()}


def label(folder, size=SIZE):
    """Write labels at random, none in the fourth scene; return them as an array."""
    labels = np.random.default_rng(0).random((len(TEST_KEYS), *size)) < 0.4
    labels[3] = False
    for key, one in zip(TEST_KEYS, labels, strict=True):
        write_png(folder / f"{key}.png", np.repeat(one[..., None], 3, 2).astype(np.uint8) * 255)
    return labels


@pytest.fixture
def masks(tmp_path):
    label(tmp_path / "labels")
    return tmp_path / "labels"


@pytest.fixture
def run(tmp_path, small_card, small_shards):
    """Test the network above with the analysis; returns the folder of what it wrote."""

    def run(callback, protocol=None, batch_size=1, name="run", **limits):
        torch.manual_seed(0)
        data = DualPixelData(str(small_card), small_shards, evaluation_batch_size=batch_size, num_workers=0)
        callbacks = [Scores(protocol, lpips=False), callback]
        options = {
            one: False for one in ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
        }
        trainer = Trainer(accelerator="cpu", callbacks=callbacks, default_root_dir=tmp_path / name, **options, **limits)
        trainer.test(DarkeningRecipe(Darkening()), datamodule=data, verbose=False)
        return curve_folder(tmp_path / name, "dpdd_small", "test", protocol or "dpdnet-16bit")

    return run


def stored(small_shards, field="combined"):
    split = PreparedSplit(small_shards / "test")
    return np.stack([np.asarray(split.array(row, field)) for row in range(len(split))])


def percentages(errors):
    return 100 * np.searchsorted(np.sort(errors), THRESHOLDS, side="right") / len(errors)


def test_the_curve_counts_every_pixel_in_focus_once(run, tmp_path, small_shards):
    labels = label(tmp_path / "labels")
    written = run(SharpRegions(True, masks=tmp_path / "labels", count=0))
    curve = load_curve(written / CURVE)
    blurry = stored(small_shards) / 65535
    errors = np.sqrt(np.square(0.1 * blurry).mean(-1))
    assert sorted(path.name for path in written.iterdir()) == ["curve.json", "curve.png"]
    assert curve.pixels == labels.sum() and curve.image_pixels == labels.size
    assert curve.percentage == pytest.approx(percentages(errors[labels]), abs=0.01)
    assert [row["key"] for row in curve.rows] == list(TEST_KEYS)
    assert [row["pixels"] for row in curve.rows] == labels.sum((1, 2)).tolist()
    assert curve.rows[1]["percentage"] == pytest.approx(percentages(errors[1][labels[1]]), abs=0.02)
    assert curve.rows[3]["percentage"] is None and curve.rows[2]["group"] == "indoor"
    assert curve.regions["source"] == "masks" and "labels" in curve.found
    result = load_result(written.parent / "result.json")
    for name in ("recipe", "dataset", "split", "fingerprint", "protocol", "weights_sha256"):
        assert getattr(curve, name) == getattr(result, name)


@pytest.mark.parametrize(("protocol", "side"), [("dpanet-8bit", 1), ("dpanet-half", 2)])
def test_images_are_compared_as_the_protocol_makes_them(run, tmp_path, small_shards, protocol, side):
    height, width = (length // side for length in SIZE)
    labels = label(tmp_path / "labels", (height, width))
    curve = load_curve(run(SharpRegions(True, masks=tmp_path / "labels", count=0), protocol) / CURVE)
    blurry = (stored(small_shards) >> 8).astype(int)
    if side == 2:
        blurry = (blurry.reshape(len(blurry), height, 2, width, 2, 3).sum((2, 4)) + 2) // 4
    blurry = torch.from_numpy(blurry / 255).float()
    output = torch.floor((blurry - 0.1 * blurry) * 255) / 255
    errors = (output - blurry).square().mean(-1).sqrt().numpy()
    assert curve.protocol == protocol and curve.pixels == labels.sum() and curve.image_pixels == labels.size
    assert curve.percentage == pytest.approx(percentages(errors[labels]), abs=0.05)


def test_batches_of_several_images_are_counted_and_drawn_alike(run, masks, monkeypatch):
    drawn = {}
    monkeypatch.setattr(analysis, "draw_sharp_region_sheet", lambda path, *rest: drawn.update({path: rest}))
    one = run(SharpRegions(True, masks=masks, count=3), name="one")
    chosen = SharpRegions(True, masks=masks, keys=list(TEST_KEYS[1:3]))
    several = run(chosen, batch_size=3, name="several")
    assert load_curve(one / CURVE).rows == load_curve(several / CURVE).rows
    assert [path.stem for path in drawn if one in path.parents] == list(TEST_KEYS[:3])
    assert [path.stem for path in drawn if several in path.parents] == list(TEST_KEYS[1:3])
    for key in TEST_KEYS[1:3]:
        (title, images, *maps, similarities), other = drawn[one / f"{key}.png"], drawn[several / f"{key}.png"]
        assert key in title and "darkening" in title and list(images) == ["input", "output", "target"]
        for mine, its in zip([*images.values(), *maps], [*other[1].values(), *other[2:4]], strict=True):
            np.testing.assert_array_equal(mine, its)
        np.testing.assert_allclose(similarities["srp"], other[-1]["srp"], atol=1e-6)
        assert similarities["srp"].shape == SIZE and similarities["srp"].std() > 0
    assert not np.array_equal(drawn[one / f"{TEST_KEYS[1]}.png"][-1]["srp"], similarities["srp"])


def test_the_analysis_changes_no_score_and_no_count(run, monkeypatch):
    listening = []
    step = DarkeningRecipe.test_step

    def listened(recipe, batch, batch_idx):
        listening.append(len(recipe.net.srp.similarity._forward_hooks))
        return step(recipe, batch, batch_idx)

    monkeypatch.setattr(DarkeningRecipe, "test_step", listened)
    with_it, without = run(SharpRegions(True, count=2), name="with"), run(SharpRegions(), name="without")
    assert not without.exists() and listening == [1, 1, 0, 0, 0] + 5 * [0]
    results = [load_result(folder.parent / "result.json") for folder in (with_it, without)]
    assert results[0].rows == results[1].rows and results[0].macs == results[1].macs > 0


def test_a_failure_leaves_no_hooks_behind(run, monkeypatch):
    recipes = []

    def fails(recipe, batch, batch_idx):
        recipes.append(recipe)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(DarkeningRecipe, "test_step", fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        run(SharpRegions(True))
    assert not recipes[0].net.srp.similarity._forward_hooks


def test_a_part_of_a_split_and_a_split_out_of_focus_give_no_curve(run, masks, capsys):
    assert not (run(SharpRegions(True, count=0), limit_test_batches=2) / CURVE).exists()
    assert "a limited run" in capsys.readouterr().out
    for key in TEST_KEYS:
        write_png(masks / f"{key}.png", np.zeros((*SIZE, 3), np.uint8))
    assert not (run(SharpRegions(True, masks=masks, count=0)) / CURVE).exists()
    assert "nothing is in focus" in capsys.readouterr().out


def test_validation_is_left_alone(run, tmp_path):
    callback = SharpRegions(True)
    callback.begin(None, None, "val")
    callback.batch(None, None, "val", None, None)
    callback.end(None, None, "val")
    assert list(tmp_path.iterdir()) == []


def test_curves_of_the_same_pixels_are_laid_over_each_other(run, masks, tmp_path, monkeypatch):
    first = run(SharpRegions(True, masks=masks, count=0), name="first")
    drawn = []
    monkeypatch.setattr(analysis, "draw_curves", lambda *given: drawn.append(given))
    run(SharpRegions(True, masks=masks, count=0, compare=[tmp_path / "first", first / CURVE]), name="second")
    _, title, thresholds, curves = drawn[0]
    assert list(curves) == ["darkening (second)", "darkening (first)", "darkening (first) 2"]
    assert thresholds == list(THRESHOLDS)
    assert curves["darkening (first)"] == load_curve(first / CURVE).percentage
    assert "dpdd_small test, protocol dpdnet-16bit" in title and "masks of labels" in title


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dataset", "dpdd"),
        ("fingerprint", "0123"),
        ("protocol", "dpanet-8bit"),
        ("regions", {"source": "blur"}),
        ("thresholds", [0.0, 1.0]),
    ],
)
def test_curves_of_other_pixels_are_refused_before_anything_runs(run, masks, monkeypatch, name, value):
    path = run(SharpRegions(True, masks=masks, count=0), name="first") / CURVE
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    monkeypatch.setattr(DarkeningRecipe, "test_step", lambda *given: pytest.fail("a batch was run"))
    with pytest.raises(DualPixelError, match=f"its {name} is .*curves are of different pixels"):
        run(SharpRegions(True, masks=masks, compare=path), name="second")


def test_files_that_are_no_curves_are_refused(run, masks, tmp_path):
    folder = run(SharpRegions(True, masks=masks, count=0), name="first")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DualPixelError, match=r"empty has no results.*\(found: no curve\)"):
        run(SharpRegions(True, compare=[tmp_path / "empty"]), name="second")
    with pytest.raises(
        DualPixelError, match=r"first has no .*dpanet-8bit.*found: results/dpdd_small-test/dpdnet-16bit"
    ):
        run(SharpRegions(True, compare=[tmp_path / "first"]), "dpanet-8bit", name="second")
    with pytest.raises(DualPixelError, match="result.json: not a curve"):
        run(SharpRegions(True, compare=[folder.parent / "result.json"]), name="second")


def test_masks_that_do_not_fit_are_refused(run, masks):
    with pytest.raises(DualPixelError, match="72 x 104"):
        run(SharpRegions(True, masks=masks), "dpanet-half")
    (masks / f"{TEST_KEYS[1]}.png").unlink()
    with pytest.raises(DualPixelError, match=f"1 of 5 masks are missing, the first {TEST_KEYS[1]}.png"):
        run(SharpRegions(True, masks=masks))


def test_other_masks_are_another_way_of_finding_regions(run, masks):
    path = run(SharpRegions(True, masks=masks, count=0), name="first") / CURVE
    write_png(masks / f"{TEST_KEYS[3]}.png", np.ones((*SIZE, 3), np.uint8))
    with pytest.raises(DualPixelError, match="its regions is .*masks_sha256"):
        run(SharpRegions(True, masks=masks, compare=[path]), name="second")


def test_options_for_what_is_not_there_are_refused(run, tmp_path):
    with pytest.raises(DualPixelError, match="no such folder"):
        SharpRegions(masks=tmp_path / "none")
    with pytest.raises(DualPixelError, match="no such run folder or curve"):
        SharpRegions(compare=[tmp_path / "none"])
    with pytest.raises(DualPixelError, match=f"no image '1P0A0918'; did you mean '{TEST_KEYS[3]}'"):
        run(SharpRegions(True, keys=["1P0A0918"]))
    with pytest.raises(DualPixelError, match="blur: protocol dpdnet-16bit is for data without blur"):
        run(SharpRegions(True, source="blur"))


def test_the_analysis_needs_the_scores(tmp_path):
    trainer = Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path)
    trainer.datamodule = None
    with pytest.raises(DualPixelError, match="needs the callback Scores"):
        SharpRegions(True).setup(trainer, None, "test")
