"""Reads what Weights & Biases has stored of a run: the records of its ``run-ID.wandb`` files, by its own protocol buffers."""

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK = 32768
FILE_HEADER, CHUNK_HEADER = struct.Struct("<4sHB"), struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class StoredRun:
    """One start of a run: what one ``.wandb`` file holds.

    Attributes:
        path: the file.
        id, project, entity, group, job_type, name, tags, sweep, resume: of the run.
        config: name -> value, later updates over earlier ones.
        history: one mapping per logged row, with ``_step``.
        summary: name -> value, what was logged last of each name and what was written to the summary; nested names are joined by dots.
        files: policy of each file that was saved with the run, by its path in ``files/``.
        artifacts: one mapping per artifact: name, type, aliases, metadata, files (name -> local path).
        metrics: name, or pattern, -> the name of its x axis.
        exit_code: None where the process was killed.
        output: lines that were captured from the terminal.
        packages, git: what W&B notes by itself.
    """

    path: Path
    id: str = ""
    project: str = ""
    entity: str = ""
    group: str = ""
    job_type: str = ""
    name: str = ""
    sweep: str = ""
    resume: Any = None
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, str] = field(default_factory=dict)
    exit_code: int | None = None
    output: str = ""

    @property
    def folder(self) -> Path:
        """Where the files of `files` lie."""
        return self.path.parent / "files"

    def values(self, name: str) -> list[tuple[int, Any]]:
        """Return (training step, value) of each row that has a name."""
        return [(row["trainer/global_step"], row[name]) for row in self.history if name in row]


def stored_runs(folder: Path) -> list[StoredRun]:
    """Read every start that was logged below a folder (a run's folder, or its ``wandb``), in the order of time."""
    return [read_run(path) for path in sorted(set(folder.rglob("*-run-*/run-*.wandb")))]


def read_run(path: Path) -> StoredRun:
    """Read one ``.wandb`` file."""
    run = StoredRun(path)
    for record in records(path):
        kind = record.WhichOneof("record_type")
        content = getattr(record, kind)
        if kind == "run":
            run.id, run.project, run.entity = content.run_id, content.project, content.entity
            run.group, run.job_type, run.name = content.run_group, content.job_type, content.display_name
            run.tags, run.sweep, run.resume = list(content.tags), content.sweep_id, content.resume
            _update(run.config, content.config)
        elif kind == "config":
            _update(run.config, content)
        elif kind == "history":
            run.history.append({_name(one): json.loads(one.value_json) for one in content.item})
        elif kind == "summary":
            _update(run.summary, content)
        elif kind == "files":
            run.files |= {one.path: one.policy for one in content.files}
        elif kind == "artifact":
            run.artifacts.append(_artifact(content))
        elif kind == "request" and content.WhichOneof("request_type") == "log_artifact":
            run.artifacts.append(_artifact(content.log_artifact.artifact))
        elif kind == "metric":
            run.metrics[content.name or content.glob_name] = content.step_metric
        elif kind == "exit":
            run.exit_code = content.exit_code
        elif kind in ("output", "output_raw"):
            run.output += content.line
    return run


def records(path: Path) -> Iterator[Any]:
    """Yield the records of a file: a log in LevelDB's format, of blocks of 32 KiB that hold checked chunks.

    A process that was killed may have left half a record at the end.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    content = path.read_bytes()
    assert FILE_HEADER.unpack_from(content) == (b":W&B", 0xBEE1, 0), path
    position, parts = FILE_HEADER.size, []
    while position + CHUNK_HEADER.size <= len(content):
        if BLOCK - position % BLOCK < CHUNK_HEADER.size:  # no room for a header: the rest of the block is padding
            position += BLOCK - position % BLOCK
            continue
        checksum, length, kind = CHUNK_HEADER.unpack_from(content, position)
        data = content[position + CHUNK_HEADER.size :][:length]
        if len(data) < length or kind == 0:
            return
        assert zlib.crc32(data, zlib.crc32(bytes([kind]))) == checksum, f"{path} at byte {position}"
        position += CHUNK_HEADER.size + length
        parts = [data] if kind in (FULL, FIRST) else [*parts, data]
        if kind in (FULL, LAST):
            yield Record.FromString(b"".join(parts))


def _name(item: Any) -> str:
    return item.key or ".".join(item.nested_key)


def _update(known: dict[str, Any], content: Any) -> None:
    known |= {_name(one): json.loads(one.value_json) for one in content.update}
    for one in content.remove:
        known.pop(_name(one), None)


def _artifact(content: Any) -> dict[str, Any]:
    return {
        "name": content.name,
        "type": content.type,
        "aliases": list(content.aliases),
        "metadata": json.loads(content.metadata or "{}"),
        "files": {one.path: one.local_path for one in content.manifest.contents},
    }
