import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from command_line import TOP, refused

from dualpixel.cli import main
from dualpixel.evaluate.cost import speed_process
from dualpixel.evaluate.cost.speed import Speed

DPANET, DPDNET, DDDNET, K3DN, MDP = (
    ["--config", str(TOP / "recipes" / f"{name}.yaml")] for name in ("dpanet", "dpdnet", "dddnet", "k3dn", "mdp")
)
BASELINE = [*DPANET, "--config", str(TOP / "recipes" / "ablations" / "dpanet" / "baseline.yaml")]
TOO_LARGE = ["10000000", "10000000"]
"""An image that has no room in the addresses of any process."""


@pytest.fixture
def narrow(tmp_path):
    """A second file that makes a recipe's network narrow."""
    path = tmp_path / "narrow.yaml"
    path.write_text(yaml.safe_dump({"model": {"init_args": {"net": {"init_args": {"width": 0.05}}}}}))
    return ["--config", str(path)]


def tables(capsys, *arguments):
    """Title -> rows of cells, as printed; wrapped lines of a cell are joined."""
    main(["profile", *arguments])
    found, title = {}, None
    for line in capsys.readouterr().out.splitlines():
        cells = [cell.strip() for cell in line.split("│")[1:-1]]
        if not cells and line.strip() and line[0] not in "┏┃┡└":
            title = line.strip()
        elif cells and (cells[1] or title not in found or "published" not in title):
            found.setdefault(title, []).append(cells)
        elif cells:
            found[title][-1] = [" ".join(pair).strip() for pair in zip(found[title][-1], cells, strict=True)]
    return found


def figures(capsys, *arguments):
    """Row -> figure of the first two tables."""
    found = tables(capsys, *arguments)
    return {row[0]: row[1] for title, rows in found.items() if re.search("parameters|one image", title) for row in rows}


def published(capsys, *arguments):
    """What stands beside printed figures -> printed, counted, size, difference, whether the digits are the same."""
    found = tables(capsys, *arguments)
    rows = next((rows for title, rows in found.items() if "published" in title), [])
    return {row[1]: (row[2], *row[4:8]) for row in rows}


def test_profile_shows_our_figures_and_the_papers(capsys):
    assert figures(capsys, *DPANET) == {
        "parameters": "63,983,859",
        "trainable parameters": "63,983,859",
        "weights": "244.1 MiB",
        "multiply-accumulates": "318.478221312 G",
        "convolution": "278.889234432 G",
        "correlation": "0.934281216 G",
        "deform_conv2d": "38.654705664 G",
        "by the paper's own count": "213.770043392 G",
    }


def test_profile_shows_what_is_left_for_inference(capsys):
    assert figures(capsys, *K3DN, "--size", "1152", "1792") == {
        "parameters": "16,099,350",
        "trainable parameters": "5,542,596",
        "parameters for inference": "15,915,030",
        "weights": "62.6 MiB",
        "multiply-accumulates": "3352.218845184 G",
        "addmm": "0.153092096 G",
        "convolution": "3336.903147520 G",
        "correlation": "15.049359360 G",
        "mm": "0.113246208 G",
        "by the paper's own count": "3352.391766784 G",
    }


def test_profile_shows_dddnet_whole_in_parts_and_as_another_paper_counts_it(capsys):
    assert figures(capsys, *DDDNET, "--size", "1120", "1680") == {
        "parameters": "7,455,979",
        "trainable parameters": "7,455,979",
        "DepthNet: parameters": "1,053,656",
        "DeblurNet: parameters": "6,402,323",
        "weights": "28.4 MiB",
        "multiply-accumulates": "4007.484096512 G",
        "bmm": "3.853516800 G",
        "convolution": "4003.630579712 G",
        "DepthNet: multiply-accumulates": "2346.678566912 G",
        "DeblurNet: multiply-accumulates": "1660.805529600 G",
        "by K3DN's table": "1660.805529600 G",
    }


