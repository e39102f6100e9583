import subprocess
import sys

import pytest

from dualpixel import metrics


def test_naming_the_room_imports_no_torch():
    code = "import sys, dualpixel.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_public_names():
    for name in metrics.__all__:
        assert getattr(metrics, name).__name__.rpartition(".")[2] == name


def test_unknown_name():
    with pytest.raises(AttributeError, match="pnsr"):
        metrics.pnsr  # noqa: B018
