"""Tars, arrays and images made to do harm: each is refused in a line, nothing is started, nothing is written outside."""

import random
import struct
import tarfile
import time

import numpy as np
import pytest
from hostile_files import DESCRIPTION, OBJECT, PIXELS, SCENE, npy_header, one_line, png, special, tar_of

from dualpixel import DualPixelError
from dualpixel.data.images import decode_image
from dualpixel.data.index import INDEX
from dualpixel.data.indexing import make_index
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.shards import npy_bytes


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
        "an object": OBJECT,
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
