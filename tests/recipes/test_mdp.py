import pytest
import torch
from recipe_files import FILES, model_of, read

import dualpixel
from dualpixel.commands.configurations import check_settings
from dualpixel.errors import DualPixelError
from dualpixel.evaluate.cost.operations import count_parameters
from dualpixel.losses.views import combined_consistency, difference_consistency
from dualpixel.nets import MDP
from dualpixel.recipes import MDPRecipe
from dualpixel.weights.files import save_weights

BOTH = ("mdp_views", "mdp")
ABLATIONS = {
    # file: the recipes it is for, parameters, weights of sharp, views, L_C, L_D in the last of them
    "code_views": (("mdp_views",), 46_860_397, (1.0, 1.0, 0.2, 0.2)),
    "code": (("mdp",), 46_860_397, (1.0, 0.2, 0.2, 0.2)),
    "table3_single_deblur": (("mdp",), 46_921_091, (1.0, 0.0, 0.0, 0.0)),
    "table3_single_views": (BOTH, 46_830_171, (0.0, 0.8, 0.5, 0.5)),
    "table3_single_views_plain": (BOTH, 46_830_171, (0.0, 0.8, 0.0, 0.0)),
    "table3_multi_plain": (BOTH, 46_860_397, (1.0, 0.8, 0.0, 0.0)),
    "table3_multi": (BOTH, 46_860_397, (1.0, 0.8, 0.5, 0.5)),
    "tableS1_none": (BOTH, 45_975_661, (1.0, 0.8, 0.5, 0.5)),
    "tableS1_late": (BOTH, 46_196_845, (1.0, 0.8, 0.5, 0.5)),
    "tableS1_middle": (BOTH, 46_860_397, (1.0, 0.8, 0.5, 0.5)),
}


def small(net=None, **options):
    torch.manual_seed(2)
    return MDPRecipe(MDP(**{"width": 0.05, **(net or {})}), **options)


def images(height=32, width=48):
    random = torch.Generator().manual_seed(0)
    names = ("left", "right", "combined", "sharp")
    return {name: torch.rand(2, 3, height, width, generator=random) for name in names}


def step(recipe, batch, optimizer):
    loss = torch.stack(list(recipe.loss_terms(batch, recipe(batch)).values())).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def test_the_two_steps_are_the_papers():
    first, second = model_of("mdp_views"), model_of("mdp")
    assert count_parameters(first) == count_parameters(second) == 46_860_397
    assert sum(one.numel() for one in first.parameters() if one.requires_grad) == 32_015_454
    assert all(one.requires_grad for one in second.parameters())
    assert first.weights == {"sharp": 0.0, "views": 1.0, "combined": 1.0, "difference": 1.0}
    assert second.weights == {"sharp": 1.0, "views": 0.8, "combined": 0.5, "difference": 0.5}
    assert (first.name, second.name) == ("mdp_views", "mdp")
    assert first.inputs == second.inputs == ("combined",)
    assert first.targets == ("left", "right") and second.targets == ("left", "right", "sharp")
    assert read("mdp_views")["data"]["init_args"]["dataset"] == "dldp"
    assert read("mdp")["data"]["init_args"]["dataset"] == "dpdd"


def test_every_ablation_has_a_file():
    assert {name.split("/")[-1] for name in FILES if name.startswith("ablations/mdp/")} == set(ABLATIONS)


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablations_are_the_rows_of_the_papers_tables_and_the_authors_program(name):
    file, (recipes, parameters, weights) = FILES[f"ablations/mdp/{name}"], ABLATIONS[name]
    text = file.read_text()
    for recipe in recipes:
        assert f"--config recipes/{recipe}.yaml --config recipes/ablations/mdp/{name}.yaml" in text
        check_settings(["fit", "--config", str(FILES[recipe]), "--config", str(file)])
        model = model_of(recipe, f"ablations/mdp/{name}")
    assert count_parameters(model) == parameters
    assert tuple(model.weights.values()) == weights
    assert f"{parameters:,} parameters" in text
    if name.startswith("table3"):  # of approximately the same capacity, section 4.3
        assert parameters == pytest.approx(46_860_397, rel=0.002)
    values = [line for line in text.splitlines() if ": " in line and not line.startswith("#")]
    assert values and all("  # " in line for line in values)
    together = read(recipes[-1], f"ablations/mdp/{name}")["data"]["init_args"]["crops_together"]
    assert together == (8 if name.startswith("code") else 1)


