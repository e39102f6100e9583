import cv2
import numpy as np
import pytest
import torch
from torch import nn

from dualpixel.evaluate.cost.operations import count_macs
from dualpixel.evaluate.resize import back_to, enlarge_as_stored, run_resized

LEVELS = 65535


@pytest.fixture(params=[True, False], ids=["with Intel's library", "OpenCV's own"])
def intel(request):
    """Which of its two ways OpenCV goes; the first on x86 processors only."""
    before = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(request.param)
    if cv2.ipp.useIPP() is not request.param:
        pytest.skip("this build of OpenCV has no library of Intel's")
    yield request.param
    cv2.ipp.setUseIPP(before)


def floats(values):
    """(H, W, 3) uint16 as (1, 3, H, W) float32."""
    return torch.from_numpy(values.astype(np.float32) / LEVELS).permute(2, 0, 1)[None]


def levels(image):
    """(1, 3, H, W) as (H, W, 3) integers; the values must be whole steps."""
    steps = image[0].permute(1, 2, 0).double().numpy() * LEVELS
    assert np.abs(steps - steps.round()).max() < 0.01
    return steps.round().astype(int)


def differences(values, size):
    ours = levels(enlarge_as_stored(floats(values), size))
    return np.abs(ours - cv2.resize(values, size[::-1], interpolation=cv2.INTER_CUBIC))


def test_noise_is_enlarged_as_by_opencv_and_clipped_at_both_ends(intel):
    values = np.random.default_rng(0).integers(0, LEVELS + 1, (280, 420, 3), dtype=np.uint16)
    ours = levels(enlarge_as_stored(floats(values), (288, 448)))
    assert (ours == 0).mean() > 0.005 and (ours == LEVELS).mean() > 0.005
    found = differences(values, (288, 448))
    # measured at 1120x1680: 0.2 % by 1 with Intel's library, 23 % by up to 6 without
    assert found.max() <= (1 if intel else 6) and (found > 0).mean() < (0.004 if intel else 0.3)


def test_a_photograph_is_enlarged_as_by_opencv(shared, intel):
    stored = cv2.imread(str(shared / "data" / "canon_dpdisp" / "005_L.jpg")).astype(np.uint16) * 257
    found = differences(cv2.resize(stored, (1680, 1120), interpolation=cv2.INTER_AREA), (1152, 1792))
    # measured: 0.16 % by 1, 1.2 % by up to 2
    assert found.max() <= (1 if intel else 2) and (found > 0).mean() < (0.003 if intel else 0.02)


def test_weights_are_those_of_the_cubic_convolution():
    # to twice the size, pixel 5 lies at 2.25; a = -3/4 gives -27/256, 225/256, 67/256, -9/256
    line = torch.tensor([0, 0, 0, LEVELS, 0, 0]).div(LEVELS).expand(1, 1, 6, 6)
    found = enlarge_as_stored(line, (12, 12))[0, 0, 4] * 256
    assert found[3:10].tolist() == pytest.approx([0, 0, 67, 225, 225, 67, 0], abs=0.01)
    inverted = enlarge_as_stored(1 - line, (12, 12))[0, 0, 4] * 256
    assert inverted[3:10].tolist() == pytest.approx([256, 256, 189, 31, 31, 189, 256], abs=0.01)


def test_the_same_size_leaves_every_16_bit_value_alone():
    every = torch.arange(LEVELS + 1).reshape(1, 1, 256, 256).float() / LEVELS
    assert torch.equal(enlarge_as_stored(every, (256, 256)), every)
    assert torch.equal(enlarge_as_stored(every + 0.3 / LEVELS, (256, 256)), every)


def test_shapes_alone_can_be_followed():
    assert enlarge_as_stored(torch.zeros(2, 3, 6, 8, device="meta"), (12, 9)).shape == (2, 3, 12, 9)


def test_outputs_come_back_unrounded_and_clipped():
    random = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 24, 30, generator=random)
    expected = torch.nn.functional.interpolate(image, size=(20, 26), mode="bicubic", align_corners=False)
    found = back_to(image, (20, 26))
    assert expected.min() < 0 and expected.max() > 1
    assert torch.equal(found, expected.clamp(0, 1)) and found.dtype == torch.float32
    assert (found * LEVELS - (found * LEVELS).round()).abs().max() > 0.1


class Watching(nn.Module):
    """Returns what it sees, and its half."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3, padding=1)
        self.options = {}

    def forward(self, batch):
        self.seen = dict(batch)
        self.convolution(batch["left"])
        return {"sharp": batch["left"], "half": batch["left"][..., ::2, ::2], "blur": batch["left"][:, :1], "n": 1}


@pytest.fixture
def batch():
    random = torch.Generator().manual_seed(1)
    images = {name: torch.rand(2, 3, 20, 30, generator=random) for name in ("left", "combined", "sharp")}
    return {**images, "key": ["a", "b"]}


def test_a_recipe_sees_one_size_and_gives_that_of_the_target(batch):
    recipe, before = Watching(), dict(batch)
    hooks = run_resized(recipe, (24, 36))
    prediction = recipe(batch)
    assert all(batch[name] is before[name] for name in before) and set(batch) == set(before)
    for name in ("left", "combined"):
        assert torch.equal(recipe.seen[name], enlarge_as_stored(batch[name], (24, 36)))
    assert recipe.seen["sharp"] is batch["sharp"] and recipe.seen["key"] is batch["key"]
    assert torch.equal(prediction["sharp"], back_to(enlarge_as_stored(batch["left"], (24, 36)), (20, 30)))
    # what is no image of that size is left alone
    assert prediction["half"].shape[-2:] == (12, 18) and prediction["blur"].shape[-2:] == (24, 36)
    assert prediction["n"] == 1
    for hook in hooks:
        hook.remove()
    assert recipe(batch)["sharp"] is batch["left"]


def test_a_batch_without_a_sharp_image_has_its_predictions_at_the_size_of_the_others(batch):
    recipe = Watching()
    run_resized(recipe, (24, 36))
    del batch["sharp"]
    assert recipe(batch)["sharp"].shape[-2:] == (20, 30) and recipe.seen["left"].shape[-2:] == (24, 36)


def test_cost_is_that_of_the_size_that_is_seen(batch):
    recipe = Watching()
    assert count_macs(recipe, batch) == 2 * 20 * 30 * 3 * 3 * 9
    run_resized(recipe, (24, 36))
    assert count_macs(recipe, batch) == 2 * 24 * 36 * 3 * 3 * 9
