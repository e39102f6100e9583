"""A W&B server on the loopback address that takes runs, and hands them out again."""

import json
import re
from typing import Any

from wandb_server import RESPONSES, WandbServer

PROJECT = {"id": "P", "name": "blur", "entity": {"id": "E", "name": "team"}}


class UploadServer(WandbServer):
    """Takes runs of the project team/blur, sent by `wandb sync` or while they run. What it answers is just enough for the client.

    Attributes:
        runs: id of a run -> what was said of it when it began.
        summaries: id of a run -> its summary.
        files: path -> content, of the files of all runs and of artifacts; a path is that of the file within the run.
        artifacts: what was said of each artifact when it was made.
        committed: how many artifacts came to their end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.runs: dict[str, dict[str, Any]] = {}
        self.summaries: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self.artifacts: list[dict[str, Any]] = []
        self.committed = 0

    def answer(self, query: str, variables: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Answer what the client asks while it sends a run; all else is answered from the runs that were sent."""
        operation = re.search(r"(?:query|mutation) (\w+)", query).group(1)
        known = getattr(self, f"_{operation}", None)
        if known is None:
            return super().answer(query, variables)
        self.asked.append((operation, variables))
        return operation, {"data": known(variables)}

    def content(self, run: str, name: str) -> bytes:
        """Return a file that was sent."""
        return self.files[name]

    def streamed(self, content: dict[str, Any]) -> None:
        """Keep the summary, whose last line is the whole of it."""
        lines = content.get("files", {}).get("wandb-summary.json", {}).get("content", [])
        if lines:
            self.summaries[next(reversed(self.runs))] = json.loads(lines[-1])

    def uploaded(self, name: str, content: bytes) -> None:
        """Keep a file."""
        self.files[name] = content

    def _RunResumeStatus(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"model": PROJECT | {"bucket": None}}

    def _ServerFeaturesQuery(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _UpsertBucket(self, variables: dict[str, Any]) -> dict[str, Any]:
        self.runs.setdefault(variables["name"], variables)
        bucket = {"id": "B", "name": variables["name"], "displayName": variables["displayName"], "config": "{}"}
        about = {"description": None, "sweepName": None, "project": PROJECT, "historyLineCount": 0}
        return {"upsertBucket": {"bucket": bucket | about, "inserted": True}}

    def _CreateRunFiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": f"{self.url}/put/{name}"} for name in variables["files"]]
        return {"createRunFiles": {"runID": "B", "uploadHeaders": [], "files": files}}

    def _CreateArtifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        self.artifacts.append(variables["input"])
        sequence = {"id": "S", "latestArtifact": None}
        return {"createArtifact": {"artifact": {"id": "A", "state": "PENDING", "artifactSequence": sequence}}}

    def _CreateArtifactManifest(self, variables: dict[str, Any]) -> dict[str, Any]:
        file = {
            "id": "F",
            "name": "m",
            "displayName": "m",
            "uploadUrl": f"{self.url}/put/manifest",
            "uploadHeaders": [],
        }
        return {"createArtifactManifest": {"artifactManifest": {"id": "M", "file": file}}}

    def _CreateArtifactFiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        nodes = [
            {
                "id": "F", "name": one["name"], "displayName": one["name"], "uploadUrl": f"{self.url}/put/artifact/{one['name']}",
                "uploadHeaders": [], "uploadMultipartUrls": None, "storagePath": "x", "artifact": {"id": "A"},
            }
            for one in variables["input"]["artifactFiles"]
        ]  # fmt: skip
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def _CommitArtifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        self.committed += 1
        return {"commitArtifact": {"artifact": {"id": "A", "digest": "d"}}}

    def _ArtifactType(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"artifact": None}}

    def _OrganizationCoreWeaveOrganizationID(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"entity": None}

    def _Runs(self, variables: dict[str, Any]) -> dict[str, Any]:
        page = json.loads((RESPONSES / "runs_page_1.json").read_text())["data"]
        runs = page["project"]["runs"]
        pattern = runs["edges"][0]["node"]
        runs["edges"] = [
            {
                "node": pattern | {"name": name, "displayName": one["displayName"], "summaryMetrics": json.dumps(self.summaries[name])},
                "cursor": name,
            }
            for name, one in self.runs.items()
        ]  # fmt: skip
        runs["pageInfo"]["hasNextPage"] = False
        return page

    def _RunFiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        (name,) = variables["fileNames"]
        text = (RESPONSES / "file.json").read_text().replace("BASE", self.url).replace("NAME", name)
        text = text.replace("RUN", variables["name"]).replace("SIZE", str(len(self.files[name])))
        return json.loads(text)["data"]