@pytest.mark.parametrize(
    ("config", "parameters", "operations"),
    [
        (DPDNET, ("31.03 M", "31.0352 M", "", "+0.02 %", "if cut"), ("3150 G", "3,148.60 G", "1120x1680", "-0.04 %", "to 3 digits")),
        (BASELINE, ("60.76 M", "60.7562 M", "", "-0.01 %", "yes"), ("190.82 G", "190.82 G", "256x256", "+0.00 %", "yes")),
    ],
    ids=["dpdnet", "baseline"],
)  # fmt: skip
def test_profile_reproduces_what_papers_print_whatever_the_size_asked_for(
    capsys, tmp_path, config, parameters, operations
):
    out = tmp_path / "cost.json"
    found = published(capsys, *config, "--size", "16", "32", "--out", str(out))
    assert found["parameters"] == parameters and found["operations"] == operations
    content = json.loads(out.read_text())
    assert content["configurations"] == config[1::2] and content["sizes"][0]["size"] == [16, 32]
    assert "multiply-accumulates" in content["meanings"]["macs"]
    stored = {one["quantity"]: f"{one['printed']} {one['unit']}" for one in content["published"]}
    assert (stored["parameters"], stored["operations"]) == (parameters[0], operations[0])


def test_profile_lays_files_over_one_another_and_takes_sizes(capsys, narrow):
    found = tables(capsys, *DPDNET, *narrow, "--size", "32", "48", "--size", "64", "48", "--size", "32", "48")
    assert not any("published" in title for title in found)
    small, large, _ = found["dpdnet: one image"][0][1:]
    assert float(large.removesuffix(" G")) == 2 * float(small.removesuffix(" G")) > 0
    assert int(found["dpdnet: parameters"][0][1].replace(",", "")) < 100_000
    main(["profile", *DPDNET, *narrow])
    assert "No paper of those here prints what this network costs." in capsys.readouterr().out


def test_profile_shows_blocks_that_add_up(capsys, narrow):
    found = tables(capsys, *MDP, *narrow, "--blocks", "--size", "32", "32")
    blocks = {row[0]: row[1:] for row in found["mdp: blocks at 32x32"]}
    assert list(blocks) == ["enc1", "enc2", "enc3", "enc4", "decoders", "outside of blocks", "all"]
    assert blocks["all"][0] == found["mdp: parameters"][0][1] and blocks["outside of blocks"][0] == "0"
    counts = [float(row[2].removesuffix(" G")) for row in blocks.values()]
    assert sum(counts[:-1]) == pytest.approx(counts[-1], abs=1e-9)
    assert blocks["all"][2] == found["mdp: one image"][0][1]
    deeper = tables(capsys, *MDP, *narrow, "--blocks", "2", "--size", "32", "32")["mdp: blocks at 32x32"]
    assert [row[0] for row in deeper[:2]] == ["enc1.conv1", "enc1.conv2"]


def test_profile_takes_the_time_where_it_is_asked_to(capsys, tmp_path, narrow):
    out = tmp_path / "cost.json"
    options = ["--time", "--blocks", "--device", "cpu", "--peak_tflops", "0.5", "--out", str(out)]
    found = tables(capsys, *DPDNET, *narrow, "--size", "16", "16", *options)
    rows = {row[0]: row[1] for row in found["dpdnet: one image"]}
    assert 0 < float(re.fullmatch(r"(\d+\.\d{4}) s", rows["time"])[1]) < 60
    assert re.fullmatch(r"[\d,]+\.\d MiB", rows["peak memory"])
    content = json.loads(out.read_text())
    (small,) = content["sizes"]
    speed = small["speed"]
    assert len(speed["passes"]) == 3 and speed["seconds"] == sorted(speed["passes"])[1]
    assert speed["peak_bytes"] > speed["before_bytes"] > 50 << 20
    assert small["operations_per_second"] == pytest.approx(2 * small["macs"] / speed["seconds"])
    used = 100 * small["operations_per_second"] / 0.5e12
    assert float(rows["model FLOP utilisation"].removesuffix(" %")) == pytest.approx(used, abs=0.005)
    assert {one["block"]: one["seconds"] for one in small["blocks"]} == speed["blocks"]
    assert speed["blocks"]["enc1"] > 0 and sum(one["macs"] for one in small["blocks"]) == small["macs"]


def test_profile_shows_the_other_sizes_where_memory_is_used_up(capsys, monkeypatch, narrow):
    speed = Speed("cpu", "a processor", "32-true", 1, (0.5, 0.25, 1.0), 30 << 20, 70 << 20)
    monkeypatch.setattr(
        speed_process, "measure_apart", lambda model, size, *others: speed if size == (16, 16) else None
    )
    options = ["--size", "64", "64", "--size", "16", "16", "--time", "--device", "cpu"]
    rows = {row[0]: row[1:3] for row in tables(capsys, *DPDNET, *narrow, *options)["dpdnet: one image"]}
    assert rows["time"] == ["out of memory", "0.5000 s"]
    assert rows["fastest to slowest"] == ["", "0.2500 to 1.0000 s"]
    assert rows["peak memory"] == ["", "70.0 MiB"] and rows["added by the passes"] == ["", "40.0 MiB"]
    only = tables(capsys, *DPDNET, *narrow, "--size", "64", "64", "--time", "--device", "cpu")["dpdnet: one image"]
    assert only[-1][:2] == ["time", "out of memory"]


