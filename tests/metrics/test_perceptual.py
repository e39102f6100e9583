import socket
import time
import warnings

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dualpixel.metrics import perceptual
from dualpixel.metrics.perceptual import PerceptualDistance, load_perceptual

SHAPES = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}


def made_up_backbone():
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for layer, (out, into, side) in SHAPES.items():
        weights[f"features.{layer}.weight"] = 0.05 * torch.randn(out, into, side, side, generator=generator)
        weights[f"features.{layer}.bias"] = 0.05 * torch.randn(out, generator=generator)
    return weights


@pytest.fixture(scope="module")
def made_up():
    return PerceptualDistance(made_up_backbone())


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """No weights anywhere, no download, nothing said yet; gives the folder that torch hub would use."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: pytest.fail("asked the network"))
    monkeypatch.delenv("DUALPIXEL_LPIPS", raising=False)
    monkeypatch.delenv("DUALPIXEL_OFFLINE", raising=False)
    perceptual._fetch.cache_clear()
    perceptual._tell_once.cache_clear()
    return tmp_path / "hub"


@pytest.fixture
def patches(shared):
    folder = shared / "data" / "lpips"

    def read(name):
        image = cv2.cvtColor(cv2.imread(str(folder / name)), cv2.COLOR_BGR2RGB)
        return torch.from_numpy(image).permute(2, 0, 1)[None] / 255

    return folder, read("ex_ref.png"), torch.cat([read("ex_p0.png"), read("ex_p1.png")])


def test_published_distances(patches, bare, monkeypatch):
    folder, reference, others = patches
    monkeypatch.setenv("DUALPIXEL_LPIPS", str(folder / "alexnet_lpips_v0.1.npz"))
    distance = load_perceptual()
    assert distance(others, reference.expand_as(others)).tolist() == pytest.approx([0.721881, 0.137566], abs=2e-6)


def test_linear_layers_are_the_calibrated_ones(patches, made_up):
    with np.load(patches[0] / "alexnet_lpips_v0.1.npz") as arrays:
        for layer in range(5):
            stored = torch.from_numpy(arrays[f"lin{layer}.model.1.weight"])
            assert torch.equal(made_up.network.lins[layer].model[1].weight, stored)


def test_score_per_image_independent_of_the_batch(made_up):
    prediction, target = torch.rand(2, 3, 3, 40, 52, generator=torch.manual_seed(0))
    together = made_up(prediction, target)
    assert together.shape == (3,)
    assert together.dtype == torch.float64
    alone = [made_up(prediction[row : row + 1], target[row : row + 1]).item() for row in range(3)]
    assert together.tolist() == alone
    assert made_up(target, target).tolist() == [0.0, 0.0, 0.0]


def test_always_in_evaluation_mode_and_frozen(made_up):
    torch.nn.Sequential(made_up).train()
    assert not any(module.training for module in made_up.modules())
    assert not any(parameter.requires_grad for parameter in made_up.parameters())


def test_gradients_reach_the_prediction(made_up):
    prediction, target = torch.rand(2, 1, 3, 31, 31, generator=torch.manual_seed(0))
    prediction.requires_grad_()
    made_up(prediction, target).sum().backward()
    assert prediction.grad.abs().sum() > 0


def test_full_size_under_inference_mode_and_autocast(made_up):
    image = torch.rand(1, 3, 1120, 1680, generator=torch.manual_seed(0))
    with torch.inference_mode():
        plain = made_up(image, 0.9 * image)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(made_up(image, 0.9 * image), plain)
    assert plain.item() > 0


def test_building_leaves_the_random_state_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    PerceptualDistance(made_up_backbone())
    assert torch.equal(torch.get_rng_state(), before)


def test_refused_images(made_up):
    with pytest.raises(ValueError, match="1 x 40 x 40"):
        made_up(*torch.rand(2, 1, 1, 40, 40))
    with pytest.raises(ValueError, match="30 x 40"):
        made_up(*torch.rand(2, 1, 3, 30, 40))


@pytest.mark.parametrize("ending", ["npz", "pth", "safetensors"])
def test_each_file_format(bare, tmp_path, made_up, ending):
    file, weights = tmp_path / f"backbone.{ending}", made_up_backbone()
    if ending == "npz":
        np.savez(file, **{name: value.numpy() for name, value in weights.items()})
    elif ending == "pth":
        torch.save(weights | {"classifier.1.bias": torch.zeros(4)}, file)
    else:
        save_file(weights, file)
    found = load_perceptual(file).state_dict()
    assert all(torch.equal(value, found[name]) for name, value in made_up.state_dict().items())


def test_order_of_the_places(bare, tmp_path, monkeypatch):
    def biased(value):
        return made_up_backbone() | {"features.0.bias": torch.full((64,), value)}

    def first_bias(module):
        return module.network.net.slice1[0].bias[0].item()

    cached = bare / "checkpoints" / "alexnet-owt-7be5be79.pth"
    cached.parent.mkdir(parents=True)
    torch.save(biased(1.0), cached)
    torch.save(biased(2.0), tmp_path / "two.pth")
    torch.save(biased(3.0), tmp_path / "three.pth")
    assert first_bias(load_perceptual()) == 1.0
    monkeypatch.setenv("DUALPIXEL_LPIPS", str(tmp_path / "two.pth"))
    assert first_bias(load_perceptual()) == 2.0
    assert first_bias(load_perceptual(tmp_path / "three.pth")) == 3.0


def test_download_is_hash_checked_and_kept(bare, monkeypatch):
    def download(url, place, hash_prefix, progress):
        assert (url, hash_prefix) == ("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth", "7be5be79")
        torch.save(made_up_backbone(), place)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    assert isinstance(load_perceptual(), PerceptualDistance)
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: pytest.fail("asked twice"))
    assert isinstance(load_perceptual(), PerceptualDistance)


@pytest.mark.parametrize("way", ["argument", "variable"])
def test_without_weights_one_warning_and_none(bare, monkeypatch, way):
    if way == "variable":
        monkeypatch.setenv("DUALPIXEL_OFFLINE", "1")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert load_perceptual(download=way == "variable") is None
        assert load_perceptual(download=way == "variable") is None
    assert len(said) == 1
    assert "DUALPIXEL_LPIPS" in str(said[0].message)
    assert "alexnet-owt-7be5be79.pth" in str(said[0].message)


def test_a_silent_server_is_given_up_soon(bare, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(bare))
    monkeypatch.delenv("DUALPIXEL_LPIPS", raising=False)
    monkeypatch.delenv("DUALPIXEL_OFFLINE", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(perceptual, "SOCKET_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(perceptual, "BACKBONE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/alexnet.pth")
        start = time.monotonic()
        with pytest.warns(UserWarning, match="download failed"):
            assert load_perceptual() is None
        assert load_perceptual() is None
    assert time.monotonic() - start < 30
    assert socket.getdefaulttimeout() is None
    assert not list(bare.rglob("*.p*"))


def test_a_named_file_must_be_there_and_fit(bare, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"absent\.npz: no such file"):
        load_perceptual(tmp_path / "absent.npz")
    monkeypatch.setenv("DUALPIXEL_LPIPS", str(tmp_path / "absent.pth"))
    with pytest.raises(ValueError, match=r"absent\.pth: no such file"):
        load_perceptual()
    np.savez(tmp_path / "other.npz", weight=np.zeros(3))
    with pytest.raises(ValueError, match=r"other\.npz: these are not the AlexNet weights.*features\.0\.weight"):
        load_perceptual(tmp_path / "other.npz")
    save_file(made_up_backbone() | {"features.0.bias": torch.zeros(5)}, tmp_path / "shape.safetensors")
    with pytest.raises(ValueError, match=r"shape\.safetensors: these are not the AlexNet weights"):
        load_perceptual(tmp_path / "shape.safetensors")
    (tmp_path / "weights.h5").write_bytes(b"")
    with pytest.raises(ValueError, match=r"ending '\.h5'"):
        load_perceptual(tmp_path / "weights.h5")


class Intruder:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


@pytest.mark.parametrize("ending", ["npz", "pth", "safetensors"])
def test_broken_and_malicious_files(bare, tmp_path, ending):
    broken, wicked = tmp_path / f"broken.{ending}", tmp_path / f"wicked.{ending}"
    broken.write_bytes(b"PK\x03\x04 no weights")
    with pytest.raises(ValueError, match=r"broken\..*cannot be read"):
        load_perceptual(broken)
    if ending == "npz":
        np.savez(wicked, **{"features.0.weight": np.array([Intruder()], dtype=object)})
    else:
        torch.save({"features.0.weight": Intruder()}, wicked)
    with pytest.raises(ValueError, match=r"wicked\..*cannot be read"):
        load_perceptual(wicked)
