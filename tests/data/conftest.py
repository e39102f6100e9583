"""Where tests of hostile files work."""

import os
import subprocess

import pytest
from hostile_files import seen


@pytest.fixture
def inside(tmp_path, monkeypatch):
    """A working folder beside canaries; what the test does must leave all of these as they are."""
    canary = tmp_path / "canary"
    (canary / "folder").mkdir(parents=True)
    for name in ("train.tar", "file", "folder/plan.json"):
        (canary / name).write_bytes(b"sings")
    folder = tmp_path / "work" / "set"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DUALPIXEL_CACHE", str(folder / "cache"))
    before = seen(canary)

    started = []
    monkeypatch.setattr(os, "system", started.append)
    monkeypatch.setattr(subprocess, "Popen", lambda *arguments, **_: started.append(arguments))
    yield folder
    assert seen(canary) == before and not started
    assert sorted(path.name for path in tmp_path.iterdir()) == ["canary", "work"]
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["set"]
