import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import TOP, refused
from made_pages import write_thumbnails
from made_results import made_result, photographs, save
from rich.console import Console

from dualpixel.cli import main
from dualpixel.commands import grids
from dualpixel.evaluate.leaderboard import reading, wandb_leaderboard, wandb_runs
from dualpixel.evaluate.leaderboard.reading import collect
from dualpixel.paths import cache_home


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """The working folder has two runs."""
    monkeypatch.chdir(tmp_path)
    for run, psnr in (("dpdnet-dpdd-1", 24.5), ("k3dn-dpdd-1", 26.0)):
        save(tmp_path / "runs", run, photographs(psnr, seed=len(run), recipe=run.split("-")[0]))
    return tmp_path / "runs"


def test_the_table_is_printed_and_written(capsys, runs):
    main(["leaderboard", "--out", "tables/board.md", "--against", "dpdnet-dpdd-1"])
    said = capsys.readouterr()
    rows = [line for line in said.out.splitlines() if line.startswith(("│    1", "│    2", "│    –"))]
    assert [line.split("│")[2].strip() for line in rows] == ["k3dn", "dpdnet", "unprocessed input"]
    assert "not measured here" in said.out and "ECCV 2020" in said.out and "that are not shown here" in said.out
    assert said.out.rstrip().endswith("written to tables/board.md") and not said.err
    text = (runs.parent / "tables" / "board.md").read_text(encoding="utf-8")
    ranked = [line for line in text.splitlines() if line.startswith(("| 1 |", "| 2 |"))]
    assert [line.split("|")[3].strip() for line in ranked] == ["k3dn-dpdd-1", "dpdnet-dpdd-1"]
    assert "against dpdnet-dpdd-1" in text and "### indoor, 37 images" in text
    assert [path.name for path in (runs.parent / "tables").iterdir()] == ["board.md"]
    main(["leaderboard", "--out", "again.md", "--against", "runs/dpdnet-dpdd-1"])
    assert (runs.parent / "again.md").read_text(encoding="utf-8") == text


def test_a_terminal_of_any_width_cuts_no_number(capsys, runs, monkeypatch):
    for width in (160, 100, 40):
        monkeypatch.setattr(grids, "console", lambda width=width: Console(width=width))
        main(["leaderboard", "--against", "dpdnet-dpdd-1"])
        said = capsys.readouterr().out
        assert (
            "…" not in said and "31,035,151" in said and "MACs" not in said and "weights" not in said.split("Scores")[0]
        )
        table = said.split("published: ")[0]
        words = {word for line in table.splitlines() for word in line.replace("│", " ").split()}
        assert {"1", "2", "0.0001", "0.7520", "31,035,151"} <= words, width


def test_what_brackets_and_p_are_is_said_once_and_doubts_beside_the_rows(capsys, runs):
    main(["leaderboard"])
    plain = " ".join(capsys.readouterr().out.split())
    assert plain.count("percentile bootstrap") == 1 and "sign-flip" not in plain
    assert "Doubtful: MDP (Abuolaim, Afifi and Brown, WACV 2022, table 1): the time" in plain
    assert plain.endswith("stand in the files that --out writes.")
    main(["leaderboard", "--against", "dpdnet-dpdd-1"])
    assert " ".join(capsys.readouterr().out.split()).count("minus that of dpdnet-dpdd-1, image by image") == 1


def test_a_copied_run_stands_once(capsys, runs):
    shutil.copytree(runs / "k3dn-dpdd-1", runs / "copy")
    main(["leaderboard"])
    said = capsys.readouterr().out
    assert ("copy" in said) + ("k3dn-dpdd-1" in said) == 1
    main(["leaderboard", "--against", "k3dn-dpdd-1"])
    assert "minus that of k3dn-dpdd-1" in " ".join(capsys.readouterr().out.split())


def test_what_cannot_be_published_or_written_is_said_before_results_are_read(capsys, runs, monkeypatch):
    monkeypatch.setattr(reading, "collect", lambda files: pytest.fail("results were read"))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert "W&B mode 'disabled'" in refused(capsys, "leaderboard", "--publish", "me/boards")
    (runs.parent / "taken").write_text("")
    assert "taken is not a folder" in refused(capsys, "leaderboard", "--out", "taken/board.md")
    assert not (runs.parent / "new").exists()


def test_where_there_are_no_runs_nothing_is_allowed_that_is_none(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, "leaderboard", "nosuch")
    assert said == "error: nosuch: no such run or folder; no run is in 'runs' here: name folders of runs"


def test_runs_are_named_by_path_or_name(capsys, runs):
    for name in ("k3dn-dpdd-1", "runs/k3dn-dpdd-1", str(next(runs.glob("k3dn*/results/*/*/result.json")))):
        main(["leaderboard", name])
        shown = capsys.readouterr().out
        assert "k3dn-dpdd-1" in shown and "dpdnet-dpdd-1" not in shown
    main(["leaderboard", "k3dn-dpdd-1", "--against", "dpdnet-dpdd-1"])  # what is compared with need not be named twice
    assert "dpdnet-dpdd-1" in capsys.readouterr().out


