"""A W&B server on the loopback address that answers the client's requests with stored JSON.

The answers were written after the queries of the client (0.31.0), not captured from the service; a query for other fields than the
stored answer has is refused, so that a client that asks otherwise fails the tests instead of being told what it did not ask for.
"""

import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from servers import LoopbackServer

RESPONSES = Path(__file__).parent / "evaluate" / "leaderboard" / "wandb_responses"
KEY = "0123456789" * 4


class WandbServer(LoopbackServer):
    """Answers GraphQL queries and hands out files; use it as a context manager.

    Attributes:
        url: its address.
        asked: (name of the operation, variables) of each query, in order.
        downloads: (path, whether a key came with it) of each file that was asked for.
        faults: name of an operation, or "GET" -> what is done in place of the answer: ("status", code, text), ("stall", seconds) or,
            for "GET", ("endless",).
        changes: name of an operation -> what alters its answer in place.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.downloads: list[tuple[str, bool]] = []
        self.faults: dict[str, tuple] = {}
        self.changes: dict[str, Callable[[dict[str, Any]], None]] = {}
        self.closing = threading.Event()
        super().__init__(_Handler)

    def __exit__(self, *error: object) -> None:
        self.closing.set()
        super().__exit__(*error)

    def answer(self, query: str, variables: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return the name of an operation and the stored answer to it."""
        operation = re.search(r"(?:query|mutation) (\w+)", query).group(1)
        self.asked.append((operation, variables))
        made = json.loads(_stored(operation, variables).replace("BASE", self.url))
        missing = differences(selection(query), made["data"])
        if missing:
            return operation, {"errors": [{"message": f"asked for other fields than the stored answer has: {missing}"}]}
        self.changes.get(operation, lambda answer: None)(made)
        return operation, made

    def content(self, run: str, name: str) -> bytes:
        """Return a file of a run."""
        return result_file(run, name).read_bytes()

    def streamed(self, content: dict[str, Any]) -> None:
        """Take what a run sends of its history and its summary."""

    def uploaded(self, name: str, content: bytes) -> None:
        """Take a file."""


def _stored(operation: str, variables: dict[str, Any]) -> str:
    """Return the answer that is stored for a query."""
    whole = {"Viewer": "viewer.json", "GetDefaultEntity": "default_entity.json"}
    if operation in whole:
        return (RESPONSES / whole[operation]).read_text()
    if (variables["entity"], variables["project"]) != ("team", "blur"):
        return (RESPONSES / "no_project.json").read_text()
    if operation == "Runs":
        page = {None: 1, "cursor2": 2}[variables["cursor"]]
        return (RESPONSES / f"runs_page_{page}.json").read_text()
    run, (name,) = variables["name"], variables["fileNames"]
    path = result_file(run, name)
    if run == "deleted0" or not path.is_file():
        return (RESPONSES / ("files_of_deleted_run.json" if run == "deleted0" else "no_file.json")).read_text()
    content = path.read_bytes()
    text = (RESPONSES / "file.json").read_text().replace("NAME", name).replace("RUN", run)
    return text.replace("SIZE", str(len(content))).replace("MD5", hashlib.md5(content).hexdigest())


def result_file(run: str, name: str) -> Path:
    """Return where the file of a run is stored."""
    return RESPONSES / f"{run}-{name.split('/')[-2]}.json"


def selection(query: str) -> dict[str, Any]:
    """Return the fields that a query asks for, nested."""
    tokens = re.findall(r"\.\.\.|[{}():]|[\w$!=\[\]\"+]+", re.sub(r"#.*", "", query))
    fragments: dict[str, list[str]] = {}
    operation: list[str] = []
    while tokens:
        head = []
        depth = 0
        while tokens[0] != "{" or depth:  # braces do not stand in these queries' arguments
            depth += {"(": 1, ")": -1}.get(tokens[0], 0)
            head.append(tokens.pop(0))
        body = _block(tokens)
        if head[0] == "fragment":
            fragments[head[1]] = body
        else:
            operation = body
    return _fields(operation, fragments)


def _block(tokens: list[str]) -> list[str]:
    depth, body = 0, []
    while True:
        token = tokens.pop(0)
        depth += {"{": 1, "}": -1}.get(token, 0)
        body.append(token)
        if not depth:
            return body[1:-1]


def _fields(tokens: list[str], fragments: dict[str, list[str]]) -> dict[str, Any]:
    tokens, found = list(tokens), {}
    while tokens:
        name = tokens.pop(0)
        if name == "...":
            found |= _fields(fragments[tokens.pop(0)], fragments)
            continue
        if tokens and tokens[0] == "(":
            del tokens[: tokens.index(")") + 1]
        found[name] = _fields(_block(tokens), fragments) if tokens and tokens[0] == "{" else None
    return found


def differences(fields: dict[str, Any], content: Any, where: str = "") -> list[str]:
    """Return the places where an answer has other fields than were asked for; what is null has none."""
    if content is None:
        return []
    if isinstance(content, list):
        return [one for item in content for one in differences(fields, item, where)]
    found = [f"{where}/{name}" for name in {*fields} ^ {*content}]
    for name, below in fields.items():
        if below is not None and name in content:
            found += differences(below, content[name], f"{where}/{name}")
    return found


class _Handler(BaseHTTPRequestHandler):
    owner: WandbServer

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/graphql":
            if self.path.endswith("/file_stream"):  # others are the client's measurements of itself
                self.owner.streamed(json.loads(content))
            self._send(200, b"{}")
            return
        query = json.loads(content)
        operation, answer = self.owner.answer(query["query"], query.get("variables") or {})
        if not self._fault(operation):
            self._send(200, json.dumps(answer).encode())

    def do_GET(self) -> None:
        _, kind, *_, run, name = re.fullmatch(r"(/)(\w+)/team/blur/([^/]+)/(.*)", self.path).groups()
        self.owner.downloads.append((self.path, "Authorization" in self.headers))
        if not self._fault("GET"):
            self._send(200, self.owner.content(run, name))

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self._fault("PUT"):
            self.owner.uploaded(self.path.removeprefix("/put/"), content)
            self._send(200, b"")

    def _fault(self, operation: str) -> bool:
        kind, *about = self.owner.faults.get(operation, (None,))
        if kind == "status":
            self._send(about[0], about[1].encode())
        elif kind == "stall":
            self.owner.closing.wait(about[0])
        elif kind == "endless":
            self.send_response(200)
            self.send_header("Content-Length", str(1 << 40))
            self.end_headers()
            try:
                while not self.owner.closing.is_set():
                    self.wfile.write(bytes(1 << 16))
                    time.sleep(0.01)
            except OSError:  # the other side has given up
                pass
        return kind is not None

    def _send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Keep the terminal quiet."""
