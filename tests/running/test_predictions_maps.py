"""The blur that a network predicts, as files: each format, and `predict` on the command line."""

import numpy as np
import pytest
import torch
from command_line import TOP, refused
from scenes import photograph, views

import dualpixel
from dualpixel.cli import main
from dualpixel.data.images import read_image, write_png
from dualpixel.data.maps import read_map
from dualpixel.data.pairs import find_photographs
from dualpixel.errors import DualPixelError
from dualpixel.files import read_json
from dualpixel.optics import Camera, depth_of_blur
from dualpixel.running.blur_maps import LARGEST, OFFSET, SCALE, write_blur
from dualpixel.weights.files import save_weights

SIZES = {"odd": (70, 101), "wide": (64, 136)}


def blur(height=30, width=41):
    return np.random.default_rng(0).normal(scale=9, size=(height, width)).astype(np.float32)


def read_16_bits(folder, key):
    """As the folder's own maps.json says."""
    numbers = read_json(folder / "maps.json")
    return read_map(folder / f"{key}.png", unit=1 / numbers["scale"]) - numbers["offset"]


@pytest.mark.parametrize("file_format", ["npy", "exr"])
def test_floats_come_back_bit_for_bit(file_format, tmp_path):
    values = blur()
    values[3, 4] = np.nan
    write_blur(tmp_path, "one", values, file_format)
    stored = read_map(tmp_path / "blur" / f"one.{file_format}", signed=True)
    assert stored.dtype == np.float32 and np.array_equal(stored, values, equal_nan=True)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")) == [
        "blur/maps.json",
        f"blur/one.{file_format}",
        "blur_colour/one.png",
    ]


def test_16_bits_come_back_to_half_a_step_and_nothing_known_stays_so(tmp_path):
    values = blur()
    values[0, :4] = -LARGEST, LARGEST, 0, np.nan
    write_blur(tmp_path, "one", values, "png16")
    found = read_16_bits(tmp_path / "blur", "one")
    assert np.array_equal(found[0, :4], values[0, :4], equal_nan=True)
    error = np.abs(found - values.astype(np.float64))
    assert 0.45 / SCALE < np.nanmax(error) <= 0.5 / SCALE + 1e-5
    steps = np.round(values * SCALE) / SCALE  # what lies on a step is exact
    write_blur(tmp_path, "two", steps, "png16")
    assert np.array_equal(read_16_bits(tmp_path / "blur", "two"), steps, equal_nan=True)
    numbers = read_json(tmp_path / "blur" / "maps.json")
    assert (numbers["scale"], numbers["offset"]) == (SCALE, OFFSET) == (256, 128)
    assert "signed blur radius in pixels" in numbers["meaning"] and "value / scale - offset" in numbers["meaning"]


@pytest.mark.parametrize("wrong", [128.0, -128.0, np.inf])
def test_blur_that_16_bits_do_not_hold_is_refused_and_nothing_is_written(wrong, tmp_path):
    values = blur()
    values[0, 0] = wrong
    with pytest.raises(DualPixelError, match=r"one.png: blur from .* but 16 bits hold up to 127.996 .*maps npy or exr"):
        write_blur(tmp_path, "one", values, "png16")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def predicting(tmp_path_factory):
    """The command without an option of maps, for a narrow network and small photographs; the blur it must find."""
    folder = tmp_path_factory.mktemp("dddnet")
    torch.manual_seed(0)
    recipe = dualpixel.load("dddnet", width=0.1)
    last = [layer for layer in recipe.net.deblur.depth.modules() if isinstance(layer, torch.nn.Conv2d)][-1]
    last.bias.data += 5  # within what the recipe makes radii of
    save_weights(folder / "narrow.safetensors", recipe.net.state_dict(), recipe.weights_metadata())
    expected = {}
    for number, (key, size) in enumerate(SIZES.items()):
        scene = views(photograph(number, size))
        for field in ("left", "right", "combined"):
            write_png(folder / "in" / field / f"{key}.png", scene[field])
        batch = {
            field: torch.from_numpy(scene[field].astype(np.float32) / 65535).permute(2, 0, 1)[None]
            for field in ("left", "right", "combined")
        }
        with torch.no_grad():
            expected[key] = recipe.eval()(batch)["blur"][0, 0].numpy() - 1.75
    command = ["predict", "--config", str(TOP / "recipes" / "dddnet.yaml"), "--model.net.init_args.width=0.1",
               "--model.init_from", str(folder / "narrow.safetensors"), "--data.dataset", "quickstart", "--data.num_workers", "0",
               "--trainer.accelerator", "cpu", "--trainer.devices", "1", "--run.root", str(folder / "runs"),
               "--data.predict_source", f"[{folder / 'in'}]"]  # fmt: skip
    return command, expected


