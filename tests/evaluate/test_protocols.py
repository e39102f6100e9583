import numpy as np
import pytest
import torch

from dualpixel import DualPixelError
from dualpixel.evaluate.dpd_disp import cut_border, cut_to_windows, prepare_dpd_disp_truth
from dualpixel.evaluate.protocols import PROTOCOLS, check_views, get_protocol


@pytest.fixture
def batch():
    random = torch.Generator().manual_seed(0)
    images = {name: torch.rand(1, 3, 4, 6, generator=random) for name in ("left", "right", "combined", "sharp")}
    return {**images, "blur": torch.zeros(1, 1, 4, 6), "key": ["a"], "index": torch.tensor([0])}


@pytest.mark.parametrize("name", ["dpdnet-16bit", "whole-8bit", "k3dn-1152x1792", "mdp-views-16bit", "ddd-syn"])
def test_protocols_without_bits_leave_everything_alone(batch, name):
    protocol = get_protocol(name)
    assert protocol.bits is None and not protocol.halved
    assert all(protocol.batch(batch)[field] is value for field, value in batch.items())
    assert protocol.output(batch["left"]) is batch["left"] and protocol.estimate(batch["blur"]) is batch["blur"]


def test_8_bits_are_those_of_the_upper_byte(batch):
    seen = get_protocol("dpanet-8bit").batch(batch)
    for name in ("left", "right", "combined", "sharp"):
        assert torch.equal((seen[name] * 255).round(), (batch[name] * 65535).round().div(256).floor())
    assert seen["blur"] is batch["blur"] and seen["key"] == ["a"]
    assert torch.equal(get_protocol("dpanet-8bit").output(batch["left"]) * 255, (batch["left"] * 255).floor())


def test_images_are_cut_before_they_are_halved_and_maps_are_left_out(batch):
    batch["left"] = torch.tensor([[255, 256], [256, 255]]).div(65535).repeat(1, 3, 2, 3)  # cut: 0, 1, 1, 0
    seen = get_protocol("dpanet-half").batch(batch)
    assert seen["sharp"].shape == (1, 3, 2, 3) and "blur" not in seen and seen["index"] is batch["index"]
    assert torch.equal(seen["left"] * 255, torch.ones(1, 3, 2, 3))  # 0.5, rounded up


def test_dddnets_half_size_sees_what_dpanets_does_and_leaves_the_output_unquantised(batch):
    mine, other = (get_protocol(name) for name in ("dddnet-half", "dpanet-half"))
    assert all(torch.equal(mine.batch(batch)[name], other.batch(batch)[name]) for name in ("left", "combined", "sharp"))
    assert torch.equal(mine.output(batch["left"]), batch["left"])
    assert not torch.equal(other.output(batch["left"]), batch["left"])
    assert mine.metrics == get_protocol("ddd-syn").metrics == ("psnr", "ssim", "rmse_relative", "mae", "lpips")


def test_disparity_is_prepared_as_the_truth_and_blur_is_cut_to_it():
    random = np.random.default_rng(0)
    stored = random.integers(0, 256, (2, 1, 640, 660), dtype=np.uint8)
    protocol, views = get_protocol("dpd-disp"), torch.rand(2, 3, 640, 660)
    seen = protocol.batch(
        {"left": views, "disparity": torch.from_numpy(stored / np.float32(255)), "blur": views[:, :1]}
    )
    expected = np.stack([prepare_dpd_disp_truth(one) for one in stored[:, 0]])[:, None]
    assert seen["left"].shape == (2, 3, 320, 330) and "blur" not in seen
    assert torch.equal((seen["disparity"] * 255).round().to(torch.uint8), torch.from_numpy(expected))
    blur = torch.from_numpy(random.normal(3, 2, (2, 1, 320, 330)).astype(np.float32))
    estimate, inside = protocol.estimate(blur), cut_border(cut_to_windows(blur))
    assert estimate.shape == seen["disparity"].shape and torch.equal(estimate * 255, (estimate * 255).round())
    for mine, one in zip(estimate, inside, strict=True):  # each by its own range
        assert torch.allclose(mine, (one - one.min()) / (one.max() - one.min()), rtol=0, atol=0.501 / 255)


def test_a_protocol_that_compares_maps_asks_for_their_truth():
    get_protocol("ddd-syn").check_truth((), ("left", "blur"), "set test")
    get_protocol("dpd-disp").check_truth(("sharp",), ("left", "disparity"), "set test")
    get_protocol("whole-8bit").check_truth(("sharp",), ("left", "sharp"), "set test")
    for name, fields, said in (
        (
            "ddd-syn",
            ("left", "sharp", "disparity"),
            "ddd-syn compares predicted blur with the blur of the data; set test has left, sharp",
        ),
        (
            "dpd-disp",
            ("left", "blur", "depth"),
            "dpd-disp compares predicted blur with the disparity of the data; set test has left, blur",
        ),
        (
            "whole-8bit",
            ("left", "disparity"),
            "nothing can be scored. The recipe is trained to predict sharp; set test has left, disparity",
        ),
    ):
        with pytest.raises(DualPixelError, match=said):
            get_protocol(name).check_truth(("sharp",), fields, "set test")


