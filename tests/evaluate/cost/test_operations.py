import pytest
import torch
from torch import nn

from dualpixel.blocks.correlation import Correlation
from dualpixel.blocks.deformable import ModulatedDeformableConvolution
from dualpixel.evaluate.cost.operations import (
    count_macs,
    count_parameters,
    count_parameters_for_inference,
    shapes_of_one_image,
)
from dualpixel.nets import K3DN, DPDNet
from dualpixel.nets.k3dn import VARIANTS
from dualpixel.recipes import DPDNetRecipe


class OnBatch(nn.Module):
    def __init__(self, block, *fields):
        super().__init__()
        self.block, self.fields = block, fields

    def forward(self, batch):
        return self.block(*(batch[field] for field in self.fields))


@pytest.mark.parametrize("implementation", ["auto", "torchvision", "torch"])
def test_a_deformable_convolution_counts_as_a_plain_one(implementation):
    batch = {"features": torch.empty(2, 8, 12, 10), "side": torch.empty(2, 27, 12, 10)}
    deformable = OnBatch(ModulatedDeformableConvolution(8, 5, implementation=implementation), "features", "side")
    assert count_macs(deformable, batch) == 2 * 12 * 10 * 5 * 8 * 9
    assert count_macs(OnBatch(nn.Conv2d(8, 5, 3, padding=1), "features"), batch) == 2 * 12 * 10 * 5 * 8 * 9


def test_groups_of_a_deformable_convolution_divide_the_work():
    from torchvision.ops import DeformConv2d

    batch = {"features": torch.empty(1, 8, 6, 6), "offsets": torch.empty(1, 18, 3, 3)}
    layer = DeformConv2d(8, 4, 3, stride=2, padding=1, groups=2)
    assert count_macs(OnBatch(layer, "features", "offsets"), batch) == 3 * 3 * 4 * 4 * 9


@pytest.mark.parametrize("displacement", [0, 4])
def test_a_correlation_counts_its_window_however_it_is_computed(displacement):
    batch = {"left": torch.empty(2, 16, 9, 70), "right": torch.empty(2, 16, 9, 70)}
    count = count_macs(OnBatch(Correlation(displacement, 0.1), "left", "right"), batch)
    assert count == (2 * displacement + 1) ** 2 * 2 * 16 * 9 * 70


def test_a_network_with_a_form_for_inference_has_fewer_parameters_there_and_is_left_alone():
    with torch.device("meta"):
        tiny, other = K3DN(**VARIANTS["k3dn_tiny"]), DPDNet(width=0.1)
    assert (count_parameters_for_inference(tiny), count_parameters(tiny)) == (3_040_358, 3_086_438)
    assert not tiny.cached
    assert count_parameters_for_inference(other) == count_parameters(other)


def test_one_image_has_the_fields_that_the_recipe_needs():
    with torch.device("meta"):
        shapes = shapes_of_one_image(DPDNetRecipe(DPDNet(views="combined", width=0.1)), 12, 34)
    assert {name: (value.shape, value.device.type) for name, value in shapes.items()} == {
        "combined": ((1, 3, 12, 34), "meta")
    }


def test_a_network_whose_way_depends_on_values_cannot_be_counted():
    class Choosing(nn.Module):
        def forward(self, batch):
            return batch["left"] @ batch["left"] if batch["left"].sum() > 0 else batch["left"]

    assert count_macs(Choosing(), {"left": torch.ones(2, 2)}) is None
