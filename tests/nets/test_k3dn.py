import copy

import pytest
import torch
from k3dn_parts import SMALL, drawn, filled, stored

from dualpixel.nets.k3dn import K3DN, VARIANTS, recipe_name

TOLERANCE = 1e-5
TOLERANCE_OF_LARGE = 1e-4  # values up to 7.6

TRAINED = {
    "k3dn_tiny": (3_086_438, 3_040_358, 2_288_042, 2_241_962),
    "k3dn_light": (5_034_694, 4_973_254, 3_287_346, 3_225_906),
    "k3dn": (16_099_350, 15_915_030, 10_556_754, 10_372_434),
}
"""Parameters: of the whole network in training and for inference, of the first stage in training and for inference."""


def small(**options):
    torch.manual_seed(1)
    return K3DN(**{**SMALL, "psf_blocks": 2, **options})


def asking(**options):
    """A network past its first step, where kernels are not asked yet, and whose gates are not all cut off."""
    network = small(**options, truncate=1e9).train()
    for block in network.psf:
        torch.nn.init.normal_(block.query.kernel_weight)
    return network


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def views(batch=1, height=256, width=256, channels=6):
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(0))


def run(network, views, combined=None):
    with torch.no_grad():
        return network.eval()(views, combined)


@pytest.fixture(scope="module")
def inputs():
    """Left, right and sharp, shifted to -0.5 ... 0.5."""
    return drawn(*[(2, 3, 288, 336)] * 3)


@pytest.fixture(scope="module")
def arrays(reference):
    return stored(reference)


@pytest.fixture(scope="module", params=[False, True], ids=["model", "modelft"])
def reduced(request, reference, fill):
    """A reduced network without and with SRP blocks, and its name in the stored outputs."""
    network = filled(K3DN(**SMALL, srp=request.param), reference, fill)
    return network, "small_modelft" if request.param else "small_model"


def outputs(network, images, style, reverse=False):
    """What the stored outputs hold: before and after the PSF blocks, and what leaves the last convolution."""
    kept = {}

    whole = network.bottleneck
    network.bottleneck = lambda *given: kept.update({"in": given[0], "out": whole(*given)}) or kept["out"]
    try:
        with torch.no_grad():
            kept["image"] = network.restore(images, style, reverse)
    finally:
        del network.bottleneck
    return kept


def differences(kept, arrays, item):
    wanted = {
        "in": f"{item}/bottleneck_in_c4",
        "out": f"{item}/bottleneck_out_c4",
        "image": f"{item}/preclip_s5",
    }
    found = {"in": kept["in"][:, :4], "out": kept["out"][:, :4], "image": kept["image"][..., ::5, ::5]}
    return {name: float((found[name] - arrays[key]).abs().max()) for name, key in wanted.items() if key in arrays}


@pytest.mark.parametrize("way", ["deblur", "reblur"])
def test_reduced_networks_give_the_authors_pictures(reduced, arrays, inputs, way):
    network, name = reduced
    left, right, sharp = inputs
    style = network.estimate(torch.cat((left, right), 1) + 0.5)
    assert (style - arrays[f"{name}/disp"]).abs().max() < TOLERANCE
    images = torch.cat((left, right) if way == "deblur" else (sharp, sharp), dim=1)
    found = differences(outputs(network, images, style, way == "reblur"), arrays, f"{name}/{way}")
    assert len(found) == 3 and max(found.values()) < TOLERANCE, found


@pytest.mark.parametrize("way", ["deblur", "reblur"])
def test_styles_that_matter_reach_their_windows(reference, fill, arrays, inputs, way):
    """Styles times 400 change the picture; those of the neighbouring window would change it by 300 times the tolerance."""
    network = filled(K3DN(**SMALL), reference, fill)
    left, right, sharp = inputs
    style = 400 * arrays["small_modelft/disp"]
    images = torch.cat((left, right) if way == "deblur" else (sharp, sharp), dim=1)
    reverse = way == "reblur"
    item = f"small_modelft/{way}_gain400"
    found = differences(outputs(network, images, style, reverse), arrays, item)
    assert len(found) == 2 and max(found.values()) < TOLERANCE, found

    rows, columns = network.grid.shape(288, 336)
    by_column = style.view(-1, rows, columns, style.shape[1]).transpose(1, 2).reshape(style.shape)
    for wrong in (style.roll(1, 0), by_column):
        assert differences(outputs(network, images, wrong, reverse), arrays, item)["out"] > 100 * TOLERANCE


