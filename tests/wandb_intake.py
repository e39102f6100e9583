"""A server on the loopback address that takes runs as the one of Weights & Biases does, and keeps what it was sent.

It answers only what the client's uploads ask; see `wandb_server` for one that runs are read from.
"""

import gzip
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from servers import LoopbackServer

KEY = "0" * 40
"""What looks like a key."""


@dataclass
class TakenRun:
    """What the server has of one run: lines of its history at their places, the aliases of its artifacts, the newest of all else."""

    id: str
    project: str
    fields: dict[str, Any] = field(default_factory=dict)
    history: dict[int, dict[str, Any]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    artifacts: dict[str, list[str]] = field(default_factory=dict)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The history in the order of its lines."""
        return [self.history[place] for place in sorted(self.history)]


class WandbIntake(LoopbackServer):
    """Takes runs; use it as a context manager.

    Args:
        status: what is answered to everything, where it is not 200.

    Attributes:
        runs: id -> what has come.
        environment: variables that send a process here.
    """

    def __init__(self, status: int = 200) -> None:
        self.runs: dict[str, TakenRun] = {}
        self.status = status
        self.lock = threading.Lock()
        super().__init__(_Handler, _Server)
        self.environment = {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY}

    def answer(self, operation: str, given: dict[str, Any]) -> Any:
        """Return the data of the answer to an operation of GraphQL."""
        known = getattr(self, f"_{operation.lower()}", None)
        return known(given) if known else None

    def take(self, run: str, content: dict[str, Any]) -> None:
        """Take lines of a run's files at the places that they are for; what was there is replaced, as by the real server."""
        for name, part in content.get("files", {}).items():
            if name == "wandb-history.jsonl":
                lines = [json.loads(line) for line in part["content"]]
                self.runs[run].history |= {part["offset"] + number: line for number, line in enumerate(lines)}
            elif name == "wandb-summary.json":
                self.runs[run].summary = json.loads(part["content"][-1])

    def _runresumestatus(self, given: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(given["name"])
        bucket = run and {
            "id": run.id, "name": run.id, "summaryMetrics": json.dumps(run.summary), "displayName": run.id,
            "logLineCount": 0, "historyLineCount": len(run.history), "eventsLineCount": 0,
            "historyTail": json.dumps([json.dumps(row) for row in run.rows[-1:]]), "eventsTail": "[]",
            "config": json.dumps(run.config), "tags": run.fields.get("tags") or [], "notes": "",
            "wandbConfig": json.dumps({"t": 1}),
        }  # fmt: skip
        model = {"id": "p", "name": given["project"], "entity": {"id": "e", "name": "somebody"}, "bucket": bucket}
        return {"model": model}

    def _upsertbucket(self, given: dict[str, Any]) -> dict[str, Any]:
        inserted = given["name"] not in self.runs
        run = self.runs.setdefault(given["name"], TakenRun(given["name"], given["project"] or ""))
        run.fields |= {name: value for name, value in given.items() if value is not None}
        run.config |= json.loads(given["config"] or "{}")
        project = {"id": "p", "name": run.project, "entity": {"id": "e", "name": "somebody"}}
        bucket = {"id": run.id, "name": run.id, "displayName": run.id, "description": "", "config": "{}", "sweepName": "",
                  "project": project, "historyLineCount": len(run.history)}  # fmt: skip
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _createrunfiles(self, given: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": f"{self.url}/upload/{given['run']}/{name}"} for name in given["files"]]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}

    def _createartifact(self, given: dict[str, Any]) -> dict[str, Any]:
        content = given["input"]
        names = [one["alias"] for one in content["aliases"]]
        self.runs[content["runName"]].artifacts[content["artifactCollectionName"]] = names
        known = {
            "id": "a",
            "state": "COMMITTED",
            "artifactSequence": {"latestArtifact": None},
        }  # so that no file is sent
        return {"createArtifact": {"artifact": known}}

    def _viewer(self, given: dict[str, Any]) -> dict[str, Any]:
        viewer = {
            "id": "u",
            "entity": "somebody",
            "username": "somebody",
            "email": "",
            "flags": "{}",
            "teams": {"edges": []},
        }
        return {"viewer": viewer}


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: the client drops its connections when it ends."""


class _Handler(BaseHTTPRequestHandler):
    owner: WandbIntake
    protocol_version = "HTTP/1.1"

    def log_message(self, *said: object) -> None:
        """Say nothing."""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self) -> None:
        body = self._body()
        content = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        with self.owner.lock:
            answer = json.dumps(self._content(content)).encode()
        self.send_response(self.owner.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _content(self, content: bytes) -> Any:
        if self.owner.status != 200:
            return {"errors": [{"message": "refused"}]}
        stream = re.fullmatch(r"/files/.*?([^/]+)/file_stream", self.path)
        upload = re.fullmatch(r"/upload/([^/]+)/(.+)", self.path)
        if self.path == "/graphql":
            asked = json.loads(content)
            operation = asked.get("operationName") or re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])[1]
            return {"data": self.owner.answer(operation, asked.get("variables") or {})}
        if stream:
            self.owner.take(stream[1], json.loads(content))
        elif upload:
            self.owner.runs[upload[1]].files.add(upload[2])
        return {}

    do_GET = do_POST = do_PUT = _answer
