import json
import subprocess
import sys

import pytest
import torch
from dddnet_parts import published, stored
from straightforward import straightforward
from torch import nn

from dualpixel.blocks.cost_volume import concatenation_volume
from dualpixel.blocks.padding import run_padded
from dualpixel.evaluate.cost.operations import count_macs_by_operator
from dualpixel.nets.dddnet import DDDNet, DepthNet
from dualpixel.weights.convert_dddnet import UNUSED, our_name

TOLERANCE = 1e-4
PARTS = {"depth": 1_053_656, "deblur": 6_402_323}


def small(seed=1, **options):
    torch.manual_seed(seed)
    return DDDNet(**{"width": 0.125, **options})


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def views(height=64, width=72, batch=1, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.rand(2, batch, 3, height, width, generator=random).unbind()


def run(network, *images):
    with torch.no_grad():
        return network.eval()(*images)


@pytest.fixture(scope="module")
def arrays(reference):
    return stored(reference)


@pytest.fixture(scope="module")
def network(reference, fill):
    """The full-size network with the weights of the stored outputs."""
    weights = {}
    for state_dict in published(reference, fill).values():
        for name, value in state_dict.items():
            if not UNUSED.match(name := name.removeprefix("module.")):
                weights[our_name(name)] = value
    with torch.device("meta"):
        network = DDDNet()
    network.depth = DepthNet()  # its levels are in no state dict
    network.load_state_dict(weights, strict=True, assign=True)
    return network.eval()


@pytest.fixture(scope="module")
def outputs(network, arrays):
    """What the network and its parts give for the stored views."""
    kept = {}
    parts = {
        "features": network.depth.features,
        "cost": network.depth.matching,
        "residual 3": network.deblur.dec3,
        "residual 2": network.deblur.dec2,
        "attention": network.deblur.attention,
    }
    hooks = [
        part.register_forward_hook(lambda _, __, result, name=name: kept.setdefault(name, []).append(result))
        for name, part in parts.items()
    ]
    kept |= run(network, arrays["left"], arrays["right"])
    for hook in hooks:
        hook.remove()
    return kept


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("feature_left_c0_7", lambda outputs: outputs["features"][0][:1, :8]),
        ("cost", lambda outputs: outputs["cost"][0]),
        ("coarse_inverse_depth", lambda outputs: outputs["coarse"][:, 0]),
        ("residual_lv3_top", lambda outputs: outputs["residual 3"][0][:1]),
        ("residual_lv2", lambda outputs: outputs["residual 2"][0]),
        ("cam", lambda outputs: outputs["attention"][0][:, :16]),
        ("deblurred", lambda outputs: outputs["sharp"]),
        ("inverse_depth", lambda outputs: outputs["inverse_depth"][:, 0]),
    ],
)
def test_the_network_and_its_parts_give_what_the_authors_give(outputs, arrays, key, found):
    assert found(outputs).shape == arrays[key].shape
    assert (found(outputs) - arrays[key]).abs().max() < TOLERANCE


def test_parameters_of_the_published_network():
    with torch.device("meta"):
        network = DDDNet()
    assert {name: count(part) for name, part in network.named_children()} == PARTS
    assert json.loads(json.dumps(network.options)) == network.options


class Called(nn.Module):
    """A part of the network that takes a batch."""

    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, batch):
        return self.part(**batch)


@pytest.mark.parametrize(
    ("name", "operator", "billions"),
    [("depth", "convolution", 2346.7), ("deblur", "convolution", 1657.0), ("deblur", "bmm", 3.9)],
)
def test_multiply_accumulates_at_full_size(name, operator, billions):
    with torch.device("meta"):
        part = DDDNet().get_submodule(name)
        batch = {view: torch.empty(1, 3, 1120, 1680) for view in ("left", "right")}
        if name == "deblur":
            batch["coarse"] = torch.empty(1, 1, 1120, 1680)
    assert count_macs_by_operator(Called(part), batch)[operator] / 1e9 == pytest.approx(billions, abs=0.051)


@pytest.mark.parametrize("size", [(64, 64), (64, 72), (72, 88), (104, 64), (136, 120)])
def test_any_multiples_of_eight_from_64_on(size):
    network = small()
    assert network.padded_size(*size) == size
    outputs = run(network, *views(*size, batch=2))
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "sharp": (2, 3, *size),
        "inverse_depth": (2, 1, *size),
        "coarse": (2, 1, *size),
    }


