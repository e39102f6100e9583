"""Run commands as a user does, in this process or in one of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

from dualpixel.cli import main

TOP = Path(__file__).resolve().parents[1]


def run_module(*arguments, folder=TOP, **options):
    return subprocess.run(
        [sys.executable, "-m", "src", *arguments], cwd=folder, capture_output=True, text=True, timeout=120, **options
    )


def refused(capsys, *arguments):
    """Run a command that must end with status 2 and one short message; return the message."""
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert "Traceback" not in said
    message = said[said.index("error: ") :].strip()
    assert len(message.splitlines()) <= 2, message
    return message