def test_what_cannot_be_shown_is_said_in_a_line(capsys, runs):
    save(runs, "wrong", made_result({"psnr": [130.0]}, [""]))
    main(["leaderboard", "--out", "board.md"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("left out: ") and "runs/wrong" in line and "outside of 0 to 120" in line
    assert "outside of 0 to 120" in (runs.parent / "board.md").read_text().partition("## Left out")[2]
    assert "none of 1 results can be shown" in refused(capsys, "leaderboard", "wrong")


def test_misspelt_names_get_near_matches(capsys, runs):
    assert "did you mean 'k3dn-dpdd-1'" in refused(capsys, "leaderboard", "k3dn-dpd-1")
    assert "did you mean 'runs/k3dn-dpdd-1'" in refused(capsys, "leaderboard", "runs/k3dn-dpdd1")
    against = refused(capsys, "leaderboard", "--against", "dpdnet-dpd-1")
    assert against.startswith("error: --against dpdnet-dpd-1: no such run") and "'dpdnet-dpdd-1'" in against
    assert "did you mean 'leaderboard'" in refused(capsys, "leaderbord")
    assert "--agenst" in refused(capsys, "leaderboard", "--agenst", "k3dn-dpdd-1")


def test_runs_without_results_are_told_in_a_line(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no folder 'runs' here" in refused(capsys, "leaderboard")
    (tmp_path / "runs" / "new").mkdir(parents=True)
    message = refused(capsys, "leaderboard", "--out", "board.md")
    assert message == "error: no results in runs: `test` writes them" and not (tmp_path / "board.md").exists()


def test_a_run_without_results_cannot_be_compared_with(capsys, runs):
    (runs / "k3dn-dpdd-2").mkdir()
    said = refused(capsys, "leaderboard", "--against", "k3dn-dpdd-2")
    assert "no result of this run; did you mean 'k3dn-dpdd-1'" in said


@pytest.mark.parametrize("out", ["board.pdf", "board", "runs", "folder.md", "folder.html"])
def test_only_markdown_and_pages_are_written(capsys, runs, out):
    (runs.parent / "folder.md").mkdir()
    (runs.parent / "folder.html").mkdir()
    assert f"--out {out}: name a file that ends in .md or .html" in refused(capsys, "leaderboard", "--out", out)


def test_several_files_are_written_at_once_with_as_many_pictures_as_asked(capsys, runs):
    for file in runs.glob("*/results/*/*/result.json"):
        write_thumbnails(file, ["scene00", "scene01", "scene02"])
    main(["leaderboard", "--out", "board.md", "--out", "pages/board.html", "--thumbnails", "2"])
    said = capsys.readouterr().out
    assert "written to board.md" in said and said.rstrip().endswith("written to pages/board.html")
    text = (runs.parent / "pages" / "board.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>") and text.count('"k3dn-dpdd-1"') == 1
    assert "pictures of 2 of 76 images" in text
    assert (runs.parent / "board.md").read_text(encoding="utf-8").startswith("# Leaderboard")
    assert "--thumbnails -1" in refused(capsys, "leaderboard", "--thumbnails", "-1")


def test_runs_of_projects_are_ranked_with_those_of_folders(capsys, runs, monkeypatch):
    asked = []

    def read(project, folder):
        asked.append((project, folder))
        (entry,), _ = collect([save(folder / project, "id1", photographs(25.0, recipe="mdp"))])
        return [replace(entry, run="mine", link="https://example.org/id1")], [f"{project} run x: no such file"]

    monkeypatch.setattr(wandb_runs, "runs_from_wandb", read)
    main(["leaderboard", "runs", "--wandb", "me/deblurring", "--against", "mine", "--out", "board.html"])
    said = capsys.readouterr()
    rows = [
        line.split("│")[2].strip() for line in said.out.splitlines() if line.startswith(("│    1", "│    2", "│    3"))
    ]
    assert rows == ["k3dn", "mdp", "dpdnet"] and "against mine" in " ".join(said.out.split())
    assert said.err.splitlines()[-1] == "left out: me/deblurring run x: no such file"
    assert asked == [("me/deblurring", cache_home() / "wandb")]
    assert '"link":"https://example.org/id1"' in (runs.parent / "board.html").read_text(encoding="utf-8")
    assert "did you mean 'mine'" in refused(capsys, "leaderboard", "--wandb", "me/deblurring", "--against", "min")


def test_a_project_alone_needs_no_folder(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = collect([save(tmp_path / "fetched", "id1", photographs(25.0, recipe="mdp"))])
    answers = iter([found, ([], [])])
    monkeypatch.setattr(wandb_runs, "runs_from_wandb", lambda project, folder: next(answers))
    main(["leaderboard", "--wandb", "me/deblurring"])
    assert "mdp" in capsys.readouterr().out
    assert "no results to show in me/deblurring" in refused(capsys, "leaderboard", "--wandb", "me/deblurring")


def test_tables_and_written_files_are_published(capsys, runs, monkeypatch):
    given = []

    def publish(boards, files, project):
        given.append(([len(board.rows) for board in boards], [file.is_file() for file in files], list(files), project))
        return "https://example.org/runs/2"

    monkeypatch.setattr(wandb_leaderboard, "publish", publish)
    monkeypatch.setenv("WANDB_MODE", "offline")
    main(["leaderboard", "--publish", "me/boards", "--out", "board.md", "--out", "board.html"])
    assert given == [([2], [True, True], [Path("board.md"), Path("board.html")], "me/boards")]
    assert capsys.readouterr().out.rstrip().endswith("https://example.org/runs/2")


def test_a_file_that_cannot_be_written_is_told(capsys, runs):
    (runs.parent / "taken").write_text("")
    assert "--out taken/board.md: cannot be written" in refused(capsys, "leaderboard", "--out", "taken/board.md")


def test_help_and_an_empty_folder_do_not_import_torch(tmp_path):
    code = (
        f"import os, sys; sys.path.insert(0, 'src')\n"
        f"from dualpixel.cli import main\n"
        f"for words in (['--help'], [{str(tmp_path)!r} + '/missing']):\n"
        "    try:\n        main(['leaderboard', *words])\n"
        "    except SystemExit as stopped:\n        assert 'torch' not in sys.modules, words"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--against" in done.stdout and "no such run or folder" in done.stderr
