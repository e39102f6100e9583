"""The command line: `python -m src COMMAND` in a checkout, `dualpixel COMMAND` where it is installed.

Only names and help texts live here, so that `--help` and the commands that read cards answer without importing torch.
"""

import re
import sys
import traceback

from dualpixel import __version__
from dualpixel.errors import DualPixelError
from dualpixel.hints import near

TRAINING = {
    "fit": "train a recipe",
    "validate": "score a checkpoint on the validation split",
    "test": "score a checkpoint on the test split and write result.json",
    "predict": "run a checkpoint over image files or a split: 16-bit PNG out, and maps of blur where it predicts any",
}
TOOLS = {
    "data": "list, show, prepare, index, verify, preview and compare data sets",
    "simulate": "render dual-pixel pairs from your own RGB-D photographs",
    "nimat": "eight views and an animation of one photograph, as if the camera moved (NIMAT)",
    "adapt": "fine-tune weights on your own dual-pixel photographs, without any truth",
    "convert": "turn an authors' weight file into ours",
    "profile": "parameters, multiply-accumulates, time and memory of a recipe",
    "protocols": "how scores are compared: every protocol in words, or a file of your own",
    "leaderboard": "rank results of runs with intervals, beside what papers print: Markdown, a page, W&B",
}


def main(arguments: list[str] | None = None) -> None:
    """Run one command.

    A `DualPixelError` becomes one short message and exit status 2; with ``--debug`` its traceback is shown.

    Args:
        arguments: as typed behind the program's name; by default those of this process.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        _run(arguments)
    except DualPixelError as error:
        if debug:
            traceback.print_exc()
        print(f"error: {_short(str(error))}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _run(arguments: list[str]) -> None:
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help"):
        print(overview())
    elif command in ("-V", "--version"):
        print(f"dualpixel {__version__}")
    elif command in TRAINING:
        from dualpixel.commands.training import run

        run(arguments)
    elif command == "data":
        from dualpixel.commands.data import run as run_data

        run_data(arguments[1:])
    elif command == "simulate":
        from dualpixel.commands.simulate import run as run_simulate

        run_simulate(arguments[1:])
    elif command == "nimat":
        from dualpixel.commands.nimat import run as run_nimat

        run_nimat(arguments[1:])
    elif command == "adapt":
        from dualpixel.commands.adapt import run as run_adapt

        run_adapt(arguments[1:])
    elif command == "convert":
        from dualpixel.commands.convert import run as run_convert

        run_convert(arguments[1:])
    elif command == "profile":
        from dualpixel.commands.profile import run as run_profile

        run_profile(arguments[1:])
    elif command == "protocols":
        from dualpixel.commands.protocols import run as run_protocols

        run_protocols(arguments[1:])
    elif command == "leaderboard":
        from dualpixel.commands.leaderboard import run as run_leaderboard

        run_leaderboard(arguments[1:])
    else:
        raise DualPixelError(f"unknown command {command!r}: {near(command, [*TRAINING, *TOOLS])}")


def overview() -> str:
    """Return the help text of the program."""
    lines = ["usage: dualpixel COMMAND ... [--debug]      (python -m src COMMAND ... in a checkout)", ""]
    for title, commands in (("training and evaluation", TRAINING), ("tools", TOOLS)):
        lines.append(f"{title}:")
        lines += [f"  {name:11} {text}" for name, text in commands.items()]
        lines.append("")
    lines += [
        "first steps:",
        "  dualpixel fit --config recipes/dpdnet.yaml --config recipes/overlays/quickstart.yaml",
        "  dualpixel data list",
        "  dualpixel COMMAND --help",
    ]
    return "\n".join(lines)


def _short(message: str) -> str:
    """Take our own lines out of what a worker process or another library wrapped round them."""
    found = re.findall(r"^dualpixel\.errors\.DualPixelError: (.*)", message, re.MULTILINE | re.DOTALL)
    return found[-1].strip() if found else message
