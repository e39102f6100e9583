import math

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from dualpixel.data.images import read_image, write_png
from dualpixel.errors import DualPixelError
from dualpixel.losses.depth import reblur_loss
from dualpixel.nets import DDDNet
from dualpixel.optics import render
from dualpixel.recipes import DDDNetRecipe
from dualpixel.running.adaptation import (
    Adaptation,
    Adapted,
    Measured,
    adapt_weights,
    check_adapts,
    read_photographs,
)
from dualpixel.running.adaptation_places import CropPlaces
from dualpixel.running.adaptation_sheet import draw_adaptation


def rendered_pair(folder, name, size=(72, 200), radius=3.0, seed=0):
    """Write the views of a texture of constant blur."""
    noise = np.random.default_rng(seed).random((*size, 3)).astype(np.float32)
    sharp = torch.from_numpy(cv2.GaussianBlur(noise, (0, 0), 1.5)).permute(2, 0, 1)[None]
    sharp = (sharp - sharp.min()) / (sharp.max() - sharp.min())
    for ending, view in zip("LR", render(sharp, torch.full_like(sharp[:, :1], radius), "rect"), strict=True):
        pixels = (view[0].permute(1, 2, 0).clamp(0, 1) * 65535).round().numpy().astype(np.uint16)
        write_png(folder / f"{name}_{ending}.png", pixels)


def narrow(seed=0):
    torch.manual_seed(seed)
    return DDDNetRecipe(DDDNet(width=0.05, residual=True), reblur_offset=1.5, reblur_margin=4).eval()


@pytest.mark.parametrize("size", [(40, 64), (64, 40), (30, 90), (100, 33), (200, 200)])
def test_no_training_crop_touches_what_is_held_out(size):
    for seed in range(20):
        random = np.random.default_rng(seed)
        places = CropPlaces(size, (30, 32), random)
        held = places.evaluated
        assert places.held_out and (held.height, held.width) == (30, 32)
        drawn = [places.draw(random) for _ in range(50)]
        for place in [held, *drawn]:
            assert 0 <= place.row <= size[0] - 30 and 0 <= place.column <= size[1] - 32
        for place in drawn:
            assert abs(place.row - held.row) >= 30 or abs(place.column - held.column) >= 32


def test_a_small_photograph_is_measured_whole_and_trained_on_everywhere():
    random = np.random.default_rng(0)
    places = CropPlaces((40, 50), (30, 30), random)
    assert not places.held_out and places.evaluated == (0, 0, 40, 50)
    drawn = [places.draw(random) for _ in range(400)]
    assert {place.row for place in drawn} == set(range(11)) and {place.column for place in drawn} == set(range(21))


def test_the_error_falls_and_the_best_weights_are_kept(tmp_path):
    rendered_pair(tmp_path, "one")
    rendered_pair(tmp_path, "two", seed=1)
    recipe = narrow()
    photographs = read_photographs(recipe, [tmp_path])
    made = []
    settings = Adaptation(steps=24, learning_rate=5e-3, crop_size=64, batch_size=2, every=8)
    adapted = adapt_weights(recipe, photographs, settings, shown=["one"], advance=made.append)
    assert adapted.after.error < 0.97 * adapted.before.error
    assert adapted.after.radii["one"][1] > adapted.before.radii["one"][1] + 0.3  # towards the true 3 pixels
    assert [step for step, _ in adapted.curve] == [0, 8, 16, 24] and sum(made) == adapted.steps == 24
    assert adapted.after.error == pytest.approx(min(error for _, error in adapted.curve))
    assert dict(adapted.curve)[adapted.best_step] == pytest.approx(adapted.after.error)
    assert adapted.held_out == {"one": True, "two": True} and list(adapted.after.shown) == ["one"]
    assert adapted.after.shown["one"]["radius"].shape == (64, 64)
    assert adapted.before.radii["one"] == sorted(adapted.before.radii["one"])


