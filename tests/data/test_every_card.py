"""What a user is told of every data set there is."""

import pytest
from command_line import refused

from dualpixel.cli import main
from dualpixel.data.readers import get_reader
from dualpixel.data.registry import card_names, get_card


@pytest.mark.parametrize("name", card_names())
def test_show_tells_licence_citation_and_how_to_get_it(name, capsys):
    main(["data", "show", name])
    said = capsys.readouterr().out
    card = get_card(name)
    get_reader(card)
    assert said.startswith(f"{name}: {card.title}\nversion {card.version}, {card.bit_depth} bits per channel")
    assert f"\nlicence: {card.licence}\n" in said and f"homepage: {card.homepage}" in said
    assert card.download.strip() in said
    assert said.rstrip().endswith(card.citation.strip())
    entries = card.citation.split("@")[1:]
    assert entries
    for entry in entries:
        assert entry.count("{") == entry.count("}") and {"title", "author", "year"} <= {
            line.partition("=")[0].strip() for line in entry.splitlines()
        }
    for mirror in card.mirrors:
        assert mirror.url.startswith("http") and f"{mirror.file}: {mirror.url}" in said


def test_list_names_every_card(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    main(["data", "list"])
    said = capsys.readouterr().out
    for name in card_names():
        assert f" {name} " in said


def test_a_set_that_nobody_can_get_says_so_in_one_sentence(capsys, tmp_path):
    expected = "error: ddd_real: no download of this data set is offered, so it cannot be prepared"
    assert refused(capsys, "data", "prepare", "ddd_real") == expected
    assert refused(capsys, "data", "prepare", "ddd_real", "--source", str(tmp_path)) == expected
    assert (
        refused(capsys, "data", "prepare", "ddd_real", "--source", str(tmp_path / "nowhere"), "--partial") == expected
    )
    assert "no download of this data set is offered" in refused(capsys, "data", "preview", "ddd_real")
