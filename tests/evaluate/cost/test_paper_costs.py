import pytest
import torch

from dualpixel.evaluate.cost.operations import count_macs, count_macs_by_operator
from dualpixel.evaluate.cost.paper_costs import (
    deblurnet_operations,
    dpanet_operations,
    dpdnet_operations,
    k3dn_operations,
    paper_cost,
)
from dualpixel.nets import K3DN, MDP, DDDNet, DPANet, DPDNet
from dualpixel.nets.k3dn import VARIANTS
from dualpixel.recipes import DDDNetRecipe, DPANetRecipe, DPDNetRecipe, K3DNRecipe

RUNNER_UP = {"base_channels": 28, "residual_blocks": 2, "psf_blocks": 7, "srp_blocks": 4}
K3DN_COSTS = {
    # network: G at 1152x1792 by our count and by the paper's, G at 1120x1680 by ours
    "k3dn_tiny": (571.14, 571.31, 520.57),
    "k3dn_light": (1033.80, 1033.97, 942.27),
    "k3dn": (3352.22, 3352.39, 3055.41),
    "runner-up": (1033.01, 1033.18, 941.54),
}
FIRST_STAGES = {"k3dn_tiny": 262.12, "k3dn_light": 411.09, "k3dn": 1524.22}
TABLE_5 = {64: 358.29, 96: 647.39, 128: 1033.80, 160: 1517.53, 192: 2098.57}


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


def test_a_network_whose_cost_no_paper_prints_has_no_count_of_its_own():
    with torch.device("meta"):
        assert paper_cost(DPANet()).count is dpanet_operations
        assert paper_cost(MDP()) is None


def test_k3dns_table_counts_dpdnets_multiply_accumulates_twice():
    with torch.device("meta"):
        recipe = DPDNetRecipe(DPDNet())
    batch = {name: torch.empty(1, 3, 1120, 1680) for name in ("left", "right")}
    assert giga(count_macs(recipe, batch)) == 1574.30
    assert giga(dpdnet_operations(recipe, batch)) == 3148.60  # the table: 3150 G


def k3dn(height, width, **options):
    with torch.device("meta"):
        recipe = K3DNRecipe(K3DN(**options))
        images = ("combined",) if options.get("views") == "combined" else ("left", "right")
        return recipe, {name: torch.empty(1, 3, height, width) for name in images}


def giga(count):
    return round(count / 1e9, 2)


@pytest.mark.parametrize("name", K3DN_COSTS)
def test_k3dn_costs_what_its_table_says(name):
    options = VARIANTS.get(name, RUNNER_UP)
    published = k3dn(1152, 1792, **options)
    found = (count_macs(*published), k3dn_operations(*published), count_macs(*k3dn(1120, 1680, **options)))
    assert tuple(map(giga, found)) == K3DN_COSTS[name]


def test_k3dn_in_its_first_stage_for_one_image_and_with_other_kernel_sets():
    for name, figure in FIRST_STAGES.items():
        assert giga(count_macs(*k3dn(1152, 1792, **VARIANTS[name], srp=False))) == figure
    assert giga(count_macs(*k3dn(1152, 1792, views="combined"))) == 3223.09
    for kernels, figure in TABLE_5.items():
        options = {**VARIANTS["k3dn_light"], "base_channels": kernels // 4}
        assert giga(count_macs(*k3dn(1152, 1792, **options))) == figure


def test_a_size_between_is_counted_as_it_is_padded():
    assert count_macs(*k3dn(1100, 1650, **VARIANTS["k3dn_tiny"])) == count_macs(
        *k3dn(1120, 1680, **VARIANTS["k3dn_tiny"])
    )


def test_k3dns_table_has_the_second_half_of_dddnet():
    with torch.device("meta"):
        recipe = DDDNetRecipe(DDDNet())
    batch = {name: torch.empty(1, 3, 1120, 1680, device="meta") for name in ("left", "right")}
    parts = count_macs_by_operator(recipe, batch, part="net.deblur")
    assert round(parts["convolution"] / 1e9, 1) == 1657.0 and round(parts["bmm"] / 1e9, 1) == 3.9
    assert round(deblurnet_operations(recipe, batch) / 1e9) == 1661  # the table: 1661 G, 6.40 M
    assert round(sum(one.numel() for one in recipe.net.deblur.parameters()) / 1e6, 2) == 6.40
    depth = sum(count_macs_by_operator(recipe, batch, part="net.depth").values())
    assert round(depth / 1e9, 1) == 2346.7 and depth + sum(parts.values()) == count_macs(recipe, batch)
