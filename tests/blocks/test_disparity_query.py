import pytest
import torch
from k3dn_parts import drawn, fill_part, stored

from dualpixel.blocks.disparity_query import DisparityQuery

PUBLISHED = {
    "to_w": (1, 16, 1, 9, 5),
    "to_r.weight": (16, 256),
    "to_r.bias": (16,),
    "out.weight": (256, 16),
    "out.bias": (256,),
}


def mirrored(left):
    return torch.cat((left, left[..., :4].flip(-1)), dim=-1)


def test_the_refined_style_is_that_of_the_authors(fill, reference):
    query = fill_part(DisparityQuery(16), fill, PUBLISHED, "deblur.0.inter.", "psf.0.query.")
    style, left = drawn((3, 256), (1, 16, 1, 9, 5))
    with torch.no_grad():
        refined = query(style, mirrored(left[0]))
    assert (refined - stored(reference)["inter/out"]).abs().max() < 1e-5


def test_the_query_begins_without_effect_and_learns():
    torch.manual_seed(0)
    query = DisparityQuery(192)
    style, kernels = torch.randn(3, 256), torch.randn(192, 1, 9, 9)
    refined = query(style, kernels)
    assert torch.equal(refined, style)
    assert not query.kernel_weight.any()
    for linear in (query.to_kernels, query.to_style):
        assert linear.weight.std().item() == pytest.approx(0.001, rel=0.02)
        assert not linear.bias.any()
    refined.square().sum().backward()
    assert query.kernel_weight.grad.any()


def test_each_kernel_gives_one_number_from_its_left_half():
    query = DisparityQuery(2, 3, size=3)
    kernels = torch.arange(18.0).view(2, 1, 3, 3)
    with torch.no_grad():
        query.kernel_weight[0, 1, 0] = 2
        query.kernel_weight[1, 2, 1] = 3
        query.kernel_weight[1, 0, 0] = 1
    assert query.embed(kernels).tolist() == [2 * 3, 3 * 16 + 9]


def test_the_style_is_compared_and_added():
    torch.manual_seed(0)
    query = DisparityQuery(3, 4).double()
    for one in query.parameters():
        torch.nn.init.normal_(one)
    style, kernels = torch.randn(5, 4).double(), torch.randn(3, 1, 9, 9).double()
    compared = (style @ query.to_kernels.weight.T + query.to_kernels.bias) * query.embed(kernels)
    answer = compared @ query.to_style.weight.T + query.to_style.bias
    expected = style + torch.where(answer > 0, answer, 0.2 * answer)
    torch.testing.assert_close(query(style, kernels), expected, rtol=0, atol=1e-12)


def test_caching_changes_nothing_and_is_not_written():
    query = DisparityQuery(3, 4)
    for one in query.parameters():
        torch.nn.init.normal_(one)
    style, kernels, others = torch.randn(5, 4), torch.randn(3, 1, 9, 9), torch.randn(3, 1, 9, 9)
    before, of_others, names = query(style, kernels), query(style, others), list(query.state_dict())
    assert not query.cached
    query.cache(kernels)
    assert query.cached
    assert list(query.state_dict()) == names
    assert torch.equal(query(style, others), before)
    query.cache(others)
    assert torch.equal(query(style, kernels), of_others)


def test_half_precision_stays_half_precision():
    query = DisparityQuery(3, 4).bfloat16()
    assert query(torch.rand(2, 4, dtype=torch.bfloat16), torch.rand(3, 1, 9, 9)).dtype == torch.bfloat16


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="size=4"):
        DisparityQuery(3, size=4)
    with pytest.raises(ValueError, match=r"kernels \(3, 1, 9, 5\): \(3, 1, 9, 9\) is needed"):
        DisparityQuery(3)(torch.rand(2, 256), torch.rand(3, 1, 9, 5))
