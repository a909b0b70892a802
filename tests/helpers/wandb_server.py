"""A server on the loopback interface that answers what wandb's client asks for in our name.

It keeps projects, runs, artifacts and sweeps in memory. A question that it does not know is an
error to the client, and stays in ``unknown``.
"""

from __future__ import annotations

import base64
import gc
import hashlib
import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import yaml

# Of connections that the client never closes.
UNCLOSED = "ignore:unclosed <:ResourceWarning"
KEY = "0123456789abcdef0123456789abcdef01234567"
Json = dict[str, Any]


class RefusedError(Exception):
    """Told to the client as an error."""


@dataclass
class Version:
    """One version of an artifact. ``contents`` and ``stored`` are by name in the artifact."""

    id: str
    entity: str
    project: str
    collection: str
    index: int
    type: str = "model"
    digest: str = ""
    metadata: Json = field(default_factory=dict)
    aliases: set[str] = field(default_factory=set)
    contents: dict[str, Json] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    committed: bool = True

    @property
    def place(self) -> tuple[str, str, str]:
        return self.entity, self.project, self.collection


@dataclass
class Run:
    """What a run has sent."""

    settings: Json = field(default_factory=dict)
    history: list[Json] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None


class WandbServer:
    """The server's memory, and its answers."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.versions: list[Version] = []
        self.links: list[Json] = []
        self.runs: dict[str, Run] = {}
        self.sweep: Json | None = None
        self.trials: list[Json] = []
        self.unknown: list[str] = []
        self.received: list[bytes] = []

    def add(
        self,
        path: str,
        files: Mapping[str, bytes],
        *,
        aliases: tuple[str, ...] = (),
        references: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Version:
        """Put a version of an artifact there, as if someone had pushed it."""
        entity, project, collection = path.split("/")
        version = self._new(entity, project, collection, **more)
        version.stored = dict(files)
        version.contents = {
            name: {"digest": md5(data), "size": len(data)} for name, data in files.items()
        } | {
            name: {"digest": target, "ref": target, "size": 1}
            for name, target in (references or {}).items()
        }
        lines = [f"{name}:{one['digest']}\n" for name, one in sorted(version.contents.items())]
        manifest = "wandb-artifact-manifest-v1\n" + "".join(lines)
        version.digest = hashlib.md5(manifest.encode()).hexdigest()
        self._move(version, {"latest", *aliases})
        return version

    def answer(self, query: str, variables: Json) -> Json:
        """Answer a GraphQL question."""
        match = re.search(r"(?:query|mutation)\s+(\w+)", query)
        name = match[1] if match else query
        known: dict[str, Callable[[Json], Json]] = {
            "Viewer": self._viewer,
            "GetDefaultEntity": self._viewer,
            "ServerFeaturesQuery": lambda _: {"serverInfo": {"features": []}},
            "ArtifactType": lambda _: {"project": None},
            "ArtifactByID": lambda v: {"artifact": self._artifact(self._by_id(v["id"]))},
            "ArtifactMembershipByName": self._membership,
            "FetchArtifactManifest": self._manifest,
            "GetArtifactMembershipFileUrls": self._file_urls,
            "ProjectArtifactTypes": self._types,
            "ArtifactTypeArtifactCollections": self._collections,
            "ProjectArtifacts": self._artifacts,
            "UpsertBucket": self._upsert_run,
            "CreateRunFiles": self._run_files,
            "CreateArtifact": self._create_artifact,
            "CreateArtifactFiles": self._artifact_files,
            "CreateArtifactManifest": self._create_manifest,
            "CommitArtifact": self._commit,
            "LinkArtifact": self._link,
            "UpsertSweep": self._upsert_sweep,
            "CreateAgent": lambda _: {"createAgent": {"agent": {"id": "agent"}}},
            "Heartbeat": self._heartbeat,
        }
        if name not in known:
            self.unknown.append(query)
            return {"errors": [{"message": f"unknown: {name}"}]}
        try:
            return {"data": known[name](variables)}
        except RefusedError as error:
            return {"errors": [{"message": str(error)}]}

    def get(self, path: str) -> bytes | None:
        """Contents of a file, or None."""
        kind, artifact, name = path.strip("/").split("/", 2)
        if kind not in ("manifest", "file"):
            return None
        version = self._by_id(artifact)
        if kind == "manifest":
            return json.dumps(
                {
                    "version": 1,
                    "storagePolicy": "wandb-storage-policy-v1",
                    "storagePolicyConfig": {"storageLayout": "V2"},
                    "contents": version.contents,
                }
            ).encode()
        return version.stored.get(unquote(name))

    def put(self, path: str, data: bytes) -> None:
        """Store a file that was announced."""
        kind, owner, name = path.strip("/").split("/", 2)
        if kind == "manifest":
            self._by_id(owner).contents = json.loads(data)["contents"]
        elif kind == "file":
            self._by_id(owner).stored[unquote(name)] = data
        else:
            self.runs[owner].files[unquote(name)] = data

    def stream(self, run: str, document: Json) -> None:
        """Take rows of a run's history."""
        rows = document.get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
        self.runs[run].history += map(json.loads, rows)
        if document.get("complete"):
            self.runs[run].exit_code = document["exitcode"]

    def _viewer(self, variables: Json) -> Json:
        viewer = {"id": "user", "username": "me", "email": None, "flags": "{}", "entity": "ours"}
        return {"viewer": {**viewer, "teams": {"edges": []}}}

    def _membership(self, v: Json) -> Json:
        if not any((x.entity, x.project) == (v["entity"], v["project"]) for x in self.versions):
            return {"project": None}
        collection, _, alias = v["name"].partition(":")
        version = self._find(v["entity"], v["project"], collection, alias or "latest")
        if version is None:
            return {"project": {"artifactCollectionMembership": None}}
        return {"project": {"artifactCollectionMembership": self._member(version)}}

    def _manifest(self, v: Json) -> Json:
        url = f"{self.url}/manifest/{v['id']}/x?signature=secret"
        return {"artifact": {"currentManifest": {"file": {"directUrl": url}}}}

    def _file_urls(self, v: Json) -> Json:
        version = self._find(v["entity"], v["project"], v["collection"], v["alias"])
        assert version is not None
        urls = [
            {
                "__typename": "File",
                "name": name,
                "directUrl": f"{self.url}/file/{version.id}/{name}",
            }
            for name in version.contents
        ]
        membership = {"artifactMembership": {"files": _page(urls)}}
        return {"project": {"artifactCollection": {"__typename": "ArtifactSequence", **membership}}}

    def _types(self, v: Json) -> Json:
        types = {x.type for x in self.versions if x.place[:2] == (v["entity"], v["project"])}
        return {
            "project": {"artifactTypes": _page([_type(name) for name in sorted(types)])}
            if types
            else None
        }

    def _collections(self, v: Json) -> Json:
        places = {
            x.place
            for x in self.versions
            if x.place[:2] == (v["entity"], v["project"]) and x.type == v["type"]
        }
        nodes = [
            {
                **self._collection(*place),
                "id": place[2],
                "description": None,
                "createdAt": "2026-01-01T00:00:00Z",
                "updatedAt": None,
                "type": {"name": v["type"]},
                "tags": {"edges": []},
            }
            for place in places
        ]
        found = {"artifactCollections": {"totalCount": len(nodes), **_page(nodes)}}
        return {"project": {"artifactType": found}}

    def _artifacts(self, v: Json) -> Json:
        place = (v["entity"], v["project"], v["collection"])
        # Newest first, as the real server has it.
        found = [x for x in reversed(self.versions) if x.place == place]
        page = _page([self._artifact(x) for x in found])
        for edge, version in zip(page["edges"], found, strict=True):
            edge["version"] = f"v{version.index}"
        collection = {"__typename": "ArtifactSequence", "artifacts": {"totalCount": 1, **page}}
        return {"project": {"artifactType": {"artifactCollection": collection}}}

    def _upsert_run(self, v: Json) -> Json:
        given = {name: value for name, value in v.items() if value is not None}
        self.runs.setdefault(v["name"], Run()).settings.update(given)
        project = {"id": "p", "name": v["project"], "entity": {"id": "e", "name": v["entity"]}}
        bucket = {
            "id": v["name"],
            "name": v["name"],
            "displayName": v["displayName"] or "run",
            "description": "",
            "config": "{}",
            "sweepName": v["sweep"],
            "historyLineCount": 0,
            "project": project,
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def _run_files(self, v: Json) -> Json:
        urls = [{"name": x, "uploadUrl": f"{self.url}/run/{v['run']}/{x}"} for x in v["files"]]
        return {"createRunFiles": {"runID": v["run"], "uploadHeaders": [], "files": urls}}

    def _create_artifact(self, v: Json) -> Json:
        given = v["input"]
        place = (given["entityName"], given["projectName"], given["artifactCollectionName"])
        same = [x for x in self.versions if x.place == place and x.digest == given["digest"]]
        version = same[0] if same else self._new(*place, digest=given["digest"], committed=False)
        version.metadata = json.loads(given["metadata"])
        self._move(version, {one["alias"] for one in given["aliases"]})
        state = "COMMITTED" if version.committed else "PENDING"
        sequence = {"id": "s", "latestArtifact": None}
        artifact = {"id": version.id, "state": state, "artifactSequence": sequence}
        return {"createArtifact": {"artifact": artifact}}

    def _artifact_files(self, v: Json) -> Json:
        nodes = [
            {
                "id": one["name"],
                "name": one["name"],
                "displayName": one["name"],
                "storagePath": one["name"],
                "uploadUrl": f"{self.url}/file/{one['artifactID']}/{one['name']}",
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": one["artifactID"]},
            }
            for one in v["input"]["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def _create_manifest(self, v: Json) -> Json:
        file = {
            "id": "manifest",
            "name": v["name"],
            "displayName": v["name"],
            "uploadUrl": f"{self.url}/manifest/{v['artifactID']}/x",
            "uploadHeaders": [],
        }
        manifest = {"id": v["artifactID"], "file": file}
        return {"createArtifactManifest": {"artifactManifest": manifest}}

    def _commit(self, v: Json) -> Json:
        version = self._by_id(v["artifactID"])
        version.committed = True
        return {"commitArtifact": {"artifact": {"id": version.id, "digest": version.digest}}}

    def _link(self, v: Json) -> Json:
        self.links.append(v["input"])
        version = self._by_id(v["input"]["artifactID"])
        membership = self._member(version)
        return {"result": {"versionIndex": 0, "artifactMembership": membership}}

    def _upsert_sweep(self, v: Json) -> Json:
        config = yaml.safe_load(v["config"])
        for wanted in ("method", "metric", "parameters"):
            if wanted not in config:
                raise RefusedError(f"invalid sweep config: {wanted} is missing")
        self.sweep = v
        project = {
            "id": "p",
            "name": v["projectName"],
            "entity": {"id": "e", "name": v["entityName"]},
        }
        sweep = {"name": "sweep1", "project": project}
        return {"upsertSweep": {"sweep": sweep, "configValidationWarnings": []}}

    def _heartbeat(self, v: Json) -> Json:
        commands = [{"type": "exit"}]
        if self.trials:
            parameters = self.trials.pop(0)
            given = {name: {"value": value} for name, value in parameters.items()}
            run = f"trial{len(self.trials)}"
            commands = [{"type": "run", "run_id": run, "args": given}]
        elif any(json.loads(v["runState"]).values()):
            commands = []
        return {"agentHeartbeat": {"agent": {"id": "agent"}, "commands": json.dumps(commands)}}

    def _new(self, entity: str, project: str, collection: str, **more: Any) -> Version:
        index = sum(x.place == (entity, project, collection) for x in self.versions)
        # Not to be met again: the client remembers artifacts by it.
        name = f"artifact-{uuid4().hex}"
        self.versions.append(Version(name, entity, project, collection, index, **more))
        return self.versions[-1]

    def _move(self, version: Version, aliases: set[str]) -> None:
        for other in self.versions:
            if other.place == version.place:
                other.aliases -= aliases
        version.aliases |= aliases

    def _by_id(self, name: str) -> Version:
        return next(version for version in self.versions if version.id == name)

    def _find(self, entity: str, project: str, collection: str, alias: str) -> Version | None:
        return next(
            (
                version
                for version in self.versions
                if version.place == (entity, project, collection)
                and alias in {f"v{version.index}", *version.aliases}
            ),
            None,
        )

    def _member(self, version: Version) -> Json:
        return {
            "__typename": "ArtifactCollectionMembership",
            "id": f"membership-{version.id}",
            "versionIndex": version.index,
            "createdAt": "2026-01-02T03:04:05Z",
            "aliases": [_alias(name) for name in sorted(version.aliases)],
            "artifactCollection": self._collection(*version.place),
            "artifact": self._artifact(version),
        }

    def _artifact(self, version: Version) -> Json:
        collection = self._collection(*version.place)
        return {
            "__typename": "Artifact",
            "id": version.id,
            "artifactSequence": collection,
            "versionIndex": version.index,
            "artifactType": {"name": version.type},
            "description": None,
            "metadata": json.dumps(version.metadata),
            "ttlDurationSeconds": -2,
            "ttlIsInherited": True,
            "tags": [],
            "historyStep": None,
            "state": "COMMITTED",
            "size": sum(one["size"] for one in version.contents.values()),
            "digest": version.digest,
            "commitHash": "c",
            "fileCount": len(version.contents),
            "createdAt": "2026-01-02T03:04:05Z",
            "updatedAt": None,
            "aliases": [
                {**_alias(name), "artifactCollection": collection}
                for name in sorted(version.aliases)
            ],
        }

    def _collection(self, entity: str, project: str, name: str) -> Json:
        owner = {"id": "p", "internalId": "p", "name": project, "entity": {"name": entity}}
        return {"__typename": "ArtifactSequence", "name": name, "project": owner}


def md5(data: bytes) -> str:
    """Digest of a file as manifests have it."""
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def _alias(name: str) -> Json:
    return {"__typename": "ArtifactAlias", "id": name, "alias": name}


def _type(name: str) -> Json:
    about = {"description": None, "createdAt": "2026-01-01T00:00:00Z"}
    return {"__typename": "ArtifactType", "id": name, "name": name, **about}


def _page(nodes: list[Json]) -> Json:
    """All in one page."""
    info = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
    return {"pageInfo": info, "edges": [{"node": node} for node in nodes]}


class _Handler(BaseHTTPRequestHandler):
    server_memory: WandbServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self._body()
        if self.path.startswith("/sdk/otel/"):  # the client's own telemetry
            return self._send(200, b"{}")
        if self.headers.get("Authorization") != _authorisation(KEY):
            return self._send(401, b'{"errors": [{"message": "permission denied"}]}')
        document = json.loads(body)
        if self.path == "/graphql":
            answer = self.server_memory.answer(document["query"], document.get("variables") or {})
            return self._send(200, json.dumps(answer).encode())
        run = self.path.split("/")[-2]
        self.server_memory.stream(run, document)
        return self._send(200, b"{}")

    def do_PUT(self) -> None:
        self.server_memory.put(self.path, self._body())
        self._send(200, b"")

    def do_GET(self) -> None:
        data = self.server_memory.get(self.path.partition("?")[0])
        self._send(404 if data is None else 200, data or b"")

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server_memory.received.append(body)
        return body

    def _send(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    # Connections that the client keeps open are not waited for.
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up."""


def _authorisation(key: str) -> str:
    return "Basic " + base64.b64encode(f"api:{key}".encode()).decode()


@contextmanager
def wandb_server() -> Iterator[Callable[[], WandbServer]]:
    """Run a server on a free port; each call of what it yields gives it a new memory."""
    handler = type("Handler", (_Handler,), {})
    with _Server(("127.0.0.1", 0), handler) as server:

        def renew() -> WandbServer:
            handler.server_memory = WandbServer(f"http://127.0.0.1:{server.server_port}")
            return handler.server_memory

        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield renew
        finally:
            server.shutdown()
            thread.join()


def end_wandb() -> None:
    """End wandb's process, and collect the connections that its client never closes."""
    import wandb

    wandb.teardown()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