def test_whole_call_gives_the_authors_clipped_picture(reference, fill, arrays, inputs):
    network = filled(K3DN(**SMALL), reference, fill)
    left, right, sharp = inputs
    with torch.no_grad():
        image = network(torch.cat((left, right), 1) + 0.5)
        reblurred = network.reblur(sharp + 0.5, network.estimate(torch.cat((left, right), 1) + 0.5))
    clipped = (image - 0.5).clamp(-1, 1)[..., ::5, ::5]
    assert (clipped - arrays["small_modelft/deblur/out_s5"]).abs().max() < TOLERANCE
    assert (reblurred[..., ::5, ::5] - 0.5 - arrays["small_modelft/reblur/preclip_s5"]).abs().max() < TOLERANCE


@pytest.mark.parametrize("srp", [False, True])
def test_networks_for_one_image(reference, fill, arrays, inputs, srp):
    network = filled(K3DN(views="combined", **SMALL, srp=srp), reference, fill)
    with torch.no_grad():
        style = network.estimate(inputs[0] + 0.5)
    item = f"small_single_model{'ft' if srp else ''}/deblur"
    found = differences(outputs(network, inputs[0], style), arrays, item)
    assert len(found) == 3 and max(found.values()) < TOLERANCE, found


def test_the_large_network(reference, fill, arrays):
    network = filled(K3DN(), reference, fill)
    left, right = drawn(*[(1, 3, 288, 336)] * 2)
    with torch.no_grad():
        style = network.estimate(torch.cat((left, right), 1) + 0.5)
    assert (style - arrays["big_modelft/disp"]).abs().max() < TOLERANCE_OF_LARGE
    kept = outputs(network, torch.cat((left, right), 1), style)
    for name, found in (("in", kept["in"][:, :4]), ("out", kept["out"][:, :4])):
        assert (found - arrays[f"big_modelft/deblur/bottleneck_{name}_c4"]).abs().max() < TOLERANCE_OF_LARGE
    image = kept["image"][..., ::4, ::4]
    assert (image - arrays["big_modelft/deblur/preclip_s4"]).abs().max() < TOLERANCE_OF_LARGE


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_of_the_variants(name):
    with torch.device("meta"):
        whole, first = K3DN(**VARIANTS[name]), K3DN(**VARIANTS[name], srp=False)
    found = [count(whole), count(copy.deepcopy(whole).cache()), count(first), count(copy.deepcopy(first).cache())]
    assert tuple(found) == TRAINED[name]
    assert recipe_name(whole.options) == name and recipe_name(first.options) == f"{name}_stage1"


def test_parameters_of_the_network_for_one_image_and_of_the_parts():
    with torch.device("meta"):
        single, large = K3DN(views="combined"), K3DN()
        runner_up = K3DN(base_channels=28, residual_blocks=2, psf_blocks=7, srp_blocks=4)
    assert (count(single), count(copy.deepcopy(single).cache())) == (16_169_567, 15_985_247)
    assert recipe_name(single.options) == "k3dn_single"
    assert (count(runner_up), count(runner_up.cache())) == (5_113_514, 5_019_434)
    parts = {name: count(part) for name, part in large.named_children()}
    assert parts["enc"] == 3_483_648 and parts["dec"] == 3_527_712 and parts["down"] + parts["up"] == 726_048
    assert (parts["estimator"], parts["out"], parts["srp"]) == (788_320, 1_458, 5_542_596)
    assert len(large.state_dict()) == 288
    assert sum(buffer.numel() for buffer in large.buffers()) == 297_996


@pytest.mark.parametrize("channels", [16, 24, 32, 40, 48])
def test_networks_of_another_width_are_named_after_the_one_they_vary(channels):
    """Rows of table 5 are Lightweight ones; one of them has as many channels as Tiny, one as many as Large."""
    with torch.device("meta"):
        varied = {**VARIANTS["k3dn_light"], "base_channels": channels}
        whole, first = K3DN(**varied), K3DN(**varied, srp=False)
    assert (recipe_name(whole.options), recipe_name(first.options)) == ("k3dn_light", "k3dn_light_stage1")


