import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
import yaml
from command_line import TOP, refused

import dualpixel
from dualpixel.cli import main
from dualpixel.data.images import read_image, write_png
from dualpixel.nets import DDDNet, DPDNet
from dualpixel.optics import Camera, render
from dualpixel.weights.files import load_weights, save_weights, weights_hash


@pytest.fixture
def files(tmp_path):
    """Narrow weights, and a folder with a photograph of our optics."""
    torch.manual_seed(0)
    net = DDDNet(width=0.05, residual=True)
    torch.nn.init.constant_(net.deblur.depth[-1].bias, 3)
    save_weights(
        tmp_path / "narrow.safetensors", net.state_dict(), {"options": json.dumps(net.options), "note": "mine"}
    )
    noise = np.random.default_rng(0).random((72, 200, 3)).astype(np.float32)
    sharp = torch.from_numpy(cv2.GaussianBlur(noise, (0, 0), 1.5)).permute(2, 0, 1)[None]
    (tmp_path / "photos").mkdir()
    for ending, view in zip("LR", render(sharp, torch.full_like(sharp[:, :1], 3), "rect"), strict=True):
        pixels = (view[0].permute(1, 2, 0) * 255).round().numpy().astype(np.uint8)
        write_png(tmp_path / "photos" / f"wall_{ending}.png", pixels)
    return tmp_path


def arguments(files, **changed):
    given = {
        "weights": files / "narrow.safetensors",
        "source": files / "photos",
        "out": files / "made" / "adapted.safetensors",
        "device": "cpu",
        "steps": 4,
        "learning_rate": 2e-3,
        "crop_size": 64,
        "batch_size": 1,
        "every": 2,
    } | changed
    return [part for name, value in given.items() if value is not None for part in (f"--{name}", str(value))]


def test_weights_report_and_sheet_are_written_and_the_error_falls(files, capsys):
    (files / "camera.yaml").write_text("f_number: 1.8\nfocus: 2\n")
    main(["adapt", *arguments(files, camera=files / "camera.yaml")])
    printed = capsys.readouterr()
    assert "steps" in printed.err and "4/4" in printed.err
    said = printed.out.splitlines()
    assert said[0].startswith("reblur error 0.") and said[0].endswith("4 of 4 steps (all steps were made)")
    assert said[-1].endswith("adapted.safetensors; adapted_adaptation.json and adapted_adaptation.png beside it")
    out = files / "made"
    assert sorted(path.name for path in out.iterdir()) == [
        "adapted.safetensors",
        "adapted_adaptation.json",
        "adapted_adaptation.png",
    ]
    report = json.loads((out / "adapted_adaptation.json").read_text())
    assert report["error"]["after"] < 0.98 * report["error"]["before"]
    assert [check["step"] for check in report["curve"]] == [0, 2, 4] and report["best_step"] == report["steps"] == 4
    wall = report["photographs"]["wall"]
    assert wall["error"] == report["error"] and wall["held_out"] is True
    assert report["settings"]["crop_size"] == 64 and report["rendering"]["vertical"] == "sym"
    lens = Camera.from_f_number(0.05, 1.8, 5.6e-5, 2)
    low, _, high = wall["blur_radius_px"]["after"]
    assert report["depth_m"]["wall"] == pytest.approx([lens.depth(high), lens.depth(low)])
    assert (
        said[1] == f"wall: nine tenths of the blur mean depths from {lens.depth(high):.3g} m to {lens.depth(low):.3g} m"
    )
    assert read_image(out / "adapted_adaptation.png", drop_alpha=True).shape[1] == 1430


def test_the_weights_say_where_they_come_from_and_load(files):
    main(["adapt", *arguments(files)])
    given, _ = load_weights(files / "narrow.safetensors")
    made, metadata = load_weights(files / "made/adapted.safetensors")
    assert metadata["adapted_from"] == weights_hash(given) != weights_hash(made)
    assert (metadata["adapted_on"], metadata["adapted_steps"], metadata["note"]) == ("wall", "4", "mine")
    loaded = dualpixel.load("dddnet", weights=files / "made/adapted.safetensors")
    assert loaded.net.options["width"] == 0.05
    assert weights_hash(loaded.net.state_dict()) == weights_hash(made)


