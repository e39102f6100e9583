"""How many samples a second K3DN's three sizes train on a GPU."""

import pytest
import torch
from training_rate import training_rate

from dualpixel.nets.k3dn import K3DN, VARIANTS
from dualpixel.recipes import K3DNRecipe

SIZE = (528, 512)  # the windows do not fit 512 x 512
BATCH = 8
LEAST = {"k3dn_tiny": 270, "k3dn_light": 150, "k3dn": 46.5}  # samples of 512 x 512 a second


@pytest.mark.gpu
@pytest.mark.parametrize("name", VARIANTS)
def test_training_rate_on_a_gpu(name):
    recipe = K3DNRecipe(K3DN(**VARIANTS[name]), joint=True, reblur_weight=0.0)
    images = {image: torch.rand(BATCH, 3, *SIZE, device="cuda") for image in ("left", "right", "sharp")}
    assert training_rate(name, recipe, images) >= LEAST[name]
