from command_line import refused

from dualpixel.cli import main
from dualpixel.evaluate.protocols import FILES, PROTOCOLS


def test_all_protocols_are_shown_with_their_words_and_source(capsys):
    main(["protocols"])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line and not line.startswith((" ", "choose"))] == list(PROTOCOLS)
    for name, protocol in PROTOCOLS.items():
        place = lines.index(name)
        assert lines[place + 1] == f"  {protocol.description}" and lines[place + 2] == f"  source: {protocol.source}"
    assert lines[-1].startswith("choose by `test --protocol ID`")


def test_one_protocol_or_a_file_of_ones_own_is_shown(capsys, tmp_path):
    main(["protocols", "dpanet-8bit"])
    assert capsys.readouterr().out.splitlines()[0] == "dpanet-8bit"
    own = tmp_path / "mine.yaml"
    own.write_text(
        (FILES / "dpdnet-16bit.yaml")
        .read_text()
        .replace("id: dpdnet-16bit", "id: mine")
        .replace("border: 0", "border: 8")
    )
    main(["protocols", str(own)])
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("mine-") and "8 pixels" in shown[1]
    assert "did you mean 'dpanet-8bit'" in refused(capsys, "protocols", "dpanet8bit")
