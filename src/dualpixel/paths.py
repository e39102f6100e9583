"""Where recipes, cards and shards are found: the working folder first, then the checkout, then the installed package."""

import os
import re
from pathlib import Path

from dualpixel.errors import DualPixelError
from dualpixel.hints import near

PACKAGE = Path(__file__).resolve().parent
SHARDS_VARIABLE = "DUALPIXEL_SHARDS"


def resource_folders(kind: str) -> list[Path]:
    """Return the folders that may hold `kind` ("recipes" or "registry"), the nearest first, those that exist only."""
    checkout = PACKAGE.parents[1]
    places = [Path.cwd() / kind]
    if (checkout / "pyproject.toml").is_file():  # an editable install may also hold a stale packaged copy
        places.append(checkout / kind)
    places.append(PACKAGE / "_files" / kind)
    found: list[Path] = []
    for place in places:
        if place.is_dir() and place.resolve() not in [one.resolve() for one in found]:
            found.append(place)
    return found


def resource_names(kind: str) -> dict[str, Path]:
    """Return name -> file for each YAML of `kind`; names in sub-folders hold a slash (``overlays/quickstart``)."""
    names: dict[str, Path] = {}
    for folder in resource_folders(kind):
        for file in sorted(folder.rglob("*.yaml")):
            names.setdefault(file.relative_to(folder).with_suffix("").as_posix(), file)
    return names


def find(kind: str, name: str | Path) -> Path:
    """Find a YAML by path (with or without its leading ``recipes/``) or by bare name.

    Args:
        kind: "recipes" or "registry".
        name: a path to a file, or a name such as ``dpdnet``, ``overlays/quickstart``, ``recipes/dpdnet.yaml``.

    Raises:
        DualPixelError: nothing of that name; the message lists near matches.
    """
    path = Path(name)
    if path.is_file():
        return path
    names = resource_names(kind)
    bare = path.with_suffix("") if path.suffix in (".yaml", ".yml") else path
    parts = bare.parts[1:] if bare.parts and bare.parts[0] == kind else bare.parts
    wanted = "/".join(parts)
    if wanted in names:
        return names[wanted]
    what = {"recipes": "recipe", "registry": "data set card"}.get(kind, kind)
    raise DualPixelError(f"no {what} {str(name)!r}: {near(wanted, names)}")


def local_folder(name: str | Path) -> Path:
    """Return a folder or file of this machine; ``~`` is the user's, where no shell has said so before.

    Raises:
        DualPixelError: the address of a server.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", str(name)):  # a Path makes one slash of two
        raise DualPixelError(f"{name}: an address, where a folder of this machine is needed")
    return Path(name).expanduser()


def shards_home() -> Path:
    """Return the folder that holds prepared data sets: $DUALPIXEL_SHARDS, else ``shards`` in the working folder.

    Raises:
        DualPixelError: the variable holds the address of a server, where nothing can be prepared.
    """
    home = os.environ.get(SHARDS_VARIABLE) or "shards"
    if "://" in home:
        raise DualPixelError(
            f"${SHARDS_VARIABLE} is the address {home}, from where sets are only read; name a folder by --out"
        )
    return local_folder(home)


def cache_home() -> Path:
    """Return the folder for what can be fetched again: $DUALPIXEL_CACHE, else ``dualpixel`` in the user's cache folder."""
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return local_folder(os.environ.get("DUALPIXEL_CACHE") or users / "dualpixel")
