"""The same patches in the formats of other libraries, each read as its own documentation has it.

The libraries are no dependencies: where one cannot be imported, its rows are left out, visibly. To have them, install them into
a folder of their own (``pip install --target FOLDER --no-deps litdata mosaicml-streaming``, and what they miss) and put it on
PYTHONPATH.
"""

import importlib
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from dualpixel.data.images import decode_image, read_image

FIELDS = ("left", "right", "sharp")
Epoch = Callable[[], Iterator[dict[str, Any]]]


def patch_file(folder: Path, field: str, name: str) -> Path:
    """Where the loose 16-bit PNG of a patch lies."""
    return folder / field / f"{name}.png"


class Arrays:
    """Patches as they are in memory."""

    kind = "raw arrays"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str) -> dict[str, torch.Tensor]:
        """Return what is stored of a patch."""
        return {field: torch.from_numpy(read_image(patch_file(self.folder, field, name))) for field in FIELDS}

    @staticmethod
    def decode(stored: dict[str, Any]) -> dict[str, Any]:
        """Return the images of what was read."""
        return {field: stored[field] for field in FIELDS}


class PNGs(Arrays):
    """Patches as the bytes of PNG files."""

    kind = "PNG bytes"

    def __call__(self, name: str) -> dict[str, bytes]:
        """Return what is stored of a patch."""
        return {field: patch_file(self.folder, field, name).read_bytes() for field in FIELDS}

    @staticmethod
    def decode(stored: dict[str, bytes]) -> dict[str, torch.Tensor]:
        """Return the images of what was read."""
        return {
            field: torch.from_numpy(decode_image(np.frombuffer(stored[field], np.uint8), field)) for field in FIELDS
        }


def litdata(patches: Arrays, names: list[str], out: Path, batch_size: int) -> Epoch:
    """LitData: ``optimize`` into chunks of 64 MB, `StreamingDataset` on the local folder, `StreamingDataLoader`."""
    library = importlib.import_module("litdata")
    library.optimize(
        fn=patches, inputs=names, output_dir=str(out), num_workers=1, chunk_bytes="64MB", start_method="fork", verbose=False
    )  # fmt: skip

    class Patches(library.StreamingDataset):
        def __getitem__(self, index: Any) -> dict[str, Any]:
            return patches.decode(super().__getitem__(index))

    loader = library.StreamingDataLoader(Patches(str(out), shuffle=True), batch_size=batch_size)
    return lambda: iter(loader)


def mosaic(patches: Arrays, names: list[str], out: Path, batch_size: int) -> Epoch:
    """MosaicML Streaming: `MDSWriter` with arrays of fixed type and shape, `StreamingDataset` on the local folder, `DataLoader`."""
    library = importlib.import_module("streaming")
    first = patches(names[0])
    columns = {
        field: "ndarray:uint16:" + ",".join(map(str, value.shape)) if isinstance(value, torch.Tensor) else "bytes"
        for field, value in first.items()
    }
    with library.MDSWriter(out=str(out), columns=columns) as writer:
        for name in names:
            stored = patches(name)
            writer.write(
                {field: getattr(value, "numpy", lambda value=value: value)() for field, value in stored.items()}
            )

    class Patches(library.StreamingDataset):
        def __getitem__(self, index: Any) -> dict[str, Any]:
            return patches.decode(super().__getitem__(index))

    library.base.util.clean_stale_shared_memory()
    dataset = Patches(local=str(out), shuffle=True, batch_size=batch_size)
    loader = DataLoader(dataset, batch_size=batch_size)
    warnings.filterwarnings("ignore", "The given NumPy array is not writable")
    return lambda: iter(loader)


LIBRARIES = {"LitData": ("litdata", litdata), "MosaicML Streaming": ("streaming", mosaic)}


def sides_of_rivals(
    folder: Path, names: list[str], top: Path, batch_size: int
) -> tuple[dict[str, Epoch], list[str], dict[str, int]]:
    """Write the patches in each library's format.

    Args:
        folder: of the loose patches.
        names: of the patches.
        top: gets a folder for each way.
        batch_size: of the epochs.

    Returns:
        What begins an epoch, for each way; what to say of each library that is not there; and the bytes each way takes.
    """
    sides, missing, sizes = {}, [], {}
    for title, (module, write) in LIBRARIES.items():
        try:
            importlib.import_module(module)
        except ImportError as fault:
            missing.append(f"{title}: SKIPPED, cannot be imported ({fault})")
            continue
        for patches in (Arrays(folder), PNGs(folder)):
            out = top / f"{module}-{type(patches).__name__}"
            shutil.rmtree(out, ignore_errors=True)
            sides[f"{title}, {patches.kind}"] = write(patches, names, out, batch_size)
            sizes[f"{title}, {patches.kind}"] = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return sides, missing, sizes