def test_what_is_not_known_is_said():
    assert "not published" in get_protocol("dddnet-half").description and "ours" in get_protocol("dpd-disp").description
    assert "per image, where the authors average over batches" in get_protocol("ddd-syn").description


def test_every_protocol_says_which_data_it_is_for():
    assert {name: one.data_bits for name, one in PROTOCOLS.items()} == {
        "dpdnet-16bit": (16,),
        "whole-8bit": (8,),
        "dpanet-8bit": (8, 16),
        "dpanet-half": (8, 16),
        "dddnet-half": (8, 16),
        "k3dn-1152x1792": (16,),
        "mdp-views-16bit": (16,),
        "ddd-syn": (8,),
        "dpd-disp": (8,),
    }


def test_maps_cannot_follow_images_that_change_their_size():
    for name, verb in (("dpanet-half", "halves"), ("k3dn-1152x1792", "resizes")):
        protocol = get_protocol(name)
        protocol.check_inputs(["left", "right"])
        with pytest.raises(DualPixelError, match=f"{name} {verb} images.*; the recipe needs blur"):
            protocol.check_inputs(["left", "blur"])
    get_protocol("dpdnet-16bit").check_inputs(["left", "blur"])


def test_half_size_takes_even_sides_only():
    get_protocol("dpanet-half").check_size(8, 6, "a scene")
    with pytest.raises(DualPixelError, match="set test 1 of 8 x 7 pixels cannot be halved"):
        get_protocol("dpanet-half").check_size(8, 7, "set test 1")
    get_protocol("dpdnet-16bit").check_size(8, 7, "a scene")


def test_small_scenes_leave_nothing_of_a_disparity():
    get_protocol("dpd-disp").check_size(618, 620, "a scene")
    with pytest.raises(DualPixelError, match="set test 1 of 700 x 616 pixels is too small.*618 pixels a side"):
        get_protocol("dpd-disp").check_size(700, 616, "set test 1")
    with pytest.raises(DualPixelError, match="set test 1 of 700 x 701 pixels cannot be halved"):
        get_protocol("dpd-disp").check_size(700, 701, "set test 1")


@pytest.mark.parametrize("size", [(1120, 1680), (1152, 1792), (500, 741), (144, 208), (600, 1000)])
def test_photographs_of_about_three_to_two_are_enlarged(size):
    get_protocol("k3dn-1152x1792").check_size(*size, "a scene")


@pytest.mark.parametrize(
    ("size", "ratio"), [((1680, 1120), "1.500"), ((741, 500), "1.482"), ((960, 1280), "0.750"), ((720, 1280), "0.562")]
)
def test_other_shapes_would_be_distorted(size, ratio):
    words = f"without distortion: height / width is {ratio}, more than 8% away from 0.643"
    with pytest.raises(DualPixelError, match=f"set test 1 of {size[0]} x {size[1]} pixels cannot be enlarged.*{words}"):
        get_protocol("k3dn-1152x1792").check_size(*size, "set test 1")


def test_larger_scenes_would_be_shrunk():
    with pytest.raises(DualPixelError, match="2304 x 3584 pixels cannot be enlarged to 1152 x 1792: it is larger"):
        get_protocol("k3dn-1152x1792").check_size(2304, 3584, "a scene")


def test_one_protocol_has_views_predicted_and_says_how():
    asking = [name for name, one in PROTOCOLS.items() if one.views_predicted]
    assert asking == ["mdp-views-16bit"]
    said = get_protocol("mdp-views-16bit").description
    assert "truncated to 16 bits" in said and "multiply-accumulates alone" in said
    assert said.endswith(get_protocol("dpdnet-16bit").description)


def test_weights_for_predicted_views_are_asked_for_by_their_protocol_only():
    check_views(get_protocol("mdp-views-16bit"), True)
    check_views(get_protocol("dpdnet-16bit"), False)
    with pytest.raises(DualPixelError, match="mdp-views-16bit needs the weights.*--scores.views_from"):
        check_views(get_protocol("mdp-views-16bit"), False)
    with pytest.raises(DualPixelError, match="dpanet-8bit takes the views of the data; choose .* mdp-views-16bit"):
        check_views(get_protocol("dpanet-8bit"), True)