@pytest.mark.slow
def test_profile_goes_on_where_memory_is_used_up(capsys, narrow):
    options = ["--size", *TOO_LARGE, "--size", "16", "16", "--time", "--device", "cpu"]
    rows = {row[0]: row[1:3] for row in tables(capsys, *DPDNET, *narrow, *options)["dpdnet: one image"]}
    assert rows["time"][0] == "out of memory" and 0 < float(rows["time"][1].removesuffix(" s")) < 60


@pytest.mark.slow
def test_nothing_is_measured_any_more_when_the_command_is_killed():
    arguments = [*DPDNET, "--size", "2048", "2048", "--time", "--device", "cpu"]
    command = subprocess.Popen([sys.executable, "-m", "src", "profile", *arguments], cwd=TOP)
    children, until = Path(f"/proc/{command.pid}/task/{command.pid}/children"), time.monotonic() + 100
    measuring = []
    while not measuring and time.monotonic() < until:
        time.sleep(0.2)
        measuring = [one for one in map(int, children.read_text().split()) if resident(one) > 1 << 30]
    command.kill()
    command.wait()
    until = time.monotonic() + 20
    while measuring and resident(measuring[0]) and time.monotonic() < until:
        time.sleep(0.2)
    assert len(measuring) == 1 and resident(measuring[0]) == 0


def resident(process):
    """Bytes that a process holds; none where there is none."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return 1024 * int((re.search(r"VmRSS:\s+(\d+)", status) or [0, 0])[1])


@pytest.mark.gpu
def test_profile_takes_the_time_on_a_gpu(capsys, tmp_path):
    out = tmp_path / "cost.json"
    main(["profile", *DPDNET, "--size", "512", "512", "--time", "--precision", "bf16-mixed", "--out", str(out)])
    (cost,) = json.loads(out.read_text())["sizes"]
    assert (cost["speed"]["kind"], cost["speed"]["precision"]) == ("cuda", "bf16-mixed")
    assert len(cost["speed"]["passes"]) == 21 and cost["operations_per_second"] > 1e12
    assert cost["speed"]["before_bytes"] < 200 << 20 < cost["speed"]["peak_bytes"]


def test_profile_writes_markdown(capsys, tmp_path, narrow):
    out = tmp_path / "cost.md"
    main(["profile", *DPDNET, *narrow, "--size", "16", "16", "--out", str(out)])
    assert "\n| multiply-accumulates | 0.000575447 G |" in out.read_text()
    assert f"written to {out}" in capsys.readouterr().out.replace("\n", "")


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
    assert "--size 8: give height and width" in refused(capsys, "profile", *DPANET, "--size", "8", "--size", "8", "8")
    assert "--blocks -1" in refused(capsys, "profile", *DPANET, "--blocks", "-1")
    assert "allowed here are auto, cpu" in refused(capsys, "profile", *DPANET, "--time", "--device", "cuda:99")
    said = refused(capsys, "profile", *DPANET, *narrow, "--time", "--precision", "bf16")
    assert "--precision bf16" in said and "bf16-mixed" in said
    assert "must be positive" in refused(capsys, "profile", *DPANET, "--peak_tflops", "0")
    for option in (["--precision", "bf16-mixed"], ["--peak_tflops", "9"], ["--device", "cpu"]):
        assert "nothing is measured without --time" in refused(capsys, "profile", *DPANET, *option)
    assert "--size 256: give height and width" in refused(capsys, "profile", *DPANET, "--size=256")
    assert ".json or .md" in refused(capsys, "profile", *DPANET, "--out", str(tmp_path / "cost.txt"))
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(yaml.safe_dump({"model": {"init_args": {"net": {"init_args": {"widht": 0.05}}}}}))
    assert "did you mean 'width'" in refused(capsys, "profile", *DPANET, "--config", str(wrong))
    wrong.write_text(yaml.safe_dump({"model": {"init_args": {"net": {"init_args": {"width": -1.0}}}}}))
    assert "must be positive" in refused(capsys, "profile", *DPANET, "--config", str(wrong))
