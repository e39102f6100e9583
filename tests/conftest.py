"""Fixtures that every test folder shares."""

import os
from pathlib import Path

import pytest
from command_line import TOP
from keras_files import fill, keys, write_dpdnet, write_keras  # noqa: F401 - fixtures
from scenes import make_dpdd_folder, write_card

from dualpixel.data.prepare import prepare
from dualpixel.data.registry import get_card


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data that may not be shipped: beside the checkout, or named by DUALPIXEL_SHARED."""
    folder = Path(os.environ.get("DUALPIXEL_SHARED", TOP.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no real data at {folder}: set DUALPIXEL_SHARED to run this test")
    return folder


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of small stored arrays."""
    return TOP / "tests" / "reference"


@pytest.fixture(scope="session")
def small_card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A card like DPDD's for small scenes."""
    return write_card(tmp_path_factory.mktemp("cards") / "dpdd_small.yaml")


@pytest.fixture(scope="session")
def small_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the DPDD authors' archive unpacks, with small scenes."""
    return make_dpdd_folder(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="session")
def small_shards(small_card: Path, small_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small scenes, prepared. Tests that alter shards copy them first."""
    out = tmp_path_factory.mktemp("shards") / "dpdd_small"
    return prepare(get_card(small_card), small_source, out, processes=1)


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No network, no W&B process and no folder of another test."""
    monkeypatch.setenv("DUALPIXEL_OFFLINE", "1")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("DUALPIXEL_CACHE", str(tmp_path_factory.getbasetemp() / "dualpixel-cache"))
    for name in ("DUALPIXEL_SHARDS", "DUALPIXEL_CHECK", "DUALPIXEL_RUN_FOLDER", "PL_GLOBAL_SEED", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def keras_file(write_dpdnet, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """A full-size DPDNet file as the authors' program writes it."""
    return write_dpdnet(tmp_path_factory.mktemp("keras") / "dpdnet.hdf5", 1)
