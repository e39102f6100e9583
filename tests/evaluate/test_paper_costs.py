import pytest
import torch

from dualpixel.evaluate.cost import count_macs, count_macs_by_operator
from dualpixel.evaluate.paper_costs import dpanet_operations, paper_cost
from dualpixel.nets import DPANet, DPDNet
from dualpixel.recipes import DPANetRecipe


def dpanet(**options):
    with torch.device("meta"):
        return DPANetRecipe(DPANet(**options))


@pytest.fixture
def batch():
    return {name: torch.empty(1, 3, 256, 256, device="meta") for name in ("left", "right")}


def test_the_papers_count_of_the_network_and_of_its_baseline(batch):
    assert dpanet_operations(dpanet(), batch) == 213_770_043_392  # the paper: 213.77 G
    assert dpanet_operations(dpanet(eam=False, dam=False), batch) == 190_821_957_632  # the paper: 190.82 G


def test_our_count_by_operator(batch):
    parts = count_macs_by_operator(dpanet(), batch)
    assert parts["correlation"] == 934_281_216 and parts["deform_conv2d"] == 38_654_705_664
    assert parts["convolution"] + parts["deform_conv2d"] == 317_543_940_096
    assert sum(parts.values()) == count_macs(dpanet(), batch) == 318_478_221_312


def test_counting_leaves_no_hooks_behind(batch):
    recipe = dpanet()
    assert dpanet_operations(recipe, batch) == dpanet_operations(recipe, batch)
    assert not any(layer._forward_hooks for layer in recipe.modules())


def test_a_paper_that_counts_as_we_do_has_no_count_of_its_own():
    with torch.device("meta"):
        assert paper_cost(DPANet()).count is dpanet_operations
        assert paper_cost(DPDNet()) is None
