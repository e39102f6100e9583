import pytest
import torch
from torch import nn

from dualpixel.blocks.correlation import Correlation, correlation
from dualpixel.blocks.sharp_region import SharpRegionPreservation
from dualpixel.evaluate.cost.operations import count_macs
from dualpixel.evaluate.sharp_regions.similarity_maps import SimilarityRecorder, over_image


class Preserving(nn.Module):
    """Two SRP blocks, the second at half the size, and a correlation that belongs to none."""

    multiple = 8

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fine, self.coarse = (SharpRegionPreservation(3, 3, 0, window=5) for _ in range(2))
        self.cost = Correlation(2)

    def forward(self, left, right):
        self.cost(left, right)
        self.coarse(left[..., ::2, ::2], right[..., ::2, ::2])
        return self.fine(left, right)[:, :3]


def pair(count=1, size=(16, 24)):
    return torch.rand(2, count, 3, *size, generator=torch.Generator().manual_seed(1))


def expected(block, old, new):
    features = torch.cat((old, new), 1)
    return correlation(block.query(features), block.key(features), 2).mean(1)


@torch.inference_mode()
def test_the_mean_similarity_of_every_block_is_recorded():
    net, (left, right) = Preserving(), pair(3)
    recorder = SimilarityRecorder(net)
    recorder.attach()
    net(left, right)
    for row in range(3):
        maps = recorder.maps(row, 16, 24)
        assert list(maps) == ["fine", "coarse"]
        torch.testing.assert_close(maps["fine"], expected(net.fine, left, right)[row])
        coarse = expected(net.coarse, left[..., ::2, ::2], right[..., ::2, ::2])[row]
        assert maps["coarse"].shape == (16, 24)
        assert maps["coarse"][0, 0] == pytest.approx(float(coarse[0, 0]), abs=1e-6)  # a corner is not mixed
        assert maps["coarse"].mean() == pytest.approx(float(coarse.mean()), abs=1e-5)


@torch.inference_mode()
def test_the_first_call_counts_until_the_recorder_is_attached_anew():
    net, (left, right) = Preserving(), pair()
    recorder = SimilarityRecorder(net)
    recorder.attach()
    net(left, right)
    first = recorder.maps(0, 16, 24)["fine"]
    net(right, left.flip(-1))
    assert torch.equal(recorder.maps(0, 16, 24)["fine"], first)
    recorder.attach()
    assert recorder.maps(0, 16, 24) == {}
    net(right, left.flip(-1))
    assert not torch.allclose(recorder.maps(0, 16, 24)["fine"], first)


def test_listening_leaves_no_hooks_behind_and_no_gradients():
    net, views = Preserving(), pair()
    recorder = SimilarityRecorder(net)
    recorder.attach()
    recorder.attach()
    assert sum(len(module._forward_hooks) for module in net.modules()) == 2
    net(*views)
    assert not any(one.requires_grad for one in recorder.maps(0, 16, 24).values())
    recorder.remove()
    assert not any(module._forward_hooks for module in net.modules())


def test_the_cost_is_counted_while_the_recorder_listens():
    class Called(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = Preserving()

        def forward(self, batch):
            return self.net(batch["left"], batch["right"])

    module, (left, right) = Called(), pair()
    batch = {"left": left, "right": right}
    plain = count_macs(module, batch)
    recorder = SimilarityRecorder(module.net)
    recorder.attach()
    assert plain > 0 and count_macs(module, batch) == plain
    assert recorder.maps(0, 16, 24) == {}  # a pass over shapes has no values


def test_a_network_without_the_blocks_has_no_maps():
    net = nn.Sequential(Correlation(1))
    recorder = SimilarityRecorder(net)
    recorder.attach()
    assert recorder.maps(0, 4, 4) == {}


def test_the_share_of_the_padding_is_cut_off():
    """A ramp over 16 x 24 of which the image is 11 x 20: at half the size, each place is the mean of two."""
    ramp = torch.arange(24.0).repeat(16, 1)
    half = torch.nn.functional.avg_pool2d(ramp[None], 2)[0]
    laid = over_image(half, (11, 20), (16, 24))
    assert laid.shape == (11, 20)
    torch.testing.assert_close(laid[:, 1:], ramp[:11, 1:20])
    assert torch.equal(over_image(ramp, (11, 20), (16, 24)), ramp[:11, :20])


@pytest.mark.parametrize("found", [(24, 36), (12, 18), (18, 24)])
def test_a_map_of_an_image_that_was_resized_covers_it_whole(found):
    ramp = torch.linspace(0, 1, found[1]).repeat(found[0], 1)
    laid = over_image(ramp, (20, 30), (20, 30))
    assert laid.shape == (20, 30)
    assert laid[0, 0] == pytest.approx(0, abs=0.01) and laid[-1, -1] == pytest.approx(1, abs=0.01)
    assert laid.mean() == pytest.approx(0.5, abs=1e-5)


def test_a_network_that_says_what_it_pads_to_is_asked():
    net, (left, right) = Preserving(), pair(size=(24, 32))
    net.padded_size = lambda height, width: (24, 32)
    recorder = SimilarityRecorder(net)
    recorder.attach()
    with torch.inference_mode():
        net(left, right)
        whole = expected(net.fine, left, right)[0]
    torch.testing.assert_close(recorder.maps(0, 10, 13)["fine"], whole[:10, :13])
    del net.padded_size  # multiples of 8 alone would be 16 x 16: the map is then taken for one of a resized image
    assert not torch.allclose(recorder.maps(0, 10, 13)["fine"], whole[:10, :13])
