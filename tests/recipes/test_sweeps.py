"""Every YAML in recipes/sweeps/ is a sweep of Weights & Biases over options that the program takes."""

import itertools
import math

import pytest
import yaml
from command_line import TOP
from recipe_files import FILES, model_of
from wandb.apis.public.sweeps import _validate_config_and_fill_distribution
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from dualpixel.commands.training import DualPixelCLI, run
from dualpixel.evaluate.columns import check_monitor, column_names
from dualpixel.evaluate.scores import VALIDATION
from dualpixel.recipes.outputs import trained_outputs

SWEEPS = {name: yaml.safe_load(path.read_text()) for name, path in FILES.items() if name.startswith("sweeps/")}
KEYS = {"program", "method", "metric", "early_terminate", "command", "parameters", "run_cap", "name", "description"}
DISTRIBUTIONS = {"uniform", "int_uniform", "q_uniform", "log_uniform_values", "q_log_uniform_values", "normal"}
"""Those that Weights & Biases documents and that need ``min`` and ``max`` alone."""


def ends(parameter):
    """All values of a parameter, or the ends of its range and what lies in the middle."""
    if "min" in parameter:
        return [parameter["min"], parameter["max"], math.sqrt(parameter["min"] * parameter["max"])]
    return parameter.get("values", [parameter.get("value")])


def commands(sweep):
    """The argument lists that an agent makes of a sweep: with each value of each parameter once, the others' first."""
    names, values = list(sweep["parameters"]), [ends(one) for one in sweep["parameters"].values()]
    for chosen in itertools.zip_longest(*values):
        arguments = {
            name: {"value": listed[0] if value is None else value}
            for name, value, listed in zip(names, chosen, values, strict=True)
        }
        made = create_sweep_command_args({"args": arguments})
        words = create_sweep_command(list(sweep["command"]))
        yield [part for word in words for part in (made["args"] if word == "${args}" else [word])]


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_is_one_of_weights_and_biases(name):
    sweep = SWEEPS[name]
    filled = _validate_config_and_fill_distribution(sweep)
    assert set(sweep) <= KEYS and {"program", "method", "metric", "command", "parameters"} <= set(sweep)
    assert sweep["method"] in ("grid", "random", "bayes") and (TOP / sweep["program"]).is_file()
    assert set(sweep["metric"]) == {"name", "goal"} and sweep["metric"]["goal"] in ("maximize", "minimize")
    stop = sweep["early_terminate"]
    assert stop["type"] == "hyperband" and isinstance(stop["min_iter"], int) and stop["eta"] >= 2
    for parameter in filled["parameters"].values():
        kinds = [
            set(parameter) == {"values"},
            set(parameter) == {"value"},
            set(parameter) == {"distribution", "min", "max"},
        ]
        assert sum(kinds) == 1
        if "min" in parameter:
            assert parameter["distribution"] in DISTRIBUTIONS and 0 < parameter["min"] < parameter["max"]
            assert sweep["method"] != "grid"  # which has no values to go through
        elif "values" in parameter:
            assert len(parameter["values"]) == len({str(one) for one in parameter["values"]}) > 1


@pytest.fixture
def parsed(monkeypatch):
    """The settings that the program's own parser makes of a command; nothing is made of them, and nothing runs."""
    made = []
    monkeypatch.setattr(DualPixelCLI, "before_instantiate_classes", lambda cli: made.append(cli.config.fit.as_dict()))
    for step in ("instantiate_classes", "_run_subcommand"):
        monkeypatch.setattr(DualPixelCLI, step, lambda *arguments: None)

    def parse(words):
        run(words)
        return made[-1]

    monkeypatch.chdir(TOP)
    return parse


@pytest.mark.parametrize("name", SWEEPS)
def test_every_value_of_a_sweep_is_taken_by_the_program(name, parsed):
    parameters = SWEEPS[name]["parameters"]
    tried = {option: [] for option in parameters}
    for words in commands(SWEEPS[name]):
        assert words[:5] == ["${env}", "${interpreter}", "-m", "src", "fit"]
        settings = parsed(words[4:])
        for option in parameters:
            section, *path = option.split(".")
            found = settings[section]["init_args"]
            for key in path:
                found = found[key]
            tried[option].append(list(found) if isinstance(found, tuple) else found)
    for option, parameter in parameters.items():
        assert all(value in tried[option] for value in ends(parameter)), option


@pytest.mark.parametrize("name", SWEEPS)
def test_the_metric_of_a_sweep_is_one_that_its_recipe_logs(name):
    metric = SWEEPS[name]["metric"]["name"]
    command = SWEEPS[name]["command"]
    recipe = command[command.index("--config") + 1].removeprefix("recipes/").removesuffix(".yaml")
    outputs = trained_outputs(model_of(recipe))
    check_monitor(metric, outputs, VALIDATION)
    assert metric.removeprefix("val/") in column_names(outputs, VALIDATION, True)


def test_there_are_sweeps_over_three_networks():
    assert len(SWEEPS) >= 3 and len({sweep["command"][6] for sweep in SWEEPS.values()}) >= 3