def test_the_error_is_the_reblur_loss_of_the_whole_small_photograph(tmp_path):
    rendered_pair(tmp_path, "one", size=(70, 90))
    recipe = narrow()
    adapted = adapt_weights(recipe, read_photographs(recipe, [tmp_path]), Adaptation(steps=1, learning_rate=1e-9))
    views = (read_image(tmp_path / f"one_{ending}.png").astype(np.float32) / 65535 for ending in "LR")
    left, right = (torch.from_numpy(view).permute(2, 0, 1)[None] for view in views)
    with torch.no_grad():
        found = narrow()({"left": left, "right": right})
        wanted = reblur_loss(
            found["sharp"], found["blur"] + 1.5, left, right, margin=4, vertical="sym", weight="energy"
        )
    assert adapted.before.error == pytest.approx(wanted.item(), rel=1e-5)
    inside = (
        ...,
        slice(4, -4),
        slice(4, -4),
    )  # with no blur both views are the mean, half their difference away from either
    lengths = (((left - right)[inside] / 2).square().sum(1) + 1e-6).sqrt()
    assert adapted.before.error_without == pytest.approx(2 * lengths.mean().item(), rel=1e-4)


def test_the_statistics_of_the_normalisation_stay_and_all_else_moves(tmp_path):
    rendered_pair(tmp_path, "one")
    recipe, before = narrow(), narrow().net.state_dict()
    settings = Adaptation(steps=3, learning_rate=1e-3, crop_size=64, batch_size=1, every=1)
    adapted = adapt_weights(recipe, read_photographs(recipe, [tmp_path]), settings)
    assert adapted.best_step > 0
    after = recipe.net.state_dict()
    kept = [name for name in before if "running_" in name or "num_batches" in name]
    assert kept and all(torch.equal(before[name], after[name]) for name in kept)
    norms = [name for name, one in recipe.net.named_modules() if isinstance(one, nn.BatchNorm3d | nn.BatchNorm2d)]
    assert any(not torch.equal(before[f"{name}.weight"], after[f"{name}.weight"]) for name in norms)


def test_a_seed_gives_the_same_weights(tmp_path):
    rendered_pair(tmp_path, "one")
    errors = []
    for seed in (3, 3, 4):
        recipe = narrow()
        settings = Adaptation(steps=2, learning_rate=1e-3, crop_size=64, batch_size=1, every=1, seed=seed)
        errors.append(adapt_weights(recipe, read_photographs(recipe, [tmp_path]), settings).curve)
    assert errors[0] == errors[1] != errors[2]


def test_it_ends_early_and_gives_the_weights_back_where_nothing_helps(tmp_path):
    rendered_pair(tmp_path, "one", size=(64, 64))
    recipe, before = narrow(), narrow().net.state_dict()
    settings = Adaptation(steps=50, learning_rate=0.05, crop_size=64, batch_size=1, every=1, patience=2)
    adapted = adapt_weights(recipe, read_photographs(recipe, [tmp_path]), settings)
    assert adapted.best_step == 0 and adapted.steps == 2
    assert adapted.ended == "the error had not fallen for 2 checks"
    assert all(torch.equal(value, before[name]) for name, value in recipe.net.state_dict().items())
    assert adapted.after.errors == adapted.before.errors


@pytest.mark.parametrize(("every", "said"), [(1, "the error was nan at step 1"), (9, "the loss was nan at step 2")])
def test_what_is_no_number_ends_it(tmp_path, every, said):
    rendered_pair(tmp_path, "one", size=(64, 64))
    recipe = narrow()
    settings = Adaptation(steps=9, learning_rate=1e30, crop_size=64, batch_size=1, every=every)
    adapted = adapt_weights(recipe, read_photographs(recipe, [tmp_path]), settings)
    assert adapted.ended == said and adapted.best_step == 0
    assert all(math.isfinite(error) for _, error in adapted.curve)
    assert math.isfinite(adapted.after.error)


