import pytest
import torch
from recipe_files import FILES, model_of, read
from torch.nn import functional

import dualpixel
from dualpixel.commands.configurations import check_settings
from dualpixel.evaluate.cost.operations import count_parameters
from dualpixel.losses.depth import reblur_loss, root_norm
from dualpixel.nets import DDDNet
from dualpixel.recipes import DDDNetRecipe
from dualpixel.weights.files import save_weights


def small(net=None, **options):
    torch.manual_seed(2)
    return DDDNetRecipe(DDDNet(**{"width": 0.1, **(net or {})}), **options)


def images(height=64, width=72):
    random = torch.Generator().manual_seed(0)
    batch = {name: torch.rand(1, 3, height, width, generator=random) for name in ("left", "right", "combined", "sharp")}
    return {**batch, "blur": 8 * torch.rand(1, 1, height, width, generator=random)}


def found(recipe, batch):
    with torch.no_grad():
        return recipe(batch)


def test_the_two_recipes_are_the_papers_network():
    synthetic, photographs = model_of("dddnet_syn"), model_of("dddnet")
    assert count_parameters(synthetic) == count_parameters(photographs) == 7_455_979
    assert (synthetic.name, photographs.name) == ("dddnet_syn", "dddnet")
    assert synthetic.weights == {"restoration": 1.0, "depth": 1.0, "coarse": 1.0, "reblur": 1.0}
    assert photographs.weights == {"restoration": 1.0, "depth": 0.0, "coarse": 0.0, "reblur": 1.0}
    assert synthetic.targets == ("sharp", "blur") and photographs.targets == ("sharp",)
    assert synthetic.rendering == {"vertical": "down", "weight": "count", "maximum_radius": 16.0}
    assert photographs.rendering == {"vertical": "sym", "weight": "energy", "maximum_radius": 16.0}


def test_what_is_not_published_is_marked():
    for name in ("dddnet_syn", "dddnet"):
        lines = {line.split(":")[0].strip(): line for line in FILES[name].read_text().splitlines() if ":" in line}
        for key in (
            "coarse_weight",
            "reblur_after",
            "reblur_scale",
            "reblur_offset",
            "reblur_maximum",
            "crop_size",
            "max_epochs",
        ):
            assert "# not published; ours" in lines[key]


def test_the_ablation_leaves_the_reblur_loss_out():
    text = FILES["ablations/dddnet/no_reblur"].read_text()
    for names in (("dddnet_syn",), ("dddnet", "ablations/dddnet/scratch")):
        files = (*names, "ablations/dddnet/no_reblur")
        assert " ".join(f"--config recipes/{name}.yaml" for name in files) in text
        check_settings(["fit", *(part for name in files for part in ("--config", str(FILES[name])))])
        assert model_of(*files).weights["reblur"] == 0.0
    assert "7,455,979 parameters" in text


def test_from_scratch_photographs_are_trained_on_as_the_synthetic_set_is():
    text = FILES["ablations/dddnet/scratch"].read_text()
    settings = check_settings(
        ["fit", *(part for name in ("dddnet", "ablations/dddnet/scratch") for part in ("--config", str(FILES[name])))]
    )
    synthetic, tuned = read("dddnet_syn"), read("dddnet")
    for made, like in ((settings["trainer"], synthetic["trainer"]), (settings["data"], tuned["data"])):
        assert made == like
    model, like = settings["model"]["init_args"], synthetic["model"]["init_args"]
    assert all(model[name] == like[name] for name in ("optimizer", "scheduler", "reblur_after", "init_from"))
    assert model_of("dddnet", "ablations/dddnet/scratch").weights == model_of("dddnet").weights
    values = [line for line in text.splitlines() if ": " in line and not line.startswith("#")]
    assert len(values) == 6 and all("  # " in line for line in values) and "7,455,979 parameters" in text


def test_every_overlay_of_the_paper_is_tried_here():
    found = {name.split("/")[-1] for name in FILES if name.startswith("ablations/dddnet/")}
    assert found == {"no_reblur", "scratch", "short", "signed"}


