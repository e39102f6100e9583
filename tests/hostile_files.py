"""What tests of hostile files are made of."""

import hashlib
import io
import struct
import tarfile
import zlib

import numpy as np

from dualpixel.data.shards import npy_bytes

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


def one_line(error):
    said = str(error.value)
    assert len(said.splitlines()) == 1 and len(said) < 700 and said.isprintable(), said
    return said


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


OBJECT = npy_header("{'descr': '|O', 'fortran_order': False, 'shape': (4,), }") + b"cos\nsystem\n(S'touch x'\ntR."
"""An array of objects, whose pickle would start a program."""
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
"""YAML whose aliases would be a thousand million values."""
