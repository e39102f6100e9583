"""Data sets: cards, readers, preparation into shards, and the stream of batches.

Imports on first use, so that the commands that only read cards need no torch.
"""

from typing import Any

__all__ = ["Card", "DualPixelData", "get_card"]


def __getattr__(name: str) -> Any:
    """Import the public names late."""
    if name == "DualPixelData":
        from dualpixel.data.datamodule import DualPixelData

        return DualPixelData
    if name == "Card":
        from dualpixel.data.card import Card

        return Card
    if name == "get_card":
        from dualpixel.data.registry import get_card

        return get_card
    raise AttributeError(f"module 'dualpixel.data' has no attribute {name!r}")
