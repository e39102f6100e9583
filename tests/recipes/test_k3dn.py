import pytest
import torch
from k3dn_parts import SMALL
from recipe_files import FILES, model_of, read

import dualpixel
from dualpixel.commands.configurations import check_settings
from dualpixel.errors import DualPixelError
from dualpixel.evaluate.cost.operations import count_parameters
from dualpixel.losses.functional import charbonnier, edge_charbonnier, frequency_l1
from dualpixel.nets import K3DN
from dualpixel.nets.k3dn import VARIANTS
from dualpixel.recipes import K3DNRecipe
from dualpixel.weights.files import save_weights

BOTH = ("k3dn_light_stage1", "k3dn_light")
ABLATIONS = {
    # file: the recipes it is for, and the parameters of the last of them
    "table4_full": (BOTH, 5_034_694),
    "table4_no_reblur": (BOTH, 5_034_694),
    "table4_no_srp": (("k3dn_light_stage1",), 3_287_346),
    "table4_no_psf": (("k3dn_light",), 3_635_046),
    "table4_no_psf_residual": (("k3dn_light",), 4_814_694),
    "table4_psf_only": (("k3dn_light_stage1",), 3_287_346),
    "table5_064_kernels": (BOTH, 2_028_950),
    "table5_096_kernels": (BOTH, 3_309_998),
    "table5_128_kernels": (BOTH, 5_034_694),
    "table5_160_kernels": (BOTH, 7_203_038),
    "table5_192_kernels": (BOTH, 9_815_030),
}


def small(joint=False, net=None, **options):
    torch.manual_seed(2)
    return K3DNRecipe(K3DN(**{**SMALL, "base_channels": 4, **(net or {})}), joint=joint, **options)


def images(height=256, width=256, batch=1):
    random = torch.Generator().manual_seed(0)
    names = ("left", "right", "combined", "sharp")
    return {name: torch.rand(batch, 3, height, width, generator=random) for name in names}


def step(recipe, batch, optimizer=None):
    trained = [one for one in recipe.parameters() if one.requires_grad]
    optimizer = optimizer or torch.optim.AdamW(trained, lr=1e-3)
    terms = recipe.loss_terms(batch, recipe(batch))
    optimizer.zero_grad()
    torch.stack(list(terms.values())).sum().backward()
    optimizer.step()
    return {name: float(term.detach()) for name, term in terms.items()}


@pytest.mark.parametrize("name", [*VARIANTS, *(f"{name}_stage1" for name in VARIANTS), "k3dn_single"])
def test_the_recipes_are_the_papers_networks(name):
    recipe = model_of(name)
    assert recipe.name == name
    options = recipe.net.options
    variant = VARIANTS["k3dn" if name == "k3dn_single" else name.removesuffix("_stage1")]
    assert {key: options[key] for key in variant} == variant
    first = name.endswith("_stage1")
    assert options["srp"] is not first
    assert recipe.only_srp is (not first and name != "k3dn_single")
    assert recipe.reblur_weight == (0.0 if recipe.only_srp else 0.1)
    text = FILES[name].read_text()
    assert f"({count_parameters(recipe):,} parameters)" in text
    assert recipe.inputs == (("combined",) if name == "k3dn_single" else ("left", "right"))


def test_what_the_paper_does_not_say_is_marked_in_every_recipe():
    unknown = ("reblur_weight", "loss", "edge_weight", "frequency_weight", "T_max", "crop_size", "mirror", "max_epochs")
    for name in FILES:
        if name.startswith("k3dn"):
            lines = {line.split(":")[0].strip(): line for line in FILES[name].read_text().splitlines() if ":" in line}
            assert all("# not published; ours" in lines[key] for key in unknown), name
            assert "# paper, section 4.1" in lines["lr"] and "# paper, section 4.1" in lines["batch_size"]


def test_crops_of_the_recipes_need_no_padding():
    for name in FILES:
        if name.startswith("k3dn"):
            size = tuple(read(name)["data"]["init_args"]["crop_size"])
            assert size == (576, 448)
            assert model_of(name).net.padded_size(*size) == size


