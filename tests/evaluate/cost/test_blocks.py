import pytest
import torch
from torch import nn
from torch.nn import functional

from dualpixel.evaluate.cost.blocks import OUTSIDE, macs_by_block, parameters_by_block, shared_out
from dualpixel.evaluate.cost.operations import count_macs, count_parameters, shapes_of_one_image
from dualpixel.nets import K3DN, MDP, DDDNet, DPANet
from dualpixel.nets.k3dn import VARIANTS
from dualpixel.recipes import DDDNetRecipe, DPANetRecipe, K3DNRecipe, MDPRecipe


class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale, self.conv = nn.Parameter(torch.ones(5)), nn.Conv2d(3, 3, 1, bias=False)

    def forward(self, image):
        return functional.conv2d(self.conv(image), self.conv.weight)


class Net(nn.Module):
    """`twice` is used twice, `lent` only through its weights, which `tied` has as well, `listed` is never called itself."""

    def __init__(self):
        super().__init__()
        self.offset = nn.Parameter(torch.ones(7))
        self.twice, self.lent = Part(), nn.Conv2d(3, 3, 1, bias=False)
        self.tied = nn.Conv2d(3, 3, 1, bias=False)
        self.tied.weight = self.lent.weight
        self.listed = nn.ModuleList([nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 3, 1, bias=False)])

    def forward(self, image):
        image = functional.conv2d(self.twice(self.twice(image)), self.lent.weight)
        return self.listed[1](self.listed[0](self.tied(image)))


class OnImage(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = Net()

    def forward(self, batch):
        return {"sharp": self.net(batch["combined"])}


@pytest.fixture
def image():
    return {"combined": torch.empty(1, 3, 4, 5)}


ONCE = 4 * 5 * 3 * 3
"""Multiply-accumulates of one of the convolutions."""


def test_blocks_share_parameters_and_work(image):
    module = OnImage()
    assert parameters_by_block(module.net) == {OUTSIDE: 7, "twice": 14, "lent": 9, "listed": 18}
    assert macs_by_block(module, image) == {"twice": 4 * ONCE, OUTSIDE: ONCE, "tied": ONCE, "listed": 2 * ONCE}
    assert sum(macs_by_block(module, image).values()) == count_macs(module, image)


def test_what_a_block_does_beside_its_parts_is_told_from_them_at_a_deeper_level(image):
    module = OnImage()
    parameters, macs = parameters_by_block(module.net, 2), macs_by_block(module, image, 2)
    assert (parameters["twice"], parameters["twice.conv"], parameters["listed.0"]) == (5, 9, 9)
    assert (macs["twice"], macs["twice.conv"], macs["listed.0"], macs["listed.1"]) == (2 * ONCE, 2 * ONCE, ONCE, ONCE)


def test_what_a_reading_grows_by_is_shared_out_exactly_and_no_hooks_stay():
    net, clock = Net(), iter(range(0, 1000, 3))
    with shared_out(net, 1, lambda: next(clock)) as shares:
        net(torch.ones(1, 3, 2, 2))
    assert shares == {OUTSIDE: 18, "twice": 6, "tied": 3, "listed": 6}  # outside: before, between and behind
    with pytest.raises(RuntimeError), shared_out(net, 1, lambda: next(clock)):
        net(torch.ones(1, 4, 2, 2))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


@pytest.mark.parametrize(
    "make",
    [
        lambda: DPANetRecipe(DPANet()),
        lambda: MDPRecipe(MDP()),
        lambda: DDDNetRecipe(DDDNet()),
        lambda: K3DNRecipe(K3DN(**VARIANTS["k3dn_tiny"])),
    ],
    ids=["dpanet", "mdp", "dddnet", "k3dn_tiny"],
)
def test_the_blocks_of_the_papers_networks_add_up(make):
    with torch.device("meta"):
        recipe = make()
    shapes = shapes_of_one_image(recipe, 128, 96)
    for depth in (1, 3):
        macs = macs_by_block(recipe, shapes, depth)
        assert sum(macs.values()) == count_macs(recipe, shapes) > 0 and macs[OUTSIDE] == 0
        assert sum(parameters_by_block(recipe.net, depth).values()) == count_parameters(recipe.net)


def test_dpanets_blocks_cost_what_was_counted_by_hand():
    with torch.device("meta"):
        recipe = DPANetRecipe(DPANet())
    macs = macs_by_block(recipe, shapes_of_one_image(recipe, 256, 256))
    giga = {block: round(count / 1e9, 2) for block, count in macs.items() if count}
    ours = {"extractor": 55.49, "enc5": 24.16, "dec4": 31.10, "dec3": 25.42, "dec2": 26.95, "dec1": 30.01, "out": 2.53}
    # with the correlations of 81 displacements at half, a quarter ... of the size: 0.93 G in all
    encoder = {"enc1": 36.05, "enc2": 30.41, "enc3": 28.63, "enc4": 27.74}
    assert giga == ours | encoder


def test_most_of_mdp_is_in_its_decoders():
    with torch.device("meta"):
        parameters = parameters_by_block(MDP())
    assert parameters.pop("decoders") == 44_534_829
    assert parameters == {"enc1": 38_720, "enc2": 221_440, "enc3": 885_248, "enc4": 1_180_160}
