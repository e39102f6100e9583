"""The built wheel carries recipes and cards, and finds them by bare name from anywhere."""

import os
import subprocess
import sys

import pytest
from command_line import TOP


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", folder, TOP], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", folder / "site", wheel], check=True)
    return folder / "site"


def run(installed, folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-m", "dualpixel", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_cards_and_recipes_are_found_from_anywhere(installed, tmp_path):
    where = [sys.executable, "-c", "import dualpixel; print(dualpixel.__file__)"]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert str(installed) in found  # not the checkout
    listed = run(installed, tmp_path, "data", "list")
    assert listed.returncode == 0 and "dpdd" in listed.stdout and "quickstart" in listed.stdout
    refused = run(installed, tmp_path, "fit", "--config", "dpdnet")
    assert refused.returncode == 2 and "'dpdd' is not prepared" in refused.stderr
    assert (
        "did you mean 'overlays/quickstart'" in run(installed, tmp_path, "fit", "--config", "overlay/quickstart").stderr
    )


def test_every_file_of_the_package_is_installed(installed):
    def files(folder):
        return {
            path.relative_to(folder).as_posix()
            for path in folder.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    package = {name for name in files(TOP / "src" / "dualpixel") if not name.startswith("_files/")}
    assert "evaluate/leaderboard/page_files/page.html" in package and package <= files(installed / "dualpixel")


def test_the_working_folder_comes_first(installed, tmp_path):
    card = (TOP / "registry" / "quickstart.yaml").read_text().replace("name: quickstart", "name: mine")
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "mine.yaml").write_text(card)
    listed = run(installed, tmp_path, "data", "list").stdout
    assert "mine" in listed and "dpdd" in listed
