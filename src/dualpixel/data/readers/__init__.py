"""Readers of raw layouts, by name. A card can only name a reader that is registered here; it can never make one be imported."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from dualpixel.data.card import Card
from dualpixel.data.readers.base import Reader, Scene
from dualpixel.errors import DualPixelError
from dualpixel.hints import near

__all__ = ["Reader", "Scene", "get_reader", "register"]

BUILT_IN = {
    "ddd_syn": "dualpixel.data.readers.ddd_syn:DddSynReader",
    "dldp": "dualpixel.data.readers.dldp:DldpReader",
    "dp5k": "dualpixel.data.readers.dp5k:Dp5kReader",
    "folders": "dualpixel.data.readers.folders:FoldersReader",
    "google_dp_depth": "dualpixel.data.readers.google_dp_depth:GoogleDpDepthReader",
    "quickstart": "dualpixel.data.readers.quickstart:QuickstartReader",
    "rdpd": "dualpixel.data.readers.rdpd:RdpdReader",
    "rgbd": "dualpixel.data.readers.rgbd:RgbdReader",
    "unavailable": "dualpixel.data.readers.unavailable:UnavailableReader",
    "xin_pixel4": "dualpixel.data.readers.xin_pixel4:XinPixel4Reader",
}
_registered: dict[str, type[Reader]] = {}


def register(name: str) -> Callable[[type[Reader]], type[Reader]]:
    """Register a reader class of your own: ``@register("my_layout")`` in a file given as ``data prepare --plugin FILE``."""

    def note(reader: type[Reader]) -> type[Reader]:
        if name in BUILT_IN:
            raise DualPixelError(f"the reader name {name!r} is taken by {BUILT_IN[name]}")
        _registered[name] = reader
        return reader

    return note


def get_reader(card: Card, source: Path | None = None) -> Reader:
    """Make the reader a card asks for.

    Raises:
        DualPixelError: no reader of that name.
    """
    name = card.reader.name
    if name in _registered:
        return _registered[name](card, source)
    if name not in BUILT_IN:
        raise DualPixelError(f"card {card.name}: no reader {name!r}; {near(name, [*BUILT_IN, *_registered])}")
    module, _, attribute = BUILT_IN[name].partition(":")
    return getattr(import_module(module), attribute)(card, source)
