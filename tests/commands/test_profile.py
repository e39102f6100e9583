import re
import subprocess
import sys

import pytest
import yaml
from command_line import TOP, refused

from dualpixel.cli import main

DPANET, DPDNET, K3DN = (["--config", str(TOP / "recipes" / f"{name}.yaml")] for name in ("dpanet", "dpdnet", "k3dn"))


@pytest.fixture
def narrow(tmp_path):
    """A second file that makes a recipe's network narrow."""
    path = tmp_path / "narrow.yaml"
    path.write_text(yaml.safe_dump({"model": {"init_args": {"net": {"init_args": {"width": 0.05}}}}}))
    return ["--config", str(path)]


def figures(capsys, *arguments):
    """Row -> figure, as printed."""
    main(["profile", *arguments])
    cells = [[cell.strip() for cell in line.split("│")] for line in capsys.readouterr().out.splitlines()]
    return {row[1]: row[2] for row in cells if len(row) > 3 and row[1]}


def test_profile_shows_our_figures_and_the_papers(capsys):
    assert figures(capsys, *DPANET) == {
        "parameters": "63,983,859",
        "trainable parameters": "63,983,859",
        "multiply-accumulates": "318.478221312 G",
        "convolution": "278.889234432 G",
        "correlation": "0.934281216 G",
        "deform_conv2d": "38.654705664 G",
        "by the paper's own count": "213.770043392 G",
    }


def test_profile_shows_what_is_left_for_inference(capsys):
    found = figures(capsys, *K3DN, "--size", "1152", "1792")
    assert found == {
        "parameters": "16,099,350",
        "trainable parameters": "5,542,596",
        "parameters for inference": "15,915,030",
        "multiply-accumulates": "3352.218845184 G",
        "addmm": "0.153092096 G",
        "convolution": "3336.903147520 G",
        "correlation": "15.049359360 G",
        "mm": "0.113246208 G",
        "by the paper's own count": "3352.391766784 G",
    }


def test_profile_shows_dddnet_whole_in_parts_and_as_another_paper_counts_it(capsys):
    config = ["--config", str(TOP / "recipes" / "dddnet.yaml"), "--size", "1120", "1680"]
    assert figures(capsys, *config) == {
        "parameters": "7,455,979",
        "trainable parameters": "7,455,979",
        "DepthNet: parameters": "1,053,656",
        "DeblurNet: parameters": "6,402,323",
        "multiply-accumulates": "4007.484096512 G",
        "bmm": "3.853516800 G",
        "convolution": "4003.630579712 G",
        "DepthNet: multiply-accumulates": "2346.678566912 G",
        "DeblurNet: multiply-accumulates": "1660.805529600 G",
        "by K3DN's table": "1660.805529600 G",
    }
    main(["profile", *config])
    assert "MACs, DeblurNet only; K3DN's table prints 6.40 M parameters and 1661 G" in capsys.readouterr().out


def test_profile_lays_files_over_one_another_and_takes_a_size(capsys, narrow):
    small = figures(capsys, *DPDNET, *narrow, "--size", "32", "48")
    large = figures(capsys, *DPDNET, *narrow, "--size", "64", "48")
    assert set(small) == {"parameters", "trainable parameters", "multiply-accumulates"}
    assert int(small["parameters"].replace(",", "")) < 100_000
    assert float(large["multiply-accumulates"][:-2]) == 2 * float(small["multiply-accumulates"][:-2]) > 0


@pytest.mark.parametrize("option", [["--time"], ["--time", "true"]])
def test_profile_takes_the_time_where_it_is_asked_to(capsys, narrow, option):
    measured = figures(capsys, *DPANET, *narrow, "--size", "16", "16", *option)
    assert 0 < float(re.fullmatch(r"(\d+\.\d{3}) s", measured["time"])[1]) < 60
    assert re.fullmatch(r"[\d,]+ MiB", measured["peak memory"])


def test_help_does_not_import_torch():
    code = (
        "import sys; sys.path.insert(0, 'src')\n"
        "from dualpixel.cli import main\n"
        "try:\n    main(['profile', '--help'])\n"
        "except SystemExit as stopped:\n    assert stopped.code == 0 and 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--size" in done.stdout


def test_profile_says_what_is_wrong(capsys, tmp_path, narrow):
    assert "did you mean 'dpanet'" in refused(capsys, "profile", "--config", "dpanett")
    assert "no recipe is given" in refused(capsys, "profile")
    assert "no recipe is given" in refused(capsys, "profile", *narrow)
    assert "--sze" in refused(capsys, "profile", *DPANET, "--sze", "8", "8")
    assert "must be at least 1" in refused(capsys, "profile", *DPANET, "--size", "0", "8")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(yaml.safe_dump({"model": {"init_args": {"net": {"init_args": {"widht": 0.05}}}}}))
    assert "did you mean 'width'" in refused(capsys, "profile", *DPANET, "--config", str(wrong))
    wrong.write_text(yaml.safe_dump({"model": {"init_args": {"net": {"init_args": {"width": -1.0}}}}}))
    assert "must be positive" in refused(capsys, "profile", *DPANET, "--config", str(wrong))