def test_images_of_a_batch_do_not_mix():
    network = small()
    together = run(network, *views(72, 64, batch=2))
    for number in range(2):
        alone = run(network, *(view[number : number + 1] for view in views(72, 64, batch=2)))
        for name, value in alone.items():
            assert (value - together[name][number : number + 1]).abs().max() < 1e-4


def test_a_quarter_reaches_its_own_place_first():
    """What the finest level sees of a quarter depends on no other: its residual changes in the strip of that quarter only."""
    network, (left, right) = small(), views(64, 80)
    coarse = torch.rand(1, 1, 64, 80)
    kept = []
    network.deblur.dec3.register_forward_hook(lambda _, __, result: kept.append(result))
    run(network.deblur, left, right, coarse)
    changed = left.clone()
    changed[..., 32:, :40] = 0  # bottom left
    run(network.deblur, changed, right, coarse)
    (top, bottom), (changed_top, changed_bottom) = (result.chunk(2) for result in kept)
    assert torch.equal(top, changed_top)
    difference = (bottom - changed_bottom).abs()
    assert difference[..., :20].mean() > 10 * difference[..., 60:].mean()


@pytest.mark.parametrize("size", [(64, 96), (72, 88)])
def test_the_levels_are_joined_corner_by_corner(size):
    """The three levels written out for every quarter; 72 x 88 has quarters of 36 x 44, whose features are 9 x 11."""
    net = small(seed=4).deblur.eval()
    left, right = views(*size, batch=2)
    coarse = torch.rand(2, 1, *size)
    height, width = (length // 2 for length in size)
    whole = torch.cat((left, right, coarse), dim=1)
    strips, inputs = [], []
    with torch.no_grad():
        for rows in (slice(height), slice(height, None)):
            quarters = [net.enc3(whole[..., rows, columns]) for columns in (slice(width), slice(width, None))]
            strips.append(torch.cat(quarters, dim=3))
            inputs.append(net.enc2(whole[..., rows, :] + net.dec3(strips[-1])))
        features = torch.cat(inputs, dim=2) + torch.cat(strips, dim=2)
        features = net.enc1(whole + net.dec2(features)) + features
        features = features + net.difference(torch.cat((left - right, coarse), dim=1)).sigmoid()
        found = net(left, right, coarse)
        for wanted, one in zip((net.image(features), net.depth(features)), found, strict=True):
            assert (one - wanted).abs().max() < 1e-5


def test_padded_sizes_are_the_next_the_network_takes():
    network = small()
    assert network.padded_size(560, 841) == (560, 848)
    assert network.padded_size(30, 65) == (64, 72)
    outputs = run_padded(lambda *images: run(network, *images), network.padded_size, *views(50, 67))
    assert outputs["sharp"].shape == (1, 3, 50, 67)


def test_the_coarse_depth_stays_within_its_levels():
    network = small()
    nn.init.normal_(network.depth.matching.out.weight, std=1e4)
    coarse = run(network, *views(96, 96))["coarse"]
    assert 0 <= coarse.min() < 2 and 9 < coarse.max() <= 11


@pytest.mark.parametrize("shifts", [(0, 1, 2, 3), (-4, -3, -2, -1, 0, 1, 2, 3), range(1, 5)])
def test_a_shift_that_fits_gives_its_own_levels(shifts):
    """Where one shift costs nothing and all others much, the result is the middle one of the shift's levels."""
    network = small(shifts=shifts)
    for place, shift in enumerate(shifts):
        cost = torch.full((1, 1, len(shifts), 64, 64), 1e4)
        cost[:, :, place] = 0
        network.depth.matching.forward = lambda *_, cost=cost: cost
        # linear resizing repeats the cost of the first and of the last shift beyond their centres
        outer = {0: -0.5, len(shifts) - 1: 0.5}.get(place, 0)
        coarse = run(network.depth, *views(64, 64))
        assert (coarse - (3 * shift + 1 + outer)).abs().max() < 1e-4


def test_the_disparity_is_searched_on_the_side_of_near_points():
    """A point that lies d pixels further to the right in the left view meets itself at shift d."""
    network = small(shifts=range(-4, 4))
    scene = torch.rand(1, 3, 64, 80)
    kept = []
    network.depth.matching.register_forward_pre_hook(lambda _, inputs: kept.append(inputs))
    run(network.depth, scene.roll(2, -1), scene)
    left, right = concatenation_volume(*kept[0]).chunk(2, dim=1)
    apart = (left - right)[..., 20:44, 30:50].abs().mean(dim=(0, 1, 3, 4))
    assert int(apart.argmin()) == 4 + 2


def test_gradients_reach_every_parameter_and_are_the_same_again():
    left, right = views(batch=2)

    def gradients():
        network = small(width=0.25).train()
        nn.init.constant_(network.deblur.attention.gamma, 0.5)
        outputs = network(left, right)
        (outputs["sharp"] ** 2 + outputs["inverse_depth"] ** 2).mean().backward()  # depth's only through the coarse map
        return {name: one.grad for name, one in network.named_parameters()}

    first, second = gradients(), gradients()
    assert [name for name, one in first.items() if one is None or not one.any()] == []
    assert all(torch.equal(one, second[name]) for name, one in first.items())


@pytest.mark.parametrize("shifts", [range(4), range(-4, 4)])
def test_gradients_are_those_of_a_network_that_makes_its_cost_volume(shifts):
    network = small(width=0.1, shifts=shifts).double().train()
    left, right = (view.double() for view in views(batch=2))
    found = []
    for form in (network, straightforward(network)):
        outputs = form(left, right)
        (outputs["sharp"].square().mean() + outputs["coarse"].square().mean()).backward()
        found.append([outputs["coarse"], *(one.grad for one in form.depth.parameters())])
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-10)


