"""Cards, indexes, tars and images made to do harm: each is refused in a line, nothing is started, nothing is written outside."""

import hashlib
import io
import json
import os
import random
import struct
import subprocess
import sys
import tarfile
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from command_line import refused
from scenes import write_card
from tiny_shards import make_tiny_set

from dualpixel import DualPixelError
from dualpixel.data.archive import Files
from dualpixel.data.card import load_card
from dualpixel.data.images import decode_image
from dualpixel.data.index import INDEX, fingerprint, load_index
from dualpixel.data.indexing import make_index
from dualpixel.data.joining import join
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.registry import get_card
from dualpixel.data.shards import npy_bytes
from dualpixel.files import locked, parse_json, read_yaml

PIXELS = np.arange(4 * 6 * 3, dtype=np.uint16).reshape(4, 6, 3)


def seen(top):
    """Name -> content of all that lies below a folder, links as such."""
    return {
        str(path.relative_to(top)): str(path.readlink())
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(top.rglob("*"))
    }


@pytest.fixture
def inside(tmp_path, monkeypatch):
    """A working folder beside canaries; what the test does must leave all of these as they are."""
    canary = tmp_path / "canary"
    (canary / "folder").mkdir(parents=True)
    for name in ("train.tar", "file", "folder/plan.json"):
        (canary / name).write_bytes(b"sings")
    folder = tmp_path / "work" / "set"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DUALPIXEL_CACHE", str(folder / "cache"))
    before = seen(canary)

    started = []
    monkeypatch.setattr(os, "system", started.append)
    monkeypatch.setattr(subprocess, "Popen", lambda *arguments, **_: started.append(arguments))
    yield folder
    assert seen(canary) == before and not started
    assert sorted(path.name for path in tmp_path.iterdir()) == ["canary", "work"]
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["set"]


def one_line(error):
    said = str(error.value)
    assert len(said.splitlines()) == 1 and len(said) < 700 and said.isprintable(), said
    return said


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
        "laughs": "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{b}: &{b} [{', '.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
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


LEFT = ("samples", 0, "members", "left")
NAMES = (
    *(
        "../x.tar",
        "/etc/x.tar",
        "..\\x.tar",
        "C:x.tar",
        "\\\\host\\x.tar",
        "x\0.tar",
        "x\n.tar",
        "\u202erat.tar",
        "\uff54.tar",
    ),
    *(
        "x|y.tar",
        "pipe:x.tar",
        "http://h/x.tar",
        "~/../x.tar",
        "%2e%2e/x.tar",
        ".tar",
        "..tar",
        "x" * 300 + ".tar",
        "$(x)/.tar",
        5,
    ),
)
BEYOND = (-1, -(10**30), 10**30, float("nan"), float("inf"), float("-inf"), None, True, "9")
WINDOWS = ({"size": 8, "discard": float("nan")}, {"size": 8, "evil": 1}, {"size": 10**400, "overlap": 2})
SHAPES = (
    [],
    [20],
    [20, 28],
    [20, 28, 4],
    [0, 28, 3],
    [-20, -28, 3],
    [10**12, 10**12, 3],
    [20.0, 28, 3],
    [1 << 16] * 3,
    "20x28",
)
VALUES = {
    ("shards", 0, "name"): NAMES,
    ("shards", 0, "bytes"): (*BEYOND, 0, 10**400),
    ("shards", 0, "sha256"): ("", "../" * 20, "A" * 64, "0" * 65, 7),
    (*LEFT, "offset"): (*BEYOND, 1e3),
    (*LEFT, "bytes"): (*BEYOND, 0),
    (*LEFT, "shape"): (*SHAPES, [[20], 28, 3], *BEYOND),
    (*LEFT, "dtype"): ("O", "object", "V100000000", "float64", "float32", "|S9", "<u2", "uint8,uint8", 5),
    (*LEFT, "codec"): ("pickle", "pkl", "npz", "../npy", "", None),
    ("samples", 0, "key"): ("../x", "/x", "a/b", "", "x" * 61, "\u0445", "a\n", "con:", ".", 5),
    ("samples", 0, "shard"): (*BEYOND, 1, 0.0, "0"),
    ("samples", 0, "windows"): ([[0, 0, 0]], [[0]], [[]], 5, [[0, 0, float("nan")]]),
    ("samples", 0, "members"): ({}, {"../left": {}}, {"left": 5}, []),
    ("samples", 0, "metadata"): (5, [], None),
    ("samples", 0, "group"): ("\x1b[2J", 5),
    ("preparation", "windows"): (5, "x", {"size": "x"}, {"size": 0}, *WINDOWS),
    ("dataset",): ("../x", "", "\u0445"),
    ("split",): ("../../canary", "a b"),
    ("schema",): (0, 2, "1", None, []),
    ("shards",): ([], {}, None),
    ("samples",): ([], None),
}
PLAN = {"request": "x", "dataset": "x", "version": "1", "split": "train", "preparation": {}, "parts": 1}
PLAN["shards"] = [{"scenes": 1, "part": 1}]


