"""Every protocol on every recipe: either it is scored, or one or two lines say why not."""

import pytest
import torch
from lightning.pytorch import Trainer
from recipe_files import FILES, model_of

import dualpixel
from dualpixel import DualPixelError
from dualpixel.data import DualPixelData
from dualpixel.data.registry import card_names, get_card
from dualpixel.evaluate.columns import column_names, scored_maps
from dualpixel.evaluate.predicted_views import check_can_be_replaced
from dualpixel.evaluate.protocols import PROTOCOLS, check_data, check_views
from dualpixel.evaluate.result import load_result
from dualpixel.evaluate.scores import Scores
from dualpixel.recipes.outputs import trained_outputs

RECIPES = [name for name in FILES if "/" not in name]
ONE_IMAGE = {"dpdnet_single", "k3dn_single", "mdp", "mdp_views"}
"""Recipes that take the combined image."""
BLUR = {"dddnet", "dddnet_syn"}
"""Recipes that predict blur."""
NARROW = {
    **dict.fromkeys(("dpdnet", "dpdnet_single", "mdp", "mdp_views", "dpanet"), {"width": 0.05}),
    "dddnet": {"width": 0.05},
    "k3dn_tiny": {"base_channels": 4},
}


@pytest.fixture(scope="module")
def models():
    return {name: model_of(name) for name in RECIPES}


def refusal(protocol, recipe, card):
    """What the checks before the first batch say, and that of the first prediction."""
    where = f"{card.name} test"
    try:
        check_data(protocol, card.name, card.bit_depth)
        check_views(protocol, protocol.views == "predicted")
        if protocol.views == "predicted":
            check_can_be_replaced(protocol.id, recipe.name, recipe.inputs, card.fields, where)
        protocol.check_inputs(recipe.inputs)
        protocol.check_truth(trained_outputs(recipe), card.fields, where)
        predicted = ["sharp", "left", "right", *(("blur", "coarse") if recipe.name in BLUR else ())]
        maps = scored_maps(protocol.truth, predicted)
        if not column_names(trained_outputs(recipe, card.fields), protocol.metrics, False, maps, protocol.truth):
            protocol.refuse(recipe.name, predicted, card.fields, where)
    except DualPixelError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", PROTOCOLS)
def test_each_protocol_takes_every_recipe_that_can_satisfy_it(models, name):
    protocol = PROTOCOLS[name]
    for card in map(get_card, card_names()):
        for recipe in models.values():
            said = refusal(protocol, recipe, card)
            has_target = bool({*trained_outputs(recipe)} & {*card.fields})
            can = card.bit_depth in protocol.data_bits
            can &= protocol.views == "data" or (recipe.name not in ONE_IMAGE and "combined" in card.fields)
            can &= protocol.truth in (None, *card.fields) and (bool(protocol.truth) or has_target)
            can &= protocol.truth is None or recipe.name in BLUR or (bool(protocol.metrics) and has_target)
            assert (said is None) == can, (card.name, recipe.name, said)
            if said is not None:
                assert len(said) < 420 and "--protocol" in said and name in said.replace("--protocol", "")
    assert any(
        refusal(protocol, recipe, card) is None for card in map(get_card, card_names()) for recipe in models.values()
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("protocol", ["dpdnet-16bit", "dpanet-8bit", "dpanet-half", "dddnet-half", "tiled-16bit"])
def test_photographs_are_scored_with_every_network(small_card, small_shards, tmp_path, name, protocol):
    torch.manual_seed(0)
    recipe = dualpixel.load(name, **NARROW[name])
    trainer = Trainer(
        accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=tmp_path, callbacks=[Scores(protocol, lpips=False)],
    )  # fmt: skip
    trainer.test(recipe, datamodule=DualPixelData(str(small_card), root=small_shards, num_workers=0), verbose=False)
    result = load_result(next(tmp_path.rglob("result.json")))
    assert result.protocol == protocol and result.protocol_settings["id"] == protocol
    assert 0 < result.means["overall"]["views_psnr" if name == "mdp_views" else "psnr"] < 60
