"""A Kubernetes API server over HTTP, with KServe's controller and a gateway's behind it.

It does what the target relies on: ``resourceVersion`` and ``uid`` are held against each write, ``status`` is nobody's
to write, ``generation`` counts changes of the spec, labels select, finalizers delay removals. The controllers work when
somebody reads: after ``slow`` reads an InferenceService is ready, or has failed, as KServe tells it of a plain
Deployment; after ``unrouted`` reads the gateway has taken a route.
"""

from __future__ import annotations

import copy
import json
import re
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.fakes.endpoint_service import GOLDEN

Object = dict[str, Any]

KNOWN = {
    "/apis/serving.kserve.io/v1beta1": ("inferenceservices", "InferenceService"),
    "/apis/gateway.networking.k8s.io/v1": ("httproutes", "HTTPRoute"),
}
PATH = re.compile(r"(/apis/[^/]+/[^/]+)/namespaces/([^/]+)/([^/]+)(?:/([^/]+))?")
DNS_1035 = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
TOKEN = "a service account's token"


class Refused(Exception):  # noqa: N818  # an answer
    """A ``Status`` that is no success."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        self.code, self.reason, self.message = code, reason, message
        super().__init__(message)


@dataclass
class Cluster:
    """One namespace's objects."""

    slow: int = 2
    """Looks at an InferenceService before it is ready."""
    unrouted: int = 1
    """Looks at a route before the gateway has taken it."""
    finalized_after: int = 0
    """Looks at an object that is being removed before it is gone."""
    broken: set[int] = field(default_factory=set)
    """Versions whose container ends at once."""
    stuck: set[int] = field(default_factory=set)
    """Versions whose image is never pulled."""
    before: Callable[[str, str], object] = lambda *_: None
    """What another writer does before a request, given its method and name."""
    objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    looks: Counter[tuple[str, str]] = field(default_factory=Counter)
    versions: int = 100
    answered: Counter[int] = field(default_factory=Counter)
    requests: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    # --- The API server ----------------------------------------------------------------------------------------------

    def read(self, kind: str, name: str) -> Object:
        if (kind, name) not in self.objects:
            raise Refused(404, "NotFound", f'{kind} "{name}" not found')
        self.control(kind, name)
        if (kind, name) not in self.objects:
            raise Refused(404, "NotFound", f'{kind} "{name}" not found')
        return copy.deepcopy(self.objects[kind, name])

    def select(self, kind: str, selector: str) -> Object:
        wanted = dict(part.split("=", 1) for part in selector.split(",") if part)
        names = [name for one, name in sorted(self.objects) if one == kind]
        for name in names:
            self.control(kind, name)
        left = [self.objects[kind, name] for name in names if (kind, name) in self.objects]
        items = [one for one in left if wanted.items() <= one["metadata"].get("labels", {}).items()]
        return {"kind": "List", "metadata": {"resourceVersion": str(self.versions)}, "items": copy.deepcopy(items)}

    def create(self, kind: str, body: Object) -> Object:
        name = body["metadata"]["name"]
        if not DNS_1035.fullmatch(name):
            raise Refused(422, "Invalid", f"metadata.name: Invalid value: {name!r}")
        if kind == "inferenceservices" and not DNS_1035.fullmatch(f"{name}-predictor"):
            raise Refused(422, "Invalid", f"the service {name}-predictor has too long a name")
        if (kind, name) in self.objects:
            raise Refused(409, "AlreadyExists", f'{kind} "{name}" already exists')
        made = copy.deepcopy(body)
        made.pop("status", None)
        made["metadata"] |= {"uid": str(uuid.uuid4()), "generation": 1}
        self.looks.pop((kind, name), None)
        return self.store(kind, made)

    def replace(self, kind: str, name: str, body: Object) -> Object:
        old = self.read(kind, name)
        given = body["metadata"].get("resourceVersion")
        if not given:
            raise Refused(422, "Invalid", "metadata.resourceVersion: must be specified for an update")
        if given != old["metadata"]["resourceVersion"]:
            raise Refused(409, "Conflict", "the object has been modified; apply your changes to the latest version")
        changed = body["spec"] != old["spec"]
        fresh = copy.deepcopy(body)
        fresh["metadata"] |= {
            "uid": old["metadata"]["uid"],
            "generation": old["metadata"]["generation"] + int(changed),
        }
        fresh |= {"status": old["status"]} if "status" in old else {}
        if changed:
            self.looks.pop((kind, name), None)
        return self.store(kind, fresh)

    def delete(self, kind: str, name: str, body: Object) -> Object:
        old = self.read(kind, name)
        for key, value in (body.get("preconditions") or {}).items():
            if value is not None and old["metadata"][key] != value:
                raise Refused(409, "Conflict", f"the {key} in the precondition does not match")
        if not self.finalized_after:
            del self.objects[kind, name]
        elif "deletionTimestamp" not in old["metadata"]:
            old["metadata"] |= {"deletionTimestamp": "2026-03-01T12:00:00Z", "finalizers": ["kserve"]}
            self.looks.pop((kind, name), None)
            self.store(kind, old)
        return {"kind": "Status", "status": "Success"}

    def store(self, kind: str, one: Object) -> Object:
        self.versions += 1
        one["metadata"]["resourceVersion"] = str(self.versions)
        one["metadata"].setdefault("managedFields", [])
        self.objects[kind, one["metadata"]["name"]] = one
        return copy.deepcopy(one)

    # --- The controllers ---------------------------------------------------------------------------------------------

    def control(self, kind: str, name: str) -> None:
        self.looks[kind, name] += 1
        one, looks = self.objects[kind, name], self.looks[kind, name]
        if "deletionTimestamp" in one["metadata"]:
            if looks > self.finalized_after:
                del self.objects[kind, name]
            return
        status = self.predictor(one, looks) if kind == "inferenceservices" else self.accepted(one, looks)
        if status != one.get("status"):
            one["status"] = status
            self.store(kind, one)

    def predictor(self, one: Object, looks: int) -> Object:
        """As KServe tells of a plain Deployment: False while it starts, too."""
        version = int(one["metadata"]["labels"]["ml-lifecycle/version"])
        model: Object = {"transitionStatus": "InProgress"}
        condition = {"type": "PredictorReady", "status": "False", "reason": "MinimumReplicasUnavailable"}
        if looks > self.slow and version in self.broken:
            failure = {"reason": "ModelLoadFailed", "message": "digest mismatch\nTraceback ...", "exitCode": 1}
            model = {"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": failure}
        elif looks > self.slow and version in self.stuck:
            condition |= {"reason": "ProgressDeadlineExceeded", "message": "ReplicaSet has timed out progressing."}
        elif looks > self.slow:
            condition = {"type": "PredictorReady", "status": "True"}
            model = {"transitionStatus": "UpToDate"}
        return {"conditions": [condition, {"type": "IngressReady", "status": "False"}], "modelStatus": model}

    def accepted(self, one: Object, looks: int) -> Object:
        if looks <= self.unrouted:
            return dict(one.get("status", {}))
        seen = {"observedGeneration": one["metadata"]["generation"], "status": "True"}
        conditions = [{**seen, "type": "Accepted", "reason": "Accepted"}, {**seen, "type": "ResolvedRefs"}]
        parent = {"parentRef": one["spec"]["parentRefs"][0], "controllerName": "fake", "conditions": conditions}
        return {"parents": [parent]}

    # --- Users -------------------------------------------------------------------------------------------------------

    def backend(self) -> str:
        """The service that the gateway sends the next request about flights to."""
        with self.lock:
            rule = self.objects["httproutes", "flights"]["spec"]["rules"][0]
            assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/flights"}}]
            place, below = (self.answered.total() * GOLDEN) % 1 * 100, 0
            for one in rule["backendRefs"]:
                below += one["weight"]
                if place < below:
                    return str(one["name"])
        raise AssertionError("no backend")

    def ask(self, user: str) -> int:
        """Whoever answers the next request about flights."""
        name = self.backend()
        with self.lock:
            service = self.objects["inferenceservices", name.removesuffix("-predictor")]
            assert service["status"]["conditions"][0]["status"] == "True", f"503 for {user}"
            version = int(service["metadata"]["labels"]["ml-lifecycle/version"])
            self.answered[version] += 1
            return version

    def service_of(self, version: int) -> Object:
        """The version's InferenceService as it is stored."""
        found = [
            one
            for (kind, _), one in self.objects.items()
            if kind == "inferenceservices" and one["metadata"]["labels"]["ml-lifecycle/version"] == str(version)
        ]
        assert len(found) == 1, found
        return found[0]

    def remove(self, version: int) -> None:
        """What somebody with kubectl does."""
        del self.objects["inferenceservices", self.service_of(version)["metadata"]["name"]]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    cluster: Cluster

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def log_message(self, *arguments: Any) -> None:
        pass

    def _answer(self, method: str) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}")
        try:
            code, found = 200, self._done(method, body)
        except Refused as refused:
            code, found = refused.code, {"kind": "Status", "reason": refused.reason, "message": refused.message}
        text = json.dumps(found).encode() if isinstance(found, dict) else found
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _done(self, method: str, body: Object) -> Object:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise Refused(401, "Unauthorized", "Unauthorized")
        parts = urlsplit(self.path)
        found = PATH.fullmatch(parts.path)
        if found is None or KNOWN.get(found[1], ("",))[0] != found[3]:
            raise Refused(404, "", "404 page not found")
        if method == "POST" and found[2] != "default":
            raise Refused(404, "NotFound", f'namespaces "{found[2]}" not found')
        kind, name = found[3], found[4] or body.get("metadata", {}).get("name", "")
        self.cluster.before(method, name)
        with self.cluster.lock:
            self.cluster.requests.append((method, name))
            if method == "GET" and not found[4]:
                return self.cluster.select(kind, parse_qs(parts.query).get("labelSelector", [""])[0])
            if method == "GET":
                return self.cluster.read(kind, name)
            if method == "POST":
                return self.cluster.create(kind, body)
            if method == "PUT":
                return self.cluster.replace(kind, name, body)
            return self.cluster.delete(kind, name, body)


@contextmanager
def kube_api(cluster: Cluster) -> Iterator[str]:
    """The address of an API server before a cluster."""
    handler = type("Handler", (_Handler,), {"cluster": cluster})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