def test_mixed_depths_and_a_combined_image_of_one_photograph_go_together(tmp_path):
    rendered_pair(tmp_path, "one", size=(64, 64))
    for ending in ("L", "R", "B"):
        write_png(tmp_path / f"two_{ending}.png", (read_image(tmp_path / "one_L.png") // 257).astype(np.uint8))
    photographs = read_photographs(narrow(), [tmp_path])
    assert {name: list(views) for name, views in photographs.items()} == {
        name: ["left", "right"] for name in ("one", "two")
    }
    settings = Adaptation(steps=1, learning_rate=1e-3, crop_size=64, batch_size=4)
    assert adapt_weights(narrow(), photographs, settings).steps == 1


def test_the_sheet_has_a_row_for_each_photograph(tmp_path):
    shown = {
        name: {"left": torch.rand(3, 20, 30), "sharp": torch.rand(3, 20, 30), "radius": torch.randn(20, 30)}
        for name in "ab"
    }
    heights = []
    for names in ("", "a", "ab"):
        measured = Measured({"a": 0.2}, {}, {}, {}, {name: shown[name] for name in names})
        adapted = Adapted(measured, measured, [(0, 0.2), (5, 0.1)], 5, 5, "", {}, (20, 30))
        draw_adaptation(tmp_path / "sheet.png", adapted)
        heights.append(read_image(tmp_path / "sheet.png", drop_alpha=True).shape[0])
    assert heights[0] < heights[1] < heights[2]


def test_settings_and_recipes_that_cannot_be_are_refused():
    for name in ("steps", "learning_rate", "crop_size", "batch_size", "patience", "every"):
        with pytest.raises(DualPixelError, match=f"--{name} 0: must be positive"):
            Adaptation(**{name: 0})
    with pytest.raises(DualPixelError, match="--seed -1"):
        Adaptation(seed=-1)
    recipe = narrow()
    del recipe.rendering
    with pytest.raises(DualPixelError, match="no rendering"):
        check_adapts(recipe)
    both = DDDNet(width=0.05, shifts=range(-2, 2))
    check_adapts(DDDNetRecipe(both, reblur_minimum=None))
    with pytest.raises(DualPixelError, match="the weights know blur of both signs.*--recipe runs/RUN/config.yaml"):
        check_adapts(DDDNetRecipe(both, reblur_minimum=0.0))


def test_weights_that_predict_no_numbers_are_refused(tmp_path):
    rendered_pair(tmp_path, "one")
    recipe = narrow()
    recipe.net.deblur.image[-1].bias.data[0] = math.nan
    with pytest.raises(DualPixelError, match="one: the reblur error of the weights that come in is nan"):
        adapt_weights(recipe, read_photographs(recipe, [tmp_path]), Adaptation(steps=1, crop_size=64))


def test_training_clamps_nothing_and_moves_what_a_recipe_had_frozen(tmp_path, monkeypatch):
    rendered_pair(tmp_path, "one")
    torch.manual_seed(0)
    frozen = DDDNetRecipe(
        DDDNet(width=0.05, residual=True), depth_weight=0, coarse_weight=0, reblur_weight=0, reblur_offset=1.5
    )
    before = frozen.net.deblur.depth[-1].bias.item()
    modes, forward = [], frozen.forward
    monkeypatch.setattr(frozen, "forward", lambda batch: modes.append(frozen.training) or forward(batch))
    settings = Adaptation(steps=2, learning_rate=1e-3, crop_size=64, batch_size=1, every=2)
    adapted = adapt_weights(frozen, read_photographs(frozen, [tmp_path]), settings)
    assert modes == [False, True, True, False, False]  # measured, two steps, measured, measured again
    assert adapted.best_step == 2 and frozen.net.deblur.depth[-1].bias.item() != before


def test_crops_are_as_large_as_the_smallest_photograph_allows(tmp_path):
    rendered_pair(tmp_path, "large")
    rendered_pair(tmp_path, "small", size=(64, 70))
    settings = Adaptation(steps=1, crop_size=192, batch_size=1)
    assert adapt_weights(narrow(), read_photographs(narrow(), [tmp_path]), settings).crop == (64, 70)
