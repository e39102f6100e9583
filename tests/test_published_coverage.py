"""docs/published.md names every table, metric, protocol and ablation, and nothing that is not there."""

import inspect
import re
import shlex
from collections import Counter

import pytest
from command_line import TOP

from dualpixel import DualPixelError, nets, recipes
from dualpixel.cli import TOOLS, TRAINING
from dualpixel.commands.adapt import adapt
from dualpixel.commands.configurations import CLASSES, check_settings, resolve_names
from dualpixel.commands.nimat import nimat
from dualpixel.data import DualPixelData
from dualpixel.data.registry import card_names
from dualpixel.evaluate.columns import COLUMNS, IMAGE_METRICS
from dualpixel.evaluate.printed_tables import PAPERS
from dualpixel.evaluate.protocols import PROTOCOLS, get_protocol
from dualpixel.evaluate.published import published_rows
from dualpixel.paths import resource_names
from dualpixel.recipes import Recipe
from dualpixel.recipes.configuration import check_arguments, find_class

TEXT = (TOP / "docs" / "published.md").read_text()
SPANS = re.findall(r"`([^`\n]+)`", TEXT)
COMMANDS = [one for one in SPANS if one.split()[0] in (*TRAINING, *TOOLS) and " " in one]
OPTIONS = [one for one in SPANS if one.startswith("--")]
SECTIONS = {re.search(r"\(`(\w+)`\)", part)[1]: part for part in TEXT.split("\n## ") if re.match(r"\w+ \(`", part)}
ABLATIONS = [name for name in resource_names("recipes") if name.startswith("ablations/")]
NETWORKS = [one for one in vars(nets).values() if inspect.isclass(one)]
RECIPES = [one for one in vars(recipes).values() if inspect.isclass(one) and issubclass(one, Recipe)]


def lines_of(text, columns):
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    return [line for line in cells if len(line) == columns and not line[0].startswith("---")]


PRINTED = [line for line in lines_of(TEXT, 5) if re.match(r"\w+, \w+, \w+", line[0]) and line[1] != "row"]


def label(table):
    return table if table.startswith("section") else f"table {table}"


def test_every_published_table_is_named_with_the_number_of_its_rows():
    assert set(SECTIONS) == set(PAPERS)
    for paper, text in SECTIONS.items():
        named = {line[0]: line[1].strip("| ") for line in lines_of(text, 4)}
        rows = Counter(label(row.table.table) for row in published_rows(paper=paper))
        assert {name: int(count) for name, count in named.items() if count.isdigit()} == rows
        assert not [name for name, count in named.items() if name.startswith("table") and not count.isdigit()]


def test_every_column_that_a_table_prints_stands_in_its_line():
    for row in published_rows():
        (line,) = [one for one in lines_of(SECTIONS[row.paper], 4) if one[0] == label(row.table.table)]
        said = " ".join(line[2:])
        for column in row.table.columns:
            shared = "the same" in said or "`coarse_abs_rel` to" in said or "`abs_rel` to" in said
            assert shared or f"`{column}`" in said, (row.citation, column)


def test_every_metric_and_every_protocol_is_named():
    metrics, protocols = (TEXT.split(f"\n## {name}\n")[1].split("\n## ")[0] for name in ("Metrics", "Protocols"))
    first = [cell for line in lines_of(metrics, 3) for cell in re.findall(r"`(\w+)`", line[0])]
    assert Counter(first) == Counter(COLUMNS)
    assert {line[0].strip("`") for line in lines_of(protocols, 3)} == {"protocol", *PROTOCOLS}


def test_a_protocol_of_a_row_measures_what_the_row_prints():
    missing = {
        (row.paper, name)
        for row in published_rows()
        for name in row.table.columns
        if row.protocol and name in IMAGE_METRICS and name not in get_protocol(row.protocol).metrics
    }
    assert missing == ({("k3dn", "rmse_relative")} if "leave it out" in TEXT else set())


