"""Options of all networks: which ones weights do not tell."""

import inspect
from typing import get_args

import pytest
import torch

from dualpixel import nets
from dualpixel.nets import K3DN, MDP, DDDNet, DPANet, DPDNet

NARROW = {"width": 0.05}
SMALL = {K3DN: NARROW | {"base_channels": 24, "residual_blocks": 1, "psf_blocks": 1, "srp_blocks": 1}}
SIZES = {K3DN: (256, 256), DPANet: (40, 40)}
"""40 is no multiple of 16: what the decoder does with the deepest features shows."""
OTHERS = {"shifts": [[-4, -3, -2, -1, 0, 1, 2, 3], [1, 2, 3, 4]], "cached": []}
"""Option -> its other values, where the type does not tell; `cached` is a form of the same weights."""


def other_values(network, name, value):
    kind = inspect.signature(network.__init__).parameters[name].annotation
    if name in OTHERS:
        return OTHERS[name]
    if get_args(kind):
        return [one for one in get_args(kind) if one != value]
    return [not value] if isinstance(value, bool) else [value + 1] if isinstance(value, int) else [value * 1.01]


def filled(network, **options):
    """A network in eval mode with weights drawn by their shapes, in the order of their names; and these shapes."""
    made = network(**SMALL.get(network, NARROW) | options).eval()
    drawn = torch.Generator().manual_seed(0)
    state = made.state_dict()
    for name in sorted(state):
        if state[name].is_floating_point() and "running" not in name:
            fan_in = max(1, state[name][:1].numel())
            state[name] = torch.randn(state[name].shape, generator=drawn) / fan_in**0.5
    made.load_state_dict(state)
    return made, {name: one.shape for name, one in state.items()}


def output(network, made):
    drawn = torch.Generator().manual_seed(1)
    images = torch.rand(2, 1, 3, *SIZES.get(network, (64, 64)), generator=drawn)
    if network not in (DDDNet, DPANet):
        images = [torch.cat(tuple(images), dim=1) if getattr(made, "in_channels", 3) == 6 else images[0]]
    with torch.no_grad():
        found = made(*images)
    return torch.cat([one.flatten() for one in (found.values() if isinstance(found, dict) else [found])])


@pytest.mark.parametrize("network", [DDDNet, DPANet, DPDNet, K3DN, MDP])
def test_silent_options_are_those_that_change_the_output_and_no_weight(network):
    made, shapes = filled(network)
    expected = output(network, made)
    assert expected.isfinite().all() and expected.std() > 0
    silent = set()
    for name, value in made.options.items():
        for other in other_values(network, name, value):
            changed, its = filled(network, **{name: other})
            if its == shapes and not torch.equal(output(network, changed), expected):
                silent.add(name)
    assert silent == set(network.silent_options)


def test_no_network_is_left_out():
    found = {one for one in vars(nets).values() if inspect.isclass(one) and issubclass(one, torch.nn.Module)}
    assert found == {DDDNet, DPANet, DPDNet, K3DN, MDP}
