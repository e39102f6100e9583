import pytest
import torch
from recipe_files import FILES, model_of

import dualpixel
from dualpixel.commands.configurations import check_settings
from dualpixel.evaluate.cost.operations import count_macs, count_parameters
from dualpixel.losses.functional import charbonnier

ABLATIONS = {
    "baseline": 60_756_227,
    "01_unshared": 93_707_507,
    "02_no_extractor": 63_282_227,
    "03_mse": 63_983_859,
    "04_three_convolutions": 68_660_723,
    "05_no_eam": 62_156_123,
    "06_no_volume": 63_089_459,
    "07_volume_only": 63_050_739,
    "08_no_dam": 62_583_963,
}


def images(height=16, width=24):
    random = torch.Generator().manual_seed(0)
    return {name: torch.rand(2, 3, height, width, generator=random) for name in ("left", "right", "combined", "sharp")}


def test_every_ablation_has_a_file():
    assert {name.split("/")[-1] for name in FILES if name.startswith("ablations/dpanet/")} == set(ABLATIONS)


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablations_are_the_networks_of_the_papers_tables(name):
    file = FILES[f"ablations/dpanet/{name}"]
    check_settings(["fit", "--config", str(FILES["dpanet"]), "--config", str(file)])
    recipe = model_of("dpanet", f"ablations/dpanet/{name}")
    assert count_parameters(recipe) == ABLATIONS[name]
    assert f"{ABLATIONS[name]:,} parameters" in file.read_text()
    assert recipe.loss == ("mse" if name == "03_mse" else "charbonnier")
    values = [line for line in file.read_text().splitlines() if ": " in line and not line.startswith("#")]
    assert values and all("  # " in line for line in values)


def test_the_recipes_are_the_published_network():
    for name, loss in {"dpanet": "charbonnier", "dpanet_mse": "mse"}.items():
        recipe = model_of(name)
        assert count_parameters(recipe) == 63_983_859
        assert (recipe.name, recipe.loss) == (name, loss)
        with torch.device("meta"):
            assert recipe.net.options == dualpixel.nets.DPANet().options


def test_multiply_accumulates_of_the_network_and_of_its_baseline():
    batch = {name: torch.empty(1, 3, 256, 256) for name in ("left", "right")}
    assert count_macs(model_of("dpanet"), batch) == 317_543_940_096 + 934_281_216  # and the correlations
    assert count_macs(model_of("dpanet", "ablations/dpanet/baseline"), batch) == 292_900_831_232


def test_losses_are_means_over_elements():
    batch = images()
    paper, first = (dualpixel.load(name, width=0.05) for name in ("dpanet", "dpanet_mse"))
    prediction = {"sharp": batch["left"]}
    difference = batch["left"] - batch["sharp"]
    assert paper.loss_terms(batch, prediction)["charbonnier"] == charbonnier(batch["left"], batch["sharp"], 1e-3)
    assert first.loss_terms(batch, prediction)["mse"].item() == pytest.approx(difference.square().mean().item())


def test_the_residual_network_begins_with_the_combined_image():
    recipe = dualpixel.load("dpanet", width=0.05, residual=True)
    batch = images(17, 9)
    with torch.no_grad():
        assert torch.equal(recipe(batch)["sharp"], batch["combined"])
        batch["combined"] += 1
        assert recipe(batch)["sharp"].max() == 1
        assert recipe.train()(batch)["sharp"].max() > 1


def test_views_are_not_exchanged():
    recipe = dualpixel.load("dpanet", width=0.05)
    seen = []
    recipe.net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    batch = images()
    with torch.no_grad():
        recipe(batch)
    assert torch.equal(seen[0][0], batch["left"]) and torch.equal(seen[0][1], batch["right"])


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="loss='l1': allowed are 'charbonnier', 'mse'"):
        dualpixel.recipes.DPANetRecipe(dualpixel.nets.DPANet(width=0.05), loss="l1")


def test_a_narrow_network_learns_one_scene():
    torch.manual_seed(0)
    recipe = dualpixel.load("dpanet", width=0.125, residual=True).train()
    batch = images(32, 32)
    batch["sharp"] = batch["combined"] = torch.nn.functional.avg_pool2d(batch["sharp"], 5, 1, 2)
    batch["combined"] = (batch["sharp"] - 0.1).detach()
    optimizer = torch.optim.Adam(recipe.parameters(), lr=2e-3)
    losses = []
    for _ in range(15):
        loss = recipe.loss_terms(batch, recipe(batch))["charbonnier"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(0.1, abs=1e-3)
    assert losses[-1] < 0.5 * losses[0]
