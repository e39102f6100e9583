"""How many samples a second a recipe trains on a GPU: for tests marked ``gpu``."""

import time

import torch
from torch import Tensor, nn

from dualpixel.evaluate.cost.operations import count_macs
from dualpixel.recipes import Recipe

PEAK = 790e12  # operations a second in bfloat16, of an H100
STEPS, WARM_UP = 20, 5


def training_rate(name: str, recipe: Recipe, images: dict[str, Tensor]) -> float:
    """Train on one batch again and again, in bfloat16 and with channels last; print what came out.

    The utilisation that is printed counts a backward pass as two forward ones, by the multiply-accumulates of the network
    as published.

    Args:
        name: what is printed.
        recipe: with everything in its loss switched as it is to be measured; it moves to the GPU.
        images: the batch, on the GPU.

    Returns:
        Samples a second, as if they had 512 x 512 pixels.
    """
    batch, _, height, width = images["left"].shape
    macs = count_macs(recipe.cpu(), {image: value[:1] for image, value in images.items()})
    recipe = recipe.cuda().train()
    for layer in recipe.net.modules():  # not the whole network: some weights have five axes
        if isinstance(layer, nn.Conv2d):
            layer.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(recipe.parameters(), lr=3e-4, fused=True)

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            prediction = recipe(images)
        loss = torch.stack(list(recipe.loss_terms(images, prediction).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    torch.cuda.reset_peak_memory_stats()
    for number in range(WARM_UP + STEPS):
        if number == WARM_UP:
            torch.cuda.synchronize()
            begin = time.perf_counter()
        step()
    torch.cuda.synchronize()
    rate = batch * STEPS / (time.perf_counter() - begin)
    as_512 = rate * height * width / 512**2
    peak = torch.cuda.max_memory_allocated() / 2**30
    print(
        f"\n| {name}, batch {batch} of {height}x{width}, bfloat16, {torch.cuda.get_device_name()} | {rate:.0f} samples/s "
        f"| {as_512:.0f} of 512x512 | model FLOP utilisation {100 * 6 * macs * rate / PEAK:.0f} % of {PEAK / 1e12:.0f} "
        f"TFLOP/s | {peak:.1f} GiB |"
    )
    return as_512
