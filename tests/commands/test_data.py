"""What `data show` says of a set and of what is prepared of it, and what `data preview` draws."""

import shlex
import shutil

from command_line import main
from scenes import make_dpdd_folder, write_card

from dualpixel.data.index import load_index
from dualpixel.data.prepare import prepare
from dualpixel.data.registry import get_card


def shown(capsys, card):
    main(["data", "show", str(card)])
    return capsys.readouterr().out


def test_show_prints_licence_citation_and_how_each_split_was_prepared(small_card, small_shards, capsys, monkeypatch):
    monkeypatch.setenv("DUALPIXEL_SHARDS", str(small_shards.parent))
    said, card = shown(capsys, small_card), get_card(small_card)
    assert f"licence: {card.licence}" in said and said.rstrip().endswith(card.citation.strip())
    for split, count, windows in (
        ("train", 4, "windows of 64, overlap 0.6, discard 0.3"),
        ("val", 2, "windows of 64, overlap 0.01, discard 0"),
        ("test", 5, "no windows"),
    ):
        known = load_index(small_shards / split).fingerprint
        (line,) = [line for line in said.splitlines() if f"/{split}: " in line]
        assert f"{count} scenes (complete), fingerprint {known}; version 1" in line
        assert f"left, right, combined, sharp, 144x208, 16 bits, {windows}; 1 shard of npy, 0.00 GB" in line


def test_show_says_what_is_partial_and_packed_and_what_is_not_prepared(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DUALPIXEL_SHARDS", str(tmp_path))
    source = make_dpdd_folder(tmp_path / "source", {"train": 1, "test": 5})
    card = write_card(tmp_path / "packed.yaml")
    prepare(get_card(card), source, codec="png", processes=1, partial=True)
    lines = [line for line in shown(capsys, card).splitlines() if str(tmp_path) in line]
    assert "1 scenes (partial)" in lines[0] and "1 shard of png" in lines[0]
    assert lines[1].endswith("packed/val: not yet") and "5 scenes (complete)" in lines[2]


def test_show_says_that_tars_were_made_elsewhere(small_shards, small_card, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DUALPIXEL_SHARDS", str(tmp_path))
    folder = tmp_path / "dpdd_small" / "val"
    folder.mkdir(parents=True)
    shutil.copy(next((small_shards / "val").glob("*.tar")), folder)
    main(["data", "index", str(folder), "--card", str(small_card), "--window", "48"])
    said = shown(capsys, small_card)
    assert "uint16, windows of 48, overlap 0, discard 0; 1 shard of npy, 0.00 GB, made elsewhere" in said


def test_preview_draws_the_first_split_that_is_prepared(small_shards, small_card, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DUALPIXEL_SHARDS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(small_shards / "test", tmp_path / "dpdd_small" / "test")
    main(["data", "preview", str(small_card), "--count", "1"])
    assert capsys.readouterr().out.splitlines()[0] == "previews/dpdd_small-test.png"


def test_a_suggested_command_works_where_names_hold_spaces(tmp_path, capsys):
    source, card = make_dpdd_folder(tmp_path / "source"), write_card(tmp_path / "my set.yaml", name="mine")
    out = tmp_path / "out put"
    main(
        ["data", "prepare", str(card), "--source", str(source), "--out", str(out), "--processes", "1", "--part", "1/1"]
    )
    command = capsys.readouterr().out.splitlines()[-1].rpartition("python -m src ")[2]
    main(shlex.split(command))
    assert capsys.readouterr().out.count("scenes in 1 shard,") == 3
    main(["data", "prepare", str(card), "--source", str(source), "--out", str(out), "--processes", "1"])
    command = capsys.readouterr().out.splitlines()[-1].rpartition("look at it: dualpixel ")[2]
    main([*shlex.split(command), "--count", "1", "--out", str(tmp_path / "sheet.png")])
    assert (tmp_path / "sheet.png").is_file()
