"""Every YAML in recipes/ is a recipe that trains, and every overlay fits on every recipe."""

import copy
from types import SimpleNamespace

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser

import dualpixel
from dualpixel import DualPixelError
from dualpixel.commands.configurations import check_settings
from dualpixel.data.datamodule import DualPixelData
from dualpixel.data.fields import IMAGES
from dualpixel.paths import resource_names
from dualpixel.recipes import Recipe
from dualpixel.recipes.configuration import merge

ALL = resource_names("recipes")
RECIPES = [name for name in ALL if not name.startswith(("overlays/", "ablations/", "sweeps/"))]
OVERLAYS = [name for name in ALL if name.startswith("overlays/")]


def read(name):
    return yaml.safe_load(ALL[name].read_text())


def instantiate(content):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Recipe, "model")
    parser.add_class_arguments(DualPixelData, "data")
    data = content["data"].get("init_args", {})
    return parser.instantiate_classes(parser.parse_object({"model": content["model"], "data": data}))


def batch_of(height=48, width=37, seed=0, size=2):
    random = torch.Generator().manual_seed(seed)
    images = {name: torch.rand(size, 3, height, width, generator=random) for name in IMAGES}
    maps = {name: torch.rand(size, 1, height, width, generator=random) + 1 for name in ("depth", "blur")}
    return {**images, **maps, "key": ["a", "b"][:size], "group": [""] * size, "index": torch.arange(size)}


