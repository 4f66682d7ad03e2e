"""What stands in a cluster for a model: one InferenceService per version, and one HTTPRoute with their shares.

docs/decisions/0018-kserve.md says why these.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from pydantic import Field, ValidationError

from ml_lifecycle.backends.deployment.fence import before_of
from ml_lifecycle.backends.deployment.kube import Kind, Manifest
from ml_lifecycle.core.contracts import Contract, Move, digest_of

INFERENCE_SERVICE: Final = Kind("serving.kserve.io", "v1beta1", "inferenceservices", "InferenceService")
HTTP_ROUTE: Final = Kind("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")

MANAGER: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "ml-lifecycle"
PLACE: Final = "ml-lifecycle/place"
"""Label of everything that belongs to one model."""
REHEARSED: Final = "ml-lifecycle/rehearsal"
"""Label of what a rehearsal made."""
VERSION: Final = "ml-lifecycle/version"
MODEL: Final = "ml-lifecycle/model"
ENVIRONMENT: Final = "ml-lifecycle/environment"
DIGEST_OF: Final = "ml-lifecycle/digest"
SPEC: Final = "ml-lifecycle/spec"
"""Annotation with the digest of the spec as it was written: a cluster adds to what it stores."""
FENCE: Final = "ml-lifecycle/move"
"""Annotation of the route: which move it was written for, and what shall be."""

CONTAINER: Final = "kserve-container"
"""The name by which KServe finds the container whose failures it tells."""
PORT: Final = 8080
SERVICE_PORT: Final = 80
PACKAGE: Final = "/mnt/models"
"""Where KServe's storage initializer puts what ``STORAGE_URI`` names."""
LOG: Final = "/var/lib/ml-lifecycle/log"

_LONGEST_PLACE: Final = 28
"""A service's name may have 63 characters: ``<place>-drill-v<version>-<digest>-predictor``."""
_SERVED_BY: Final = re.compile(r"-v(\d{1,9})-[0-9a-f]{8}-predictor")
_LOST: Final = frozenset({"ProgressDeadlineExceeded", "FailedCreate"})
"""Reasons of a deployment that waiting does not mend."""
_BLOCKED: Final = frozenset({"BlockedByFailedLoad", "InvalidSpec"})


class Fence(Contract):
    """Which move a route was written for, and what shall be: one annotation, written with the shares themselves."""

    environment: str
    epoch: int
    version: int
    digest: str
    decision: str | None = None
    previous: int | None = None
    """The version that served when the move began."""
    wanted: dict[int, int] = Field(default_factory=dict)
    """Percent by version."""
    set_at: datetime | None = None
    """When the shares were last set."""
    fault: str = ""


@dataclass(frozen=True)
class Seen:
    """What stands in the cluster for a model."""

    route: Manifest | None = None
    fence: Fence | None = None
    shares: Mapping[int, int] = field(default_factory=dict)
    """Percent by version, as the route holds them."""
    services: Mapping[int, Manifest] = field(default_factory=dict)
    """InferenceServices by version, without those that are being removed."""

    @property
    def ready(self) -> tuple[int, ...]:
        """Versions that could take traffic at once."""
        return tuple(version for version, one in sorted(self.services.items()) if is_ready(one))

    def begun(self, move: Move) -> Fence:
        """The fence for a move: as it is, or as the move's first write makes it."""
        old, named = self.fence, {"environment", "epoch", "version", "digest"}
        fresh = Fence.model_validate(move.model_dump(include=named))
        if old is not None and old.model_dump(include=named) == fresh.model_dump(include=named):
            return old
        wanted = dict(old.wanted if old else self.shares)
        return fresh.model_copy(update={"previous": before_of(move.version, wanted), "wanted": wanted})


def place_of(model: str) -> str:
    """A model's name as Kubernetes takes it: a letter first, letters, digits and dashes, short."""
    plain = re.sub(r"[^a-z0-9-]", "-", model)
    if plain == model and len(model) <= _LONGEST_PLACE and model[0].isalpha() and model[-1] != "-":
        return model
    return f"m-{plain[: _LONGEST_PLACE - 11].strip('-')}-{hashlib.sha256(model.encode()).hexdigest()[:8]}"


def service_name(place: str, version: int, digest: str) -> str:
    """Name of the InferenceService of a version: other bytes are another one."""
    return f"{place}-v{version}-{digest[:8]}"


def inference_service(
    name: str, labels: Mapping[str, str], annotations: Mapping[str, str], spec: Mapping[str, Any]
) -> Manifest:
    """An InferenceService that runs as a plain Deployment, and is reached from inside the cluster only."""
    return INFERENCE_SERVICE.manifest(
        {
            "name": name,
            "labels": {MANAGER: MANAGED_BY, "networking.kserve.io/visibility": "cluster-local", **labels},
            "annotations": {
                # What KServe calls Standard since 0.16; every release takes this word.
                "serving.kserve.io/deploymentMode": "RawDeployment",
                SPEC: digest_of(spec),
                **annotations,
            },
        },
        spec,
    )


