"""A narrow network trained on the small scenes, for the tests of this folder."""

import pytest
import yaml
from command_line import TOP

from dualpixel.cli import main

DPDNET = str(TOP / "recipes" / "dpdnet.yaml")


@pytest.fixture(scope="session")
def overlay(tmp_path_factory, small_card, small_shards):
    """A narrow network on the small scenes: seconds on a CPU."""
    path = tmp_path_factory.mktemp("overlay") / "small.yaml"
    content = {
        "model": {
            "init_args": {
                "net": {"init_args": {"width": 0.1, "residual": True}},
                "optimizer": {"init_args": {"lr": 1e-3}},
            }
        },
        "data": {
            "init_args": {"dataset": str(small_card), "root": str(small_shards), "batch_size": 4, "num_workers": 0}
        },
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "devices": 1, "log_every_n_steps": 1},
        "panels": {"every_n_validations": 1},
        "last": {"every_n_steps": 5},
    }
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, overlay):
    """The folder of a finished run."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        main(["fit", "--config", DPDNET, "--config", overlay, "--run.root", str(root), "--run.name", "small"])
    return root / "small"
