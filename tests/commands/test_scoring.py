import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import yaml
from command_line import TOP, refused
from lightning.pytorch import Callback, Trainer
from scenes import SIZE, TEST_KEYS
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

import dualpixel
from dualpixel import DualPixelError
from dualpixel.cli import main
from dualpixel.data import DualPixelData
from dualpixel.data.reading import PreparedSplit
from dualpixel.evaluate.protocols import FILES, find_protocol, get_protocol
from dualpixel.evaluate.result import load_result
from dualpixel.evaluate.scores import Scores
from dualpixel.evaluate.thumbnails import KINDS, find_thumbnails
from dualpixel.recipes.base import Recipe

DPDNET = str(TOP / "recipes" / "dpdnet.yaml")


@pytest.fixture
def arguments(trained, overlay, tmp_path):
    """What stands behind ``test`` but the protocol."""
    return ["--config", DPDNET, "--config", overlay, "--ckpt_path", str(trained), "--run.root", str(tmp_path), "--run.name", "p",
            "--scores.lpips", "false", "--panels.count", "0"]  # fmt: skip


def as_authors(stored, halved):
    """uint16 (H, W, 3) as 8 bits, by integers alone."""
    image = stored >> 8
    if not halved:
        return image.astype(np.uint8)
    height, width = SIZE
    return ((image.reshape(height // 2, 2, width // 2, 2, 3).sum(axis=(1, 3)) + 2) // 4).astype(np.uint8)


def batch_of(images):
    return {name: torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255 for name, image in images.items()}


@pytest.mark.parametrize(("protocol", "halved"), [("dpanet-8bit", False), ("dpanet-half", True)])
def test_a_test_by_dpanets_protocols_sees_and_scores_8_bits(
    arguments, trained, small_shards, tmp_path, capsys, protocol, halved
):
    main(["test", *arguments, "--protocol", protocol])
    assert f"protocol {protocol}" in capsys.readouterr().out
    result = load_result(tmp_path / "p" / "results" / "dpdd_small-test" / protocol / "result.json")
    assert result.protocol == protocol and result.complete and ("halved" in result.protocol_description) is halved
    assert result.macs_size == [side // (1 + halved) for side in SIZE]

    recipe = dualpixel.load("dpdnet", weights=trained / "checkpoints" / "last.ckpt")
    split = PreparedSplit(small_shards / "test")
    assert len(result.rows) == len(TEST_KEYS)
    for position, row in enumerate(result.rows):
        names = ("left", "right", "combined", "sharp")
        images = {name: as_authors(np.asarray(split.array(position, name)), halved) for name in names}
        with torch.inference_mode():
            output = recipe(batch_of(images))["sharp"]
        output = (output[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)  # truncates
        assert row["psnr"] == pytest.approx(peak_signal_noise_ratio(images["sharp"], output), abs=1e-5)
        assert row["input_psnr"] == pytest.approx(
            peak_signal_noise_ratio(images["sharp"], images["combined"]), abs=1e-5
        )
        ssim = structural_similarity(output / 255, images["sharp"] / 255, channel_axis=-1, data_range=1.0)
        assert row["ssim"] == pytest.approx(ssim, abs=1e-5)
        difference = np.abs(output.astype(int) - images["sharp"]).mean() / 255
        assert row["mae"] == pytest.approx(difference, abs=1e-7)


def test_a_result_has_its_time_and_pictures_of_its_images(arguments, tmp_path, capsys):
    main(["test", *arguments])
    path = tmp_path / "p" / "results" / "dpdd_small-test" / "dpdnet-16bit" / "result.json"
    result, found = load_result(path), find_thumbnails(path)
    said = capsys.readouterr().out
    assert 0 < result.seconds < 5 and f"{result.seconds:.3g} s an image on " in said
    assert "no paper prints scores of this network (dpdnet) on all of dpdd_small test" in said
    assert json.loads((path.parent / "reproduction.json").read_text())["rows"] == []
    assert result.net == "dualpixel.nets.dpdnet.DPDNet"
    assert result.environment["device_name"] and result.environment["threads"] >= 1
    assert not {"seconds", "loss"} & {*result.rows[0], *result.means["overall"]}
    assert set(found) == set(TEST_KEYS) and all(set(kinds) == set(KINDS) for kinds in found.values())
    target = cv2.imread(str(found[TEST_KEYS[0]]["target"]), cv2.IMREAD_UNCHANGED)
    assert target.shape == (128, 128, 3) and target.std() > 10

    files = [file for kinds in found.values() for file in kinds.values()]
    before = {file: file.read_bytes() for file in files}
    main(["test", *arguments, "--trainer.limit_test_batches", "2", "--run.name", "limited"])
    assert not list((tmp_path / "limited").rglob("*.webp"))
    main(["test", *arguments])
    assert {file: file.read_bytes() for file in files} == before
    main(
        ["test", *arguments, "--scores.thumbnails", "false"]
    )  # those of another test would show what is not scored here
    assert not find_thumbnails(path) and load_result(path).rows == result.rows


def test_validation_does_not_know_the_protocol(arguments, capsys):
    said = []
    for protocol in ("dpdnet-16bit", "dpanet-half"):
        main(["validate", *arguments, "--scores.protocol", protocol])
        said.append(next(line for line in capsys.readouterr().out.splitlines() if "best validation PSNR" in line))
    assert said[0] == said[1]


def test_protocols_are_refused_where_they_are_unknown_or_for_other_data(arguments, capsys):
    assert "did you mean 'dpanet-half'" in refused(capsys, "test", *arguments, "--scores.protocol", "dpanet_half")
    message = refused(capsys, "test", *arguments, "--scores.protocol", "whole-8bit")
    assert (
        "whole-8bit is for data of 8 bits, dpdd_small has 16" in message
        and "--protocol dpdnet-16bit or dddnet-half or dpanet-8bit" in message
    )


def trainer_of(bit_depth):
    """As much of a trainer as the set-up of scores asks for."""
    return SimpleNamespace(
        strategy=SimpleNamespace(broadcast=lambda folder: folder),
        default_root_dir="runs/x",
        datamodule=SimpleNamespace(card=SimpleNamespace(name="set", bit_depth=bit_depth, protocols=["whole-8bit"])),
    )


def test_8_bit_data_go_through_8_bit_protocols():
    for protocol in (None, "whole-8bit", "dpanet-8bit", "dpanet-half", "dddnet-half", "ddd-syn", "dpd-disp"):
        Scores(protocol).setup(trainer_of(8), None, "test")
    with pytest.raises(DualPixelError, match="for data of 16 bits, set has 8"):
        Scores("dpdnet-16bit").setup(trainer_of(8), None, "test")
    with pytest.raises(DualPixelError, match="for data of 8 bits, set has 16"):
        Scores().setup(trainer_of(16), None, "test")


def samples_of(*sizes):
    """As much of evaluation samples as the check of their sizes asks for."""
    scenes = [SimpleNamespace(key=f"scene{number}") for number in range(len(sizes))]
    index = SimpleNamespace(dataset="set", split="test", samples=scenes)
    split = SimpleNamespace(index=index, size=lambda scene: sizes[scene])
    return SimpleNamespace(split=split, fields=["left", "right", "sharp", "blur"])


@pytest.mark.parametrize(
    ("protocol", "sizes", "said"),
    [
        ("dpanet-half", [(8, 10), (8, 7)], "set test scene1 of 8 x 7 pixels cannot be halved"),
        (
            "k3dn-1152x1792",
            [(8, 12), (12, 8)],
            "set test scene1 of 12 x 8 pixels cannot be enlarged to 1152 x 1792 without",
        ),
    ],
)
def test_what_a_protocol_is_not_for_is_refused_before_the_first_batch(protocol, sizes, said):
    scores, recipe = Scores(protocol), Module(("left", "right"), ("sharp",))
    scores._samples = samples_of(*sizes)
    with pytest.raises(DualPixelError, match=said):
        scores._prepare(get_protocol(protocol), recipe)
    scores._samples = samples_of(sizes[0])
    with pytest.raises(DualPixelError, match="maps cannot follow; the recipe needs blur"):
        scores._prepare(get_protocol(protocol), Module(("left", "blur"), ("sharp",)))
    scores._prepare(get_protocol(protocol), Module(("left",), ("sharp", "blur")))
    scores._prepare(get_protocol(protocol), recipe)
    with pytest.raises(
        DualPixelError, match="nothing can be scored. The recipe is trained to predict no image; set test has"
    ):
        scores._prepare(get_protocol(protocol), Module(("left",), ("blur",)))


class Module(torch.nn.Module):
    """As much of a recipe as is asked before the first batch."""

    def __init__(self, inputs, targets):
        super().__init__()
        self.inputs, self.targets = inputs, targets


class Identity(Recipe):
    """Gives the combined image back, over a convolution that changes nothing; breaks where it is told to."""

    name = "identity"
    inputs = ("combined",)
    broken = False

    def __init__(self):
        net = torch.nn.Conv2d(3, 3, 1, bias=False)
        net.weight.data = torch.eye(3)[:, :, None, None]
        super().__init__(net)

    def forward(self, batch):
        if self.broken:
            raise RuntimeError("broken")
        self.seen = tuple(batch["combined"].shape[-2:])
        return {"sharp": self.net(batch["combined"])}

    def loss_terms(self, batch, prediction):
        return {"mse": (prediction["sharp"] - batch["sharp"]).square().mean()}


class Batches(Callback):
    """Keeps the sizes of the batches that callbacks are given."""

    def __init__(self):
        self.sizes = set()

    def on_test_batch_end(self, trainer, pl_module, outputs, batch, *position):
        images = (batch["left"], batch["combined"], batch["sharp"], outputs["prediction"]["sharp"])
        self.sizes |= {tuple(image.shape[-2:]) for image in images}


@pytest.fixture
def tested(small_card, small_shards, tmp_path):
    """Run a test of a recipe, by default by the protocol of K3DN; return its result, and the sizes that callbacks saw."""

    def run(recipe, protocol="k3dn-1152x1792", **options):
        data, batches = DualPixelData(str(small_card), root=small_shards, num_workers=0), Batches()
        trainer = Trainer(
            accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
            default_root_dir=tmp_path, callbacks=[Scores(protocol, lpips=False), batches], **options,
        )  # fmt: skip
        trainer.test(recipe, datamodule=data, verbose=False)
        path = next(tmp_path.rglob(f"{find_protocol(protocol).id}/result.json"), None)
        return path and load_result(path), batches.sizes

    return run


def test_a_test_by_k3dns_protocol_sees_1152x1792_and_scores_at_the_stored_size(tested, small_shards):
    recipe = Identity()
    result, sizes = tested(recipe)
    assert recipe.seen == (1152, 1792) and sizes == {SIZE}
    assert result.protocol == "k3dn-1152x1792" and "resized to 1152x1792" in result.protocol_description
    assert result.complete and result.macs_size == [1152, 1792] and result.macs == 1152 * 1792 * 9

    split = PreparedSplit(small_shards / "test")
    for position, row in enumerate(result.rows):
        combined, sharp = (np.asarray(split.array(position, name)) for name in ("combined", "sharp"))
        enlarged = cv2.resize(combined, (1792, 1152), interpolation=cv2.INTER_CUBIC) / 65535
        output = torch.nn.functional.interpolate(
            torch.from_numpy(enlarged).permute(2, 0, 1)[None], size=SIZE, mode="bicubic", align_corners=False
        )
        output = output[0].permute(1, 2, 0).clamp(0, 1).numpy()
        assert row["psnr"] == pytest.approx(peak_signal_noise_ratio(sharp / 65535, output), abs=1e-5)
        assert row["input_psnr"] == pytest.approx(peak_signal_noise_ratio(sharp / 65535, combined / 65535), abs=1e-5)
        assert 1e-4 < abs(row["psnr"] - row["input_psnr"]) < 0.5  # what the two resizings alone do


def test_a_recipe_is_left_as_it_was_after_a_test_that_ends_or_breaks(tested):
    recipe = Identity()
    tested(recipe)
    assert not recipe._forward_hooks and not recipe._forward_pre_hooks
    recipe.broken = True
    with pytest.raises(RuntimeError, match="broken"):
        tested(recipe)
    assert not recipe._forward_hooks and not recipe._forward_pre_hooks


@pytest.fixture
def own_protocol(tmp_path):
    """A file of the user's that cuts a border and 16 bits, in tiles, with the other SSIM."""
    content = yaml.safe_load((FILES / "tiled-16bit.yaml").read_text())
    content |= {
        "id": "mine",
        "border": 5,
        "quantisation": {"input": 10, "target": None, "output": 9},
        "inference": {"mode": "tiled", "tile": 64, "overlap": 16},
        "metrics": ["mae", "psnr", "ssim"],
        "ssim": "gaussian11",
        "lpips": None,
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    return str(tmp_path / "mine.yaml")


def test_a_protocol_of_the_users_is_carried_out_key_by_key(tested, own_protocol, small_shards):
    recipe = Identity()
    result, sizes = tested(recipe, own_protocol)
    assert recipe.seen[0] <= 96 and recipe.seen[1] <= 96 and sizes == {SIZE} and "forward" not in vars(recipe)
    assert list(result.rows[0]) == ["key", "group", "mae", "psnr", "ssim", "input_mae", "input_psnr", "input_ssim"]
    assert result.protocol == find_protocol(own_protocol).id and result.protocol.startswith("mine-")
    assert result.protocol_settings["border"] == 5 and "5 pixels cut off every side" in result.protocol_description
    assert result.macs_size == list(SIZE) and SIZE[0] * SIZE[1] * 9 < result.macs < 3 * SIZE[0] * SIZE[1] * 9

    split, inside = PreparedSplit(small_shards / "test"), np.s_[5:-5, 5:-5]
    for position, row in enumerate(result.rows):
        combined, sharp = (np.asarray(split.array(position, name)) for name in ("combined", "sharp"))
        seen, sharp = (combined >> 6)[inside] / 1023, sharp[inside] / 65535
        output = np.floor(seen.astype(np.float32) * 511) / 511
        for prefix, image in (("", output), ("input_", seen)):
            assert row[f"{prefix}psnr"] == pytest.approx(peak_signal_noise_ratio(sharp, image, data_range=1), abs=1e-4)
            assert row[f"{prefix}mae"] == pytest.approx(np.abs(image - sharp).mean(), abs=1e-6)
            gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
            ssim = structural_similarity(image, sharp, channel_axis=-1, data_range=1.0, **gaussian)
            assert row[f"{prefix}ssim"] == pytest.approx(ssim, abs=1e-6)


def test_a_file_is_a_protocol_on_the_command_line_too(arguments, own_protocol, tmp_path, capsys):
    main(["test", *arguments, f"--protocol={own_protocol}"])
    said = capsys.readouterr().out
    (path,) = (tmp_path / "p").rglob("result.json")
    assert path.parent.name.startswith("mine-") and f"protocol {path.parent.name}" in said
    assert load_result(path).protocol == path.parent.name
    message = refused(capsys, "test", *arguments, "--protocol", str(tmp_path / "theirs.yml"))
    assert message.endswith("theirs.yml: no such file")
    (tmp_path / "theirs.yml").write_text("id: theirs\nborders: 4\n")
    message = refused(capsys, "test", *arguments, "--protocol", str(tmp_path / "theirs.yml"))
    assert "unknown key 'borders'; did you mean 'border'" in message


@pytest.mark.parametrize(("images", "known"), [(1, False), (2, True)])
def test_the_first_image_is_not_timed(tested, monkeypatch, images, known):
    shown = []
    monkeypatch.setattr("dualpixel.evaluate.scores.show", lambda result, path: shown.append(result))
    assert tested(Identity(), "dpdnet-16bit", limit_test_batches=images)[0] is None  # a part is shown, and not written
    assert (shown[0].seconds is not None) is known and len(shown[0].rows) == images