def test_every_ablation_is_named():
    assert len(ABLATIONS) > 30
    assert [name for name in ABLATIONS if f"`recipes/{name}.yaml`" not in TEXT] == []


@pytest.mark.parametrize("line", PRINTED, ids=lambda line: f"{line[0]}, {line[1]}, {line[2]}")
def test_an_overlay_stands_beside_its_row_with_the_digits_that_both_have(line):
    (paper, table, dataset), digits = line[0].split(", "), line[2].split(", ")
    (row,) = [one for one in published_rows(dataset, paper) if (one.table.table, one.method) == (table, line[1])]
    prefix = "views_" if digits[2:] == ["views"] else ""
    assert [row.scores["overall"][prefix + name].text for name in ("psnr", "ssim")] == digits[:2]
    bases = re.findall(r"`(recipes/\w+\.yaml)`", line[3])
    for overlay in re.findall(r"`(recipes/ablations/[\w/]+\.yaml)`", line[4]):
        comment = (TOP / overlay).read_text()
        assert f"{digits[0]} dB, SSIM {digits[1]}" in comment
        for base in bases:
            assert f"--config {base} --config " in comment and f"--config {overlay}" in comment
            check_settings(["fit", "--config", str(TOP / base), "--config", str(TOP / overlay)])


def test_every_row_of_a_table_of_ablations_has_an_overlay_or_is_a_recipe():
    own = {
        "DPANet",
        "DDDNet of DDD-syn",
        "DDDNet of DDD-syn, tuned on DPDD",
        "DDDNet of DDD-syn, tuned on half of DPDD",
    }
    rows = {(row.paper, row.table.table, row.method) for row in published_rows() if row.table.ablation}
    named = {(*line[0].split(", ")[:2], line[1]) for line in PRINTED}
    assert {row for row in rows - named if row[2] not in own} == {
        ("dddnet", "section 5.2, text", "DDDNet")
    }  # table 1's


def test_files_and_modules_that_are_named_are_there():
    files = [one for one in SPANS if re.fullmatch(r"(recipes|registry|src|docs)/[\w/.]+", one)]
    links = re.findall(r"\]\(([\w.]+)\)", TEXT)
    assert len(files) > 60 and links
    assert [one for one in files if not (TOP / one).exists()] == []
    assert [one for one in links if not (TOP / "docs" / one).exists()] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_exist_and_their_settings_are_known(command, monkeypatch):
    monkeypatch.chdir(TOP)
    words = shlex.split(command)
    given = {word.removeprefix("--") for word in words if word.startswith("--")}
    if words[0] in TRAINING:
        plain = {"--inspect": "--inspect.enabled", "--write": "--predictions.write", "--protocol": "--scores.protocol"}
        check_settings(resolve_names([plain.get(word, word) for word in words]))
        assert "--data.dataset" not in words or words[words.index("--data.dataset") + 1] in card_names()
        assert "--protocol" not in words or words[words.index("--protocol") + 1] in PROTOCOLS
    elif words[0] == "profile":
        assert (TOP / words[words.index("--config") + 1]).is_file() and given <= {"config", "size", "time"}
    elif words[0] == "leaderboard":
        assert given <= {"out", "against", "wandb", "publish", "thumbnails"}
    else:
        assert given <= set(inspect.signature({"adapt": adapt, "nimat": nimat}[words[0]]).parameters)


@pytest.mark.parametrize("option", OPTIONS)
def test_options_exist(option):
    for word in (one for one in shlex.split(option) if one.startswith("--")):
        section, *names = word.removeprefix("--").split(".")
        if section == "model":
            kinds = NETWORKS if names[0] == "net" else RECIPES
        else:
            kinds = [DualPixelData if section == "data" else find_class(CLASSES[section], option)]
        assert any(takes(kind, names[-1]) for kind in kinds), word


def takes(kind, name):
    try:
        check_arguments(kind, {name: None}, "")
    except DualPixelError:
        return False
    return True
