from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from dualpixel import DualPixelError
from dualpixel.data.schema import build
from dualpixel.evaluate.dpd_disp import cut_border, cut_to_windows, prepare_dpd_disp_truth
from dualpixel.evaluate.protocol import Protocol
from dualpixel.evaluate.protocol_parts import Quantisation
from dualpixel.evaluate.protocols import (
    FILES,
    PROTOCOLS,
    check_data,
    check_views,
    find_protocol,
    get_protocol,
)


@pytest.fixture
def batch():
    random = torch.Generator().manual_seed(0)
    images = {name: torch.rand(1, 3, 4, 6, generator=random) for name in ("left", "right", "combined", "sharp")}
    return {**images, "blur": torch.zeros(1, 1, 4, 6), "key": ["a"], "index": torch.tensor([0])}


@pytest.fixture
def mine(tmp_path):
    """Write a file like that of a protocol of ours, with some keys changed, and return its path."""

    def write(base="dpdnet-16bit", without=None, **changes):
        content = yaml.safe_load((FILES / f"{base}.yaml").read_text()) | changes
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump({name: value for name, value in content.items() if name != without}))
        return str(path)

    return write


UNCUT = ["dpdnet-16bit", "whole-8bit", "k3dn-1152x1792", "mdp-views-16bit", "ddd-syn", "tiled-16bit"]


@pytest.mark.parametrize("name", UNCUT)
def test_protocols_without_bits_leave_everything_alone(batch, name):
    protocol = get_protocol(name)
    assert protocol.quantisation == Quantisation(None, None, None) and not protocol.halved
    assert all(protocol.batch(batch)[field] is value for field, value in batch.items())
    assert (
        protocol.output(batch["left"]) is batch["left"] is protocol.inside(batch["left"])
        and protocol.estimate(batch["blur"]) is batch["blur"]
    )


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
        "tiled-16bit": (16,),
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
    asking = [name for name, one in PROTOCOLS.items() if one.views == "predicted"]
    assert asking == ["mdp-views-16bit"]
    said = get_protocol("mdp-views-16bit").description.split("; ")
    added = [part for part in said if part not in get_protocol("dpdnet-16bit").description.split("; ")]
    assert "truncated to 16 bits" in added[0] and "multiply-accumulates of the tested network alone" in added[1]
    assert len(added) == 2


def test_weights_for_predicted_views_are_asked_for_by_their_protocol_only():
    check_views(get_protocol("mdp-views-16bit"), True)
    check_views(get_protocol("dpdnet-16bit"), False)
    with pytest.raises(DualPixelError, match="mdp-views-16bit needs the weights.*--scores.views_from"):
        check_views(get_protocol("mdp-views-16bit"), False)
    with pytest.raises(DualPixelError, match="dpanet-8bit takes the views of the data; choose .* mdp-views-16bit"):
        check_views(get_protocol("dpanet-8bit"), True)


def test_every_protocol_is_the_file_of_its_name_with_all_keys_given():
    assert {path.stem for path in FILES.iterdir()} == set(PROTOCOLS)
    for name, protocol in PROTOCOLS.items():
        content = yaml.safe_load((FILES / f"{name}.yaml").read_text())
        assert content["id"] == name and list(content) == list(protocol.settings)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_settings_are_plain_values_that_make_the_protocol_again(name):
    protocol = get_protocol(name)
    assert build(Protocol, protocol.settings, "a result") == protocol
    assert protocol.settings["quantisation"].keys() == {"input", "target", "output"}


def test_the_words_follow_the_keys(mine):
    words = {
        "seen whole": {"inference": {"mode": "whole"}},
        "seen in tiles of 64 pixels with 16 around each": {"inference": {"mode": "tiled", "tile": 64, "overlap": 16}},
        "seen resized to 24x36 by bicubic": {"inference": {"mode": "resized", "size": [24, 36], "filter": "bicubic"}},
        "no border cut": {"border": 0},
        "9 pixels cut off every side": {"border": 9},
        "output unquantised": {"quantisation": {"input": 8, "target": 8, "output": None}},
        "output truncated to 10 bits": {"quantisation": {"input": None, "target": None, "output": 10}},
        "inputs cut to 8 bits by dropping the low ones, target of 16 bits as stored": {
            "quantisation": {"input": 8, "target": None, "output": None}
        },
        "rounded half up to 16 bits": {"resolution": {"size": "halved", "filter": "mean2x2"}},
        "rounded half up to 8 bits": {
            "resolution": {"size": "halved", "filter": "mean2x2"},
            "quantisation": {"input": 8, "target": 8, "output": None},
        },
        "SSIM 7x7 uniform": {"ssim": "uniform7"},
        "SSIM 11x11 Gaussian": {"ssim": "gaussian11"},
        "against the data's blur": {"truth": "blur"},
        "PSNR; each": {"metrics": ["psnr"], "ssim": None, "lpips": None},
    }
    said = {part: find_protocol(mine(**changes)).description for part, changes in words.items()}
    assert all(part in one for part, one in said.items())
    assert all(sum(part in one for one in said.values()) < len(said) for part in words)
    assert find_protocol(mine(notes="at night")).description.endswith("; at night")