def route_spec(
    shares: Mapping[int, int], services: Mapping[int, Manifest], *, gateway: str, hostname: str, path: str
) -> dict[str, Any]:
    """A route that sends each version's share to its service; ``<path>/invocations`` reaches ``/invocations``."""
    namespace, _, name = gateway.partition("/")
    backends = [
        {
            "group": "",
            "kind": "Service",
            "name": f"{services[version]['metadata']['name']}-predictor",
            "port": SERVICE_PORT,
            "weight": percent,
        }
        for version, percent in sorted(shares.items())
        if percent
    ]
    rewrite = {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}}
    rule = {
        "matches": [{"path": {"type": "PathPrefix", "value": path}}],
        "filters": [rewrite],
        "backendRefs": backends,
    }
    parent = {"group": HTTP_ROUTE.group, "kind": "Gateway", "namespace": namespace, "name": name}
    return {"parentRefs": [parent], **({"hostnames": [hostname]} if hostname else {}), "rules": [rule]}


def over(old: Manifest | None, wanted: Manifest) -> Manifest:
    """An object as it shall be written over the one that was read: what others noted on it, and finalizers, stay."""
    if old is None:
        return wanted
    kept = {key: value for key, value in old["metadata"].items() if key != "managedFields"}
    noted = {name: {**kept.get(name, {}), **wanted["metadata"].get(name, {})} for name in ("labels", "annotations")}
    return {**wanted, "metadata": {**kept, **wanted["metadata"], **noted}}


def shares_in(route: Manifest) -> dict[int, int]:
    """Percent by version, as a route holds them; what it sends elsewhere is not counted."""
    found: dict[int, int] = {}
    for rule in route.get("spec", {}).get("rules", []):
        for backend in rule.get("backendRefs", []):
            served = _SERVED_BY.search(str(backend.get("name", "")))
            weight = backend.get("weight", 1)
            if served and isinstance(weight, int) and weight > 0:
                found[int(served[1])] = found.get(int(served[1]), 0) + weight
    total = sum(found.values())
    return {version: round(100 * weight / total) for version, weight in sorted(found.items())}


def fence_in(route: Manifest) -> Fence | None:
    """What a route's annotation says; one that somebody made unreadable says nothing."""
    text = route.get("metadata", {}).get("annotations", {}).get(FENCE)
    try:
        return Fence.model_validate_json(text) if text else None
    except ValidationError:
        return None


def by_version(services: Sequence[Manifest], digests: Mapping[int, str]) -> dict[int, Manifest]:
    """InferenceServices by version, without those that are being removed.

    :param digests: Of the bytes that some versions have to have.
    """
    found: dict[int, Manifest] = {}
    for one in services:
        text = str(one["metadata"].get("labels", {}).get(VERSION, ""))
        if "deletionTimestamp" in one["metadata"] or not text.isdecimal():
            continue
        if digest_in(one) == digests.get(int(text), digest_in(one)):
            found[int(text)] = one
    return found


def digest_in(service: Manifest) -> str:
    """Digest of the package that an InferenceService serves."""
    return str(service["metadata"].get("annotations", {}).get(DIGEST_OF, ""))


def is_version(service: Manifest, version: int) -> bool:
    """Whether an InferenceService is about this version."""
    return bool(service["metadata"].get("labels", {}).get(VERSION) == str(version))


def is_ready(service: Manifest) -> bool:
    """Whether the predictor's pods take requests.

    ``PredictorReady``, not ``Ready``: the latter also asks for an ingress of its own, which nobody uses here. The
    status has no generation of its own: KServe copies that of the Deployment.
    """
    return _condition(service, "PredictorReady").get("status") == "True"


def failure_of(service: Manifest) -> str:
    """Why the predictor will not be ready, however long one waits; empty while it may be."""
    model = service.get("status", {}).get("modelStatus", {})
    if model.get("transitionStatus") in _BLOCKED:
        info = model.get("lastFailureInfo") or {}
        return _cut(f"{info.get('reason') or model['transitionStatus']}: {info.get('message') or 'no message'}")
    condition = _condition(service, "PredictorReady")
    if condition.get("status") == "False" and condition.get("reason") in _LOST:
        return _cut(f"{condition['reason']}: {condition.get('message') or 'no message'}")
    return ""


def why_not_routed(route: Manifest) -> str:
    """What a gateway still has to do, or refuses, about a route; empty where it routes as it says."""
    metadata, parents = route["metadata"], route.get("status", {}).get("parents", [])
    if not parents:
        return "no gateway has taken the route yet"
    asked = route["spec"]["parentRefs"][0]["name"]
    own = next((one for one in parents if one.get("parentRef", {}).get("name") == asked), parents[0])
    for condition in own.get("conditions", []):
        if condition.get("observedGeneration", 0) < metadata.get("generation", 0):
            return "the gateway has not seen the shares yet"
        if condition.get("type") in {"Accepted", "ResolvedRefs"} and condition.get("status") != "True":
            return _cut(f"the gateway says {condition.get('reason')}: {condition.get('message') or 'no message'}")
    return ""


def _condition(service: Manifest, kind: str) -> dict[str, Any]:
    conditions = service.get("status", {}).get("conditions", [])
    return next((one for one in conditions if one.get("type") == kind), {})


def _cut(text: str) -> str:
    """A line of a cluster's words, which may hold a whole traceback."""
    return " ".join(text.split())[:300]