def test_blur_of_both_signs_is_a_file_away():
    file = FILES["ablations/dddnet/signed"]
    check_settings(["fit", "--config", str(FILES["dddnet_syn"]), "--config", str(file)])
    recipe = model_of("dddnet_syn", "ablations/dddnet/signed")
    assert count_parameters(recipe) == 7_455_979 and "7,455,979 parameters" in file.read_text()
    assert recipe.net.options["shifts"] == list(range(-4, 4))
    assert recipe.rendering == {"vertical": "sym", "weight": "energy", "maximum_radius": 16.0}
    assert recipe.radius(torch.tensor([-3.0])).item() == -3.0
    values = [line for line in file.read_text().splitlines() if ": " in line and not line.startswith("#")]
    assert all("  # " in line for line in values)


def test_a_short_training_weighs_the_images_more_and_does_not_clip():
    files = (
        "dddnet_syn",
        "ablations/dddnet/signed",
        "ablations/dddnet/short",
        "overlays/quickstart",
        "overlays/quickstart_dddnet",
    )
    check_settings(["fit", *(part for name in files for part in ("--config", str(FILES[name])))])
    weights = model_of(*files).weights
    assert weights == {"restoration": 10.0, "depth": 1.0, "coarse": 1.0, "reblur": 10.0}
    assert (
        read(*files)["trainer"]["gradient_clip_val"] is None and read(*files)["model"]["init_args"]["reblur_after"] == 0
    )


def test_the_loss_is_the_sum_of_its_terms():
    batch = images()
    recipe = small(depth_weight=0.5, coarse_weight=0.25, reblur_weight=2.0, reblur_after=0, reblur_offset=-1.5)
    prediction = found(recipe, batch)
    terms = recipe.loss_terms(batch, prediction)
    assert terms["restoration"].item() == pytest.approx(root_norm(prediction["sharp"], batch["sharp"]).item())
    depth = functional.smooth_l1_loss(prediction["blur"], batch["blur"]).item()
    coarse = functional.smooth_l1_loss(prediction["coarse"], batch["blur"]).item()
    assert (terms["depth"].item(), terms["coarse"].item()) == pytest.approx((0.5 * depth, 0.25 * coarse))
    views = (batch["left"], batch["right"])
    reblur = reblur_loss(prediction["sharp"], prediction["blur"] - 1.5, *views, vertical="sym", weight="energy")
    assert terms["reblur"].item() == pytest.approx(2 * reblur.item())


def test_radii_of_one_sign_are_held_there_and_borders_are_left_out():
    recipe = small(reblur_after=0, reblur_offset=-1.75, reblur_minimum=0.0, reblur_margin=8)
    assert recipe.radius(torch.tensor([1.0, 1.75, 4.0])).tolist() == [0.0, 0.0, 2.25]
    batch = images()
    prediction = found(recipe, batch)
    blur = (prediction["blur"] - 1.75).clamp(min=0)
    wanted = reblur_loss(prediction["sharp"], blur, batch["left"], batch["right"], margin=8)
    assert recipe.loss_terms(batch, prediction)["reblur"].item() == pytest.approx(wanted.item())
    narrow = {name: image[..., :12, :12] for name, image in (batch | prediction).items()}
    assert recipe.loss_terms(narrow, narrow)["reblur"].isfinite()


def test_the_reblur_loss_waits_and_unknown_blur_is_left_out():
    batch = images()
    prediction = found(small(), batch)
    assert set(small(reblur_after=1).loss_terms(batch, prediction)) == {"restoration", "depth", "coarse"}
    assert set(small(reblur_after=0, depth_weight=0, coarse_weight=0).loss_terms(batch, prediction)) == {
        "restoration",
        "reblur",
    }
    half = dict(batch, blur=batch["blur"].clone())
    half["blur"][..., :36] = torch.nan
    wanted = functional.smooth_l1_loss(prediction["blur"][..., 36:], batch["blur"][..., 36:])
    assert small().loss_terms(half, prediction)["depth"].item() == pytest.approx(wanted.item())


def test_gradients_of_all_terms_reach_both_networks():
    recipe, batch = small(reblur_after=0).train(), images()
    terms = recipe.loss_terms(batch, recipe(batch))
    recipe.zero_grad()
    terms["reblur"].backward()
    silent = [name for name, one in recipe.named_parameters() if one.grad is None or not one.grad.any()]
    assert silent == []