def test_every_ablation_has_a_file():
    assert {name.split("/")[-1] for name in FILES if name.startswith("ablations/k3dn/")} == set(ABLATIONS)


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablations_are_the_rows_of_the_papers_tables(name):
    file, (recipes, parameters) = FILES[f"ablations/k3dn/{name}"], ABLATIONS[name]
    text = file.read_text()
    for recipe in recipes:
        assert f"--config recipes/{recipe}.yaml --config recipes/ablations/k3dn/{name}.yaml" in text
        check_settings(["fit", "--config", str(FILES[recipe]), "--config", str(file)])
        model = model_of(recipe, f"ablations/k3dn/{name}")
    assert count_parameters(model) == parameters
    assert f"{parameters:,} parameters" in text
    values = [line for line in text.splitlines() if ": " in line and not line.startswith("#")]
    assert values and all("  # " in line for line in values)
    first = model_of(recipes[0], f"ablations/k3dn/{name}")
    assert (first.reblur_weight > 0) is (name not in ("table4_no_reblur", "table4_psf_only") and "no_psf" not in name)
    assert (model.net.srp is None) is (name in ("table4_no_srp", "table4_psf_only"))
    assert (model.net.estimator is None) is ("no_psf" in name)
    if name.startswith("table5"):
        assert 4 * model.net.options["base_channels"] == int(name.split("_")[1])


def test_the_loss_is_the_weighted_sum_of_both_ways():
    batch = images(20, 24)
    prediction = {"sharp": batch["left"], "reblurred": batch["right"]}
    recipe = small(reblur_weight=0.3, edge_weight=0.05, frequency_weight=0.1)
    blurry = (batch["left"] + batch["right"]) / 2

    def distance(image, target):
        return charbonnier(image, target) + 0.05 * edge_charbonnier(image, target) + 0.1 * frequency_l1(image, target)

    terms = recipe.loss_terms(batch, prediction)
    assert terms["deblur"].item() == pytest.approx(distance(batch["left"], batch["sharp"]).item(), rel=1e-6)
    assert terms["reblur"].item() == pytest.approx(0.3 * distance(batch["right"], blurry).item(), rel=1e-6)
    plain = small(loss="mse", edge_weight=0).loss_terms(batch, {"sharp": batch["left"]})
    assert plain["deblur"].item() == pytest.approx((batch["left"] - batch["sharp"]).square().mean().item())
    assert set(plain) == {"deblur"}


def test_reblurring_happens_in_training_only():
    batch, recipe = images(), small(joint=True)
    assert set(recipe(batch)) == {"sharp", "reblurred"}
    assert set(small(joint=True, reblur_weight=0.0)(batch)) == {"sharp"}
    with torch.no_grad():
        assert set(recipe.eval()(batch)) == {"sharp"}


def test_the_single_network_blurs_towards_its_one_image():
    recipe, batch = small(joint=True, net={"views": "combined"}), images()
    assert torch.equal(recipe.blurry(batch), batch["combined"])
    assert set(step(recipe, batch)) == {"deblur", "reblur"}


def test_the_second_stage_trains_the_srp_blocks_alone():
    recipe, batch = small(), images()
    before = {name: value.clone() for name, value in recipe.net.state_dict().items()}
    for _ in range(2):
        recipe.train()
        step(recipe, batch)
    changed = {name for name, value in recipe.net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith("srp.")}
    assert not recipe.net.estimator.training and recipe.net.srp.training
    assert recipe.net.estimator.features.start[0].norm.num_batches_tracked == 0


@pytest.mark.parametrize("options", [{"joint": True}, {"net": {"srp": False}}])
def test_other_stages_train_everything(options):
    recipe, batch = small(**options), images()
    before = {name: value.clone() for name, value in recipe.net.state_dict().items()}
    optimizer = torch.optim.AdamW(recipe.parameters(), lr=1e-3)
    for _ in range(2):  # kernels are first asked in the second step
        step(recipe.train(), batch, optimizer)
    fixed = {name for name, value in recipe.net.state_dict().items() if torch.equal(value, before[name])}
    assert fixed == {name for name in before if name.endswith(("mixing.permutation", "mixing.sign"))}