class TestIndexes:
    @pytest.fixture
    def folder(self, inside):
        card, root = make_tiny_set(inside, shards=1)
        return root / "train"

    @staticmethod
    def alter(folder, where, value):
        """Set one value, and make the fingerprint fit as somebody with bad intentions would."""
        content = json.loads((folder / INDEX).read_text())
        *way, last = where
        place = content
        for name in way:
            place = place[name]
        place[last] = value
        try:
            from dualpixel.data.index import Sample

            samples = [Sample(**sample) for sample in content["samples"]]
            names = (content["dataset"], content["version"], content["split"])
            content["fingerprint"] = fingerprint(*names, content["preparation"], samples)
        except (TypeError, KeyError):
            pass
        (folder / INDEX).write_text(json.dumps(content))

    def test_a_harmful_value_is_refused(self, folder):
        original = (folder / INDEX).read_text()
        assert len(PreparedSplit(folder)) == 2
        for where, value in ((where, value) for where, values in VALUES.items() for value in values):
            (folder / INDEX).write_text(original)
            self.alter(folder, where, value)
            with pytest.raises(DualPixelError) as caught:
                PreparedSplit(folder)
            assert "index" in one_line(caught), (where, value)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("[" * 100_000, "not a JSON file"),
            ('{"a":' * 100_000, "not a JSON file"),
            ('{"schema": ' + "9" * 5000 + "}", "not a JSON file"),
            ('{"schema": 1, "schema": 1}', "'schema' stands twice"),
            ('{"schema": 1, "samples": [{"key": "a", "key": "b"}]}', "'key' stands twice"),
            ('{"schema": 1}\0', "not a JSON file"),
            ("\ud800".encode("utf-8", "surrogatepass"), "not a JSON file"),
            ("", "not a JSON file"),
            ("5", "expected a mapping"),
            ("null", "expected a mapping"),
            ("[]", "expected a mapping"),
            ('{"schema": 1, "__class__": "os.system"}', "unknown key '__class__'"),
        ],
    )
    def test_a_harmful_text_is_refused(self, folder, text, said):
        (folder / INDEX).write_bytes(text.encode() if isinstance(text, str) else text)
        with pytest.raises(DualPixelError, match=said) as caught:
            load_index(folder)
        assert INDEX in one_line(caught)

    def test_very_many_keys_that_stand_twice_are_found_quickly(self):
        began = time.process_time()
        with pytest.raises(DualPixelError, match="twice"):
            parse_json(b"{" + b",".join(b'"%d":1' % (number // 2) for number in range(200_000)) + b"}", "x")
        assert time.process_time() - began < 3

    def test_what_does_not_end_is_not_read(self, folder):
        (folder / INDEX).unlink()
        (folder / INDEX).symlink_to("/dev/zero")
        with pytest.raises(DualPixelError, match="not a file"):
            load_index(folder)
        with pytest.raises(DualPixelError, match="larger than 10 bytes"):
            from dualpixel.files import _bounded

            _bounded(Path(__file__), 10)

    def test_megabytes_of_metadata_are_carried_and_do_nothing(self, folder):
        self.alter(folder, ("samples", 0, "metadata"), {"x": "y" * (4 << 20), "__reduce__": ["os.system", "touch x"]})
        assert PreparedSplit(folder).array(0, "left").shape == (20, 28, 3)

    def test_random_values_in_random_places_are_refused_or_do_no_harm(self, folder):
        original, drawn = (folder / INDEX).read_text(), random.Random(0)
        values = [
            None,
            True,
            -1,
            0,
            1,
            2**63,
            10**30,
            1.5,
            float("nan"),
            float("inf"),
            "",
            "..",
            "../x.tar",
            "x.tar",
            [],
            {},
            [[]],
            {"a": [{}]},
        ]
        refusals = 0
        for _ in range(400):
            (folder / INDEX).write_text(original)
            place, way = json.loads(original), []
            while isinstance(place, dict | list) and place and (drawn.random() < 0.9 or not way):
                way.append(drawn.choice(list(place) if isinstance(place, dict) else range(len(place))))
                place = place[way[-1]]
            self.alter(folder, way, drawn.choice(values))
            try:
                split = PreparedSplit(folder)
                assert all(split.array(position, "left").shape == (20, 28, 3) for position in range(len(split)))
            except DualPixelError as error:
                assert len(str(error).splitlines()) == 1
                refusals += 1
        assert refusals > 250

    def test_the_command_line_refuses_in_a_line(self, folder, inside, capsys):
        (inside / "tiny.yaml").rename(inside / "card.yaml")
        (folder / INDEX).write_text("[" * 100_000)
        for command in (["verify"], ["preview"]):
            arguments = ["data", *command, str(inside / "card.yaml"), "--root", str(folder.parent)]
            assert "not a JSON file" in refused(capsys, *arguments)


def tar_of(path, members):
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content) if content else info.size
            tar.addfile(info, io.BytesIO(content) if content else None)


def special(kind, name="s.left.npy", target="../../../canary/file"):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def npy_header(text, version=(1, 0)):
    text = text.encode() + b"\n"
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text


def png(width, height, rows=1, depth=16):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0))
    packer = zlib.compressobj(9)
    row = bytes(1 + width * 3 * depth // 8) if rows else b""
    data = b"".join([packer.compress(row) for _ in range(rows)] + [packer.flush()])
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")


SCENE = ("s.left.npy", npy_bytes(PIXELS))
DESCRIPTION = "{'descr': '<u2', 'fortran_order': False, 'shape': (4, 6, 3), }"


class TestTars:
    @pytest.fixture
    def folder(self, inside):
        folder = inside / "theirs" / "train"
        folder.mkdir(parents=True)
        return folder

    def refusal(self, folder):
        with pytest.raises(DualPixelError, match=r"a\.tar") as caught:
            make_index(folder)
        assert [path.name for path in folder.iterdir()] == ["a.tar"]
        return one_line(caught)

    NAMES = [
        "../../canary/x.left.npy",
        "/etc/x.left.npy",
        "C:\\x.left.npy",
        "\u202ex.left.npy",
        "a\nb.left.npy",
        "ä.left.npy",
    ]

    @pytest.mark.parametrize("name", NAMES)
    def test_a_name_of_a_member_is_only_a_name(self, folder, name):
        tar_of(folder / "a.tar", [(name, SCENE[1])])
        made = make_index(folder)
        assert sorted(path.name for path in folder.iterdir()) == ["a.tar", INDEX]
        assert set(made.samples[0].key) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
        assert np.array_equal(PreparedSplit(folder).array(0, "left"), PIXELS)

    KINDS = {
        "link": tarfile.SYMTYPE,
        "hard link": tarfile.LNKTYPE,
        "device": tarfile.CHRTYPE,
        "disk": tarfile.BLKTYPE,
        "fifo": tarfile.FIFOTYPE,
        "folder": tarfile.DIRTYPE,
    }

    @pytest.mark.parametrize("kind", KINDS)
    def test_what_is_no_file_is_refused(self, folder, kind):
        tar_of(folder / "a.tar", [SCENE, (special(self.KINDS[kind], "t.left.npy"), b"")])
        assert "not a plain file" in self.refusal(folder)

    def test_a_member_with_holes_is_refused(self, folder):
        hole = tarfile.TarInfo("t.left.npy")
        hole.pax_headers = {
            "GNU.sparse.major": "0",
            "GNU.sparse.minor": "1",
            "GNU.sparse.map": "0,10,100,10",
            "GNU.sparse.size": "9999999999",
        }
        tar_of(folder / "a.tar", [SCENE, (hole, b"x" * 20)])
        assert "not a plain file" in self.refusal(folder)

    @pytest.mark.parametrize("size", ["-512", "-1", "99999999999999999999", "1000000000000", "512", "0", "x"])
    def test_a_size_in_an_addition_cannot_lead_elsewhere(self, folder, size):
        info = tarfile.TarInfo("t.left.npy")
        info.pax_headers = {"size": size}
        tar_of(folder / "a.tar", [SCENE, (info, SCENE[1])])
        began = time.process_time()
        self.refusal(folder)
        assert time.process_time() - began < 2

    @pytest.mark.parametrize(
        "kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK]
    )
    @pytest.mark.parametrize("size", [1 << 40, 8 << 30, 1 << 17, -1 << 20])
    def test_an_addition_that_claims_to_be_huge_is_not_read(self, folder, kind, size):
        info = special(kind, "x", "")
        info.size = size
        head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        (folder / "a.tar").write_bytes(bytes(head) + bytes(1 << 18))
        assert "header" in (said := self.refusal(folder)) or "not a whole" in said

    def test_very_many_additions_in_a_row_are_refused(self, folder):
        info = special(tarfile.GNUTYPE_LONGNAME, "x", "")
        info.size = 4
        (folder / "a.tar").write_bytes(
            (info.tobuf(tarfile.GNU_FORMAT) + b"name".ljust(512, b"\0")) * 20_000 + bytes(1024)
        )
        assert "not a whole, plain tar" in self.refusal(folder)

    @pytest.mark.parametrize("twice", ["s.left.npy", "s.LEFT.npy", "./s.left.npy", "a b.left.npy"])
    def test_a_member_that_is_there_twice_or_too_like_another_is_refused(self, folder, twice):
        other = ("a_b.right.npy", SCENE[1]) if "a b" in twice else SCENE
        extra = [("_/s.left.npy", SCENE[1])] if twice.startswith("./") else []
        first = [("./_/s.left.npy", SCENE[1])] if extra else [other]
        second = [("__/s.left.npy", SCENE[1])] * 2 if extra else [(twice, SCENE[1])]
        tar_of(folder / "a.tar", first + second)
        assert "twice, or too like another name" in self.refusal(folder)

    @pytest.mark.parametrize("damage", ["header", "end", "behind", "middle"])
    def test_no_scene_is_lost_behind_a_damaged_header(self, folder, damage):
        tar_of(folder / "a.tar", [(f"{name}.left.npy", SCENE[1]) for name in "stu"])
        content = bytearray((folder / "a.tar").read_bytes())
        second = 512 + 512  # a header, and 272 bytes of the first member in a block
        if damage == "header":
            content[second + 150] ^= 1
        elif damage == "end":
            del content[3 * second :]
        elif damage == "middle":
            content[second : second + 512] = bytes(512)
        else:
            content[-700] = 1
        (folder / "a.tar").write_bytes(content)
        assert "not a whole, plain tar" in self.refusal(folder)

    ARRAYS = {
        "a call": npy_header("__import__('os').system('touch x')"),
        "an object": npy_header("{'descr': '|O', 'fortran_order': False, 'shape': (4,), }")
        + b"cos\nsystem\n(S'touch x'\ntR.",
        "depth": npy_header("(" * 9000),
        "depth of signs": npy_header("-" * 9000 + "1"),
        "a long header": npy_header(DESCRIPTION + " " * 60_000),
        "a longer header": npy_header(DESCRIPTION + " " * (1 << 20), (2, 0)),
        "a header longer than the file": b"\x93NUMPY\2\0" + struct.pack("<I", 0xFFFFFFFF) + b"{}",
        "a shape of petabytes": npy_header(DESCRIPTION.replace("(4, 6, 3)", "(1000000, 1000000, 1000)")),
        "a shape below nothing": npy_header(DESCRIPTION.replace("(4, 6, 3)", "(-4, -6, 3)")) + bytes(144),
        "a shape of truths": npy_header(DESCRIPTION.replace("(4, 6, 3)", "(True, 6, 3)")) + bytes(36),
        "a shape of nothing": npy_header(DESCRIPTION.replace("(4, 6, 3)", "()")) + bytes(2),
        "a shape that overflows": npy_header(DESCRIPTION.replace("(4, 6, 3)", f"({2**62}, 6, 3)")) + bytes(144),
        "columns first": npy_header(DESCRIPTION.replace("False", "True")) + bytes(144),
        "the other byte order": npy_header(DESCRIPTION.replace("<u2", ">u2")) + bytes(144),
        "a structure": npy_header(DESCRIPTION.replace("'<u2'", "[('a', '<u2', (1000000000,))]")) + bytes(144),
        "times": npy_header(DESCRIPTION.replace("<u2", "<M8[ns]")) + bytes(576),
        "a key twice": npy_header(DESCRIPTION.replace("}", "'shape': (9, 9, 3), }")) + bytes(144),
        "too few pixels": npy_bytes(PIXELS)[:-1],
        "more than its pixels": npy_bytes(PIXELS) + b"\0\0",
        "another version": b"\x93NUMPY\x09\0" + npy_bytes(PIXELS)[8:],
        "no array": b"PK\3\4" + bytes(200),
        "four channels": npy_bytes(np.zeros((4, 6, 4), np.uint16)),
        "a map for an image": npy_bytes(np.zeros((4, 6), np.float32)),
    }

    @pytest.mark.parametrize("what", ARRAYS)
    def test_a_harmful_array_is_refused(self, folder, what):
        tar_of(folder / "a.tar", [("s.left.npy", self.ARRAYS[what])])
        began = time.process_time()
        with pytest.raises(DualPixelError) as caught:
            make_index(folder)
        one_line(caught)
        assert [path.name for path in folder.iterdir()] == ["a.tar"] and time.process_time() - began < 3

    IMAGES = {
        "a gigapixel": png(1 << 15, 1 << 15),
        "a size of petabytes": png((1 << 31) - 1, (1 << 31) - 1, 0),
        "a wide one": png(1 << 20, 1 << 10, 0),
        "a size of nothing": png(0, 5),
        "too few rows": png(64, 64, 3),
        "a header alone": png(8, 8)[:24],
        "eight bytes": png(8, 8)[:8],
        "nothing": b"",
        "text": b"<svg onload='touch x'/>",
    }

    @pytest.mark.parametrize("what", IMAGES)
    def test_a_harmful_image_is_refused_before_it_takes_memory(self, folder, what):
        tar_of(folder / "a.tar", [("s.left.png", self.IMAGES[what])] if self.IMAGES[what] else [("s.left.png", b" ")])
        began = time.process_time()
        self.refusal(folder)
        assert time.process_time() - began < 2

    def test_an_image_of_another_size_than_its_index_says_is_not_decoded(self):
        with pytest.raises(DualPixelError, match="a PNG of 16384x16384 .* expected 8x8, as the index says"):
            decode_image(png(1 << 14, 1 << 14, 0), "x", size=(8, 8))
        assert decode_image(png(8, 4, 4), "x", size=(4, 8)).shape == (4, 8, 3)

    @pytest.mark.parametrize(
        "content", [b"[" * 100_000, b"9" * 5000, b'{"a": 1, "a": 2}', b"\xff", b"{" + b" " * (1 << 20) + b"}"]
    )
    def test_harmful_metadata_is_refused(self, folder, content):
        tar_of(folder / "a.tar", [SCENE, ("s.json", content)])
        assert "s.json" in self.refusal(folder)

    @pytest.mark.parametrize("name", ["a\nb.tar", "\u202erat.tar", "x" * 200 + ".tar", "a|b.tar", "a:b.tar"])
    def test_a_tar_with_a_name_that_no_index_may_hold_is_refused_before_it_is_read(self, folder, name):
        tar_of(folder / name, [SCENE])
        with pytest.raises(DualPixelError, match="is not allowed") as caught:
            make_index(folder)
        one_line(caught)
        assert not (folder / INDEX).exists()

    def test_a_link_in_the_place_of_the_index_is_replaced_not_followed(self, folder, inside):
        tar_of(folder / "a.tar", [SCENE])
        target = inside.parents[1] / "canary" / "new"
        (folder / INDEX).symlink_to(target)
        make_index(folder)
        assert not (folder / INDEX).is_symlink() and not target.exists()

    def test_random_bytes_in_a_tar_are_refused_or_named_rightly(self, folder):
        tar_of(folder / "a.tar", [(f"{name}.left.npy", SCENE[1]) for name in "st"] + [("s.json", b'{"a": 1}')])
        original, drawn = (folder / "a.tar").read_bytes(), random.Random(5)
        for _ in range(300):
            content = bytearray(original)
            for _ in range(drawn.choice([1, 1, 4, 40])):
                content[drawn.randrange(3000)] = drawn.randrange(256)
            (folder / "a.tar").write_bytes(content)
            (folder / INDEX).unlink(missing_ok=True)
            try:
                make_index(folder)
            except DualPixelError as error:
                assert len(str(error).splitlines()) == 1
            else:
                assert all(PreparedSplit(folder).array(number, "left").dtype.itemsize < 3 for number in range(2))


class TestFolders:
    """Folders that somebody else filled, with links in them that lead elsewhere."""

    def test_a_lock_is_not_taken_on_what_a_link_leads_to(self, inside):
        target = inside.parents[1] / "canary" / "new"
        (inside / ".lock").symlink_to(target)
        with pytest.raises(DualPixelError, match="is a link"), locked(inside):
            pass
        assert not target.exists()

    def test_notes_are_not_written_where_a_link_leads(self, inside, small_card, small_source):
        from dualpixel.data.prepare import prepare

        (inside / "out" / "train").mkdir(parents=True)
        (inside / "out" / "train" / ".parts").symlink_to(inside.parents[1] / "canary" / "folder")
        with pytest.raises(DualPixelError, match="is a link"):
            prepare(get_card(small_card), small_source, inside / "out", processes=1)

    STRANGE = [
        {"dataset": "../../canary/x"},
        {"split": "../x"},
        *({"shards": [{"scenes": 1, "part": one}]} for one in ("x", None)),
    ]

    @pytest.mark.parametrize("plan", [{}, *STRANGE])
    def test_parts_of_a_stranger_are_refused(self, inside, plan, capsys):
        folder = inside / "x" / "train" / ".parts"
        folder.mkdir(parents=True)
        (folder / "plan.json").write_text(json.dumps({**PLAN, **plan} if plan else {}))
        refused(capsys, "data", "index", str(inside / "x"))
        (folder / "000000.json").write_text('{"request": "x", "evil": 1}')
        refused(capsys, "data", "index", str(inside / "x"))

    def test_a_note_that_names_a_shard_elsewhere_makes_no_index(self, inside):
        split = inside / "x" / "train"
        (split / ".parts").mkdir(parents=True)
        (split / ".parts" / "plan.json").write_text(json.dumps(PLAN))
        (split / "x-train-000000.tar").write_bytes(b"sings")
        shard = {"name": "../../../canary/train.tar", "bytes": 5, "sha256": "0" * 64}
        (split / ".parts" / "000000.json").write_text(json.dumps({"request": "x", "shard": shard, "samples": []}))
        with pytest.raises(DualPixelError, match="is not allowed"):
            join(inside / "x")
        assert not (split / INDEX).exists()

    def test_a_finished_set_is_cleared_of_links_not_of_what_they_lead_to(self, inside, tmp_path):
        _, root = make_tiny_set(inside, shards=1)
        for split in ("train", "val", "test"):
            (root / split / ".parts").symlink_to(tmp_path / "canary" / "folder")
            (root / split / ".x.1.part").symlink_to(tmp_path / "canary" / "file")
        assert len(join(root)) == 3
        assert sorted(path.name for path in (root / "train").iterdir()) == [INDEX, "tiny-train-000000.tar"]


def test_a_process_with_hostile_files_ends_with_status_2_and_no_traceback(tmp_path):
    """As a user sees it, for one of each kind."""
    folder = tmp_path / "theirs" / "train"
    folder.mkdir(parents=True)
    tar_of(folder / "a.tar", [("s.left.npy", TestTars.ARRAYS["an object"])])
    card = tmp_path / "card.yaml"
    card.write_text(TestCards.TEXTS["laughs"])
    code = "import sys; from dualpixel.cli import main; main(sys.argv[1:])"
    for arguments in (["data", "index", str(folder)], ["data", "show", str(card)]):
        found = subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert found.returncode == 2 and "Traceback" not in found.stderr
        assert [line[:7] for line in found.stderr.splitlines()][-1] == "error: "
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.yaml", "theirs"]
