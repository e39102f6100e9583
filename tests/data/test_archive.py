import pickle
import random
import stat
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from scenes import photograph

from dualpixel import DualPixelError
from dualpixel.data import archive
from dualpixel.data.archive import Files, Member, on_disk, stamp
from dualpixel.data.images import encode_png, image_size
from dualpixel.data.maps import read_map, write_map

NAMES = ("one/a.png", "one/b.png", "one/deep/c.png", "one/.hidden.png", "two/a.png", "two/[x].txt", "top.png")


@pytest.fixture
def content():
    return {name: f"{name} says this".encode() * 9 for name in NAMES}


@pytest.fixture
def pair(tmp_path, content):
    """The same files in a folder and in an archive."""
    folder, packed = tmp_path / "folder", tmp_path / "packed.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("one/", b"")
        for name in reversed(NAMES):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content[name])
            zipped.writestr(name, content[name])
    return Files(folder), Files(packed)


@pytest.mark.parametrize("root", [None, "one", "two"])
@pytest.mark.parametrize(
    "pattern", ["*.png", "*/*.png", "**/*.png", "one/**/*.png", "**/deep/*", "o?e/[ab].png", "**/*/a.png", "*", "**/[[]x].txt", "no/*"]
)  # fmt: skip
def test_an_archive_gives_what_its_folder_gives(pair, content, root, pattern):
    folder, packed = [files.below(root) if root else files for files in pair]
    loose, members = folder.glob(pattern), packed.glob(pattern)
    names = [file.relative_to(pair[0].source).as_posix() for file in loose]
    assert [str(member.path) for member in members] == names
    assert [(one.name, one.stem, one.parent.name) for one in members if one.parent.name] == [
        (one.name, one.stem, one.parent.name) for one in loose if one.parent != pair[0].source
    ]
    for name, file, member in zip(names, loose, members, strict=True):
        assert member.read_bytes() == file.read_bytes() == content[name]
        assert not name.rpartition("/")[2].startswith(".")


def test_patterns_find_the_files_they_should(pair):
    for files in pair:
        assert [file.name for file in files.glob("one/*.png")] == ["a.png", "b.png"]
        assert len(files.glob("**/*.png")) == 5 and files.below("three") is None


def test_a_member_is_known_by_size_and_checksum(pair, content):
    (member,) = pair[1].glob("one/a.png")
    (file,) = pair[0].glob("one/a.png")
    assert stamp(member) == [len(content["one/a.png"]), zipfile.crc32(content["one/a.png"])]
    assert stamp(file)[0] == stamp(member)[0] and stamp(file)[1] == file.stat().st_mtime_ns


def test_a_changed_archive_is_noticed(pair):
    (member,) = pair[1].glob("top.png")
    with zipfile.ZipFile(member.archive, "w") as zipped:
        zipped.writestr("top.png", b"something else")
    with pytest.raises(DualPixelError, match="packed.zip: top.png: the archive has changed"):
        member.read_bytes()
    assert pair[1].glob("top.png")[0].read_bytes() == b"something else"


def test_maps_in_an_archive_are_lent_to_readers_of_paths(tmp_path):
    depth = np.linspace(0.5, 4, 35, dtype=np.float32).reshape(5, 7)
    write_map(tmp_path / "depth.npy", depth)
    with zipfile.ZipFile(tmp_path / "maps.zip", "w") as zipped:
        zipped.write(tmp_path / "depth.npy", "depth.npy")
        zipped.writestr("broken.npy", b"no map")
    broken, good = Files(tmp_path / "maps.zip").glob("*.npy")
    with on_disk(good) as path:
        assert np.array_equal(read_map(path), depth)
    assert not path.exists()
    with pytest.raises(DualPixelError, match="maps.zip: broken.npy: not a map"), on_disk(broken) as path:
        read_map(path)
    assert not path.parent.exists()


def test_the_size_of_an_image_is_read_from_its_header(tmp_path):
    tall = np.ascontiguousarray(photograph(1)[:, :77])
    packed = encode_png(tall)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as zipped:
        zipped.writestr("cut.png", packed[:100])  # the header alone
        zipped.writestr("text.png", b"no image")
    (tmp_path / "tall.png").write_bytes(packed)
    cut, text = Files(tmp_path / "images.zip").glob("*.png")
    assert image_size(cut) == image_size(tmp_path / "tall.png") == tall.shape[:2] == (144, 77)
    with pytest.raises(DualPixelError, match="images.zip: text.png"):
        image_size(text)


def special(name, kind):
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o777) << 16
    return info


def altered(packed, signature, offset, value):
    """Write bytes at an offset behind every signature of a header."""
    raw = bytearray(packed.read_bytes())
    place = raw.find(signature)
    while place >= 0:
        raw[place + offset : place + offset + len(value)] = value
        place = raw.find(signature, place + 4)
    packed.write_bytes(raw)