def test_the_loss_is_the_weighted_sum_of_its_terms():
    batch, prediction = images(), {name: image.flip(0) for name, image in images().items()}
    recipe = small(sharp_weight=0.5, views_weight=0.25, combined_weight=2.0, difference_weight=3.0)
    terms = recipe.loss_terms(batch, prediction)
    errors = {name: (prediction[name] - batch[name]).square() for name in ("sharp", "left", "right")}
    assert terms["sharp"].item() == pytest.approx(0.5 * errors["sharp"].mean().item())
    assert terms["views"].item() == pytest.approx(0.25 * (errors["left"] + errors["right"]).mean().item() / 2)
    views = (prediction["left"], prediction["right"])
    assert terms["combined"].item() == pytest.approx(2 * combined_consistency(batch["combined"], *views).item())
    difference = difference_consistency(*views, batch["left"], batch["right"])
    assert terms["difference"].item() == pytest.approx(3 * difference.item())
    whole = small(half_sum=False, combined_weight=2.0).loss_terms(batch, prediction)["combined"].item()
    assert whole == pytest.approx(2 * combined_consistency(batch["combined"], *views, half=False).item())
    blurry = small(sharp_target="combined").loss_terms(batch, prediction)["sharp"].item()
    assert blurry == pytest.approx((prediction["sharp"] - batch["combined"]).square().mean().item())


def test_the_first_step_needs_no_sharp_image_and_leaves_its_decoder_alone():
    recipe = small(freeze_sharp=True, sharp_weight=0.0)
    batch = {name: image for name, image in images().items() if name != "sharp"}
    before = {name: value.clone() for name, value in recipe.net.state_dict().items()}
    optimizer = torch.optim.AdamW((one for one in recipe.parameters() if one.requires_grad), lr=1e-2)
    for _ in range(3):
        step(recipe, batch, optimizer)
    fixed = {name for name, value in recipe.net.state_dict().items() if torch.equal(value, before[name])}
    assert fixed == {name for name in before if name.startswith("decoders.branches.sharp.")}

    again = small()
    again.net.load_state_dict(recipe.net.state_dict())
    optimizer = torch.optim.AdamW(again.parameters(), lr=1e-2)
    for _ in range(3):
        step(again, images(), optimizer)
    moved = {name for name, value in again.net.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == set(before)


def test_the_authors_first_step_draws_the_encoder_towards_the_blurry_image():
    recipe = small(freeze_sharp=True, views_weight=0.0, combined_weight=0.0, difference_weight=0.0,
                   sharp_target="combined")  # fmt: skip
    assert recipe.targets == ()
    batch = images()
    recipe.loss_terms(batch, recipe(batch))["sharp"].backward()
    assert recipe.net.enc1.conv1.weight.grad.any()
    assert recipe.net.decoders.branches["left"].mid.conv1.weight.grad.any()  # through the stitching
    assert recipe.net.decoders.branches["sharp"].mid.conv1.weight.grad is None


def test_all_three_outputs_keep_any_size():
    recipe = dualpixel.load("mdp", width=0.05)
    batch = images(17, 35)
    with torch.no_grad():
        prediction = recipe({"combined": batch["combined"]})
    assert set(prediction) == {"left", "right", "sharp"}
    for image in prediction.values():
        assert image.shape == (2, 3, 17, 35) and image.min() >= 0 and image.max() <= 1


def test_the_residual_network_begins_with_both_views_equal_to_the_input():
    recipe = small(net={"residual": True})
    batch = images(20, 20)
    batch["combined"] = batch["combined"] + 1
    with torch.no_grad():
        assert all(torch.equal(image, batch["combined"]) for image in recipe(batch).values())
        assert all(image.max() == 1 for image in recipe.eval()(batch).values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views_weight": -1.0}, "views_weight=-1.0: must not be negative"),
        ({"sharp_target": "left"}, "sharp_target='left': allowed are 'sharp', 'combined'"),
        (
            {"sharp_weight": 0.0, "views_weight": 0.0, "combined_weight": 0.0, "difference_weight": 0.0},
            "all weights are 0",
        ),
    ],
)
def test_wrong_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"net": {"outputs": "views"}}, "mdp: a network with outputs=views has nothing for sharp_weight: set to 0"),
        (
            {"net": {"outputs": "sharp"}, "freeze_sharp": True},
            "has nothing for views_weight, combined_weight, difference_weight, freeze_sharp: set",
        ),
        ({"net": {"outputs": "views"}, "sharp_weight": 0.0, "freeze_sharp": True}, "has nothing for freeze_sharp"),
    ],
)
def test_training_for_outputs_that_are_not_there_is_refused(options, message):
    with pytest.raises(DualPixelError, match=message):
        small(**options).setup("fit")


@pytest.mark.parametrize("outputs", ["views", "sharp"])
def test_networks_of_a_single_task_are_loaded_under_the_common_name(outputs, tmp_path):
    recipe = small(net={"outputs": outputs})
    save_weights(tmp_path / "one.safetensors", recipe.net.state_dict(), recipe.weights_metadata())
    again = dualpixel.load("mdp", weights=tmp_path / "one.safetensors")
    with torch.no_grad():
        prediction = again({"combined": images()["combined"]})
    assert set(prediction) == ({"sharp"} if outputs == "sharp" else {"left", "right"})
    assert set(again.targets) == set(prediction)
    assert set(again.loss_terms(images(), prediction)) == (
        {"sharp"} if outputs == "sharp" else {"views", "combined", "difference"}
    )