def written(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


def test_predict_writes_maps_and_pictures_beside_the_images(predicting, tmp_path, capsys):
    command, expected = predicting
    main([*command, "--predictions.output", str(tmp_path)])
    assert written(tmp_path) == sorted(
        ["blur/maps.json"]
        + [name for key in SIZES for name in (f"{key}.png", f"blur/{key}.npy", f"blur_colour/{key}.png")]
    )
    assert f"2 images written to {tmp_path}" in capsys.readouterr().out
    for key, (height, width) in SIZES.items():
        found = np.load(tmp_path / "blur" / f"{key}.npy")
        assert found.dtype == np.float32 and found.shape == (height, width)
        assert np.allclose(found, expected[key], rtol=0, atol=1e-4 * np.abs(expected[key]).max()) and np.ptp(found) > 0
        drawn = read_image(tmp_path / "blur_colour" / f"{key}.png", 8)
        assert drawn.shape[0] == 160 and drawn.shape[1] > width + 90
    # the folder stays one of images: the maps are not taken for photographs
    assert sorted(find_photographs([tmp_path])) == sorted(SIZES)


def test_predict_writes_the_format_that_is_asked_for(predicting, tmp_path):
    command, expected = predicting
    for file_format, ending in {"exr": "exr", "png16": "png"}.items():
        main([*command, "--predictions.output", str(tmp_path / file_format), "--predictions.maps", file_format])
        assert (tmp_path / file_format / "blur" / f"odd.{ending}").is_file()
    close = {"rtol": 0, "atol": 1e-4 * np.abs(expected["odd"]).max()}
    assert np.allclose(read_map(tmp_path / "exr" / "blur" / "odd.exr", signed=True), expected["odd"], **close)
    close["atol"] += 0.5 / SCALE
    assert np.allclose(read_16_bits(tmp_path / "png16" / "blur", "odd"), expected["odd"], **close)


def test_none_writes_no_maps_and_an_unknown_format_is_refused(predicting, tmp_path, capsys):
    command, _ = predicting
    main([*command, "--predictions.output", str(tmp_path), "--predictions.maps", "none"])
    assert written(tmp_path) == ["odd.png", "wide.png"]
    said = refused(capsys, *command, "--predictions.maps", "tiff")
    assert "--predictions.maps" in said and "'npy', 'exr', 'png16', 'none'" in said and "tiff" in said


def test_predict_says_in_a_line_that_16_bits_do_not_suffice(predicting, tmp_path, capsys, monkeypatch):
    command, _ = predicting
    monkeypatch.setattr("dualpixel.running.blur_maps.LARGEST", 1e-4)
    said = refused(capsys, *command, "--predictions.output", str(tmp_path), "--predictions.maps", "png16")
    assert "but 16 bits hold up to 0.000 of either sign; give --predictions.maps npy or exr" in said


def constant(folder, blur):
    """Weights of a network whose inverse depth is the same everywhere."""
    recipe = dualpixel.load("dddnet", width=0.1)
    last = [layer for layer in recipe.net.deblur.depth.modules() if isinstance(layer, torch.nn.Conv2d)][-1]
    last.weight.data.zero_()
    last.bias.data.fill_(blur)
    save_weights(folder / "constant.safetensors", recipe.net.state_dict(), recipe.weights_metadata())
    return ["--model.init_from", str(folder / "constant.safetensors"), "--predictions.output", str(folder / "out")]


def test_what_is_written_is_the_radius_that_a_camera_turns_into_metres(predicting, tmp_path):
    main([*predicting[0], *constant(tmp_path, 3.0)])
    written_radius = np.load(tmp_path / "out" / "blur" / "odd.npy")
    assert np.allclose(written_radius, 1.25, rtol=0, atol=1e-6)  # 3 - 1.75
    numbers = read_json(tmp_path / "out" / "blur" / "maps.json")
    assert {name: numbers[name] for name in ("reblur_scale", "reblur_offset", "reblur_minimum")} == {
        "reblur_scale": 1.0, "reblur_offset": -1.75, "reblur_minimum": 0.0,
    }  # fmt: skip
    # a lens whose point at infinity is blurred by 6.375 pixels: radius = 12.75 / depth - 6.375
    camera = Camera.from_f_number(focal_length_m=0.02, f_number=1.8, pixel_pitch_m=8.802e-6, focus_distance_m=2.0)
    assert camera.blur_radius(np.inf) == pytest.approx(-6.375, abs=1e-3)
    depth = depth_of_blur(torch.from_numpy(written_radius), camera)
    assert depth.min().item() == pytest.approx(12.75 / 7.625, abs=1e-3) == pytest.approx(depth.max().item(), abs=1e-3)


def test_radii_below_the_minimum_of_the_recipe_are_not_written(predicting, tmp_path):
    main([*predicting[0], *constant(tmp_path, 1.0)])
    assert not np.load(tmp_path / "out" / "blur" / "odd.npy").any()
    main([*predicting[0], *constant(tmp_path, 1.0), "--model.reblur_minimum", "null", "--model.reblur_scale", "2"])
    assert np.allclose(np.load(tmp_path / "out" / "blur" / "odd.npy"), 0.25, rtol=0, atol=1e-6)
