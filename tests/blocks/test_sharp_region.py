import pytest
import torch
from k3dn_parts import drawn, fill_part, published_shapes, stored
from torch import nn

from dualpixel.blocks.sharp_region import SharpRegionPreservation


def shapes_of_the_block(reference, channels, blocks):
    """The authors' names and shapes of one block, cut down from those of the largest network."""
    found = {}
    for key, shape in published_shapes(reference).items():
        name = key.removeprefix("srp.0.")
        part = name.split(".layers.")[-1].split(".")[0]
        if name != key and not (part.isdigit() and int(part) >= blocks):
            found[name] = [channels if size == 192 else size for size in shape]
    return found


def random_block(**options):
    torch.manual_seed(0)
    return SharpRegionPreservation(4, 2, 1, **options)


def views(height=7, width=9):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 2, height, width, generator=generator), torch.randn(2, 4, height, width, generator=generator)


def set_to(convolution, centre, bias):
    """Make a convolution take each pixel by itself."""
    with torch.no_grad():
        convolution.weight.zero_()
        convolution.weight[..., 1, 1] = centre
        convolution.bias.fill_(bias)


def test_similarity_and_result_are_those_of_the_authors_block(reference, fill):
    block = SharpRegionPreservation(6, 10, 2)
    fill_part(block, fill, shapes_of_the_block(reference, 16, 2), prefix="srp.0.", ours="srp.0.")
    old, new = drawn((2, 10, 11, 13), (2, 6, 11, 13))
    seen = []
    block.similarity.register_forward_hook(lambda module, given, result: seen.append(result))
    with torch.no_grad():
        result = block(old, new)
    expected = stored(reference)
    torch.testing.assert_close(seen[0], expected["srp/similarity"], rtol=0, atol=1e-5)
    torch.testing.assert_close(result, expected["srp/out"], rtol=0, atol=1e-5)


def test_the_similarity_alone_is_that_of_the_authors(reference):
    query, key = drawn((2, 5, 6, 7), (2, 5, 6, 7))
    found = SharpRegionPreservation(3, 2, 0).similarity(query, key)
    torch.testing.assert_close(found, stored(reference)["similar/out"], rtol=0, atol=1e-5)


def test_one_query_and_one_key_agree_in_one_place_of_the_window():
    query, key = torch.zeros(2, 1, 1, 6, 7)
    query[0, 0, 2, 3], key[0, 0, 1, 5] = 2, 3
    similarity = SharpRegionPreservation(1, 1, 0).similarity(query, key)
    assert similarity[0, 33, 2, 3] == 6  # one row up, two columns to the right: 9 * 3 + 6
    assert similarity.count_nonzero() == 1


@pytest.mark.parametrize("window", [1, 3, 5, 9])
def test_places_outside_of_the_image_count_as_zero(window):
    block = SharpRegionPreservation(4, 2, 0, window=window)
    set_to(block.query, 0, 1)
    set_to(block.key, 0, 1)
    set_to(block.value, 1, 0)  # the sum over the window: how many of its places lie inside
    for convolution in (block.out[0], block.out[-1]):
        set_to(convolution, torch.eye(6), 0)
    old, new = views()
    reach = window // 2
    inside = [
        torch.tensor([min(place, reach) + min(size - 1 - place, reach) + 1 for place in range(size)])
        for size in old.shape[2:]
    ]
    expected = torch.cat((old, new), 1) * (1 + torch.outer(*inside))
    with torch.no_grad():
        torch.testing.assert_close(block(old, new), expected, rtol=1e-5, atol=1e-5)


def test_what_was_before_comes_first_and_the_query_is_the_first_factor():
    block = random_block()
    old, new = views()
    seen = {}
    for name in ("query", "key", "similarity"):
        getattr(block, name).register_forward_hook(
            lambda module, given, result, n=name: seen.update({n: (given, result)})
        )
    block(old, new)
    features = torch.cat((old, new), 1)
    assert torch.equal(seen["query"][0][0], features) and torch.equal(seen["key"][0][0], features)
    assert seen["similarity"][0][0] is seen["query"][1] and seen["similarity"][0][1] is seen["key"][1]


@pytest.mark.parametrize("window", [1, 3, 7])
def test_any_odd_window_will_do(window):
    block = random_block(window=window)
    assert block.value.weight.shape == (6, window**2, 3, 3)
    assert block(*views()).shape == (2, 6, 7, 9)


def test_gradients_reach_every_weight_and_both_inputs():
    block = random_block()
    inputs = [view.requires_grad_() for view in views()]
    block(*inputs).square().sum().backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad.abs().max() > 0, name
    assert all(view.grad.abs().min() > 0 for view in inputs)


def test_it_begins_as_the_identity_where_asked_for_and_can_leave_it():
    block = random_block(identity=True)
    old, new = views()
    features = torch.cat((old, new), 1)
    result = block(old, new)
    assert torch.equal(result, features)
    assert (random_block()(old, new) - features).abs().max() > 1e-3
    optimizer = torch.optim.SGD(block.parameters(), lr=0.1)
    result.square().mean().backward()
    at_first = {name for name, parameter in block.named_parameters() if parameter.grad.abs().max() > 0}
    assert at_first == {"out.2.weight", "out.2.bias"}
    optimizer.step()
    optimizer.zero_grad()
    block(old, new).square().mean().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in block.parameters())


def test_the_residual_blocks_are_as_many_as_asked_for_and_have_no_biases():
    plain, more = (SharpRegionPreservation(4, 2, blocks) for blocks in (0, 3))
    assert len(plain.out[1]) == 0 and len(more.out[1]) == 3
    extra = sum(p.numel() for p in more.parameters()) - sum(p.numel() for p in plain.parameters())
    assert extra == 3 * 2 * 9 * 6**2
    assert isinstance(more.out[1], nn.Sequential) and more.out[1][0].negative_slope == 0.2


@pytest.mark.parametrize("window", [0, 8, -3])
def test_a_window_without_a_middle_is_refused(window):
    with pytest.raises(ValueError, match=f"window={window}: must be odd"):
        SharpRegionPreservation(4, 2, 1, window=window)


def test_features_in_the_wrong_order_or_of_two_sizes_are_refused():
    old, new = views()
    with pytest.raises(ValueError, match=r"old \(2, 4, 7, 9\) and new \(2, 2, 7, 9\): \(B, 2, H, W\) and \(B, 4"):
        random_block()(new, old)
    with pytest.raises(ValueError, match=r"new \(2, 4, 7, 8\)"):
        random_block()(old, new[..., :-1])
