import shlex

import pytest
from command_line import refused
from killing import kill_when
from rgbd_scenes import write_rgbd

from dualpixel.cli import main
from dualpixel.data.registry import get_card
from dualpixel.data.simulate import simulate_pairs

NAMES = [f"room{number}" for number in range(12)]


def files(out):
    """Everything but the time-stamped and the hidden."""
    return {path.relative_to(out): path.read_bytes() for path in out.rglob("*.*") if not path.name.startswith(".")}


def test_a_killed_run_goes_on_and_ends_like_an_uninterrupted_one(tmp_path, capsys):
    source, out = write_rgbd(tmp_path / "source" / "train", NAMES, size=(192, 256)).parent, tmp_path / "pairs"
    arguments = ["simulate", "--source", source, "--out", out, "--processes", "2"]
    kill_when(lambda: len(list(out.glob("train/records/room*.json"))) >= 2, *arguments)
    done = {path: path.stat().st_mtime_ns for path in out.glob("train/records/room*.json")}
    assert 2 <= len(done) < len(NAMES) and not (out / "card.yaml").exists()

    main([*map(str, arguments)])
    said = capsys.readouterr().out
    assert f"12 train; {12 - len(done)} rendered now" in said
    assert f"data prepare {out}/card.yaml --source {out}" in said
    assert all(path.stat().st_mtime_ns == time for path, time in done.items())
    assert not [path for path in out.rglob(".*") if path.name != ".lock"]

    whole = tmp_path / "whole" / "pairs"
    simulate_pairs(get_card("rgbd"), source, whole, processes=1)
    assert len(files(whole)) == 12 * 7 + 3 and files(out) == files(whole)


def test_the_command_goes_from_rgbd_to_shards(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_rgbd(tmp_path / "mine", ["attic", "cellar"])
    (tmp_path / "camera.yaml").write_text("f_number: [1.4, 4]\nfocus: near\n")
    more = ["--camera", "camera.yaml", "--bit_depth", "8", "--seed", "3", "--processes", "1"]
    main(["simulate", "--source", "mine", "--out", "my pairs", *more])
    said = capsys.readouterr().out
    assert "my pairs: 2 train; 2 rendered now" in said and "without scenes: val, test" in said
    main(shlex.split(said.splitlines()[-1].removeprefix("next: python -m src ")))
    main(["data", "verify", "my pairs/card.yaml"])
    assert "train as written" in capsys.readouterr().out


def test_mistakes_get_short_answers(tmp_path, capsys):
    (tmp_path / "wrong.yaml").write_text("f_numer: 2\n")
    (tmp_path / "text.yaml").write_text("f_number: [1.4\n")
    run = ["simulate", "--source", str(tmp_path), "--out", str(tmp_path / "out")]
    for said, arguments in {
        "did you mean 'f_number'": [*run, "--camera", str(tmp_path / "wrong.yaml")],
        "not a readable YAML file": [*run, "--camera", str(tmp_path / "text.yaml")],
        "is empty below": run,
        "does not exist": ["simulate", "--source", str(tmp_path / "none"), "--out", str(tmp_path / "out")],
        "did you mean 'rgbd'": [*run, "--card", "rgb"],
        "required: out": run[:3],
        "bit_depth": [*run, "--bit_depth", "12"],
        "--processes 0: must be at least 1": [*run, "--processes", "0"],
    }.items():
        assert said in refused(capsys, *arguments), arguments
    assert not (tmp_path / "out").exists()


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["simulate", "--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    for option in (
        "--source",
        "--out",
        "--camera",
        "--card",
        "--bit_depth",
        "--seed",
        "--processes",
        "f_number: [1.4, 4]",
    ):
        assert option in said
