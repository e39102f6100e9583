"""A result, made of what a test has measured."""

import math
from collections.abc import Mapping

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from dualpixel.data.stream import EvaluationSamples
from dualpixel.evaluate.cost.operations import count_parameters
from dualpixel.evaluate.forward_time import device_name
from dualpixel.evaluate.protocol import Protocol
from dualpixel.evaluate.result import SCHEMA, Result, code_version, now
from dualpixel.metrics.per_image import SEEN
from dualpixel.recipes.base import Recipe
from dualpixel.weights.files import weights_hash


def measured_result(
    trainer: Trainer,
    recipe: Recipe,
    protocol: Protocol,
    samples: EvaluationSamples,
    columns: Mapping[str, Tensor],
    means: Mapping[str, Mapping[str, float | None]],
    seconds: float | None,
    macs: tuple[int | None, list[int] | None],
    views_from: dict[str, str] | None,
) -> Result:
    """Return the result of a test.

    Args:
        trainer: of the test.
        recipe: that was tested.
        protocol: by which.
        samples: on what.
        columns: as `dualpixel.metrics.per_image.PerImageScores.compute` returns them, scores alone.
        means: of them, as `dualpixel.metrics.per_image.summarise` returns them.
        seconds: of one image.
        macs: multiply-accumulates, and the (height, width) for which they were counted.
        views_from: see `Result`.
    """
    split = trainer.datamodule.test_split
    index = trainer.datamodule.split(split).index
    rows = [
        {"key": samples.key(row), "group": samples.group(row)}
        | {name: _plain(float(column[row])) for name, column in columns.items() if name != SEEN}
        for row in range(len(samples))
        if columns[SEEN][row]
    ]
    about = recipe.weights_metadata()
    return Result(
        schema=SCHEMA,
        recipe=about["recipe"],
        options=dict(getattr(recipe.net, "options", {})),
        weights_sha256=weights_hash(recipe.net.state_dict()),
        weights_source=str(trainer.ckpt_path or recipe.init_from or ""),
        dataset=index.dataset,
        dataset_version=index.version,
        split=split,
        fingerprint=trainer.datamodule.fingerprint(split),
        complete=bool(columns[SEEN].all()) and bool(index.preparation.get("complete")),
        protocol=protocol.id,
        protocol_description=protocol.description,
        protocol_settings=protocol.settings,
        rows=rows,
        means={group: {name: _plain(value) for name, value in values.items()} for group, values in means.items()},
        parameters=count_parameters(recipe.net),
        macs=macs[0],
        macs_size=macs[1],
        code=code_version(),
        made=now(),
        environment={
            "torch": torch.__version__,
            "device": str(recipe.device),
            "device_name": device_name(recipe.device),
            "threads": torch.get_num_threads(),
            "precision": str(trainer.precision),
        },
        views_from=views_from,
        seconds=seconds,
        net=about["net"],
    )


def _plain(value: float | None) -> float | None | str:
    """JSON knows neither NaN nor infinity."""
    if value is None or math.isnan(value):
        return None
    return "inf" if math.isinf(value) else value
