import torch

from dualpixel.evaluate.cost.profile import as_json, profile
from dualpixel.evaluate.cost.profile_grids import grids, markdown
from dualpixel.nets import DPDNet
from dualpixel.recipes import DPDNetRecipe


def test_markdown_has_the_published_figures_beside_ours():
    with torch.device("meta"):
        found = profile(DPDNetRecipe(DPDNet()), [(16, 16), (32, 16)])
    written = markdown(found, grids(found))
    assert (
        "| operations | 3150 G | FLOPs, images of 1120x1680 | 3,148.60 G | 1120x1680 | -0.04 % | to 3 digits |"
        in written
    )
    assert "\n|  | 16x16 | 32x16 | meaning |\n|---|---:|---:|---|\n" in written
    assert "\n| multiply-accumulates | 0.214190336 G | 0.428380672 G |" in written
    assert written.endswith("(if cut).\n")
    content = as_json(found, configurations=["one.yaml"])
    assert list(content)[:2] == ["configurations", "recipe"] and content["sizes"][1]["macs"] == 428_380_672


def test_names_cannot_mean_anything_in_markdown():
    class Named(DPDNetRecipe):
        name = "a|b`<img src=x>\x1b[31m\n# c"

    with torch.device("meta"):
        net = DPDNet(width=0.05)
        net.add_module("<i>|", torch.nn.Linear(2, 2))
        found = profile(Named(net), [(16, 16)], depth=1)
    written = markdown(found, grids(found))
    assert "<" not in written.replace("\\<", "") and "\x1b" not in written and "\n# c" not in written
    assert "\n| \\<i\\>\\| | 6 |" in written
