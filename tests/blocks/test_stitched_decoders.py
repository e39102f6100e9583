import pytest
import torch
from torch import nn

from dualpixel.blocks.stitched_decoders import StitchedDecoders
from dualpixel.blocks.unet import initialise_as_keras

CHANNELS = (2, 3, 4, 5, 6)
NAMES = ("left", "right", "sharp")


def made(names=NAMES, **options):
    torch.manual_seed(0)
    decoders = StitchedDecoders(names, CHANNELS, **options)
    initialise_as_keras(decoders)
    return decoders


def features(size=16, **options):
    generator = torch.Generator().manual_seed(1)
    skips = [
        torch.rand(1, channels, size >> level, size >> level, generator=generator)
        for level, channels in enumerate(CHANNELS[:4])
    ]
    return torch.rand(1, CHANNELS[3], size >> 4, size >> 4, generator=generator, **options), skips


def inputs_of(layer):
    """What the layer is called with."""
    seen = []
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    return seen


def outputs_of(layer):
    seen = []
    layer.register_forward_hook(lambda _, __, result: seen.append(result.clone()))
    return seen


def test_middle_stitching_gives_every_decoder_the_same_map_with_the_skip_first():
    decoders = made()
    seen = [inputs_of(branch.dec2.conv1) for branch in decoders.branches.values()]
    ups = [outputs_of(branch.dec2.up) for branch in decoders.branches.values()]
    deep, skips = features()
    decoders(deep, skips)
    expected = torch.cat((skips[1], *(up[0].relu() for up in ups)), dim=1)
    assert expected.shape[1] == 4 * CHANNELS[1]
    assert all(torch.equal(one[0], expected) for one in seen)
    assert seen[0][0].data_ptr() == seen[1][0].data_ptr() == seen[2][0].data_ptr()


def test_without_middle_stitching_level_two_sees_its_own_features_alone():
    for stitching in ("late", "none"):
        decoders = made(stitching=stitching)
        seen = {name: inputs_of(branch.dec2.conv1) for name, branch in decoders.branches.items()}
        ups = {name: outputs_of(branch.dec2.up) for name, branch in decoders.branches.items()}
        deep, skips = features()
        decoders(deep, skips)
        for name in NAMES:
            assert torch.equal(seen[name][0], torch.cat((skips[1], ups[name][0].relu()), dim=1))


@pytest.mark.parametrize("stitching", ["middle", "late", "none"])
def test_level_one_sees_all_features_where_the_stitching_is_late(stitching):
    decoders = made(stitching=stitching)
    seen = {name: inputs_of(branch.dec1.conv1) for name, branch in decoders.branches.items()}
    ups = {name: outputs_of(branch.dec1.up) for name, branch in decoders.branches.items()}
    deep, skips = features()
    decoders(deep, skips)
    for name in NAMES:
        merged = NAMES if stitching == "late" else (name,)
        assert torch.equal(seen[name][0], torch.cat((skips[0], *(ups[one][0].relu() for one in merged)), dim=1))


@pytest.mark.parametrize(("stitching", "reached"), [("middle", True), ("late", True), ("none", False)])
def test_a_decoder_reaches_the_others_only_where_they_are_stitched(stitching, reached):
    decoders = made(stitching=stitching)
    decoders(*features())["left"].square().sum().backward()
    sharp = decoders.branches["sharp"]
    first = sharp.mid.conv1.weight.grad
    assert (first is not None and bool(first.any())) is reached
    assert sharp.out.conv3.weight.grad is None
    assert decoders.branches["left"].mid.conv1.weight.grad.any()


def test_one_decoder_is_the_same_stitched_or_not():
    images = [made(("sharp",), stitching=one)(*features())["sharp"] for one in ("middle", "late", "none")]
    assert torch.equal(images[0], images[1])
    assert torch.equal(images[0], images[2])


@pytest.mark.parametrize("stitching", ["middle", "late", "none"])
def test_recomputed_activations_give_the_same_gradients_to_the_last_bit(stitching):
    gradients = []
    for checkpointing in (False, True):
        decoders = made(stitching=stitching, checkpointing=checkpointing)
        calls = outputs_of(decoders.branches["right"].dec1.conv2)
        deep, skips = features(requires_grad=True)
        images = decoders(deep, skips)
        assert len(calls) == 1
        sum(image.square().sum() for image in images.values()).backward()
        assert len(calls) == 1 + checkpointing
        gradients.append([deep.grad, *(one.grad for one in decoders.parameters())])
    assert gradients[0][0].any()
    assert all(torch.equal(kept, again) for kept, again in zip(*gradients, strict=True))


def test_nothing_is_recomputed_without_gradients():
    decoders = made(checkpointing=True)
    with torch.inference_mode():
        image = decoders(*features())["sharp"]
    assert torch.equal(image, made()(*features())["sharp"])


def test_images_are_unbounded_and_the_three_channel_layer_is_rectified_by_choice():
    for rectify in (True, False):
        decoders = made(rectify=rectify)
        for branch in decoders.branches.values():
            nn.init.constant_(branch.out.conv3.bias, -100.0)
            nn.init.ones_(branch.out.conv1x1.weight)
        images = decoders(*features())
        assert list(images) == list(NAMES)
        for image in images.values():
            assert image.shape == (1, 3, 16, 16)
            assert (not image.any()) if rectify else (image < -250).all()


def test_another_stitching_is_refused():
    with pytest.raises(ValueError, match="stitching='early': allowed are 'middle', 'late', 'none'"):
        made(stitching="early")
