"""A small recipe with diagnostics, and a training of it, by itself or in several processes: `python diagnosed.py FOLDER SCENES`."""

import json
import math
import sys
from pathlib import Path

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger
from torch import nn
from torch.utils.data import DataLoader

from dualpixel.data.samplers import EvaluationSampler
from dualpixel.recipes import Recipe
from dualpixel.running.diagnostics import Diagnostics


class Scenes(torch.utils.data.Dataset):
    """Two scenes a batch; each is as bright as its number, 0 ... 5."""

    def __getitem__(self, index):
        bright = torch.full((3, 8, 8), index / 10)
        return {"combined": bright, "sharp": bright, "index": index}


class Diagnosed(Recipe):
    """One convolution, whose bias and first batch are its diagnostics."""

    name = "diagnosed"
    inputs = ("combined",)

    def __init__(self, scenes=6, silent=False):
        torch.manual_seed(0)
        super().__init__(nn.Conv2d(3, 3, 1), optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1))
        self.scenes, self.silent = scenes, silent
        self.asked = []

    def forward(self, batch):
        return {"sharp": self.net(batch["combined"])}

    def loss_terms(self, batch, prediction):
        return {"mse": (prediction["sharp"] - batch["sharp"]).square().mean()}

    def diagnostics(self, batch, prediction):
        assert not torch.is_grad_enabled() and not self.training
        self.asked.append(batch["index"].tolist())
        if self.silent:
            return {}
        product = self.net.weight.flatten(1) @ self.net.weight.flatten(1)
        return {
            "precision": float(product.dtype.itemsize),  # autocast makes products in half precision
            "mean_output": prediction["sharp"].mean(),  # a tensor will do, too
            "bias/red": self.net.bias[0].item(),
            "bias/green": self.net.bias[1].item(),
            "undefined": math.nan,
        }

    def train_dataloader(self):
        return DataLoader(Scenes(), batch_size=2, sampler=[0, 1, 2, 3, 4, 5])

    def val_dataloader(self):
        sampler = EvaluationSampler(self.scenes, self.trainer.global_rank, self.trainer.world_size)
        return DataLoader(Scenes(), batch_size=2, sampler=sampler)

    test_dataloader = val_dataloader


class Heard(Logger):
    """Remembers what it was told."""

    name, version = "heard", 0

    def __init__(self):
        super().__init__()
        self.metrics, self.images, self.steps = [], [], {"metrics": [], "images": []}

    def log_metrics(self, metrics, step=None):
        self.metrics.append({name: value for name, value in metrics.items() if name.startswith("val/")})
        self.steps["metrics"] += [step] if self.metrics[-1] else []

    def log_hyperparams(self, *_, **__):
        pass

    def log_image(self, key, images, step=None):
        self.images.append((key, images))
        self.steps["images"].append(step)


def trainer_for(folder, callback, epochs=3, **options):
    return Trainer(
        default_root_dir=folder, max_epochs=epochs, accelerator="cpu", callbacks=[callback], use_distributed_sampler=False,
        enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1, num_sanity_val_steps=1,
        **{"logger": False, "devices": 1, **options},
    )  # fmt: skip


if __name__ == "__main__":
    folder, scenes = Path(sys.argv[1]), int(sys.argv[2])
    recipe, callback = Diagnosed(scenes), Diagnostics()
    trainer = trainer_for(folder, callback, devices=2, strategy="ddp")
    trainer.fit(recipe)
    logged = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    said = {"history": callback.history, "logged": logged, "asked": recipe.asked}
    (folder / f"process{trainer.global_rank}.json").write_text(json.dumps(said))
