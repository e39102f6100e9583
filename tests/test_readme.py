"""What the README tells a user to type is what the checks run, and what the program knows."""

import re
import shlex

import pytest
from command_line import TOP

from dualpixel.cli import TOOLS, TRAINING
from dualpixel.commands.configurations import check_settings, resolve_names
from dualpixel.data.registry import card_names

README = (TOP / "README.md").read_text()
LINES = [line for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) for line in block.splitlines() if line]
COMMANDS = [line.split("#")[0].partition("-m src ")[2].strip() for line in LINES if "-m src " in line]


def test_the_checks_run_the_commands_of_the_readme():
    checks = (TOP / ".ci" / "run").read_text().splitlines()
    assert "pytest" in LINES and "pytest" in checks
    assert "pip install -e '.[dev]'" in LINES
    assert any(line.replace("-q ", "") == "pip install -e '.[dev]'" for line in checks)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_readme_exist_and_their_settings_are_known(command, monkeypatch):
    monkeypatch.chdir(TOP)
    words = shlex.split(command)
    assert words[0] in (*TRAINING, *TOOLS)
    if words[0] in TRAINING:
        check_settings(resolve_names(words))
    if words[0] == "data":
        assert words[2] in card_names()


def test_every_recipe_and_file_that_is_named_is_there():
    for name in re.findall(r"`((?:recipes|registry|docs)/[\w/.]+)`|\]\((docs/[\w.]+)\)", README):
        assert (TOP / next(filter(None, name))).exists(), name
    for recipe in (TOP / "recipes").glob("*.yaml"):
        assert f"| `{recipe.stem}` |" in README