def test_the_form_for_inference_gives_the_same_and_cannot_blur():
    network = small().eval()
    before = run(network, views())
    cached = copy.deepcopy(network).cache()
    assert cached.cached and cached.options == {**network.options, "cached": True} and not network.cached
    assert torch.equal(run(cached, views()), before)
    with pytest.raises(ValueError, match="cached"):
        cached.reblur(views(channels=3), cached.estimate(views()))

    again = K3DN(**cached.options)
    again.load_state_dict(cached.state_dict())
    assert torch.equal(run(again, views()), before)


@pytest.mark.parametrize("psf", ["none", "residual"])
def test_networks_without_kernels_take_multiples_of_eight_and_cannot_blur(psf):
    network = small(psf=psf)
    assert network.estimator is None and network.padded_size(17, 40) == (24, 40)
    assert run(network, views(height=24, width=40)).shape == (1, 3, 24, 40)
    assert count(network.psf) == (0 if psf == "none" else 2 * 2 * 9 * 32**2)
    with pytest.raises(ValueError, match="cannot blur"):
        network.reblur(views(channels=3), None)
    with pytest.raises(ValueError, match="multiples of 8, found 20 x 40"):
        network(views(height=20, width=40))
    with pytest.raises(ValueError, match="has no kernels"):
        small(psf=psf, cached=True)


def test_a_size_that_windows_do_not_fit_is_refused_and_the_next_one_named():
    network = small()
    assert network.padded_size(512, 512) == (528, 512)
    with pytest.raises(ValueError, match="the next size that can is 528 x 512"):
        network(views(height=512, width=512))
    with pytest.raises(ValueError, match=r"takes \(B, 6, H, W\), found \(1, 3, 256, 256\)"):
        network(views(channels=3))


@pytest.mark.parametrize("options", [{}, {"srp": False}, {"views": "combined"}])
def test_gradients_of_both_ways_reach_every_parameter(options):
    network = asking(**options)
    given = views(2, channels=network.in_channels)
    style = network.estimate(given)
    loss = network.deblur(given, style).square().mean() + network.reblur(given[:, :3], style).square().mean()
    loss.backward()
    silent = [name for name, one in network.named_parameters() if one.grad is None or not one.grad.any()]
    assert silent == []


def test_gradients_of_blurring_reach_the_estimator():
    """Section 3.3: the reblurring teaches the disparity features, too."""
    network = asking()
    given = views(2)
    network.reblur(views(2, channels=3), network.estimate(given)).square().mean().backward()
    silent = [name for name, one in network.estimator.named_parameters() if not one.grad.any()]
    assert silent == []


def test_a_residual_network_begins_with_the_blurry_image():
    network, given = small(residual=True), views()
    combined = views(channels=3)
    assert torch.equal(run(network, given, combined), combined)
    assert torch.allclose(run(network, given), (given[:, :3] + given[:, 3:]) / 2)
    sharp = views(channels=3) ** 2
    with torch.no_grad():
        assert torch.equal(network.reblur(sharp, network.estimate(given)), sharp)


def test_new_srp_blocks_begin_as_the_identity():
    first, second = small(srp=False), small(identity_srp=True)
    second.load_state_dict(first.state_dict(), strict=False)
    assert torch.equal(run(second, views()), run(first, views()))


def test_reverse_errors_are_those_of_the_blocks():
    network, given = small().eval(), views()
    with torch.no_grad():
        style = network.estimate(given)
        errors = network.reverse_errors(given, style)
        features = network.grid.split(network.encode(given - 0.5)[-1], *network.grid.shape(256, 256))
        there = network.psf[0](features, style)
        back = network.psf[0](there, style, reverse=True)
    relative = (back - features).flatten(1).norm(dim=1) / features.flatten(1).norm(dim=1)
    assert set(errors) == {"block 0", "block 1", "all"}
    assert errors["block 0"] == pytest.approx(float(relative.mean()), rel=1e-5)
    assert errors["all"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": "left"}, "views='left': allowed are 'dual', 'combined'"),
        ({"psf": "off"}, "psf='off': allowed are 'kernels', 'residual', 'none'"),
        ({"width": 0}, "width=0: must be positive"),
        ({"base_channels": 0}, "base_channels=0: must be at least 1"),
        ({"psf_blocks": -1}, "psf_blocks=-1: must be at least 0"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        K3DN(**options)
