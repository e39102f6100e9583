"""Result files: one JSON per run, data set, split and protocol, from which leaderboards are made."""

from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from dualpixel.data.schema import build
from dualpixel.errors import DualPixelError
from dualpixel.files import read_json, write_json
from dualpixel.running.provenance import code_state

SCHEMA = 1
RESULT = "result.json"


@dataclass(frozen=True)
class Result:
    """Scores of one recipe with one set of weights on one split by one protocol.

    Columns are those of `dualpixel.evaluate.columns`. The schema stays 1 as long as columns or keys with a default are added:
    results that were written before are read as they are.

    Args:
        schema: version of this layout.
        recipe: name of the recipe.
        options: options of the network.
        weights_sha256: hash of the network's weights.
        weights_source: the file they came from.
        dataset, dataset_version, split, fingerprint: the pixels that were scored.
        complete: whether every scene of the split was scored.
        protocol, protocol_description: how.
        rows: one mapping per image: key, group, the scores of the outputs, of the unprocessed input as ``input_...``, and of predicted
            blur where the protocol has a map to compare it with.
        means: "overall" and each group -> column -> mean, None where it could not be measured.
        parameters: of the network.
        macs: multiply-accumulates for the first image of the split; None where they could not be counted.
        macs_size: (height, width) of that image as the recipe saw it, before it pads to what its network takes.
        code: version of dualpixel.
        made: UTC time.
        environment: versions and device.
        views_from: where the protocol has views predicted by another network, that network: its ``recipe``, ``weights_sha256`` and
            ``source``, the file.
        seconds: of one image of the split, the median over all but the first, the recipe's forward pass alone; None where it was not
            timed. What it ran on stands in `environment`.
        protocol_settings: all keys of the protocol (`dualpixel.evaluate.protocol.Protocol`), so that the file says by itself how it was
            measured; None in results that were written before there were such keys.
        net: class of the network, with its module; None in results that were written before there was such a key.
    """

    schema: int
    recipe: str
    options: dict[str, Any]
    weights_sha256: str
    weights_source: str
    dataset: str
    dataset_version: str
    split: str
    fingerprint: str
    complete: bool
    protocol: str
    protocol_description: str
    rows: list[dict[str, Any]]
    means: dict[str, dict[str, Any]]
    parameters: int
    macs: int | None
    macs_size: list[int] | None
    code: str
    made: str
    environment: dict[str, Any]
    views_from: dict[str, str] | None = None
    seconds: float | None = None
    protocol_settings: dict[str, Any] | None = None
    net: str | None = None


def result_path(run: Path, dataset: str, split: str, protocol: str) -> Path:
    """Return where a result lies in the folder of its run."""
    return run / "results" / f"{dataset}-{split}" / protocol / RESULT


def save_result(path: Path, result: Result) -> None:
    """Write a result, atomically."""
    write_json(path, asdict(result))


def load_result(path: Path) -> Result:
    """Read a result.

    Raises:
        DualPixelError: not a result, or of another schema.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise DualPixelError(f"{path}: not a result of schema {SCHEMA}; run `test` again")
    return build(Result, content, str(path))


def now() -> str:
    """Return the UTC time as text."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def code_version() -> str:
    """Return the version of the package, with the commit where it runs from a checkout."""
    state = code_state()
    commit = f"+{state['commit'][:12]}{'-dirty' * bool(state['dirty'])}" if state["commit"] else ""
    return f"{state['version']}{commit}"
