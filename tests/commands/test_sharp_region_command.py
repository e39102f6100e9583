import cv2
import numpy as np
import pytest
from command_line import TOP, refused, run_module
from scenes import SIZE, TEST_KEYS

from dualpixel.cli import main
from dualpixel.data.images import write_png
from dualpixel.evaluate.result import load_result
from dualpixel.evaluate.sharp_regions.curve import CURVE, curve_folder, load_curve

DPDNET = str(TOP / "recipes" / "dpdnet.yaml")


@pytest.fixture
def arguments(trained, overlay, tmp_path):
    """What stands behind ``test`` but the name of the run."""
    for number, key in enumerate(TEST_KEYS):
        mask = np.zeros((*SIZE, 3), np.uint8)
        mask[: 20 * number] = 255
        write_png(tmp_path / "labels" / f"{key}.png", mask)
    return ["--config", DPDNET, "--config", overlay, "--ckpt_path", str(trained), "--run.root", str(tmp_path),
            "--scores.lpips", "false", "--panels.count", "0", "--sharp_regions.masks", str(tmp_path / "labels")]  # fmt: skip


def test_sharp_regions_on_the_command_line_of_one_process_and_of_two(arguments, tmp_path, capsys):
    enabled = ["--sharp_regions.enabled", "true", "--sharp_regions.count", "2"]
    main(["test", *arguments, "--run.name", "one", *enabled])
    written = curve_folder(tmp_path / "one", "dpdd_small", "test", "dpdnet-16bit")
    said = capsys.readouterr().out
    assert f"written to {written}" in said and "27.8 % of the pixels are in focus (masks of labels)" in said
    assert sorted(path.name for path in written.iterdir()) == [f"{key}.png" for key in TEST_KEYS[:2]] + [
        CURVE,
        "curve.png",
    ]
    assert cv2.imread(str(written / f"{TEST_KEYS[1]}.png")).std() > 20
    one = load_curve(written / CURVE)
    assert [row["pixels"] for row in one.rows] == [20 * number * SIZE[1] for number in range(5)]
    assert one.pixels == 200 * SIZE[1] and 0 < one.percentage[10] < one.percentage[-1] <= 100
    assert one.weights_sha256 == load_result(written.parent / "result.json").weights_sha256

    compared = ["--sharp_regions.compare", f"[{tmp_path / 'one'}]", "--trainer.devices", "2"]
    done = run_module("test", *arguments, "--run.name", "two", *enabled, *compared)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("sharp regions: ") == 1
    again = curve_folder(tmp_path / "two", "dpdd_small", "test", "dpdnet-16bit")
    two = load_curve(again / CURVE)
    assert [row["pixels"] for row in two.rows] == [row["pixels"] for row in one.rows] and two.run == "two"
    for mine, its in zip(two.rows[1:], one.rows[1:], strict=True):  # a network's last bit depends on its threads
        assert mine["percentage"] == pytest.approx(its["percentage"], abs=300 / mine["pixels"])  # three pixels
    assert two.percentage == pytest.approx(one.percentage, abs=0.02)
    assert sorted(path.name for path in again.iterdir()) == sorted(path.name for path in written.iterdir())


def test_without_the_option_nothing_is_written(arguments, tmp_path):
    main(["test", *arguments, "--run.name", "plain"])
    assert not list((tmp_path / "plain").rglob("sharp_regions*"))
    assert list((tmp_path / "plain").rglob("result.json"))


def test_wrong_options_are_refused_in_words(arguments, tmp_path, capsys):
    given = [*arguments, "--run.name", "p", "--sharp_regions.enabled", "true"]
    assert "did you mean 'masks'" in refused(capsys, "test", *given, "--sharp_regions.mask", "x")
    assert "x: no such run folder or curve" in refused(capsys, "test", *given, "--sharp_regions.compare", "x")
    (tmp_path / "labels" / f"{TEST_KEYS[4]}.png").unlink()
    assert f"the first {TEST_KEYS[4]}.png" in refused(capsys, "test", *given)
    assert not list((tmp_path / "p").rglob("config*.yaml"))
