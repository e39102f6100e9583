import cv2
import numpy as np
import pytest
import torch
from command_line import TOP, refused
from lightning.pytorch import Trainer
from matplotlib import colormaps
from scenes import photograph, views
from torch import nn

import dualpixel
from dualpixel.blocks.correlation import Correlation
from dualpixel.blocks.deformable import ModulatedDeformableConvolution
from dualpixel.blocks.views import BothViews
from dualpixel.cli import main
from dualpixel.data.images import write_png
from dualpixel.data.stream import collate, to_floats
from dualpixel.errors import DualPixelError
from dualpixel.nets.dpanet import DPANet
from dualpixel.nets.dpdnet import DPDNet
from dualpixel.nets.k3dn import K3DN
from dualpixel.recipes import DPANetRecipe
from dualpixel.running import alignment_sheet
from dualpixel.running.alignment_sheet import AlignmentLevel, BestMatches, ViewOffsets, draw_alignment_sheet
from dualpixel.running.inspect import AlignmentRecorder, Inspect
from dualpixel.weights.files import save_weights

ENCODER = [f"enc{level}.alignment" for level in (1, 2, 3, 4)]
DECODER = [f"dec{level}.alignment" for level in (4, 3, 2, 1)]
DPANET = ["--config", str(TOP / "recipes" / "dpanet.yaml"), "--model.net.init_args.width", "0.02"]


def network(**options):
    torch.manual_seed(0)
    return DPANet(width=0.1, **options).eval()


def pair(count=1, size=(32, 48)):
    return torch.rand(2, count, 3, *size, generator=torch.Generator().manual_seed(1))


def recorded(net, *inputs):
    """The recorder after one call, no longer listening."""
    recorder = AlignmentRecorder(net)
    recorder.attach()
    with torch.inference_mode():
        net(*inputs)
    recorder.remove()
    return recorder


def set_side(branch, dx, dy, modulation):
    """Make a side branch say the same everywhere: taps that differ, but have these means."""
    taps = torch.linspace(-0.4, 0.4, 9)
    with torch.no_grad():
        branch[-1].weight.zero_()
        branch[-1].bias[0:18:2] = dy + taps
        branch[-1].bias[1:18:2] = dx - taps
        branch[-1].bias[18:] = torch.tensor(modulation).logit()


def hooks(net):
    return sum(len(module._forward_hooks) for module in net.modules())


@pytest.mark.parametrize("share", [True, False])
def test_every_level_of_both_views_is_recorded(share):
    levels = recorded(network(share_encoder=share), *pair()).levels(0)
    assert [level.name for level in levels] == ENCODER + DECODER
    sizes = [(32, 48), (16, 24), (8, 12), (4, 6)]
    for level, size in zip(levels, sizes + sizes[::-1], strict=True):
        assert list(level.views) == ["left", "right"]
        for view in level.views.values():
            assert view.dx.shape == view.dy.shape == view.modulation.shape == size
            assert view.modulation.min() > 0 and view.modulation.max() < 1
        assert not np.array_equal(level.views["left"].dx, level.views["right"].dx)
    # the published network correlates what a level receives, before its pooling
    assert [level.matches.dx.shape for level in levels[:4]] == [sizes[0], *sizes[:3]]
    assert all(level.matches.displacement == 4 for level in levels[:4])
    assert all(level.matches is None for level in levels[4:])


@pytest.mark.parametrize("share", [True, False])
def test_known_offsets_come_out_with_their_sign_and_size(share):
    net = network(share_encoder=share)
    for number, module in enumerate((net.enc1, net.enc2, net.enc3, net.enc4, net.dec4, net.dec3, net.dec2, net.dec1)):
        set_side(module.alignment.side_left, 1.5 + number, -0.5, 0.9)
        set_side(module.alignment.side_right, -2.0, 0.25 + number, 0.2)
    for number, level in enumerate(recorded(net, *pair()).levels(0)):
        for name, dx, dy, modulation in (("left", 1.5 + number, -0.5, 0.9), ("right", -2.0, 0.25 + number, 0.2)):
            view = level.views[name]
            assert view.dx == pytest.approx(dx, abs=1e-5) and view.dy == pytest.approx(dy, abs=1e-5)
            assert view.modulation == pytest.approx(modulation, abs=1e-5)


def test_the_images_of_a_batch_are_kept_apart():
    net, images = network(), pair(3)
    recorder = recorded(net, *images)
    for row in range(3):
        alone = recorded(net, *images[:, row : row + 1]).levels(0)
        for one, other in zip(recorder.levels(row), alone, strict=True):
            for name in ("left", "right"):
                np.testing.assert_allclose(one.views[name].dx, other.views[name].dx, atol=1e-5)
                np.testing.assert_allclose(one.views[name].modulation, other.views[name].modulation, atol=1e-5)
    assert not np.allclose(recorder.levels(0)[0].views["left"].dx, recorder.levels(1)[0].views["left"].dx, atol=1e-4)