@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize("reblur", [0.0, 1.0])
@pytest.mark.parametrize("depth", [0.0, 1.0])
def test_all_that_trains_has_a_gradient_as_several_processes_demand(depth, reblur, after):
    recipe = small(depth_weight=depth, coarse_weight=0, reblur_weight=reblur, reblur_after=after).train()
    batch = images()
    torch.stack(list(recipe.loss_terms(batch, recipe(batch)).values())).sum().backward()
    silent = [name for name, one in recipe.named_parameters() if one.requires_grad and one.grad is None]
    frozen = {name.split(".")[2] for name, one in recipe.named_parameters() if not one.requires_grad}
    assert silent == [] and frozen == (set() if depth or reblur else {"depth"})


def test_a_crop_of_unknown_blur_adds_nothing():
    recipe, batch = small(reblur_weight=0.0).train(), images()
    batch["blur"][:] = torch.nan
    prediction = recipe(batch)
    terms = recipe.loss_terms(batch, prediction)
    assert terms["depth"].item() == terms["coarse"].item() == 0
    torch.stack(list(terms.values())).sum().backward()
    assert all(one.grad is None or one.grad.isfinite().all() for one in recipe.parameters())
    assert recipe.diagnostics(batch, prediction)["blur_beyond/network"] == 0


def test_nothing_is_clamped_or_rendered_that_training_does_not_want(monkeypatch):
    recipe, batch = small(reblur_weight=0.0), images()
    recipe.net.deblur.image[-1].bias.data.fill_(5)
    assert found(recipe.train(), batch)["sharp"].max() > 1
    assert found(recipe.eval(), batch)["sharp"].max() <= 1
    monkeypatch.setattr("dualpixel.recipes.dddnet.reblur_loss", lambda *views, **options: pytest.fail("rendered"))
    assert set(recipe.loss_terms(batch, found(recipe, batch))) == {"restoration", "depth", "coarse"}


def test_any_size_is_padded_and_cropped():
    recipe = dualpixel.load("dddnet_syn", width=0.1)
    for size in ((1, 5), (70, 131)):
        batch = images(*size)
        prediction = found(recipe, {name: batch[name] for name in ("left", "right")})
        assert prediction["sharp"].shape == (1, 3, *size) and prediction["blur"].shape == (1, 1, *size)
        assert prediction["sharp"].min() >= 0 and prediction["sharp"].max() <= 1


def test_signed_shifts_are_stored_with_the_weights(tmp_path):
    recipe = small(net={"shifts": list(range(-4, 4))})
    save_weights(tmp_path / "one.safetensors", recipe.net.state_dict(), recipe.weights_metadata())
    again = dualpixel.load("dddnet_syn", weights=tmp_path / "one.safetensors")
    assert again.net.options["shifts"] == list(range(-4, 4))
    assert torch.equal(found(again, images())["coarse"], found(recipe.eval(), images())["coarse"])


def test_blur_out_of_reach_is_reported():
    recipe, batch = small(reblur_maximum=4.0, reblur_offset=-1.5), images()
    prediction = found(recipe, batch)
    prediction["blur"] = torch.tensor([5.4, 5.6, -2.4, -2.6]).view(1, 1, 2, 2)
    batch["blur"] = torch.tensor([0.0, 11.0, 11.1, -0.1]).view(1, 1, 2, 2)
    assert recipe.diagnostics(batch, prediction) == {"blur_beyond/renderer": 0.5, "blur_beyond/network": 0.5}
    batch["blur"][..., 0, 0] = torch.nan  # of the known ones
    assert recipe.diagnostics(batch, prediction)["blur_beyond/network"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"restoration": "ssim"}, "restoration='ssim': allowed are 'norm', 'mse', 'l1', 'charbonnier'"),
        ({"reblur_weight": -1.0}, "reblur_weight=-1.0: must be a number, and not negative"),
        ({"depth_weight": float("nan")}, "depth_weight=nan: must be a number"),
        ({"restoration_weight": 0.0}, "restoration_weight=0.0: must be positive"),
        ({"reblur_maximum": 0.0}, "reblur_maximum=0.0: must be positive"),
        ({"reblur_scale": 0.0}, "reblur_scale=0.0, reblur_offset=0.0: must be numbers, and the scale not 0"),
        ({"reblur_minimum": 20.0}, "reblur_minimum=20.0: must be below reblur_maximum, 16.0"),
        ({"reblur_vertical": "up"}, "reblur_vertical='up': allowed are 'sym', 'down'"),
        ({"reblur_normalise": "none"}, "reblur_normalise='none': allowed are 'count', 'energy'"),
    ],
)
def test_wrong_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)
