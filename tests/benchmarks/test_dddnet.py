"""DDDNet's matching beside that of a cost volume which is made first, on one thread; and how fast the network trains on a GPU."""

from functools import partial

import pytest
import torch
from side_by_side import extra_mebibytes, process_seconds
from straightforward import straightforward
from training_rate import training_rate

from dualpixel.nets.dddnet import DDDNet, VolumeMatching
from dualpixel.recipes import DDDNetRecipe

CHANNELS, SIZE = 32, (560, 840)
SHIFTS = {"the authors' shifts": (0, 1, 2, 3), "shifts of both signs": (-4, -3, -2, -1, 0, 1, 2, 3)}
FASTER, MEMORY = {"the authors' shifts": 1.1, "shifts of both signs": 1.2}, 0.67
BATCH, CROP = 2, 192
GPU_BATCH, LEAST = 8, 35  # samples of 512 x 512 a second


def features():
    return torch.randn(2, 1, CHANNELS, *SIZE, generator=torch.Generator().manual_seed(0)).unbind()


def views():
    return torch.rand(2, BATCH, 3, CROP, CROP, generator=torch.Generator().manual_seed(0)).unbind()


def both(make):
    """The same network in both forms."""
    torch.manual_seed(0)
    net = make()
    return {"dualpixel": net, "volume": straightforward(net)}


def forward(matching, pair, shifts):
    with torch.inference_mode():
        return matching.eval()(*pair, shifts)


def training_step(net, pair):
    optimizer = torch.optim.Adam(net.train().parameters(), lr=1e-4)
    outputs = net(*pair)
    ((outputs["sharp"] ** 2).mean() + (outputs["inverse_depth"] ** 2).mean()).backward()
    optimizer.step()
    net.zero_grad()


def prepared_forward(form, shifts):
    return partial(forward, both(partial(VolumeMatching, CHANNELS))[form], features(), shifts)


def prepared_step(form, shifts):
    return partial(training_step, both(partial(DDDNet, shifts=shifts))[form], views())


def compare(what, sides, prepared, shifts, passes):
    """Print and return how many times as long and as much memory the volume takes."""
    seconds = process_seconds(sides, passes=passes)
    memory = {form: extra_mebibytes(prepared, form, shifts) for form in sides}
    print(f"\n| {what} |", " | ".join(sides), "| volume / ours |")
    ratios = []
    for values, unit, digits in ((seconds, "s", 2), (memory, "MiB", 0)):
        ours, volume = values.values()
        ratios.append(volume / ours)
        print(f"| | {' | '.join(f'{value:.{digits}f} {unit}' for value in values.values())} | {volume / ours:.2f} x |")
    return ratios


@pytest.mark.benchmark
@pytest.mark.parametrize("name", SHIFTS)
def test_time_and_memory_of_cost_volume_and_matching(name):
    nets, pair, shifts = both(partial(VolumeMatching, CHANNELS)), features(), SHIFTS[name]
    ours, volume = (forward(net, pair, shifts) for net in nets.values())
    assert (ours - volume).abs().max() < 1e-5 * volume.abs().max()
    sides = {form: partial(forward, net, pair, shifts) for form, net in nets.items()}
    what = f"matching of {SIZE[0]} x {SIZE[1]}, {name}"
    faster, more = compare(what, sides, prepared_forward, shifts, passes=2)
    assert faster >= FASTER[name]
    assert more >= 1 / MEMORY


@pytest.mark.benchmark
@pytest.mark.parametrize("name", SHIFTS)
def test_time_and_memory_of_a_training_step(name):
    nets, pair, shifts = both(partial(DDDNet, shifts=SHIFTS[name])), views(), SHIFTS[name]
    ours, volume = (net.train()(*pair)["coarse"] for net in nets.values())
    assert (ours - volume).abs().max() < 1e-5 * volume.abs().max()
    sides = {form: partial(training_step, net, pair) for form, net in nets.items()}
    what = f"training step, batch {BATCH} of {CROP} x {CROP}, {name}"
    faster, more = compare(what, sides, prepared_step, shifts, passes=1)
    assert faster >= 1 and more >= 1


@pytest.mark.gpu
def test_training_rate_on_a_gpu():
    recipe = DDDNetRecipe(DDDNet(), reblur_weight=0.0)
    images = {image: torch.rand(GPU_BATCH, 3, 512, 512, device="cuda") for image in ("left", "right", "sharp")}
    images["blur"] = 10 * torch.rand(GPU_BATCH, 1, 512, 512, device="cuda")
    assert training_rate("dddnet", recipe, images) >= LEAST
