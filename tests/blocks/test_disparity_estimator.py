import re

import pytest
import torch
from k3dn_parts import drawn, fill_part, published_shapes, stored
from torch import nn

from dualpixel.blocks.disparity_estimator import DisparityEstimator, SingleDisparityEstimator
from dualpixel.blocks.window_grid import WindowGrid

GRID = WindowGrid()
BOTH = [(DisparityEstimator, 2), (SingleDisparityEstimator, 1)]


def views(count, height=256, width=304):
    return [torch.rand(2, 3, height, width) - 0.5 for _ in range(count)]


def authors_names_of_single(estimator):
    names = {}
    for name, value in estimator.state_dict().items():
        name = re.sub(r"^features\.", "model.", name).replace(".norm.", ".bn.").replace("linear.", "fc.0.")
        names[name] = tuple(value.shape)
    return names


def test_styles_of_two_views_are_those_of_the_authors(reference, fill):
    shapes = published_shapes(reference)
    alone = {name.removeprefix("disp."): shape for name, shape in shapes.items() if name.startswith("disp.")}
    estimator = fill_part(DisparityEstimator(GRID), fill, alone, "disp.", "estimator.")
    with torch.no_grad():
        styles = estimator(*drawn((2, 3, 288, 336), (2, 3, 288, 336)))
    assert styles.shape == (12, 256)
    assert (styles - stored(reference)["disp/dp"]).abs().max() < 1e-5


def test_styles_of_one_image_are_those_of_the_authors(reference, fill):
    estimator = SingleDisparityEstimator(GRID)
    estimator = fill_part(estimator, fill, authors_names_of_single(estimator), "disp.", "estimator.")
    with torch.no_grad():
        styles = estimator(*drawn((2, 3, 288, 336)))
    assert styles.shape == (12, 256)
    assert (styles - stored(reference)["disp/single"]).abs().max() < 1e-5


@pytest.mark.parametrize(("make", "parameters"), [(DisparityEstimator, 788_320), (SingleDisparityEstimator, 918_816)])
def test_parameters_of_the_published_size(make, parameters):
    with torch.device("meta"):
        assert sum(one.numel() for one in make(GRID).parameters()) == parameters


@pytest.mark.parametrize(("make", "count"), BOTH)
def test_there_is_one_style_for_each_window(make, count):
    estimator = make(GRID, style_channels=5, width=0.1).eval()
    for size in ((256, 256), (256, 304), (480, 512), (264, 600)):
        rows, columns = GRID.shape(*size)
        with torch.no_grad():
            assert estimator(*views(count, *size)).shape == (2 * rows * columns, 5)


@pytest.mark.parametrize(("make", "count"), BOTH)
def test_a_change_within_a_window_changes_its_own_style_most(make, count):
    torch.manual_seed(0)
    estimator = make(GRID, width=0.25).eval()
    images = [torch.zeros(2, 3, 288, 336) for _ in range(count)]
    with torch.no_grad():
        before = estimator(*images)
        for window in range(12):
            changed = [image.clone() for image in images]
            for image in changed:
                patches = GRID.split(image, 2, 3)
                patches[window, :, 30:-30, 30:-30] = torch.randn(3, 84, 52)
                image.copy_(GRID.merge(patches, 2, 3))
            assert (estimator(*changed) - before).norm(dim=1).argmax() == window


def test_the_two_views_play_different_parts():
    torch.manual_seed(0)
    estimator = DisparityEstimator(GRID, width=0.25)
    left, right = views(2)
    with torch.no_grad():
        assert (estimator(left, right) - estimator(right, left)).abs().max() > 1e-2


def test_a_training_step_normalises_views_one_after_the_other_and_their_volume_once():
    estimator = DisparityEstimator(GRID, width=0.1)
    estimator(*views(2))
    seen = {
        kind: {int(one.num_batches_tracked) for one in estimator.modules() if isinstance(one, kind)}
        for kind in (nn.BatchNorm2d, nn.BatchNorm3d)
    }
    assert seen == {nn.BatchNorm2d: {2}, nn.BatchNorm3d: {1}}


@pytest.mark.parametrize(("make", "count"), BOTH)
def test_gradients_reach_every_parameter_and_are_the_same_again(make, count):
    torch.manual_seed(0)
    images = views(count)

    def gradients():
        torch.manual_seed(1)
        estimator = make(GRID, width=0.25)
        (estimator(*images) ** 2).mean().backward()
        return [one.grad for one in estimator.parameters()]

    first, second = gradients(), gradients()
    assert all(one.any() for one in first)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize(("make", "count"), BOTH)
def test_sizes_without_windows_are_refused_before_any_work(make, count):
    estimator = make(GRID, width=0.1)
    next(one for one in estimator.modules() if isinstance(one, nn.Conv2d)).register_forward_pre_hook(
        lambda *_: pytest.fail("worked in vain")
    )
    for size, next_size in {(512, 512): "528 x 512", (64, 512): "256 x 512"}.items():
        with pytest.raises(ValueError, match=f"{size[0]} x {size[1]} .* {next_size}"):
            estimator(*(torch.zeros(1, 3, *size) for _ in range(count)))


def test_views_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match="must have one shape"):
        DisparityEstimator(GRID, width=0.1)(torch.zeros(1, 3, 256, 256), torch.zeros(1, 3, 256, 272))