def test_a_training_step_normalises_views_one_after_the_other_and_their_volume_once():
    network = small().train()
    network(*views(batch=2))
    seen = {
        kind: {int(one.num_batches_tracked) for one in network.modules() if isinstance(one, kind)}
        for kind in (nn.BatchNorm2d, nn.BatchNorm3d)
    }
    assert seen == {nn.BatchNorm2d: {2}, nn.BatchNorm3d: {1}}


def test_a_residual_network_starts_from_the_combined_image():
    network = small(residual=True)
    left, right = views()
    combined = torch.rand_like(left)
    assert torch.equal(run(network, left, right)["sharp"], (left + right) / 2)
    assert torch.equal(run(network, left, right, combined)["sharp"], combined)
    plain = small()
    assert torch.equal(run(plain, left, right, combined)["sharp"], run(plain, left, right)["sharp"])


def test_a_few_steps_lower_the_loss_of_a_residual_network():
    network = small(residual=True, width=0.25).train()
    left, right = views(batch=2)
    sharp = (left + right).mean(1, keepdim=True).expand_as(left) / 2
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        outputs = network(left, right)
        loss = ((outputs["sharp"] - sharp) ** 2).mean() + ((outputs["inverse_depth"] - 3) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        ((1, 3, 64, 64), (1, 3, 64, 72), r"two views \(B, 3, H, W\) of one size, found \(1, 3, 64, 64\) and"),
        ((1, 1, 64, 64), (1, 1, 64, 64), "two views"),
        ((3, 64, 64), (3, 64, 64), "two views"),
        ((1, 3, 68, 64), (1, 3, 68, 64), "multiples of 8 and at least 64, found 68 x 64: pad with"),
        ((1, 3, 64, 56), (1, 3, 64, 56), "found 64 x 56"),
    ],
)
def test_other_shapes_are_refused(left, right, message):
    with pytest.raises(ValueError, match=message):
        small()(torch.zeros(left), torch.zeros(right))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width=0: must be positive"),
        ({"shifts": ()}, r"shifts=\[\]: must be consecutive"),
        ({"shifts": (0, 1, 2)}, r"shifts=\[0, 1, 2\]: .* a multiple of four"),
        ({"shifts": (0, 2, 4, 6)}, r"shifts=\[0, 2, 4, 6\]"),
        ({"shifts": (0.5, 1.5, 2.5, 3.5)}, "whole numbers"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DDDNet(**options)


HALF = """
import torch
from dualpixel.nets import DDDNet

torch.manual_seed(0)
network = DDDNet(width=0.05)
left, right = torch.rand(2, 1, 3, 96, 96)
with torch.autocast("cpu", dtype=torch.bfloat16):
    found = network(left, right)
    loss = found["sharp"].float().square().mean() + found["inverse_depth"].float().square().mean()
loss.backward()
assert all(one.grad is not None and one.grad.isfinite().all() for one in network.parameters())
print("done")
"""


def test_a_training_step_in_bfloat16_on_a_cpu_does_not_end_the_process():
    done = subprocess.run([sys.executable, "-c", HALF], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_the_matching_on_a_cpu_is_in_float32_whatever_the_precision():
    network = small().depth.matching.eval()
    features = torch.rand(2, 1, network.start[0].conv.in_channels // 2, 16, 16)
    with torch.no_grad():
        expected = network(*features, range(4))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = network(*features, range(4))
    assert found.dtype == torch.float32 and torch.equal(found, expected)
