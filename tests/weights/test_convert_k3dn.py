import hashlib
import json
import tempfile
from pathlib import Path

import pytest
import torch
from k3dn_parts import SMALL, drawn, published_shapes, published_value, shapes_of, stored

import dualpixel
from dualpixel import weights
from dualpixel.errors import DualPixelError
from dualpixel.nets.k3dn import K3DN, VARIANTS
from dualpixel.weights.convert_k3dn import convert_k3dn, options_of, our_name
from dualpixel.weights.files import load_weights

TOLERANCE = 1e-4  # of the Large network, which has values up to 7.6


def published(network, reference, fill):
    """What the authors' program would save."""
    return {name: published_value(fill, name, shape) for name, shape in shapes_of(network, reference).items()}


@pytest.fixture(scope="module")
def folder():
    """A folder that is removed at the end: pytest would keep these large files of the last three runs."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture(scope="module")
def source(folder, reference, fill):
    """A full-size checkpoint as the authors' program writes it, with the weights of the stored outputs."""
    shapes = published_shapes(reference)
    path = folder / "best.pt"
    torch.save({name: published_value(fill, name, shape) for name, shape in shapes.items()}, path)
    return path


@pytest.fixture(scope="module")
def converted(folder, source):
    out = folder / "k3dn.safetensors"
    return out, weights.convert("k3dn", [source], out)


def test_every_published_name_has_one_of_ours(reference):
    ours = [our_name(name) for name in published_shapes(reference)]
    with torch.device("meta"):
        wanted = K3DN().state_dict()
    assert len(ours) == len(set(ours)) == len(wanted) == 288
    assert set(ours) == set(wanted)
    for name, shape in published_shapes(reference).items():
        assert torch.Size(shape).numel() == wanted[our_name(name)].numel()


def test_the_recipe_gives_the_authors_picture(converted, reference):
    recipe = dualpixel.load("k3dn", weights=converted[0])
    left, right = (image + 0.5 for image in drawn((1, 3, 288, 336), (1, 3, 288, 336)))
    with torch.no_grad():
        sharp = recipe({"left": left, "right": right})["sharp"]
    wanted = (stored(reference)["big_modelft/deblur/preclip_s4"] + 0.5).clamp(0, 1)
    assert (sharp[..., ::4, ::4] - wanted).abs().max() < TOLERANCE


def test_metadata_tells_all(converted, source):
    metadata = converted[1]
    with torch.device("meta"):
        assert json.loads(metadata["options"]) == K3DN().options
    assert (metadata["recipe"], metadata["net"], metadata["channel_order"]) == ("k3dn", "K3DN", "RGB")
    assert metadata["source"] == "best.pt"
    assert metadata["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert metadata == load_weights(converted[0])[1]


@pytest.mark.parametrize(
    "options", [{}, {"srp": False}, {"views": "combined"}, {"views": "combined", "srp": False}, {"srp_blocks": 3}]
)
def test_options_are_told_by_names_and_shapes(options, reference, fill):
    network = K3DN(**{**SMALL, **options})
    found = options_of(published(network, reference, fill))
    assert K3DN(**found).state_dict().keys() == network.state_dict().keys()
    assert {**SMALL, **options, **found} == {"cached": False, "srp": True, "views": "dual", **SMALL, **options}


def test_the_form_for_inference_is_converted_too(folder, reference, fill):
    network = K3DN(**SMALL)
    plain = published(network, reference, fill)
    torch.save(plain, folder / "plain.pt")
    network.load_state_dict(convert_k3dn(folder / "plain.pt")[0])
    cached = {name: value for name, value in plain.items() if not name.endswith(".conv1.weight")}
    for number, block in enumerate(network.psf):
        cached[f"deblur.{number}.conv1.weight_left"] = block.kernels.kernels()[..., :5].detach().clone()
    torch.save(cached, folder / "cached.pt")

    state_dict, metadata = convert_k3dn(folder / "cached.pt")
    options = json.loads(metadata["options"])
    assert options["cached"] is True
    again = K3DN(**options)
    again.load_state_dict(state_dict, strict=True)
    views = torch.rand(1, 6, 256, 256)
    with torch.no_grad():
        assert (again.eval()(views) - network.eval()(views)).abs().max() < 1e-6


def test_other_recipes_of_the_paper_are_named(folder, reference, fill):
    first = K3DN(**VARIANTS["k3dn_tiny"], srp=False)
    torch.save(published(first, reference, fill), folder / "first.pt")
    assert convert_k3dn(folder / "first.pt")[1]["recipe"] == "k3dn_tiny_stage1"
    with pytest.raises(DualPixelError, match="holds weights of k3dn_tiny_stage1, not of k3dn: use convert k3dn_tiny_s"):
        weights.convert("k3dn", [folder / "first.pt"], folder / "out.safetensors")
    assert not (folder / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {}}, "no state dict of tensors, found model"),
        ([1, 2], "no state dict of tensors, found list"),
        (
            {"conv.weight": torch.zeros(1)},
            "no feat_extract.0.main.0.weight of K3DN, found conv.weight: is this another",
        ),
        ({}, "no feat_extract.0.main.0.weight of K3DN, found nothing"),
    ],
)
def test_other_files_are_named(content, message, tmp_path):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(DualPixelError, match=message):
        convert_k3dn(tmp_path / "other.pt")


def test_a_damaged_network_is_refused_and_nothing_is_written(tmp_path, source):
    content = torch.load(source, weights_only=True)
    del content["deblur.3.inter.to_w"]
    content["srp.0.conv_q.weight"] = torch.zeros(191, 192, 3, 3)
    torch.save(content, tmp_path / "short.pt")
    with pytest.raises(
        DualPixelError, match="missing: psf.3.query.kernel_weight; of another shape: srp.0.query.weight"
    ):
        weights.convert("k3dn", [tmp_path / "short.pt"], tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