CENTRAL, LOCAL = b"PK\x01\x02", b"PK\x03\x04"
OUTSIDE = "is refused: its name points out"
HOSTILE = {
    "a name outside": (lambda zipped: zipped.writestr("a/../../evil.png", b"x"), f"'a/../../evil.png' {OUTSIDE}"),
    "an absolute name": (lambda zipped: zipped.writestr("/etc/evil.png", b"x"), f"'/etc/evil.png' {OUTSIDE}"),
    "a name of Windows": (lambda zipped: zipped.writestr("C:/evil.png", b"x"), f"'C:/evil.png' {OUTSIDE}"),
    "backslashes": (lambda zipped: zipped.writestr("..\\evil.png", b"x"), f"evil.png' {OUTSIDE}"),
    "a link": (
        lambda zipped: zipped.writestr(special("l/evil.png", stat.S_IFLNK), "/etc/passwd"),
        "'l/evil.png' is refused: it is a link",
    ),
    "a device": (
        lambda zipped: zipped.writestr(special("evil.png", stat.S_IFCHR), b""),
        "'evil.png' is refused: it is a link or a device",
    ),
    "a bomb": (
        lambda zipped: zipped.writestr("evil.png", bytes(archive.UNSUSPICIOUS + 1), zipfile.ZIP_DEFLATED),
        "'evil.png' is refused: it claims to be 16777217 bytes packed into",
    ),
    "another method": (
        lambda zipped: zipped.writestr("evil.png", b"x" * 99, zipfile.ZIP_LZMA),
        "'evil.png' is refused: it is packed by method 14",
    ),
    "a member twice": (
        lambda zipped: [zipped.writestr("evil.png", one) for one in (b"x", b"y")],
        "evil.png: is in the archive twice",
    ),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("what", HOSTILE)
def test_what_an_honest_archive_never_holds_is_refused(tmp_path, what):
    write, said = HOSTILE[what]
    packed = tmp_path / "set.zip"
    with zipfile.ZipFile(packed, "w") as zipped:
        zipped.writestr("fine.png", b"fine")
        write(zipped)
    with pytest.raises(DualPixelError) as refused:
        Files(packed).glob("**/*.png")
    message = str(refused.value)
    assert str(packed) in message and said in message and len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda packed: [altered(packed, CENTRAL, 8, b"\x01\x00"), altered(packed, LOCAL, 6, b"\x01\x00")],
            "'a.png' is refused: it is encrypted",
        ),
        (lambda packed: altered(packed, CENTRAL, 24, (1 << 31).to_bytes(4, "little")), "claims to be 2147483648 bytes packed into 1000"),
        (lambda packed: packed.write_bytes(packed.read_bytes().replace(b"pixel" * 3, b"pixes" * 3, 1)), "a.png: cannot be read .*CRC"),
        (lambda packed: altered(packed, LOCAL, 26, b"\xff\xff"), "a.png: cannot be read"),
        (lambda packed: altered(packed, LOCAL, 30, b"b"), "a.png: cannot be read"),
        (lambda packed: altered(packed, CENTRAL, 24, (1001).to_bytes(4, "little")), "a.png: (cannot be read|has 1000 bytes)"),
        (lambda packed: packed.write_bytes(packed.read_bytes()[:-30]), "set.zip is neither a folder nor a zip archive"),
        (lambda packed: packed.write_bytes(b"\x1f\x8b" + bytes(50)), "set.zip is neither a folder nor a zip archive"),
        (lambda packed: altered(packed, CENTRAL, 0, b"XXXX"), "set.zip: not a whole zip archive"),
    ],
)  # fmt: skip
def test_damage_is_named_with_archive_and_member(tmp_path, damage, said):
    packed = tmp_path / "set.zip"
    with zipfile.ZipFile(packed, "w") as zipped:
        zipped.writestr("a.png", b"pixel" * 200)
    damage(packed)
    with pytest.raises(DualPixelError, match=said) as refused:
        [member.read_bytes() for member in Files(packed).glob("*.png")]
    assert str(packed) in str(refused.value)


def test_a_member_that_unpacks_to_more_than_it_claims_is_cut_off(tmp_path):
    packed = tmp_path / "set.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("a.png", bytes(1 << 22))
    altered(packed, CENTRAL, 24, (100).to_bytes(4, "little"))
    (member,) = Files(packed).glob("*.png")
    assert member.size == 100
    with pytest.raises(DualPixelError, match="a.png: cannot be read .*CRC"):
        member.read_bytes()


def test_whatever_bytes_are_altered_the_answer_is_words_or_the_truth(tmp_path, content):
    packed, draw = tmp_path / "set.zip", random.Random(0)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name in NAMES:
            zipped.writestr(name, content[name])
    whole, told = packed.read_bytes(), 0
    for number in range(400):
        raw = bytearray(whole)
        for _ in range(draw.choice((1, 3))):
            raw[draw.randrange(len(raw))] = draw.randrange(256)
        damaged = tmp_path / f"{number}.zip"
        damaged.write_bytes(raw)
        try:
            for member in Files(damaged).glob("**/*.png"):
                assert member.read_bytes() in content.values()
        except DualPixelError as error:
            told += str(damaged) in str(error)
        damaged.unlink()
    assert told > 100


def test_a_member_is_handed_to_other_processes(pair, content):
    (member,) = pickle.loads(pickle.dumps(pair[1].glob("two/a.png")))
    assert isinstance(member, Member) and member.path == PurePosixPath("two/a.png")
    assert isinstance(member.archive, Path) and member.read_bytes() == content["two/a.png"]
