"""Indexes made to do harm: each is refused in a line, nothing is started, nothing is written outside."""

import json
import random
import time
from pathlib import Path

import pytest
from command_line import refused
from hostile_files import one_line
from tiny_shards import make_tiny_set

from dualpixel import DualPixelError
from dualpixel.data.index import INDEX, fingerprint, load_index
from dualpixel.data.reading import PreparedSplit
from dualpixel.files import parse_json

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
