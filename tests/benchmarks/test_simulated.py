"""What rendering while training costs: steps with views that are stored beside steps whose views are rendered, in one run."""

import pytest
import torch
from side_by_side import process_seconds

from dualpixel.data import DualPixelData
from dualpixel.data.prepare import prepare
from dualpixel.data.registry import get_card
from dualpixel.data.simulated import SimulatedViews
from dualpixel.nets import DPDNet
from dualpixel.optics import MODES, Sensor

pytestmark = pytest.mark.benchmark
STEPS = 4


def test_rate_of_training_with_rendered_views(tmp_path):
    root = prepare(get_card("quickstart"), out=tmp_path / "quickstart", processes=1)
    # the sizes of recipes/overlays/quickstart.yaml
    net = DPDNet(width=0.25, residual=True, dropout=0.0)
    optimizer = torch.optim.AdamW(net.parameters())

    def steps(optics):
        data = DualPixelData(
            "quickstart", root=root, batch_size=8, crop_size=96, crops="random", mirror=0.5, flip=0.5, num_workers=0,
            optics=optics,
        )  # fmt: skip
        data.require("fit", ["left", "right"], ["sharp"])

        def run():
            for _, stored in zip(range(STEPS), data.train_dataloader(), strict=False):
                batch = data.on_after_batch_transfer(stored, 0)
                loss = (net(torch.cat([batch["left"], batch["right"]], 1)) - batch["sharp"]).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

        return run

    sides = {"stored views": steps(None)} | {mode: steps(SimulatedViews(mode=mode)) for mode in MODES}
    sides["rect with noise"] = steps(SimulatedViews(sensor=Sensor(shot_noise=1e-4, read_noise=1e-3)))
    times = process_seconds(sides)
    rates = {name: times["stored views"] / seconds for name, seconds in times.items()}
    print("\n| 8 crops of 96x96, narrow DPDNet, one thread | CPU ms a step | rate beside stored views |\n|---|---|---|")
    for name, seconds in times.items():
        print(f"| {name} | {1000 * seconds / STEPS:.0f} | {rates[name]:.2f} |")
    assert rates["rect"] >= 0.8
