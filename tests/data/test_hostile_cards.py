"""Cards made to do harm: each is refused in a line, nothing is started, nothing is written outside."""

import os
import time

import pytest
from command_line import refused
from hostile_files import LAUGHS, one_line
from scenes import write_card

from dualpixel import DualPixelError
from dualpixel.data.archive import Files
from dualpixel.data.card import load_card
from dualpixel.files import read_yaml


class TestCards:
    CHANGES = {
        "path in the name": ({"name": "../../canary"}, "lower-case letters"),
        "absolute name": ({"name": "/tmp/x"}, "lower-case letters"),
        "name of a letter that looks like another": ({"name": "dрdd"}, "lower-case letters"),
        "name with a new line": ({"name": "x\n"}, "lower-case letters"),
        "name with signs for the terminal": ({"name": "\x1b[2J"}, "control signs"),
        "long name": ({"name": "x" * 10_000}, "at most 60"),
        "name that is a mapping": ({"name": {"a": 1}}, "expected str"),
        "title with signs for the terminal": ({"title": "\x1b]0;evil\x07"}, "control signs"),
        "title that turns the text": ({"title": "\u202egnp.exe"}, "control signs"),
        "path in a split": ({"splits": {"../../canary": {"scenes": 1}}}, "split name"),
        "split with a new line": ({"splits": {"a\nb": {"scenes": 1}}}, "split name"),
        "negative scenes": ({"splits": {"train": {"scenes": -1}}}, "must be positive"),
        "infinite scenes": ({"splits": {"train": {"scenes": float("inf")}}}, "expected"),
        "no number for an overlap": (
            {"preparation": {"windows": {"train": {"size": 8, "overlap": float("nan")}}}},
            "overlap and discard",
        ),
        "size of nothing": ({"size": [0, 5]}, "two positive numbers"),
        "a bit depth that only equals one": ({"bit_depth": 8.0}, "8.0"),
        "a shell for an address": ({"mirrors": [{"file": "x.zip", "url": "pipe:touch x"}]}, "must begin with https"),
        "a file for an address": ({"mirrors": [{"file": "x.zip", "url": "file:///etc/passwd"}]}, "must begin with"),
        "very many unknown keys": ({str(number): 1 for number in range(9000)}, "unknown key"),
    }

    @pytest.mark.parametrize("what", CHANGES)
    def test_a_harmful_value_is_refused(self, inside, what):
        change, said = self.CHANGES[what]
        path = write_card(inside / "evil.yaml", **change)
        with pytest.raises(DualPixelError, match=said) as caught:
            load_card(path)
        one_line(caught)

    TEXTS = {
        "a call": "name: !!python/object/apply:os.system ['touch x']",
        "a module": "name: !!python/module:os",
        "a new object": "name: !!python/object/new:subprocess.Popen [[touch, x]]",
        "laughs": LAUGHS,
        "laughs in a mapping": "a: &a {x: 1, y: 2}\n"
        + "".join(
            f"{b}: &{b} {{x: *{a}, y: *{a}, z: *{a}, w: *{a}}}\n"
            for a, b in zip("abcdefghijk", "bcdefghijkl", strict=True)
        ),
        "a list in itself": "name: &a [*a]",
        "a mapping in itself": "&a {name: *a}",
        "depth": "name: " + "[" * 20_000,
        "depth of mappings": "{a: " * 5000,
        "a key twice": "name: x\nname: y",
        "a number of many digits": "name: " + "9" * 5000,
        "no date": "name: 2001-99-99",
        "no number": "name: !!int ''",
        "no truth": "name: !!bool maybe",
        "no time": "name: !!timestamp x",
        "a list as a key": "? [a]\n: b",
        "several documents": "a: 1\n---\nb: 2",
        "bytes": "name: \x00\x01",
    }

    @pytest.mark.parametrize("what", TEXTS)
    def test_a_harmful_text_is_refused(self, inside, what):
        path = inside / "evil.yaml"
        path.write_text(self.TEXTS[what])
        began = time.process_time()
        with pytest.raises(DualPixelError, match="evil.yaml: not a readable YAML file") as caught:
            load_card(path)
        one_line(caught)
        assert time.process_time() - began < 5

    def test_anchors_are_no_harm_as_such(self, inside):
        path = inside / "good.yaml"
        path.write_text("a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\n")
        assert read_yaml(path) == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}}

    def test_what_is_too_large_or_does_not_end_is_not_read(self, inside):
        path = inside / "evil.yaml"
        path.write_bytes(b"#" * (2 << 20))
        with pytest.raises(DualPixelError, match="larger than 1048576 bytes"):
            load_card(path)
        path.unlink()
        path.symlink_to("/dev/zero")
        with pytest.raises(DualPixelError, match="not a file"):
            load_card(path)
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(DualPixelError, match="not a file"):
            load_card(path)

    @pytest.mark.parametrize(
        "name", ["os", "os.system", "dualpixel.cli", "..evil", "folders.__class__", "unavailable:x", ""]
    )
    def test_a_reader_is_a_name_of_the_list(self, inside, name, capsys):
        path = write_card(inside / "evil.yaml", reader={"name": name, "options": {}})
        assert "no reader" in refused(capsys, "data", "prepare", str(path), "--source", str(inside))

    @pytest.mark.parametrize(
        "pattern", ["../../canary/*", "/etc/*", "x/../../canary/*", "x\0", "..", "", 5, "x\\..\\..\\canary", ["x"]]
    )
    def test_a_pattern_stays_below_the_source(self, inside, pattern, capsys):
        fields = ("left", "right", "combined", "sharp")
        options = {"patterns": dict.fromkeys(fields, pattern)}
        path = write_card(inside / "evil.yaml", reader={"name": "folders", "options": options})
        said = refused(capsys, "data", "prepare", str(path), "--source", str(inside), "--out", str(inside / "out"))
        assert "is refused" in said or "must be a text" in said

    @pytest.mark.parametrize("pattern", ["{split:>9999999999}", "{split.__class__}", "{0}", "{"])
    def test_a_pattern_is_no_format(self, inside, pattern, capsys):
        options = {"patterns": dict.fromkeys(("left", "right", "combined", "sharp"), pattern)}
        path = write_card(inside / "evil.yaml", reader={"name": "folders", "options": options})
        said = refused(capsys, "data", "prepare", str(path), "--source", str(inside), "--out", str(inside / "out"))
        assert "is empty below" in said

    def test_a_root_or_an_archive_elsewhere_is_not_looked_into(self, inside):
        for folder in ("../../canary", "/etc"):
            with pytest.raises(DualPixelError, match="is refused"):
                Files(inside).below(folder)