def test_views_are_not_exchanged_and_any_size_is_padded_and_cropped():
    recipe, batch = small(joint=True).eval(), images(100, 130)
    seen = []
    recipe.net.estimator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    with torch.no_grad():
        sharp = recipe(batch)["sharp"]
    assert sharp.shape == (1, 3, 100, 130)
    left, right = seen[0]
    assert left.shape == (1, 3, 256, 256)
    assert torch.equal(left[..., :100, :130], batch["left"] - 0.5)
    assert torch.equal(right[..., :100, :130], batch["right"] - 0.5)


def test_a_short_training_lowers_both_losses():
    recipe = small(joint=True, net={"base_channels": 8, "srp": False}, reblur_weight=1.0)
    batch = images()
    batch["sharp"] = torch.nn.functional.avg_pool2d(batch["sharp"], 3, 1, 1)
    batch["left"] = batch["right"] = torch.nn.functional.avg_pool2d(batch["sharp"], 5, 1, 2)
    optimizer = torch.optim.AdamW(recipe.parameters(), lr=2e-3)
    losses = [step(recipe, batch, optimizer) for _ in range(12)]
    assert losses[-1]["deblur"] < 0.85 * losses[0]["deblur"]
    assert losses[-1]["reblur"] < 0.8 * losses[0]["reblur"]


def test_diagnostics_compare_what_is_blurred():
    recipe, batch = small(joint=True).eval(), images(100, 130)
    with torch.no_grad():
        figures = recipe.diagnostics(batch, recipe(batch))
    assert list(figures) == [
        "reverse_error/block 0",
        "reverse_error/block 1",
        "reverse_error/all",
        "reblur_error/not blurred",
        "reblur_error/of sharp",
        "reblur_error/of output",
    ]
    blurry = (batch["left"] + batch["right"]) / 2
    wanted = (batch["sharp"] - blurry).square().mean().sqrt()
    assert figures["reblur_error/not blurred"] == pytest.approx(float(wanted))
    assert all(value > 0 for value in figures.values())
    assert small(net={"psf": "none"}, reblur_weight=0.0).diagnostics(batch, {"sharp": batch["sharp"]}) == {}
    recipe.net.cache()
    assert recipe.diagnostics(batch, {"sharp": batch["sharp"]}) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "ssim"}, "loss='ssim': allowed are 'charbonnier', 'l1', 'mse'"),
        ({"edge_weight": -1.0}, "edge_weight=-1.0: must not be negative"),
        ({"net": {"psf": "none"}}, "reblur_weight=0.1: psf='none' has no kernels to blur by; set it to 0"),
    ],
)
def test_wrong_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_weights_are_loaded_without_a_trainer_and_those_of_a_first_stage_are_not_completed(tmp_path):
    trained, recipe = small(), small()
    trained.net.requires_grad_(False).out.weight.fill_(0.5)
    save_weights(tmp_path / "whole.safetensors", trained.net.state_dict(), trained.weights_metadata())
    recipe.load_weights(tmp_path / "whole.safetensors")
    assert torch.equal(recipe.net.out.weight, trained.net.out.weight)
    first = small(net={"srp": False})
    save_weights(tmp_path / "first.safetensors", first.net.state_dict(), first.weights_metadata())
    with pytest.raises(DualPixelError, match=r"missing: srp\.0\.query\.weight"):
        recipe.load_weights(tmp_path / "first.safetensors")


def test_the_form_for_inference_is_an_option_of_load():
    recipe = dualpixel.load("k3dn_tiny", width=0.1)
    state = recipe.net.state_dict()
    again = dualpixel.load("k3dn_tiny", width=0.1)
    again.net.load_state_dict(state)
    again.net.cache()
    batch = images(64, 64)
    with torch.no_grad():
        assert torch.equal(again(batch)["sharp"], recipe(batch)["sharp"])
