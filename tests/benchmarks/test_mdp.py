"""The full-size MDP: what three decoders and their stitching cost, and what recomputed activations save in training."""

from functools import partial

import pytest
import torch
from side_by_side import extra_mebibytes, process_seconds
from straightforward import PlainMDP

from dualpixel.nets import MDP, DPDNet

pytestmark = pytest.mark.benchmark
SIZE, BATCH = 256, 2
NETS = {
    "middle": MDP,
    "late": partial(MDP, stitching="late"),
    "none": partial(MDP, stitching="none"),
    "one decoder": partial(MDP, outputs="sharp"),
    "straightforward": lambda: PlainMDP(MDP()),
    "DPDNet-Single": partial(DPDNet, views="combined"),
}
TRAINED = {
    "kept": MDP,
    "recomputed": partial(MDP, checkpointing=True),
    "straightforward": NETS["straightforward"],
}


def made(name, nets=NETS):
    torch.manual_seed(0)
    return nets[name]().eval()


def forward(net):
    with torch.inference_mode():
        return net(torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)))


def step(net):
    net.zero_grad(set_to_none=False)
    images = torch.rand(BATCH, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    sum((image - images).square().mean() for image in net(images).values()).backward()


def prepared_forward(name):
    return partial(forward, made(name))


def prepared_step(name):
    net = made(name, TRAINED)
    for parameter in net.parameters():  # held before, as from the second step of a training on
        parameter.grad = torch.zeros_like(parameter)
    return partial(step, net)


def test_rate_and_memory_of_a_forward_pass():
    nets = {name: made(name) for name in NETS}
    ours, plain = forward(nets["middle"]), forward(nets["straightforward"])
    assert all((ours[name] - plain[name]).abs().max() < 1e-5 for name in ours)
    seconds = process_seconds({name: partial(forward, net) for name, net in nets.items()}, passes=3)
    print(f"\n| forward {SIZE}x{SIZE}, batch 1, one thread | seconds | to middle | memory |\n|---|---|---|---|")
    for name in nets:
        ratio, peak = seconds[name] / seconds["middle"], extra_mebibytes(prepared_forward, name)
        print(f"| {name} | {seconds[name]:.2f} s | {ratio:.2f} x | {peak:.0f} MiB |")
    assert seconds["middle"] < 1.05 * seconds["straightforward"]
    assert seconds["middle"] < 1.2 * seconds["none"]
    assert seconds["middle"] < 3 * seconds["one decoder"]


def test_rate_and_memory_of_a_training_step():
    nets = {name: made(name, TRAINED) for name in TRAINED}
    seconds = process_seconds({name: partial(step, net) for name, net in nets.items()}, passes=2)
    for one, other in zip(nets["kept"].parameters(), nets["recomputed"].parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
    print(f"\n| training step {SIZE}x{SIZE}, batch {BATCH}, one thread | seconds | memory |\n|---|---|---|")
    peaks = {name: extra_mebibytes(prepared_step, name) for name in TRAINED}
    for name in TRAINED:
        print(f"| activations {name} | {seconds[name]:.1f} s | {peaks[name]:.0f} MiB |")
    assert peaks["recomputed"] < 0.45 * peaks["kept"]
    assert seconds["recomputed"] < 1.5 * seconds["kept"]
    assert peaks["kept"] < peaks["straightforward"]
