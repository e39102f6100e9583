import numpy as np
import pytest
import torch

from dualpixel.data.images import write_png
from dualpixel.errors import DualPixelError
from dualpixel.evaluate.protocols import get_protocol
from dualpixel.evaluate.sharp_regions.in_focus import InFocusRegions

WHOLE, HALVED = get_protocol("dpdnet-16bit"), get_protocol("dpanet-half")


@pytest.mark.parametrize(
    ("masks", "fields", "protocol", "found"),
    [
        (True, ("sharp", "blur"), WHOLE, "masks"),
        (False, ("sharp", "blur"), WHOLE, "blur"),
        (False, ("sharp", "blur"), get_protocol("k3dn-1152x1792"), "blur"),  # outputs come back to the size of the blur
        (False, ("sharp", "blur"), HALVED, "target"),  # a halved batch has no blur
        (False, ("sharp",), WHOLE, "target"),
    ],
)
def test_the_first_source_that_is_there_is_taken(tmp_path, masks, fields, protocol, found):
    regions = InFocusRegions(masks=tmp_path if masks else None)
    assert regions.choose(fields, protocol) == found


def test_the_source_that_was_asked_for_is_taken_or_refused(tmp_path):
    assert InFocusRegions("target").choose(("sharp", "blur"), WHOLE) == "target"
    assert InFocusRegions("blur").choose(("sharp", "blur"), WHOLE) == "blur"
    assert InFocusRegions("masks", tmp_path).choose(("sharp", "blur"), WHOLE) == "masks"
    with pytest.raises(DualPixelError, match="dpdnet-16bit is for data without blur; choose target"):
        InFocusRegions("blur").choose(("sharp",), WHOLE)
    with pytest.raises(DualPixelError, match="dpanet-half halves images and leaves the blur out"):
        InFocusRegions("blur").choose(("sharp", "blur"), HALVED)
    with pytest.raises(DualPixelError, match="source masks, but masks are not given"):
        InFocusRegions("masks")
    with pytest.raises(DualPixelError, match="source blur, but masks are given"):
        InFocusRegions("blur", tmp_path)


def test_the_regions_of_a_batch_come_from_the_source(tmp_path):
    target = torch.rand(2, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    blurry = target.clone()
    blurry[1] = 0.5
    blur = torch.tensor([3.0, -0.25]).view(2, 1, 1, 1).expand(2, 1, 20, 30)
    for key, height in (("first", 5), ("second", 15)):
        mask = np.zeros((20, 30, 3), np.uint8)
        mask[:height] = 1
        write_png(tmp_path / f"{key}.png", mask)
    batch, regions = {"sharp": target, "blur": blur, "key": ["first", "second"]}, InFocusRegions(masks=tmp_path)
    shares = {
        name: regions.find(name, batch, blurry).float().mean((1, 2)).tolist() for name in ("target", "blur", "masks")
    }
    assert shares == {"target": [1, 0], "blur": [0, 1], "masks": [0.25, 0.75]}


def test_masks_are_described_by_what_is_in_them(tmp_path):
    folder = tmp_path / "labels"
    folder.mkdir()
    regions, said = InFocusRegions(masks=folder), []
    for value in (0, 0, 1):
        for key in ("first", "second"):
            write_png(folder / f"{key}.png", np.full((4, 6, 3), value, np.uint8))
        said.append(regions.describe("masks", ["first", "second"]))
    assert said[0] == said[1] and said[0][0] != said[2][0] and said[2][1] == "masks of labels"
    with pytest.raises(DualPixelError, match="1 of 3 masks are missing, the first third.png"):
        regions.describe("masks", ["first", "second", "third"])


def test_the_other_sources_are_described_by_their_limits():
    regions = InFocusRegions()
    assert regions.describe("blur", []) == ({"source": "blur", "largest_radius": 0.5}, "blur radius of at most 0.5 px")
    numbers, words = regions.describe("target", [])
    assert numbers == {"source": "target", "window": 15, "agreement": 0.1, "texture": 0.02}
    assert words == "textured, and input agrees with target to 10 % in 15 x 15 pixels"