def test_two_files_are_a_source_too_and_useless_steps_are_told(files, capsys):
    views = [str(files / "photos" / f"wall_{ending}.png") for ending in "LR"]
    options = arguments(files, source=None, learning_rate=0.05, patience=1, every=1)
    main(["adapt", "--source", *views, *options])
    said = capsys.readouterr().out
    assert "after 0 of 1 steps (the error had not fallen for 1 checks)" in said
    assert "adapted.safetensors holds the weights as they were; try another --learning_rate" in said
    given, made = (load_weights(files / name)[0] for name in ("narrow.safetensors", "made/adapted.safetensors"))
    assert weights_hash(given) == weights_hash(made)


def test_weights_that_predict_no_blur_are_told(files, capsys):
    net = DDDNet(width=0.05, residual=True)
    torch.nn.init.constant_(net.deblur.depth[-1].bias, -9)
    save_weights(files / "none.safetensors", net.state_dict(), {"options": json.dumps(net.options)})
    main(["adapt", *arguments(files, weights=files / "none.safetensors")])
    said = capsys.readouterr().out
    assert "the weights that came in render no blur anywhere" in said and "--recipe runs/RUN/config.yaml" in said
    report = json.loads((files / "made" / "adapted_adaptation.json").read_text())
    error = report["error"]["without_blur"]
    assert f"the mean of the views with no blur at all has an error of {error:.5f}: what is predicted explains" in said


def test_depth_beyond_infinity_is_called_infinity(files, capsys):
    (files / "camera.yaml").write_text("f_number: 8\nfocus: 2\n")
    recipe = yaml.safe_load((TOP / "recipes" / "dddnet.yaml").read_text())
    recipe["model"]["init_args"] |= {"reblur_offset": -9.0, "reblur_minimum": None}
    (files / "behind.yaml").write_text(yaml.safe_dump(recipe))
    main(["adapt", *arguments(files, camera=files / "camera.yaml", recipe=files / "behind.yaml", steps=1)])
    assert "nine tenths of the blur mean depths from infinity to infinity" in capsys.readouterr().out
    report = json.loads((files / "made" / "adapted_adaptation.json").read_text())
    assert report["depth_m"]["wall"] == [None, None]


def test_mistakes_get_short_answers(files, capsys):
    (files / "empty").mkdir()
    (files / "half").mkdir()
    (files / "half" / "a_L.png").write_bytes((files / "photos" / "wall_L.png").read_bytes())
    (files / "there.safetensors").write_text("")
    (files / "late_adaptation.json").write_text("")
    (files / "range.yaml").write_text("focus: 2\n")
    (files / "near.yaml").write_text("f_number: 2\nfocus: near\n")
    (files / "within.yaml").write_text("f_number: 2\nfocus: 0.01\n")
    other = DPDNet(width=0.05)
    save_weights(files / "dpdnet.safetensors", other.state_dict(), {"options": json.dumps(other.options)})
    for said, changed in {
        "none: no such file; give a .safetensors": {"weights": files / "none"},
        "there.safetensors: is there already, and is not overwritten": {"out": files / "there.safetensors"},
        "late_adaptation.json: is there already": {"out": files / "late.safetensors"},
        "must end in .safetensors": {"out": files / "adapted.ckpt"},
        "recipe dpdnet cannot be adapted: it predicts no blur": {
            "recipe": "dpdnet",
            "weights": files / "dpdnet.safetensors",
        },
        "DDDNet has no argument 'views'": {"weights": files / "dpdnet.safetensors"},
        "no images": {"source": files / "empty"},
        "no such file or folder": {"source": files / "nothing"},
        "the right view is missing": {"source": files / "half"},
        "f_number is (1.4, 5.6); to read depth from blur, one camera is needed": {"camera": files / "range.yaml"},
        "focus is near; to read depth": {"camera": files / "near.yaml"},
        "within the focal length": {"camera": files / "within.yaml"},
        "--steps 0: must be positive": {"steps": 0},
        "device": {"device": "tpu"},
        "did you mean 'dddnet'": {"recipe": "dddnt"},
    }.items():
        assert said in refused(capsys, "adapt", *arguments(files, **changed)), changed
    assert not (files / "made").exists()


def test_help_names_every_option_and_does_not_import_torch():
    code = (
        "import sys; sys.path.insert(0, 'src')\n"
        "from dualpixel.cli import main\n"
        "try:\n    main(['adapt', '--help'])\n"
        "except SystemExit as stopped:\n"
        "    assert stopped.code == 0 and not {'torch', 'cv2', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for option in ("weights", "source", "out", "recipe", "steps", "crop_size", "patience", "every", "seed", "camera"):
        assert f"--{option}" in done.stdout
