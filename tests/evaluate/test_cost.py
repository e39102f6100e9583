import pytest
import torch
from torch import nn

from dualpixel.blocks.correlation import Correlation
from dualpixel.blocks.deformable import ModulatedDeformableConvolution
from dualpixel.evaluate.cost import count_macs


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
