"""How fast samples are read: our stream against loose 16-bit PNG patches with an ordinary data set class, side by side in one run."""

import statistics
import time

import numpy as np
import pytest
import torch
from scenes import make_dpdd_folder, write_card
from torch.utils.data import DataLoader, Dataset

from dualpixel.data import DualPixelData
from dualpixel.data.images import read_image, write_png
from dualpixel.data.prepare import prepare
from dualpixel.data.registry import get_card

pytestmark = pytest.mark.benchmark
BATCH, BATCHES, PASSES = 4, 5, 7


class LoosePatches(Dataset):
    """Patches cut beforehand and written as 16-bit PNG, as the authors' program leaves them."""

    def __init__(self, folder, floats):
        self.names, self.folder, self.floats = (
            sorted({path.stem for path in (folder / "left").iterdir()}),
            folder,
            floats,
        )

    def __len__(self):
        return len(self.names)

    def __getitem__(self, position):
        sample = {}
        for field in ("left", "right", "sharp"):
            image = torch.from_numpy(read_image(self.folder / field / f"{self.names[position]}.png"))
            sample[field] = image.permute(2, 0, 1).float() / 65535 if self.floats else image
        return sample


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    top = tmp_path_factory.mktemp("benchmark")
    counts = {"train": 2, "val": 1, "test": 1}
    from skimage import data
    from skimage.transform import resize

    image = (resize(data.astronaut(), (1120, 1680), order=3) * 65535).astype(np.uint16)
    source = make_dpdd_folder(top / "source", counts, (144, 208))
    for path in (source / "dd_dp_dataset_canon").rglob("*.png"):
        noise = np.random.default_rng(len(path.name)).integers(-200, 200, image.shape)
        write_png(path, (image.astype(np.int32) + noise).clip(0, 65535).astype(np.uint16))
    windows = {"train": {"size": 512, "overlap": 0.6, "discard": 0.3}}
    card = write_card(top / "card.yaml", counts, (1120, 1680), preparation={"windows": windows})
    shards = prepare(get_card(card), source, top / "shards", processes=1)
    stream = DualPixelData(str(card), root=shards, batch_size=BATCH, num_workers=0)
    stream.require("fit", ["left", "right"], ["sharp"])
    for number, batch in enumerate(stream.train_dataloader()):
        for field in ("left", "right", "sharp"):
            for row, patch in enumerate(batch[field].numpy()):
                write_png(top / "patches" / field / f"{number:03d}{row}.png", patch)
    return stream, top / "patches"


def measure(batches):
    """Process seconds for a number of batches, every byte touched."""
    start = time.process_time()
    for number, batch in enumerate(batches):
        for field in ("left", "right", "sharp"):
            assert batch[field].shape[0] == BATCH
        if number + 1 == BATCHES:
            break
    return time.process_time() - start


@pytest.mark.parametrize(("floats", "target"), [(False, 10.0), (True, 6.0)])
def test_samples_per_processor_second(prepared, floats, target):
    stream, patches = prepared
    torch.set_num_threads(1)

    def ours():
        for batch in stream.train_dataloader():
            yield stream.on_after_batch_transfer(batch, 0) if floats else batch

    def loose():
        yield from DataLoader(LoosePatches(patches, floats), batch_size=BATCH, shuffle=True)

    times = {"ours": [], "loose": []}
    measure(ours()), measure(loose())
    for _ in range(PASSES):
        times["ours"].append(measure(ours()))
        times["loose"].append(measure(loose()))
    rates = {name: BATCH * BATCHES / statistics.median(values) for name, values in times.items()}
    ratio = rates["ours"] / rates["loose"]
    kind = "float32" if floats else "uint16"
    print(
        f"\n512x512 samples per CPU-second, {kind}: stream {rates['ours']:.0f}, loose PNG {rates['loose']:.1f}, ratio {ratio:.1f}"
    )
    assert ratio >= target
