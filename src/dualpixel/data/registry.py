"""The cards there are: those of `registry/`, and any YAML a user names by its path."""

from pathlib import Path

from dualpixel.data.card import Card, load_card
from dualpixel.paths import find, resource_names


def card_names() -> list[str]:
    """Return the names of all cards of the registry."""
    return sorted(resource_names("registry"))


def get_card(name: str | Path | Card) -> Card:
    """Return a card by name or path.

    Raises:
        DualPixelError: no such card, or not a valid one.
    """
    return name if isinstance(name, Card) else load_card(find("registry", name))