class Matching(nn.Module):
    """Some other network with our blocks."""

    def __init__(self):
        super().__init__()
        self.correlation = Correlation(3)
        self.refine = nn.ModuleList([ModulatedDeformableConvolution(64, 64, kernel_size=1)])

    def forward(self, left, right):
        self.correlation(left, right)
        side = torch.tensor([-1.0, 2.0, 0.0]).view(1, 3, 1, 1).expand(-1, -1, *left.shape[2:])
        return self.refine[0](left, side)


def test_the_largest_correlation_is_where_the_right_view_lies():
    left = torch.randn(1, 64, 16, 20, generator=torch.Generator().manual_seed(2))
    levels = recorded(Matching(), left, left.roll((-1, 2), (2, 3))).levels(0)
    matches = levels[0].matches
    assert levels[0].name == "Matching" and matches.displacement == 3 and not levels[0].views
    inside = (slice(3, -3), slice(3, -3))
    assert (matches.dx[inside] == 2).all() and (matches.dy[inside] == -1).all()
    np.testing.assert_allclose(matches.correlation[inside], left.square().mean(1)[0].numpy()[inside], rtol=1e-5)


def test_a_convolution_that_names_no_view_keeps_its_name():
    left, right = torch.zeros(2, 1, 64, 8, 8)
    level = recorded(Matching(), left, right).levels(0)[1]
    assert level.name == "refine" and list(level.views) == ["0"]
    view = level.views["0"]
    assert (view.dy == -1).all() and (view.dx == 2).all() and (view.modulation == 0.5).all()


