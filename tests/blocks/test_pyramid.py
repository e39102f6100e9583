import pytest
import torch
from dpanet_parts import fill_part, stored
from torch import nn

from dualpixel.blocks.pyramid import PyramidExtractor


def test_features_are_those_of_the_authors_extractor(reference, fill):
    extractor = fill_part(PyramidExtractor(16), reference, fill, "predeblur.")
    arrays = stored(reference, "dpanet-ops")
    with torch.no_grad():
        assert (extractor(arrays["pyr_in"]) - arrays["pyr_out"]).abs().max() < 1e-5


def test_parameters_of_the_published_extractor():
    with torch.device("meta"):
        assert sum(one.numel() for one in PyramidExtractor().parameters()) == 666_496


def test_coarse_scales_reach_the_result():
    extractor = PyramidExtractor(2)
    for scale in (extractor.stem2, extractor.stem3):
        nn.init.zeros_(scale.weight)
        nn.init.zeros_(scale.bias)
    image = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        without = extractor(image)
        nn.init.ones_(extractor.stem2.bias)
        with_half = extractor(image)
        nn.init.ones_(extractor.stem3.bias)
        with_quarter = extractor(image)
    assert (with_half - without).mean() == pytest.approx(1.0, abs=0.3)
    assert (with_quarter - with_half).mean() == pytest.approx(1.0, abs=0.3)


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match="multiples of 4, found 8 x 10"):
        PyramidExtractor(2)(torch.rand(1, 3, 8, 10))
