"""How many samples a second K3DN's three sizes train on a GPU."""

import time

import pytest
import torch

from dualpixel.evaluate.cost import count_macs
from dualpixel.nets.k3dn import K3DN, VARIANTS
from dualpixel.recipes import K3DNRecipe

SIZE = (528, 512)  # the windows do not fit 512 x 512
BATCH, STEPS, WARM_UP = 8, 20, 5
PEAK = 790e12  # operations a second in bfloat16, of an H100
LEAST = {"k3dn_tiny": 270, "k3dn_light": 150, "k3dn": 46.5}  # samples of 512 x 512 a second


@pytest.mark.gpu
@pytest.mark.parametrize("name", VARIANTS)
def test_training_rate_on_a_gpu(name):
    recipe = K3DNRecipe(K3DN(**VARIANTS[name]), joint=True, reblur_weight=0.0)
    images = {image: torch.rand(BATCH, 3, *SIZE, device="cuda") for image in ("left", "right", "sharp")}
    macs = count_macs(recipe.cpu(), {image: value[:1] for image, value in images.items()})
    recipe = recipe.cuda().train()
    for layer in recipe.net.modules():  # not the whole network: some weights have five axes
        if isinstance(layer, torch.nn.Conv2d):
            layer.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(recipe.parameters(), lr=3e-4, fused=True)

    def step():
        with torch.autocast("cuda", torch.bfloat16):
            prediction = recipe(images)
        loss = torch.stack(list(recipe.loss_terms(images, prediction).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for number in range(WARM_UP + STEPS):
        if number == WARM_UP:
            torch.cuda.synchronize()
            begin = time.perf_counter()
        step()
    torch.cuda.synchronize()
    rate = BATCH * STEPS / (time.perf_counter() - begin)
    as_512 = rate * SIZE[0] * SIZE[1] / 512**2
    peak = torch.cuda.max_memory_allocated() / 2**30
    print(
        f"\n| {name}, batch {BATCH} of {SIZE[0]}x{SIZE[1]}, bfloat16, {torch.cuda.get_device_name()} | {rate:.0f} samples/s "
        f"| {as_512:.0f} of 512x512 | {100 * 6 * macs * rate / PEAK:.0f} % of {PEAK / 1e12:.0f} TFLOP/s | {peak:.1f} GiB |"
    )
    assert as_512 >= LEAST[name]
