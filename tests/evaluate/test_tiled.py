import pytest
import torch

import dualpixel
from dualpixel.blocks.padding import pad_to_multiple
from dualpixel.evaluate.cost.operations import count_macs
from dualpixel.evaluate.protocols import get_protocol
from dualpixel.evaluate.tiled import TiledForward
from dualpixel.recipes.base import Recipe

OVERLAP = get_protocol("tiled-16bit").inference.overlap


@pytest.fixture
def batch():
    random = torch.Generator().manual_seed(0)
    images = {name: torch.rand(1, 3, 298, 315, generator=random) for name in ("left", "right", "combined", "sharp")}
    return {**images, "key": ["a"]}


def loud(recipe):
    """The recipe in float64, its outputs dependent on all that the network can see."""
    for name, parameter in recipe.net.named_parameters():
        torch.nn.init.normal_(parameter, std=0.2 if "bias" in name else 2.0 / parameter[0].numel() ** 0.5)
    return recipe.double()


@pytest.mark.parametrize("residual", [False, True])
def test_dpdnet_in_tiles_is_dpdnet(batch, residual):
    """With the protocol's overlap, on a size that is no multiple of anything, to the rounding of double precision."""
    torch.manual_seed(0)
    recipe = loud(dualpixel.load("dpdnet", width=0.04, residual=residual))
    batch = {name: one.double() if isinstance(one, torch.Tensor) else one for name, one in batch.items()}
    with torch.inference_mode():
        whole = recipe(batch)["sharp"]
        tiled = TiledForward(recipe, 64, OVERLAP)
        found = recipe(batch)["sharp"]
        tiled.remove()
        less = TiledForward(recipe, 64, 64)
        near = recipe(batch)["sharp"]
        less.remove()
        assert torch.equal(recipe(batch)["sharp"], whole) and "forward" not in vars(recipe)
    assert found.shape == whole.shape == (1, 3, 298, 315) and whole.std() > 0.05
    assert (found - whole).abs().max() < 1e-12
    assert (near - whole).abs().max() > 1e-9


def test_no_call_sees_more_than_a_tile_and_its_surroundings(batch):
    class Small(Recipe):
        name, inputs = "small", ("left", "blur")

        def __init__(self):
            super().__init__(torch.nn.Conv2d(3, 3, 1))
            self.windows = []

        def forward(self, batch):
            self.windows.append(tuple(batch["left"].shape[-2:]))
            assert set(batch) == {"left", "blur", "combined"}
            found = {"sharp": batch["left"] * 2, "blur": batch["blur"] + 1, "coarse": batch["left"][..., ::2]}
            return {**found, "scale": torch.ones(()), "names": ["a"]}

        def loss_terms(self, batch, prediction):
            raise NotImplementedError

    recipe = Small()
    batch["blur"] = torch.rand(1, 1, 298, 315)
    TiledForward(recipe, 64, 16)
    found = recipe(batch)
    assert max(max(window) for window in recipe.windows) == 64 + 2 * 16 and len(recipe.windows) == 5 * 5
    assert set(found) == {"sharp", "blur"}
    assert torch.equal(found["sharp"], batch["left"] * 2) and torch.equal(found["blur"], batch["blur"] + 1)


def test_what_is_counted_is_what_is_run(batch):
    recipe = dualpixel.load("dpdnet", width=0.06)
    seen = {name: pad_to_multiple(batch[name], 16) for name in ("left", "right")}
    whole = count_macs(recipe, seen)
    TiledForward(recipe, 64, 16)
    assert 1.5 < count_macs(recipe, seen) / whole < (96 / 64) ** 2


@pytest.mark.parametrize("name", ["dpdnet_single", "mdp", "dpanet", "k3dn_tiny", "dddnet"])
def test_every_network_runs_in_tiles(batch, name):
    options = {"base_channels": 4} if name == "k3dn_tiny" else {"width": 0.06}
    recipe = dualpixel.load(name, **options)
    TiledForward(recipe, 128, 32)
    with torch.inference_mode():
        found = recipe({one: image[..., :160, :180] for one, image in batch.items() if one in recipe.inputs})
    assert found["sharp"].shape == (1, 3, 160, 180) and found["sharp"].isfinite().all()
