"""Data flows one way through the rooms; an import backwards means that a contract is wrong."""

import ast
from pathlib import Path

import pytest

import dualpixel

PACKAGE = Path(dualpixel.__file__).parent
HOUSE = ("errors", "files", "hints", "paths", "terminal")
ORDER = (
    "blocks",
    "optics",
    "data",
    "nets",
    "weights",
    "losses",
    "recipes",
    "metrics",
    "running",
    "evaluate",
    "commands",
)
NOBODY = ("blocks", "optics")
"""Rooms that anybody may take elsewhere: they import nothing of dualpixel but themselves."""


def imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "dualpixel" and len(parts) > 1:
                yield parts[1]


@pytest.mark.parametrize("room", ORDER)
def test_a_room_imports_only_from_rooms_before_it(room):
    files = sorted((PACKAGE / room).rglob("*.py"))
    assert files
    allowed = {room} if room in NOBODY else {*HOUSE, *ORDER[: ORDER.index(room) + 1]}
    for path in files:
        wrong = set(imported_rooms(path)) - allowed
        assert not wrong, f"{path.relative_to(PACKAGE)} imports {wrong}"


def test_every_module_belongs_to_a_room():
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert rooms == set(ORDER)


@pytest.mark.parametrize("room", ["blocks", "optics", "nets"])
def test_networks_and_optics_know_no_lightning(room):
    for path in (PACKAGE / room).rglob("*.py"):
        assert "lightning" not in path.read_text().lower(), path