def step(recipe, batch, optimizer=None):
    """One training step as Lightning takes it."""
    optimizer = optimizer or recipe.configure_optimizers()
    optimizer = optimizer["optimizer"] if isinstance(optimizer, dict) else optimizer
    recipe.train()
    loss = torch.stack(list(recipe.loss_terms(batch, recipe(batch)).values())).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("narrow", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_every_recipe_parses_instantiates_and_takes_a_training_step(name, narrow):
    check_settings(["fit", "--config", str(ALL[name])])
    with torch.device("meta"):
        assert instantiate(read(name)).model.net.options["width"] == 1.0
    width = 0.25 if narrow and not name.startswith("dddnet") else 1.0  # a narrow DDDNet has ReLUs that stay closed
    recipe = instantiate(merge(read(name), {"model": {"init_args": {"net": {"init_args": {"width": width}}}}})).model
    before = [parameter.detach().clone() for parameter in recipe.parameters() if parameter.requires_grad]
    optimizer = recipe.configure_optimizers()

    def unchanged():
        trained = [parameter for parameter in recipe.parameters() if parameter.requires_grad]
        return sum(torch.equal(*pair) for pair in zip(before, trained, strict=True))

    for _ in range(2):  # weights behind a layer that begins at zero learn from the second step on
        loss = step(recipe, batch_of(16, 16, size=1), optimizer)
        assert loss == loss and loss > 0
        if not unchanged():
            break
    assert not unchanged()


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", RECIPES)
def test_every_overlay_fits_on_every_recipe(name, overlay):
    check_settings(["fit", "--config", str(ALL[name]), "--config", str(ALL[overlay])])
    narrow = {"model": {"init_args": {"net": {"init_args": {"width": 0.1}}}}}
    content = merge(merge(read(name), narrow), read(overlay))
    made = instantiate(content)
    made.model._trainer = SimpleNamespace(estimated_stepping_batches=900, current_epoch=0)
    optimizer = made.model.configure_optimizers()
    scheduler = optimizer["lr_scheduler"]["scheduler"]
    assert scheduler.optimizer is optimizer["optimizer"]
    before = step(made.model, batch_of(32, 48))
    assert before > 0


@pytest.mark.parametrize("name", RECIPES)
def test_predictions_keep_the_contract_at_any_size(name):
    options = {"width": 0.1}
    recipe = dualpixel.load(name, **options)
    assert not recipe.training
    for size in ((48, 37), (1, 1), (17, 130)):
        batch = batch_of(*size)
        needed = {field: batch[field] for field in recipe.inputs}
        with torch.no_grad():
            sharp, again = recipe(needed)["sharp"], recipe(needed)["sharp"]
        assert sharp.shape == (2, 3, *size) and sharp.min() >= 0 and sharp.max() <= 1 and torch.equal(sharp, again)


@pytest.mark.parametrize("name", RECIPES)
def test_every_value_of_a_recipe_has_its_source(name):
    lines = [line for line in ALL[name].read_text().splitlines() if ":" in line and not line.lstrip().startswith("#")]
    values = [line for line in lines if not line.rstrip().endswith(":") and "class_path" not in line]
    without = [line for line in values if "#" not in line]
    assert not without


def test_loading_a_recipe_by_name_path_and_option(tmp_path):
    assert dualpixel.load("recipes/dpdnet.yaml", width=0.1).net.options["width"] == 0.1
    assert dualpixel.load("dpdnet_single", width=0.1).inputs == ("combined",)
    with pytest.raises(DualPixelError, match="did you mean 'dpdnet'"):
        dualpixel.load("dpdne")
    with pytest.raises(DualPixelError, match="did you mean 'width'"):
        dualpixel.load("dpdnet", widht=0.1)
    with pytest.raises(DualPixelError, match="not a recipe"):
        dualpixel.load("overlays/quickstart")


def test_options_that_a_recipe_does_not_take_are_named():
    with pytest.raises(DualPixelError, match="recipe dpdnet does not take .* width=-1.0: must be positive"):
        dualpixel.load("dpdnet", width=-1)
    with pytest.raises(DualPixelError, match="recipe k3dn_stage1 does not take .* has no kernels to blur by"):
        dualpixel.load("k3dn_stage1", psf="none")


def test_stored_options_shape_the_network(tmp_path):
    from dualpixel.weights.files import save_weights

    narrow = dualpixel.load("dpdnet", width=0.1, residual=True)
    torch.nn.init.normal_(narrow.net.out.conv1x1.weight)
    save_weights(tmp_path / "w.safetensors", narrow.net.state_dict(), narrow.weights_metadata())
    again = dualpixel.load("dpdnet", weights=tmp_path / "w.safetensors")
    assert again.net.options == narrow.net.options
    batch = batch_of()
    with torch.no_grad():
        assert torch.equal(again(batch)["sharp"], narrow(batch)["sharp"])


def test_a_missing_field_is_named_outside_the_command_line_too():
    recipe = dualpixel.load("dpdnet", width=0.1)
    with pytest.raises(DualPixelError, match="the batch has no right"):
        recipe({"left": torch.rand(1, 3, 16, 16)})


def test_the_residual_network_begins_with_the_combined_image():
    recipe = dualpixel.load("dpdnet", width=0.1, residual=True)
    batch = batch_of()
    with torch.no_grad():
        assert torch.equal(recipe(batch)["sharp"], batch["combined"])
        views_only = recipe({name: batch[name] for name in ("left", "right")})["sharp"]
    assert torch.allclose(views_only, (batch["left"] + batch["right"]) / 2)


def test_laying_one_configuration_over_another():
    first = {"a": {"class_path": "x", "init_args": {"p": 1, "q": 2}}, "b": 1}
    kept = copy.deepcopy(first)
    assert merge(first, {"a": {"init_args": {"p": 5}}}) == {
        "a": {"class_path": "x", "init_args": {"p": 5, "q": 2}},
        "b": 1,
    }
    assert merge(first, {"a": {"class_path": "y", "init_args": {"r": 1}}})["a"] == {
        "class_path": "y",
        "init_args": {"r": 1},
    }
    assert first == kept


def test_options_in_a_weights_file_cannot_have_a_module_imported(tmp_path):
    from dualpixel.weights.files import save_weights

    narrow = dualpixel.load("dpdnet", width=0.1)
    evil = {**narrow.weights_metadata(), "options": '{"views": {"class_path": "this.x"}}'}
    save_weights(tmp_path / "evil.safetensors", narrow.net.state_dict(), evil)
    with pytest.raises(DualPixelError, match="not plain values"):
        dualpixel.load("dpdnet", weights=tmp_path / "evil.safetensors")


def test_weights_in_the_authors_order_of_channels_are_refused(tmp_path):
    from dualpixel.weights.files import save_weights

    narrow = dualpixel.load("dpdnet", width=0.1)
    save_weights(
        tmp_path / "bgr.safetensors", narrow.net.state_dict(), {**narrow.weights_metadata(), "channel_order": "BGR"}
    )
    with pytest.raises(DualPixelError, match="take BGR"):
        dualpixel.load("dpdnet", weights=tmp_path / "bgr.safetensors")


def test_the_two_networks_of_the_paper_have_their_own_names():
    assert dualpixel.load("dpdnet", width=0.1).weights_metadata()["recipe"] == "dpdnet"
    assert dualpixel.load("dpdnet_single", width=0.1).weights_metadata()["recipe"] == "dpdnet_single"


def test_the_rate_rises_and_falls_over_the_whole_training():
    from dualpixel.recipes import WarmupCosine

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    schedule = WarmupCosine(optimizer, warmup=0.1)
    schedule.total_steps = 100
    rates = []
    for _ in range(100):
        optimizer.step()
        schedule.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[9] == pytest.approx(2.0, rel=0.1) and max(rates) <= 2.0
    assert rates[54] == pytest.approx(1.0, abs=0.02) and rates[-1] == pytest.approx(0, abs=1e-6)
    assert rates[:9] == sorted(rates[:9]) and rates[9:] == sorted(rates[9:], reverse=True)
