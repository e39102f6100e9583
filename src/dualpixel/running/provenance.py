"""What a run is made of: the code, the packages, the data, the size of a step. Noted beside its numbers, so that they can be had again."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from dualpixel import __version__
from dualpixel.data.datamodule import DualPixelData
from dualpixel.data.index import INDEX
from dualpixel.data.prepared import PreparedSet
from dualpixel.paths import PACKAGE

PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "numpy", "kornia", "webdataset", "wandb")
"""Those whose version may change a number or how it is logged."""


def describe_run(trainer: Trainer, recipe: LightningModule) -> dict[str, Any]:
    """Return what a run is made of, as plain values; its data must be set up.

    Returns:
        ``recipe``, ``parameters``, ``precision``, ``batch`` (see `describe_batch`), ``dataset`` (see `describe_data`), ``code`` (see
        `code_state`) and ``packages`` (name -> version).
    """
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in recipe.parameters()]
    data = trainer.datamodule
    return {
        "recipe": recipe.name,
        "parameters": {
            "all": sum(size for size, _ in sizes),
            "trained": sum(size for size, trained in sizes if trained),
        },
        "precision": str(trainer.precision),
        "batch": describe_batch(trainer),
        "dataset": describe_data(data) if isinstance(data, DualPixelData) else {},
        "code": code_state(),
        "packages": packages(),
    }


def describe_batch(trainer: Trainer) -> dict[str, int]:
    """Return how many samples one step of the optimizer sees, and what that comes from.

    Returns:
        ``effective`` = ``per_process`` x ``processes`` x ``accumulated``; ``nodes`` and ``devices`` (of a node) make the processes.
    """
    size = getattr(getattr(trainer.datamodule, "training", None), "batch_size", 1)
    accumulated = trainer.accumulate_grad_batches
    return {
        "effective": size * trainer.world_size * accumulated,
        "per_process": size,
        "processes": trainer.world_size,
        "nodes": trainer.num_nodes,
        "devices": trainer.num_devices,
        "accumulated": accumulated,
    }


def describe_data(data: DualPixelData) -> dict[str, Any]:
    """Return name and version of the data set and, of each split that is here, the number of scenes and the fingerprint.

    Of the sets that are mixed in, the same of their training splits, under ``mixed``. A split that is on a server and was not opened
    is not fetched for this.
    """
    names = list(dict.fromkeys(("train", "val", data.test_split)))
    main = {"name": data.main.card.name, "version": data.main.card.version, "splits": _splits(data.main, names)}
    mixed = {one.card.name: _splits(one, ["train"]) for one in data.sets[1:]}
    return main | ({"mixed": mixed} if mixed else {})


def _splits(one: PreparedSet, names: list[str]) -> dict[str, dict[str, Any]]:
    here = [name for name in names if one.is_open(name) or _is_local(one.root, name)]
    return {name: {"scenes": len(one.split(name).index.samples), "fingerprint": one.fingerprint(name)} for name in here}


def _is_local(root: Any, split: str) -> bool:
    return isinstance(root, Path) and (root / split / INDEX).is_file()


def code_state() -> dict[str, Any]:
    """Return the version of the package and, where it runs from a checkout, the commit and whether files differ from it.

    Returns:
        ``version``, ``commit`` (40 digits, None outside a checkout) and ``dirty`` (None there).
    """
    commit = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no") if commit else None
    return {"version": __version__, "commit": commit, "dirty": None if changed is None else bool(changed)}


def _git(*arguments: str) -> str | None:
    top = PACKAGE.parents[1]
    if not (top / ".git").exists():  # an installed package may lie inside somebody else's checkout
        return None
    command = ["git", "-C", str(top), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def packages() -> dict[str, str]:
    """Return the versions of Python and of `PACKAGES`."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
