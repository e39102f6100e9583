"""Folders packed as archives."""

import zipfile


def pack(folder, archive):
    """Write what lies below a folder into a zip archive; return its path."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w") as zipped:
        for file in sorted(folder.rglob("*"), reverse=True):
            zipped.write(file, file.relative_to(folder))
    return archive