def test_a_users_protocol_is_told_apart_by_what_decides_its_scores(mine):
    first = find_protocol(mine())
    assert first.id == f"dpdnet-16bit-{get_protocol('dpdnet-16bit').fingerprint}" and len(first.fingerprint) == 8
    assert find_protocol(mine(source="me", notes="other words")).id == first.id
    assert find_protocol(mine(border=1)).id != first.id
    assert find_protocol(mine(ssim="gaussian11")).id.startswith("dpdnet-16bit-")
    assert len({one.fingerprint for one in PROTOCOLS.values()}) == len(PROTOCOLS)
    with pytest.raises(DualPixelError, match="no/such.yaml: no such file"):
        find_protocol("no/such.yaml")
    with pytest.raises(DualPixelError, match="did you mean 'whole-8bit'"):
        find_protocol("whole-8bits")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"without": "border"}, "the key 'border' is missing"),
        ({"borders": 3}, "unknown key 'borders'; did you mean 'border'"),
        ({"border": -1}, "border -1: must be 0 pixels or more"),
        ({"ssim": "gaussian"}, "ssim: found 'gaussian' .*did you mean 'gaussian11'"),
        ({"ssim": None}, "ssim is given where it is among the metrics, and null where it is not"),
        ({"lpips": "vgg"}, "lpips: found 'vgg' .*Allowed: alex-0.1"),
        ({"metrics": ["psnr", "psrn"], "ssim": None, "lpips": None}, "no metric 'psrn'; did you mean 'psnr'"),
        ({"metrics": ["psnr", "psnr"], "ssim": None, "lpips": None}, "metrics, each once"),
        ({"metrics": [], "ssim": None, "lpips": None}, "metrics, each once, or a truth"),
        ({"data_bits": [10]}, "data_bits.0.: found 10"),
        ({"id": "../x"}, "the id '../x' is not of letters"),
        ({"resolution": {"size": "halved"}}, "resolution: halved images need a filter"),
        ({"resolution": {"size": "stored", "filter": "mean2x2"}}, "stored ones have none"),
        ({"resolution": {"size": "halved", "filter": "lanczos"}}, "found 'lanczos'"),
        ({"quantisation": {"input": 0, "target": None, "output": None}}, "found 0 bits, expected 1 to 16"),
        ({"quantisation": {"input": 8}}, "quantisation: the key 'target' is missing"),
        ({"inference": {"mode": "tiled", "tile": 64}}, "mode tiled takes overlap and tile, found tile"),
        ({"inference": {"mode": "whole", "tile": 64}}, "mode whole takes no other key, found tile"),
        ({"inference": {"mode": "tiled", "tile": 72, "overlap": 0}}, "tile 72: must be a multiple of 16, 64 or more"),
        ({"inference": {"mode": "tiled", "tile": 64, "overlap": 7}}, "overlap 7: must be 0 or a multiple of 16"),
        ({"inference": {"mode": "resized", "size": [0, 4], "filter": "bicubic"}}, "must be 1 pixel or more"),
        ({"truth": "disparity"}, "truth disparity is compared at half the size"),
        ({"truth": "blur", "resolution": {"size": "halved", "filter": "mean2x2"}}, "truth blur cannot be compared"),
        ({"views": "synthesised"}, "views: found 'synthesised'"),
    ],
)
def test_a_file_of_what_the_code_does_not_do_is_refused_in_a_line(mine, changes, said):
    path = mine(**changes)
    with pytest.raises(DualPixelError, match=f"^{path}: .*{said}") as refused:
        find_protocol(path)
    assert len(str(refused.value).splitlines()) == 1


def test_inputs_and_target_are_cut_apart(batch):
    protocol = replace(get_protocol("dpdnet-16bit"), quantisation=Quantisation(input=8, target=None, output=10))
    seen = protocol.batch(batch)
    assert seen["sharp"] is batch["sharp"]
    assert torch.equal((seen["combined"] * 255).round(), (batch["combined"] * 65535).round().div(256).floor())
    assert torch.equal(protocol.output(batch["left"]) * 1023, (batch["left"] * 1023).floor())


def test_images_that_are_not_cut_are_halved_in_16_bits(batch):
    protocol = replace(get_protocol("dpanet-half"), quantisation=Quantisation(None, None, None))
    batch["left"] = torch.tensor([[1, 2], [2, 2]]).div(65535).repeat(1, 3, 2, 3)  # 1.75, rounded half up
    assert torch.equal((protocol.batch(batch)["left"] * 65535).round(), torch.full((1, 3, 2, 3), 2.0))


def test_a_border_is_cut_off_every_side_and_leaves_something():
    protocol = replace(get_protocol("dpdnet-16bit"), border=2)
    image = torch.arange(48.0).view(1, 1, 6, 8)
    assert torch.equal(protocol.inside(image), image[..., 2:4, 2:6])
    protocol.check_size(11, 11, "a scene")
    with pytest.raises(
        DualPixelError, match="set test 1 of 10 x 20 pixels: a border of 2 pixels leaves less than 7 x 7"
    ):
        protocol.check_size(10, 20, "set test 1")
    with pytest.raises(DualPixelError, match="leaves less than 11 x 11"):
        replace(protocol, ssim="gaussian11").check_size(14, 20, "set test 1")


def test_sizes_are_compared_after_halving():
    protocol = replace(get_protocol("k3dn-1152x1792"), resolution=get_protocol("dpanet-half").resolution)
    protocol.check_size(2304, 3584, "a scene")
    with pytest.raises(DualPixelError, match="it is larger"):
        protocol.check_size(2306, 3584, "a scene")


def test_data_of_other_bits_are_sent_to_protocols_that_take_them():
    check_data(get_protocol("dpanet-8bit"), "set", 16)
    with pytest.raises(
        DualPixelError, match="dpdnet-16bit is for data of 16 bits, set has 8: choose --protocol .*whole-8bit"
    ):
        check_data(get_protocol("dpdnet-16bit"), "set", 8)
