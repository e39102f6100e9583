import hashlib
import json
import tempfile
from pathlib import Path

import pytest
import torch
from dpanet_parts import published_shapes, stored

import dualpixel
from dualpixel import weights
from dualpixel.errors import DualPixelError
from dualpixel.nets.dpanet import DPANet
from dualpixel.weights.convert_dpanet import convert_dpanet, our_name
from dualpixel.weights.files import load_weights

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def folder():
    """A folder that is removed at the end: pytest would keep these large files of the last three runs."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture(scope="module")
def source(folder, reference, fill):
    """A full-size checkpoint as the authors' program writes it, with the weights of the stored outputs."""
    shapes = published_shapes(reference)
    network = {f"module.{name}": torch.from_numpy(fill(name, tuple(shape), 1)) for name, shape in shapes.items()}
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 5e-6, "params": [0]}]}
    path = folder / "final.pth"
    torch.save({"epoch": 150, "global_step": 150, "G_state_dict": network, "G_opt": optimizer}, path)
    return path


@pytest.fixture(scope="module")
def converted(folder, source):
    out = folder / "dpanet.safetensors"
    return out, weights.convert("dpanet", [source], out)


def network_from(state_dict, metadata):
    with torch.device("meta"):  # no initialisation: every value comes from the file
        network = DPANet(**json.loads(metadata["options"]))
    network.load_state_dict(state_dict, strict=True, assign=True)
    return network.eval()


def test_rgb_weights_give_the_authors_picture_and_features(converted, reference):
    network = network_from(*load_weights(converted[0]))
    arrays = stored(reference, "dpanet")
    kept = {}
    for name in ("enc4", "dec4"):
        network.get_submodule(name).register_forward_hook(lambda _, __, result, name=name: kept.update({name: result}))
    with torch.no_grad():
        image = network(arrays["left"].flip(1), arrays["right"].flip(1))
    assert (image.flip(1) - arrays["out"]).abs().max() < TOLERANCE
    assert (kept["enc4"][0] - arrays["enc4_l"]).abs().max() < TOLERANCE
    assert (kept["enc4"][1] - arrays["enc4_r"]).abs().max() < TOLERANCE
    assert (kept["dec4"] - arrays["dec4"]).abs().max() < TOLERANCE


def test_weights_in_the_order_of_the_file_take_and_give_bgr(source, reference):
    state_dict, metadata = convert_dpanet(source, rgb=False)
    assert metadata["channel_order"] == "BGR"
    arrays = stored(reference, "dpanet")
    with torch.no_grad():
        image = network_from(state_dict, metadata)(arrays["left"], arrays["right"])
    assert (image - arrays["out"]).abs().max() < TOLERANCE


def test_the_recipe_loads_what_was_converted(converted, reference):
    recipe = dualpixel.load("dpanet", weights=converted[0])
    arrays = stored(reference, "dpanet")
    with torch.no_grad():
        image = recipe({"left": arrays["left"].flip(1), "right": arrays["right"].flip(1)})["sharp"]
    assert (image.flip(1) - arrays["out"]).abs().max() < TOLERANCE


def test_every_published_name_has_one_of_ours(reference):
    ours = [our_name(name) for name in published_shapes(reference)]
    with torch.device("meta"):
        wanted = DPANet().state_dict()
    assert set(ours) == set(wanted)
    assert len(ours) == len(wanted) == 212


def test_metadata_tells_all(converted, source):
    metadata = converted[1]
    with torch.device("meta"):
        assert json.loads(metadata["options"]) == DPANet().options
    assert (metadata["recipe"], metadata["net"], metadata["channel_order"]) == ("dpanet", "DPANet", "RGB")
    assert metadata["source"] == "final.pth"
    assert metadata["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert metadata == load_weights(converted[0])[1]


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path(tempfile.gettempdir()) / "dualpixel-evil",))


def test_a_file_that_would_execute_something_is_refused(tmp_path):
    trace = Path(tempfile.gettempdir()) / "dualpixel-evil"
    trace.unlink(missing_ok=True)
    torch.save({"G_state_dict": {"module.x": Evil()}}, tmp_path / "evil.pth")
    with pytest.raises(DualPixelError, match="could execute code when loaded"):
        convert_dpanet(tmp_path / "evil.pth")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "state_dict": {}}, "no G_state_dict with tensors, found epoch, state_dict"),
        ([1, 2], "no G_state_dict with tensors, found list"),
        ({"G_state_dict": {"module.conv.weight": torch.zeros(1)}}, "found module.conv.weight: is this another network"),
        ({"G_state_dict": {}}, "found nothing: is this another network"),
    ],
)
def test_other_files_are_named(content, message, tmp_path):
    path = tmp_path / "other.pth"
    torch.save(content, path)
    with pytest.raises(DualPixelError, match=message):
        convert_dpanet(path)


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(DualPixelError, match="no such file"):
        convert_dpanet(tmp_path / "final.pth")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    with pytest.raises(DualPixelError, match="no checkpoint"):
        convert_dpanet(tmp_path / "text.pth")


def test_a_network_of_another_size_is_refused_and_nothing_is_written(tmp_path, reference):
    shapes = published_shapes(reference)
    narrow = {f"module.{name}": torch.zeros([max(1, one // 8) for one in shape]) for name, shape in shapes.items()}
    torch.save({"G_state_dict": narrow}, tmp_path / "narrow.pth")
    with pytest.raises(DualPixelError, match="do not fit DPANet: of another shape: .* and 211 more"):
        weights.convert("dpanet", [tmp_path / "narrow.pth"], tmp_path / "out.safetensors")
    del narrow["module.up3.offset_l.weight"]
    torch.save({"G_state_dict": narrow}, tmp_path / "short.pth")
    with pytest.raises(DualPixelError, match=r"missing: dec3.alignment.side_left.0.weight"):
        weights.convert("dpanet", [tmp_path / "short.pth"], tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