class Shifted(nn.Module):
    """Two deformable convolutions in a row; the first reads one pixel further right for each unit of brightness."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (ModulatedDeformableConvolution(1, 1, kernel_size=1) for _ in range(2))

    def forward(self, features):
        zero = torch.zeros_like(features)
        self.first(features, torch.cat((zero, features, zero), dim=1))
        return self.second(features, torch.cat((features, zero, zero), dim=1))


@pytest.mark.parametrize("share", [True, False])
def test_convolutions_deep_in_a_module_for_both_views_are_told_apart(share):
    net = nn.ModuleDict({"refine": BothViews(Shifted, share)})
    net.forward = lambda *views: net["refine"](views)
    images = torch.tensor([[3.0, 4.0], [5.0, 6.0]]).view(2, 2, 1, 1, 1).expand(-1, -1, -1, 4, 6)
    first, second = recorded(net, *images).levels(1)
    assert [(view, one.dx.max(), one.dy.max()) for view, one in first.views.items()] == [
        ("left", 4, 0),
        ("right", 6, 0),
    ]
    assert [(view, one.dx.max(), one.dy.max()) for view, one in second.views.items()] == [
        ("left", 0, 4),
        ("right", 0, 6),
    ]
    assert (first.name, second.name) == ("refine", "refine.second")


# K3DN's SRP blocks compare features before and after deblurring, not views
@pytest.mark.parametrize("net", [DPDNet(width=0.02), DPANet(width=0.02, eam=False, dam=False), K3DN(width=0.02)])
def test_a_network_that_aligns_nothing_is_refused(net):
    with pytest.raises(DualPixelError, match=f"{type(net).__name__} has no alignment to draw"):
        AlignmentRecorder(net)


def batch():
    scene = {name: image for name, image in views(photograph(3, (20, 28))).items() if name in ("left", "right")}
    return to_floats(collate([{**scene, "key": "odd", "group": "", "index": 0}]))


def predict(folder, recipe, callback):
    options = {
        name: False for name in ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    }
    trainer = Trainer(accelerator="cpu", callbacks=[callback], default_root_dir=folder, **options)
    trainer.predict(recipe, torch.utils.data.DataLoader([batch()], batch_size=None))


def test_predict_listens_only_while_it_runs(tmp_path, monkeypatch):
    recipe = DPANetRecipe(network())
    listening = []
    step = recipe.predict_step
    monkeypatch.setattr(recipe, "predict_step", lambda *given: listening.append(hooks(recipe.net)) or step(*given))
    predict(tmp_path, recipe, Inspect(enabled=True))
    assert listening == [4 + 4 + 8] and hooks(recipe.net) == 0  # correlations, EAM's shared convolutions, DAM's
    assert [path.name for path in (tmp_path / "inspect").iterdir()] == ["odd.png"]

    def fails(*given):
        listening.append(hooks(recipe.net))
        raise RuntimeError("out of memory")

    monkeypatch.setattr(recipe, "predict_step", fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        predict(tmp_path, recipe, Inspect(enabled=True))
    assert listening == [16, 16] and hooks(recipe.net) == 0


def test_without_the_option_nothing_is_drawn_and_any_network_goes(tmp_path):
    predict(tmp_path, dualpixel.load("dpdnet", views="dual", width=0.02), Inspect())
    assert not (tmp_path / "inspect").exists()


def test_the_sheet_shows_the_numbers_as_colours(tmp_path):
    size, one = (20, 40), np.ones((20, 40), np.float32)
    half = np.where(np.arange(40) < 20, 1.0, -1.0) * one
    offsets = {"left": ViewOffsets(2 * one, -2 * one, 0 * one), "right": ViewOffsets(2 * half, 0 * one, one)}
    levels = [
        AlignmentLevel("first", offsets, BestMatches(4 * one, -4 * one, np.linspace(0, 1, 800).reshape(size), 4)),
        AlignmentLevel("second", {"left": ViewOffsets(one, -one, one)}),
    ]
    images = {"left": one[..., None] * (1.0, 0.0, 0.0), "output": one[..., None] * (0.0, 1.0, 0.0)}
    draw_alignment_sheet(tmp_path / "sheet.png", "scene", images, levels)
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
    picture = cv2.imread(str(tmp_path / "sheet.png"))[..., ::-1]

    sheet, height = alignment_sheet, alignment_sheet.CELL / 2
    top = sheet.HEADING + 3 * sheet.TITLE + 2 * height + sheet.GAP
    below = top + height + sheet.TITLE + sheet.GAP

    def colour(y, cell, bars, across=0.5):
        """The colour in a row of maps, behind some maps and colour bars."""
        x = sheet.LABELS + cell * (sheet.CELL + sheet.GAP) + bars * (sheet.BAR + sheet.BAR_LABELS) + across * sheet.CELL
        return tuple(int(value) for value in picture[round(100 * (y + height / 2)), round(100 * x)])

    def expected(name, value):
        return tuple(colormaps[name](value, bytes=True)[:3])

    red, blue, grey = (expected("coolwarm", value) for value in (1.0, 0.0, 0.5))
    white = (255, 255, 255)
    assert colour(sheet.HEADING + sheet.TITLE + height / 2, 0, 0) == (255, 0, 0)
    assert colour(sheet.HEADING + sheet.TITLE + height / 2, 2, 0) == (0, 255, 0)
    assert [colour(top, cell, 0) for cell in (0, 1, 3)] == [red, blue, grey]
    assert [colour(top, 2, 0, across) for across in (0.25, 0.75)] == [red, blue]
    assert [colour(top, cell, 1) for cell in (4, 5)] == [expected("viridis", 0.0), expected("viridis", 1.0)]
    assert [colour(top, cell, 2) for cell in (6, 7)] == [red, blue]
    assert np.allclose(colour(top, 8, 3), expected("inferno", 0.5), atol=12)
    # the second level has a scale of its own, one view only and no cost volume
    assert [colour(below, cell, 0) for cell in (0, 1, 2, 3)] == [red, blue, white, white]
    assert [colour(below, cell, 1) for cell in (4, 5)] == [expected("viridis", 1.0), white]
    assert colour(below, 6, 2) == colour(below, 8, 3) == white


def test_an_image_without_offsets_can_be_drawn(tmp_path):
    zero = np.zeros((4, 6), np.float32)
    level = AlignmentLevel("still", {"left": ViewOffsets(zero, zero, zero)}, BestMatches(zero, zero, zero, 0))
    draw_alignment_sheet(tmp_path / "sheet.png", "scene", {"output": np.zeros((4, 6, 3))}, [level])
    assert cv2.imread(str(tmp_path / "sheet.png")).std() > 20


def test_predict_inspect_on_the_command_line(tmp_path, capsys):
    scene = views(photograph(5, (18, 26)))
    for view in ("left", "right"):
        write_png(tmp_path / "in" / view / "odd.png", scene[view])
    recipe = dualpixel.load("dpanet", width=0.02)
    save_weights(tmp_path / "random.safetensors", recipe.net.state_dict(), recipe.weights_metadata())
    options = ["--model.init_from", str(tmp_path / "random.safetensors"), "--data.predict_source", f"[{tmp_path / 'in'}]",
               "--data.num_workers", "0", "--trainer.accelerator", "cpu", "--trainer.devices", "1", "--wandb.mode", "disabled",
               "--run.root", str(tmp_path), "--run.name", "drawn"]  # fmt: skip
    main(["predict", "--inspect", *DPANET, *options])
    assert f"{tmp_path / 'drawn' / 'inspect'}" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "drawn" / "inspect").iterdir()] == ["odd.png"]
    assert (tmp_path / "drawn" / "predictions" / "odd.png").is_file()

    plain = dualpixel.load("dpanet", width=0.02, eam=False, dam=False)
    save_weights(tmp_path / "plain.safetensors", plain.net.state_dict(), plain.weights_metadata())
    without = ["--model.net.init_args.eam", "false", "--model.net.init_args.dam", "false",
               "--model.init_from", str(tmp_path / "plain.safetensors")]  # fmt: skip
    assert "DPANet has no alignment to draw" in refused(capsys, "predict", *DPANET, *options, *without, "--inspect")
