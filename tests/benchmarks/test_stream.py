"""How fast samples are read from a disk: our stream, loose 16-bit PNG patches with an ordinary data set class, and other libraries.

All give the same 512x512 crops of 1120x1680 scenes, in batches of one type, in turns in one run.
"""

import statistics
import time
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from benchmarks.rivals import FIELDS, patch_file, sides_of_rivals
from scenes import make_dpdd_folder, write_card
from skimage import data as photographs
from skimage.transform import resize
from torch.utils.data import DataLoader, Dataset

from dualpixel.data import DualPixelData
from dualpixel.data.images import read_image, write_png
from dualpixel.data.prepare import prepare
from dualpixel.data.registry import get_card
from dualpixel.data.stream import to_floats

pytestmark = pytest.mark.benchmark
BATCH, SCENES, PASSES = 4, 3, 5
OURS, LOOSE = "stream", "loose PNG, Dataset"


class LoosePatches(Dataset):
    """Patches cut beforehand and written as 16-bit PNG, as the authors' program leaves them."""

    def __init__(self, folder, names, floats):
        self.folder, self.names, self.floats = folder, names, floats

    def __len__(self):
        return len(self.names)

    def __getitem__(self, position):
        sample = {}
        for field in FIELDS:
            image = torch.from_numpy(read_image(patch_file(self.folder, field, self.names[position])))
            sample[field] = image.permute(2, 0, 1).float() / 65535 if self.floats else image
        return sample


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A function that opens the stream of a set of 1120x1680 scenes, and the folder of its training shards."""
    top = tmp_path_factory.mktemp("benchmark")
    counts = {"train": SCENES, "val": 1, "test": 1}
    image = (resize(photographs.astronaut(), (1120, 1680), order=3) * 65535).astype(np.int32)
    source = make_dpdd_folder(top / "source", counts, (144, 208))
    for number, path in enumerate((source / "dd_dp_dataset_canon").rglob("*.png")):
        noise = np.random.default_rng(number).integers(-200, 200, image.shape)
        write_png(path, (image + noise).clip(0, 65535).astype(np.uint16))
    windows = {"train": {"size": 512, "overlap": 0.6, "discard": 0.3}}
    card = write_card(top / "card.yaml", counts, (1120, 1680), preparation={"windows": windows})
    shards = prepare(get_card(card), source, top / "shards", processes=1)

    def opened():
        stream = DualPixelData(str(card), root=shards, batch_size=BATCH, num_workers=0)
        stream.require("fit", ["left", "right"], ["sharp"])
        return stream.train_dataloader()

    return opened, shards / "train"


@pytest.fixture(scope="module")
def patches(scenes, tmp_path_factory):
    """The folder of loose patches and their names, the sides of other libraries and what is missing, and the bytes on the disk."""
    opened, shards = scenes
    top, names = tmp_path_factory.mktemp("patches"), []
    for batch in opened():
        for row in range(BATCH):
            names.append(f"{len(names):03d}")
            for field in FIELDS:
                write_png(patch_file(top / "loose", field, names[-1]), batch[field][row].numpy())
    sizes = {
        OURS: sum(path.stat().st_size for path in shards.glob("*.tar")) * 3 // 4,  # not the combined view
        LOOSE: sum(path.stat().st_size for path in (top / "loose").rglob("*.png")),
    }
    rivals, missing, more = sides_of_rivals(top / "loose", names, top, BATCH)
    return top / "loose", names, rivals, missing, sizes | more


def crops_of(batches: Iterator) -> list[int]:
    """What was read in an epoch, whatever its order."""
    return sorted(
        zlib.crc32(np.ascontiguousarray(batch[field][row]))
        for batch in batches
        for field in FIELDS
        for row in range(BATCH)
    )


def seconds(batches: Iterator) -> float:
    """Processor seconds of all threads for a batch, from when the first one is there."""
    start, count = 0.0, -1
    for batch in batches:
        assert batch["left"].shape[0] == BATCH
        count += 1
        start = start or time.process_time()
    return (time.process_time() - start) / count


@pytest.mark.parametrize(("floats", "target"), [(False, 10.0), (True, 6.0)])
def test_samples_per_processor_second(scenes, patches, floats, target):
    folder, names, rivals, missing, sizes = patches
    torch.set_num_threads(1)
    loose = DataLoader(LoosePatches(folder, names, floats), BATCH, shuffle=True)
    sides = {OURS: scenes[0]().__iter__, LOOSE: loose.__iter__} | rivals
    crops = {name: crops_of(side()) for name, side in sides.items() if not (floats and name == LOOSE)}
    assert len(crops[OURS]) == len(names) * len(FIELDS) and all(found == crops[OURS] for found in crops.values())

    def read(name):
        batches = sides[name]()
        return map(to_floats, batches) if floats and name != LOOSE else batches

    times = {name: [] for name in sides}
    for turn in range(PASSES + 1):
        for name in sides:
            taken = seconds(read(name))
            if turn:
                times[name].append(taken)
    rates = {name: BATCH / statistics.median(taken) for name, taken in times.items()}
    kind = "float32 (B, 3, H, W)" if floats else "uint16 (B, H, W, 3)"
    print(
        f"\n| 512x512 samples of 3 images as {kind}, one thread | per CPU-second | beside loose PNG | MB on the disk |"
    )
    print("|---|---|---|---|")
    for name, rate in rates.items():
        print(f"| {name} | {rate:.0f} | {rate / rates[LOOSE]:.1f} | {sizes[name] / 1e6:.0f} |")
    for line in missing:
        print(f"| {line} | | | |")
    assert rates[OURS] / rates[LOOSE] >= target
    assert all(rates[OURS] >= 0.8 * rate for rate in rates.values())  # less is noise


def test_the_check_of_scenes_at_first_use_costs_little(scenes, tmp_path, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setenv("DUALPIXEL_CACHE", str(tmp_path))
    opened, shards = scenes
    times = {"never": [], "once, noted before": [], "always: an epoch that checks every scene": []}
    for turn in range(2 * PASSES + 1):
        for way in times:
            monkeypatch.setenv("DUALPIXEL_CHECK", way.partition(",")[0].partition(":")[0])
            batches = opened()
            start = time.process_time()
            count = BATCH * sum(1 for _ in batches)
            if turn:
                times[way].append((time.process_time() - start) / count)
    milliseconds = {way: 1000 * statistics.median(taken) for way, taken in times.items()}
    print("\n| checks, each epoch with new mappings | samples per CPU-second | CPU ms more a sample |\n|---|---|---|")
    for way, taken in milliseconds.items():
        print(f"| {way} | {1000 / taken:.0f} | {taken - milliseconds['never']:.2f} |")
    hashed = sum(path.stat().st_size for path in shards.glob("*.tar"))
    seconds = (milliseconds["always: an epoch that checks every scene"] - milliseconds["never"]) / 1000 * count
    print(f"{hashed / 1e6:.0f} MB of scenes, {count} samples: {seconds / hashed * 1e9:.2f} CPU s for 10^9 bytes")
    assert milliseconds["once, noted before"] <= 1.15 * milliseconds["never"]
