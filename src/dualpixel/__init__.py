"""Dual-pixel defocus deblurring: papers as Lightning recipes of shared blocks, data sets as cards, comparable scores.

The way of the data, room by room: ``data`` (card, shards, stream), ``nets`` (made of ``blocks``), ``weights``, ``recipes``
(losses, training step), ``metrics``, ``running`` (run folder, panels, loggers), ``evaluate`` (protocol, result file),
``commands``. ``optics`` and ``blocks`` import nobody.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["DualPixelError", "__version__", "data", "load", "metrics", "optics"]

if __name__ != "dualpixel":
    raise ImportError(
        f"import this package as 'dualpixel', not as {__name__!r}: a second copy of every class would be made"
    )

from dualpixel.errors import DualPixelError


def __getattr__(name: str) -> Any:
    """Import on first use: `data list` and `--help` must not wait for torch."""
    if name == "load":
        from dualpixel.recipes.loading import load

        return load
    if name in ("blocks", "data", "evaluate", "metrics", "nets", "optics", "recipes", "weights"):
        return import_module(f"dualpixel.{name}")
    raise AttributeError(f"module 'dualpixel' has no attribute {name!r}")
