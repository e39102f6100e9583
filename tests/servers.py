"""Real servers on the loopback address: of a folder over HTTP, with faults at will, and of buckets as S3."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dualpixel.data import requests


class LoopbackServer:
    """A server on a free port of the loopback address, as long as the block lasts.

    Args:
        handler: what answers; its class attribute ``owner`` is this object.
        server: the class of the server.

    Attributes:
        url: its address.
    """

    def __init__(
        self, handler: type[BaseHTTPRequestHandler], server: type[ThreadingHTTPServer] = ThreadingHTTPServer
    ) -> None:
        self._server = server(("127.0.0.1", 0), type("Handler", (handler,), {"owner": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class FolderServer(LoopbackServer):
    """Serves a folder over HTTP; use it as a context manager.

    Args:
        folder: what is served.
        ranges: answer requests for the rest of a file as such; otherwise give it whole.
        delay: seconds before the answer for a shard.

    Attributes:
        faults: ending of a path -> what is done to the next requests for it, one each: ("status", N), ("drop", BYTES),
            ("stall", BYTES, SECONDS), ("trickle", SECONDS), ("wrong",), or None for an answer as it should be.
        asked: (name, first byte) of each request for a shard.
    """

    def __init__(self, folder: Path, ranges: bool = True, delay: float = 0.0) -> None:
        self.folder, self.ranges, self.delay = Path(folder), ranges, delay
        self.faults: dict[str, list[tuple | None]] = {}
        self.asked: list[tuple[str, int]] = []
        self._lock = threading.Lock()
        super().__init__(_Handler)

    def names(self) -> list[str]:
        """Names of the shards that were asked for, in order."""
        return [name for name, _ in self.asked]

    def note(self, path: str, start: int) -> tuple | None:
        with self._lock:
            if path.endswith(".tar"):
                self.asked.append((Path(path).name, start))
            for ending, faults in self.faults.items():
                if path.endswith(ending) and faults:
                    return faults.pop(0)
        return None


class _Handler(BaseHTTPRequestHandler):
    owner: FolderServer

    def do_GET(self) -> None:
        path = self.path.lstrip("/")
        given = self.headers.get("Range", "bytes=0-")
        start = int(given.removeprefix("bytes=").rstrip("-"))
        fault = self.owner.note(path, start)
        if path.endswith(".tar"):
            time.sleep(self.owner.delay)
        if fault and fault[0] == "status":
            self.send_error(fault[1])
            return
        file = self.owner.folder / path
        if not file.is_file():
            self.send_error(404)
            return
        content = file.read_bytes()
        if start and self.owner.ranges and start >= len(content):
            self.send_error(416)
            return
        partial = bool(start) and self.owner.ranges
        self.send_response(206 if partial else 200)
        rest = content[start:] if partial else content
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        try:
            if fault and fault[0] == "drop":
                self.wfile.write(rest[: fault[1]])
            elif fault and fault[0] == "stall":
                self.wfile.write(rest[: fault[1]])
                self.wfile.flush()
                time.sleep(fault[2])
            elif fault and fault[0] == "trickle":
                until = time.monotonic() + fault[1]
                for place in range(len(rest)):
                    self.wfile.write(rest[place : place + 1])
                    self.wfile.flush()
                    time.sleep(0.01)
                    if time.monotonic() > until:
                        break
            elif fault and fault[0] == "wrong":
                self.wfile.write(rest[:-1] + bytes([rest[-1] ^ 1]))
            else:
                self.wfile.write(rest)
        except OSError:  # the other side has given up
            pass

    def log_message(self, *arguments: object) -> None:
        """Keep the terminal quiet."""


@contextmanager
def bucket_server(folder: Path, bucket: str, patch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve a folder as an S3 bucket, and point this process and its children to it.

    Yields:
        The address of the bucket.
    """
    boto3 = pytest.importorskip("boto3")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        patch.setattr(requests, "_systems", {})  # those of another server
        client = boto3.client("s3")
        client.create_bucket(Bucket=bucket)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                client.upload_file(str(path), bucket, path.relative_to(folder).as_posix())
        yield f"s3://{bucket}"
    finally:
        server.stop()
