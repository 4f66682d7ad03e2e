"""Serving on Kubernetes by KServe, with the shares of traffic in a route of the Gateway API."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any, Final, Literal

from pydantic import Field, model_validator

from ml_lifecycle.backends.deployment.base import ALL, Means, Serving, SplittingTarget
from ml_lifecycle.backends.deployment.fence import refuse_foreign, refuse_older, refuse_unknown, shares
from ml_lifecycle.backends.deployment.kserve_objects import (
    CONTAINER,
    DIGEST_OF,
    ENVIRONMENT,
    FENCE,
    HTTP_ROUTE,
    INFERENCE_SERVICE,
    LOG,
    MANAGED_BY,
    MANAGER,
    MODEL,
    PACKAGE,
    PLACE,
    PORT,
    REHEARSED,
    SPEC,
    VERSION,
    Fence,
    Seen,
    by_version,
    digest_in,
    failure_of,
    fence_in,
    inference_service,
    is_ready,
    is_version,
    over,
    place_of,
    route_spec,
    service_name,
    shares_in,
)
from ml_lifecycle.backends.deployment.kserve_shares import (
    answering_shares,
    judged,
    owner_of,
    possible_shares,
    serving_of,
    wanting,
    without_previous,
    written_in,
)
from ml_lifecycle.backends.deployment.kube import ConflictError, Manifest, Namespace
from ml_lifecycle.backends.deployment.package_storage import publish
from ml_lifecycle.backends.deployment.prometheus import Queries, observed
from ml_lifecycle.core.contracts import Contract, Move, Observation, digest_of
from ml_lifecycle.core.errors import RollbackNotReadyError, ServiceUnavailableError, TargetRefusedError
from ml_lifecycle.core.values import StoredDuration

_ATTEMPTS: Final = 8
_PAUSE_S: Final = 0.5
_STORAGE: Final = r"^(s3|pvc|gs)://[a-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$"
_DNS: Final = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"


class Resources(Contract):
    """Of each pod, as Kubernetes writes them."""

    cpu: str = "250m"
    """That a pod is sure of."""
    cpu_limit: str = ""
    """That it may use; left out, whatever is free."""
    memory: str = "1Gi"
    """That it is sure of, and may not pass."""


class KServeTarget(SplittingTarget):
    """An ``InferenceService`` per version, and one ``HTTPRoute`` per model that shares the traffic among them.

    The route holds the shares and, in an annotation, the move that they were set for, so that one write with the
    ``resourceVersion`` that was read changes both or neither. A version gets no share before it is ready: until then
    the annotation says what shall be, and :meth:`status` sets it as soon as it can.
    """

    backend: Literal["kserve"] = "kserve"
    connection: str = Field(default="kubernetes_default", min_length=1, max_length=250)
    """Id of the connection of type ``kubernetes`` that leads to the cluster."""
    namespace: str = Field(default="default", pattern=_DNS)
    image: str = Field(min_length=1, max_length=500)
    """The model server's container image; one with a digest (``@sha256:...``) is the same tomorrow."""
    storage: str = Field(pattern=_STORAGE, max_length=500)
    """Where pods fetch packages from, without the digest that follows: ``s3://bucket/prefix``, ``pvc://claim/path``."""
    storage_connection: str = Field(default="", max_length=250)
    """Id of the connection that packages are uploaded to ``s3://`` with; left out, somebody else puts them there."""
    storage_folder: str = Field(default="", max_length=500)
    """Where workers see the claim's path; left out, somebody else puts packages there."""
    log_claim: str = Field(
        default="", pattern=r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?(/[A-Za-z0-9_][A-Za-z0-9._-]*)*)?$", max_length=500
    )
    """``claim/path`` of a volume that many pods may write, and that workers see as the data root's ``log``; left out,
    predictions are not logged, and no step learns of their quality."""
    gateway: str = Field(default="kserve/kserve-ingress-gateway", pattern=r"^[a-z0-9-]+/[a-z0-9.-]+$")
    """``namespace/name`` of the Gateway that takes the requests."""
    hostname: str = Field(default="", pattern=r"^([a-z0-9*]([a-z0-9.-]*[a-z0-9])?)?$", max_length=253)
    """Of the requests; left out, all of the gateway's."""
    path: str = Field(default="", pattern=r"^(/[A-Za-z0-9._~-]+)*$", max_length=250)
    """Start of the path that requests come to; left out, ``/<model>``."""
    service_account: str = Field(default="", max_length=253)
    """Of the pods: what fetches packages with its secrets."""
    replicas: int = Field(default=1, ge=1, le=1000)
    """Least number of pods of each version."""
    max_replicas: int | None = Field(default=None, ge=1, le=1000)
    resources: Resources = Resources()
    prometheus: str = Field(default="", max_length=250)
    """Id of the connection of type ``http`` to Prometheus; left out, nobody knows what versions did."""
    queries: Queries = Queries()
    """What Prometheus is asked."""
    rehearsal_within: StoredDuration = timedelta(minutes=10)
    """How long a rehearsal waits for its pods."""

    @model_validator(mode="after")
    def _fitting(self) -> KServeTarget:
        if self.storage_folder and not self.storage_folder.startswith("/"):
            raise ValueError("storage_folder is no absolute path")
        if self.storage_connection and not self.storage.startswith("s3://"):
            raise ValueError("storage_connection uploads to s3:// only")
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError("max_replicas is below replicas")
        return self

    # --- Writing -----------------------------------------------------------------------------------------------------

    def deploy(self, move: Move, means: Means) -> None:
        """Have pods of the move's version started; a version that gets no traffic is removed for it."""
        refuse_unknown(move, means.registry)
        cluster = self._cluster(means)
        self._write(move, cluster, lambda fence: fence)
        self._ensure_service(move, cluster, means)
        self._remove_idle(move, cluster)

    def promote(self, move: Move, means: Means) -> None:
        """Send all traffic to the move's version, as soon as it is ready: one write where it is."""
        self._serve(move, means, restore=False)

    def set_split(self, move: Move, percent: int, means: Means) -> None:
        """Send this share to the move's version, and the rest to the one that served when the move began."""

        def shifted(fence: Fence) -> Fence:
            return wanting(fence, shares(move.version, percent, fence.previous))

        self._write(move, self._cluster(means), shifted)

    def retire(self, move: Move, means: Means) -> None:
        """Remove the versions without traffic; the move's stays."""
        cluster = self._cluster(means)
        self._write(move, cluster, without_previous)
        self._remove_idle(move, cluster)

    def restore(self, head: Move, means: Means) -> None:
        """As :meth:`promote`, and put the annotation right."""
        self._serve(head, means, restore=True)

    def destroy(self, model: str, environment: str, means: Means) -> None:
        """Remove the route, then every InferenceService of the model."""
        cluster = self._cluster(means)
        for _ in range(_ATTEMPTS):
            seen = self._look(model, cluster)
            refuse_foreign(owner_of(seen), environment, where=self._where(model))
            if seen.route is None:
                self._remove(cluster, {PLACE: place_of(model)}, environment)
                return
            with suppress(ConflictError):
                cluster.delete(seen.route, HTTP_ROUTE, unchanged=True)
        raise self._unsteady(model)

    # --- Reading -----------------------------------------------------------------------------------------------------

    def status(self, model: str, means: Means) -> Serving:
        """What the route sends where; a share that waited for its version to be ready is set on the way."""
        cluster = self._cluster(means)
        for _ in range(_ATTEMPTS):
            seen = self._look(model, cluster)
            if seen.fence is None or seen.route is None:
                return Serving(traffic=answering_shares(seen), ready=seen.ready)
            fence = judged(seen.fence, seen)
            possible = possible_shares(fence, seen)
            if fence == seen.fence and possible == dict(seen.shares):
                return serving_of(seen, fence)
            # Whoever comes in between knows better: then it is looked at again.
            with suppress(ConflictError):
                cluster.replace(self._route(model, fence, possible, seen), HTTP_ROUTE)
        raise self._unsteady(model)

    def observe(self, model: str, since: datetime, means: Means) -> Mapping[int, Observation]:
        """What Prometheus counted for each version's service."""
        seen = self._look(model, self._cluster(means))
        names = {version: f"{one['metadata']['name']}-predictor" for version, one in sorted(seen.services.items())}
        if not self.prometheus:
            return {version: Observation(version=version, requests=0) for version in names}
        began = max(since, seen.fence.set_at) if seen.fence and seen.fence.set_at else since
        seconds = max(int((datetime.now(timezone.utc) - began).total_seconds()), 1)
        session = means.client("http", self.prometheus)
        return observed(session, self.queries, names, namespace=self.namespace, seconds=seconds)

    def rehearse(self, move: Move, means: Means) -> Mapping[int, int]:
        """Start a pod of the version that no route leads to, wait until it is ready, and remove it."""
        refuse_unknown(move, means.registry)
        cluster, place = self._cluster(means), place_of(move.model)
        labels = {REHEARSED: place}
        name = service_name(f"{place}-drill", move.version, move.digest)
        try:
            self._remove(cluster, labels, move.environment)
            self._publish(move, means)
            cluster.create(self._service(move, name, labels, means), INFERENCE_SERVICE)
            return self._seen_ready(name, move, cluster)
        finally:
            # What failed before is told; what is left is removed by the next rehearsal.
            with suppress(ServiceUnavailableError, ConflictError):
                self._remove(cluster, labels, move.environment)

    # --- How ---------------------------------------------------------------------------------------------------------

    def _serve(self, move: Move, means: Means, *, restore: bool) -> None:
        cluster = self._cluster(means)
        self._write(move, cluster, lambda fence: wanting(fence, {move.version: ALL}), restore=restore)
        # Nothing but the route is touched where it runs: a rollback needs neither registry nor storage.
        if cluster.get(INFERENCE_SERVICE, service_name(place_of(move.model), move.version, move.digest)) is None:
            refuse_unknown(move, means.registry)
            self._ensure_service(move, cluster, means)

    def _write(
        self, move: Move, cluster: Namespace, change: Callable[[Fence], Fence], *, restore: bool = False
    ) -> None:
        """Change what shall be, unless somebody else did meanwhile: then look again."""
        where = self._where(move.model)
        for _ in range(_ATTEMPTS):
            seen = self._look(move.model, cluster, move)
            if restore:
                refuse_foreign(owner_of(seen), move.environment, where=where)
            else:
                epoch = seen.fence.epoch if seen.fence else 0
                refuse_older(move, environment=owner_of(seen), epoch=epoch, where=where)
            fence = change(seen.begun(move).model_copy(update={"decision": move.decision_id, "fault": ""}))
            route = self._route(move.model, fence, possible_shares(fence, seen), seen)
            if fence == seen.fence and written_in(route) == written_in(seen.route):
                return
            try:
                if seen.route is None:
                    cluster.create(route, HTTP_ROUTE)
                else:
                    cluster.replace(route, HTTP_ROUTE)
            except ConflictError:
                continue
            return
        raise self._unsteady(move.model)

    def _look(self, model: str, cluster: Namespace, move: Move | None = None) -> Seen:
        """What stands there; of a move's version, only what holds its bytes."""
        place = place_of(model)
        route = cluster.get(HTTP_ROUTE, place)
        if route is not None and route["metadata"].get("labels", {}).get(MANAGER) != MANAGED_BY:
            raise TargetRefusedError(
                "there is a route by that name that somebody else made",
                where=self._where(model),
                way_out="use another namespace",
            )
        listed = cluster.list(INFERENCE_SERVICE, {PLACE: place})
        leaving = route is not None and "deletionTimestamp" in route["metadata"]
        if leaving and move is not None:
            raise self._leaving(model)
        if route is None or leaving:
            return Seen(services=by_version(listed, {move.version: move.digest} if move else {}))
        fence, shared = fence_in(route), shares_in(route)
        digests = {fence.version: fence.digest} if fence else {}
        if move is not None:
            self._refuse_other_bytes(move, listed, shared)
            digests[move.version] = move.digest
        return Seen(route=route, fence=fence, shares=shared, services=by_version(listed, digests))

    def _refuse_other_bytes(self, move: Move, listed: Sequence[Manifest], shared: Mapping[int, int]) -> None:
        others = [one for one in listed if is_version(one, move.version) and digest_in(one) != move.digest]
        if others and move.version in shared:
            raise TargetRefusedError(
                f"other bytes serve as version {move.version}: {digest_in(others[0])[:8]}, not {move.digest[:8]}",
                where=self._where(move.model),
                way_out="release under another version, or use another namespace for another registry",
            )

    def _route(self, model: str, fence: Fence, possible: Mapping[int, int], seen: Seen) -> Manifest:
        """The route as it shall be written over the one that was read."""
        place = place_of(model)
        if possible != dict(seen.shares) or fence.set_at is None:
            fence = fence.model_copy(update={"set_at": datetime.now(timezone.utc)})
        path = self.path or f"/{model}"
        spec = route_spec(possible, seen.services, gateway=self.gateway, hostname=self.hostname, path=path)
        metadata = {
            "name": place,
            "labels": {MANAGER: MANAGED_BY, PLACE: place},
            "annotations": {MODEL: model, FENCE: fence.model_dump_json(), SPEC: digest_of(spec)},
        }
        return over(seen.route, HTTP_ROUTE.manifest(metadata, spec))

    def _ensure_service(self, move: Move, cluster: Namespace, means: Means) -> None:
        """Have the version's InferenceService be what these options say."""
        place = place_of(move.model)
        name = service_name(place, move.version, move.digest)
        wanted = self._service(move, name, {PLACE: place}, means)
        for _ in range(_ATTEMPTS):
            old = cluster.get(INFERENCE_SERVICE, name)
            if old is not None and "deletionTimestamp" in old["metadata"]:
                raise self._leaving(move.model)
            if written_in(old) == written_in(wanted):
                return
            try:
                if old is None:
                    self._publish(move, means)
                    cluster.create(wanted, INFERENCE_SERVICE)
                else:
                    cluster.replace(over(old, wanted), INFERENCE_SERVICE)
            except ConflictError:
                continue
            return
        raise self._unsteady(move.model)

    def _service(self, move: Move, name: str, labels: Mapping[str, str], means: Means) -> Manifest:
        told = {"digest": move.digest, "model": move.model, "version": str(move.version)}
        arguments = [f"--{option}={value}" for option, value in {"package": PACKAGE, **told}.items()]
        arguments += ["--host=0.0.0.0", f"--port={PORT}", *(f"--trusted-type={one}" for one in means.trusted_types)]
        ping = {"httpGet": {"path": "/ping", "port": PORT}, "periodSeconds": 2, "timeoutSeconds": 2}
        container = {
            "name": CONTAINER,
            "image": self.image,
            "command": ["python", "-m", "ml_lifecycle.serving.server"],
            "args": arguments,
            "env": [{"name": "STORAGE_URI", "value": f"{self.storage}/{move.digest}"}],
            "ports": [{"containerPort": PORT, "protocol": "TCP"}],
            "readinessProbe": ping,
            "resources": self._container_resources(),
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        replicas = 1 if REHEARSED in labels else self.replicas
        predictor: dict[str, Any] = {"minReplicas": replicas, "containers": [container]}
        if self.log_claim and REHEARSED not in labels:
            claim, _, path = self.log_claim.partition("/")
            arguments.append(f"--log={LOG}")
            container["volumeMounts"] = [{"name": "log", "mountPath": LOG, **({"subPath": path} if path else {})}]
            predictor["volumes"] = [{"name": "log", "persistentVolumeClaim": {"claimName": claim}}]
        if self.max_replicas is not None and REHEARSED not in labels:
            predictor["maxReplicas"] = self.max_replicas
        if self.service_account:
            predictor["serviceAccountName"] = self.service_account
        notes = {MODEL: move.model, ENVIRONMENT: move.environment, DIGEST_OF: move.digest}
        return inference_service(name, {VERSION: str(move.version), **labels}, notes, {"predictor": predictor})

    def _container_resources(self) -> dict[str, dict[str, str]]:
        limits = {"memory": self.resources.memory}
        if self.resources.cpu_limit:
            limits["cpu"] = self.resources.cpu_limit
        return {"requests": {"cpu": self.resources.cpu, "memory": self.resources.memory}, "limits": limits}

    def _publish(self, move: Move, means: Means) -> None:
        publish(move, self.storage, connection=self.storage_connection, folder=self.storage_folder, means=means)

    def _remove_idle(self, move: Move, cluster: Namespace) -> None:
        """Remove the InferenceServices of versions that neither get traffic nor shall, nor did when the move began."""
        seen = self._look(move.model, cluster, move)
        fence = seen.fence
        if fence is None or (fence.environment, fence.epoch) != (move.environment, move.epoch):
            return  # a newer move came in between, and what it needs is its own
        busy = {move.version, fence.previous, *fence.wanted, *seen.shares}
        kept = {one["metadata"]["name"] for version, one in seen.services.items() if version in busy}
        for service in cluster.list(INFERENCE_SERVICE, {PLACE: place_of(move.model)}):
            if service["metadata"]["name"] not in kept:
                with suppress(ConflictError):
                    cluster.delete(service, INFERENCE_SERVICE, unchanged=False)

    def _remove(self, cluster: Namespace, labels: Mapping[str, str], environment: str) -> None:
        for service in cluster.list(INFERENCE_SERVICE, labels):
            metadata = service["metadata"]
            owner = str(metadata.get("annotations", {}).get(ENVIRONMENT, ""))
            refuse_foreign(owner, environment, where=f"{metadata['name']} in namespace {self.namespace}")
            with suppress(ConflictError):
                cluster.delete(service, INFERENCE_SERVICE, unchanged=False)

    def _seen_ready(self, name: str, move: Move, cluster: Namespace) -> dict[int, int]:
        until = time.monotonic() + self.rehearsal_within.total_seconds()
        while True:
            service = cluster.get(INFERENCE_SERVICE, name)
            if service is not None and is_ready(service):
                return {move.version: ALL}
            failed = failure_of(service) if service is not None else "somebody removed it"
            if failed or time.monotonic() > until:
                raise RollbackNotReadyError(
                    f"version {move.version} did not become ready: {failed or f'within {self.rehearsal_within}'}",
                    where=f"{name} in {self.namespace}",
                    way_out="see the events and logs of its pods",
                )
            time.sleep(_PAUSE_S)

    def _cluster(self, means: Means) -> Namespace:
        return Namespace(means.client("kubernetes", self.connection), self.namespace)

    def _where(self, model: str) -> str:
        return f"{place_of(model)} in namespace {self.namespace}"

    def _leaving(self, model: str) -> ServiceUnavailableError:
        return ServiceUnavailableError(
            "it is still being removed", where=self._where(model), way_out="try again in a moment"
        )

    def _unsteady(self, model: str) -> ServiceUnavailableError:
        return ServiceUnavailableError(
            f"others changed it {_ATTEMPTS} times in between",
            where=self._where(model),
            way_out="find out who writes there",
        )
