import hashlib
import json
import re
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from dddnet_parts import published_shapes, stored, write_published

from dualpixel import weights
from dualpixel.errors import DualPixelError
from dualpixel.nets.dddnet import DDDNet
from dualpixel.weights.convert_dddnet import UNUSED, convert_dddnet, convert_dddnet_syn, our_name
from dualpixel.weights.files import load_weights

TOLERANCE = 1e-4
UNUSED_PARAMETERS = 3_508_835


@pytest.fixture(scope="module")
def folder():
    """A folder that is removed at the end: pytest would keep these large files of the last three runs."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture(scope="module")
def sources(folder, reference, fill):
    """Both files as the authors' program writes them, with the weights of the stored outputs."""
    return write_published(folder, reference, fill)


@pytest.fixture(scope="module")
def converted(folder, sources):
    out = folder / "dddnet_syn.safetensors"
    return out, weights.convert("dddnet_syn", sources, out)


def altered(source, folder, remove=(), **added):
    """A copy of a file with other contents."""
    content = torch.load(source, weights_only=True)
    for name in remove:
        del content[name]
    path = folder / source.name
    torch.save({**content, **{f"module.{name}": value for name, value in added.items()}}, path)
    return path


def test_converted_files_give_the_authors_image_and_depths(converted, reference):
    state_dict, metadata = load_weights(converted[0])
    network = DDDNet(**json.loads(metadata["options"]))
    network.load_state_dict(state_dict, strict=True)
    arrays = stored(reference)
    with torch.no_grad():
        outputs = network.eval()(arrays["left"], arrays["right"])
    assert (outputs["sharp"] - arrays["deblurred"]).abs().max() < TOLERANCE
    assert (outputs["inverse_depth"][:, 0] - arrays["inverse_depth"]).abs().max() < TOLERANCE
    assert (outputs["coarse"][:, 0] - arrays["coarse_inverse_depth"]).abs().max() < TOLERANCE


def test_every_published_name_has_one_of_ours_or_is_never_used(reference):
    published = [name.removeprefix("module.") for names in published_shapes(reference).values() for name in names]
    ours = [our_name(name) for name in published if not UNUSED.match(name)]
    with torch.device("meta"):
        wanted = DDDNet().state_dict()
    assert len(ours) == len(set(ours)) == len(wanted)
    assert set(ours) == set(wanted)


def test_parameters_that_are_left_out(reference):
    buffers = re.compile(r"running_mean|running_var|num_batches_tracked")
    unused = {
        name: torch.Size(shape).numel()
        for shapes in published_shapes(reference).values()
        for name, shape in shapes.items()
        if UNUSED.match(name.removeprefix("module.")) and not buffers.search(name)
    }
    assert sum(unused.values()) == UNUSED_PARAMETERS


@pytest.mark.parametrize(("convert", "recipe"), [(convert_dddnet, "dddnet"), (convert_dddnet_syn, "dddnet_syn")])
def test_metadata_tells_all(convert, recipe, sources):
    metadata = convert(*sources)[1]
    with torch.device("meta"):
        assert json.loads(metadata["options"]) == DDDNet().options
    assert (metadata["recipe"], metadata["net"], metadata["channel_order"]) == (recipe, "DDDNet", "RGB")
    assert metadata["source"] == "Estd.pkl, Esti.pkl"
    hashes = [hashlib.sha256(source.read_bytes()).hexdigest() for source in sources]
    assert metadata["source_sha256"] == ", ".join(hashes)


def test_what_was_returned_was_written(converted):
    assert load_weights(converted[0])[1] == converted[1]
    assert converted[1]["recipe"] == "dddnet_syn"


def test_files_of_old_versions_of_torch_and_without_unused_layers_are_converted_too(sources, tmp_path):
    old = []
    for source in sources:
        content = torch.load(source, weights_only=True)
        content = {name: one for name, one in content.items() if not UNUSED.match(name.removeprefix("module."))}
        old.append(tmp_path / source.name)
        torch.save(content, old[-1], _use_new_zipfile_serialization=False)
    wanted, found = convert_dddnet(*sources)[0], convert_dddnet(*old)[0]
    assert wanted.keys() == found.keys()
    assert all(torch.equal(value, found[name]) for name, value in wanted.items())


def test_exchanged_files_are_told(sources, tmp_path):
    with pytest.raises(
        DualPixelError, match=r"this is an Esti.pkl, needed is Estd.pkl: give Estd.pkl first, then Esti"
    ):
        convert_dddnet(*reversed(sources))
    with pytest.raises(DualPixelError, match=r"this is an Estd.pkl, needed is Esti.pkl"):
        convert_dddnet(sources[0], sources[0])
    with pytest.raises(DualPixelError, match=r"takes 2 file\(s\) \(estd, esti\), found 1"):
        weights.convert("dddnet", sources[:1], tmp_path / "out.safetensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"state": {}, "param_groups": []},
            "no state dict of tensors, found state, param_groups; give the authors' Es",
        ),
        ([1, 2], "no state dict of tensors, found list"),
        ({"conv.weight": torch.zeros(1)}, "of DDDNet's Est[di].pkl, found conv.weight: is this another network"),
        ({}, "found nothing: is this another network"),
    ],
)
@pytest.mark.parametrize("which", [0, 1])
def test_other_files_are_named(content, message, which, sources, tmp_path):
    given = list(sources)
    given[which] = tmp_path / "other.pkl"
    torch.save(content, given[which])
    with pytest.raises(DualPixelError, match=message) as raised:
        convert_dddnet(*given)
    assert str(raised.value).startswith(str(given[which]))
    assert ("Estd.pkl", "Esti.pkl")[which] in str(raised.value)


def test_damaged_networks_are_refused_and_nothing_is_written(sources, tmp_path):
    out = tmp_path / "out.safetensors"
    cases = {
        "missing: depth.matching.up.conv.weight": (0, {"remove": ["module.matching.deconv1a.conv1.conv.weight"]}),
        "missing: deblur.attention.gamma": (1, {"remove": ["module.cam_attention.gamma"]}),
        "unexpected: matching.conv4a.weight": (0, {"matching.conv4a.weight": torch.zeros(1)}),
        "unexpected: decoder4.layer13.bias": (1, {"decoder4.layer13.bias": torch.zeros(1)}),
        "unexpected: deblur.enc1.layer4.bias": (1, {"encoder1.layer4.bias": torch.zeros(1)}),
        r"of another shape: deblur.depth.8.weight \(3,": (1, {"decoderd.layer24.weight": torch.zeros(3, 32, 3, 3)}),
    }
    for message, (which, change) in cases.items():
        given = list(sources)
        given[which] = altered(sources[which], tmp_path, **change)
        with pytest.raises(DualPixelError, match=message):
            weights.convert("dddnet", given, out)
        assert not out.exists()


class Foreign:
    """What only code could make again."""


@pytest.mark.parametrize("zipped", [True, False])
def test_files_that_would_execute_something_are_refused(zipped, sources, tmp_path):
    torch.save({"module.x": Foreign()}, tmp_path / "Estd.pkl", _use_new_zipfile_serialization=zipped)
    with pytest.raises(DualPixelError, match="could execute code when loaded"):
        convert_dddnet(tmp_path / "Estd.pkl", sources[1])


def test_a_truncated_file_is_named(sources, tmp_path):
    short = shutil.copy(sources[1], tmp_path / "Esti.pkl")
    short.write_bytes(short.read_bytes()[:1000])
    with pytest.raises(DualPixelError, match="Esti.pkl: truncated, damaged or no checkpoint"):
        convert_dddnet(sources[0], short)
