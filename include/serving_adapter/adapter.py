"""What to put before an endpoint so that ``deployment: {backend: http}`` can steer it: an example to start from.

Write an :class:`Endpoint` of your own, with the calls of Azure ML, Vertex AI or whatever serves your models, and run
``adapter(YourEndpoint(), Path("/var/lib/adapter"))`` in one uvicorn process. The contract that it holds to is
docs/reference/http-target.yaml.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, Protocol

from fastapi import FastAPI, Header, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

Percents = dict[int, Annotated[int, Field(ge=0, le=100)]]
IfMatch = Annotated[str, Header(alias="If-Match")]
IfNoneMatch = Annotated[str, Header(alias="If-None-Match")]


class Endpoint(Protocol):
    """What an adapter needs of the place where models really serve."""

    def run(self, model: str, version: int, digest: str, uri: str) -> None:
        """Start a version beside what serves; return at once."""

    def stop(self, model: str, version: int) -> None:
        """Remove a version that gets no traffic; nothing happens where there is none."""

    def ready(self, model: str, version: int) -> bool:
        """Whether it could take traffic at once."""

    def failure(self, model: str, version: int) -> str:
        """Why it will not be ready; empty while it may be."""

    def route(self, model: str, traffic: Mapping[int, int]) -> None:
        """Send each version its percent of the requests."""

    def routed(self, model: str) -> dict[int, int]:
        """The percents in force; empty while nothing serves."""

    def counts(self, model: str, since: datetime) -> Sequence[Mapping[str, Any]]:
        """What each version did: version, requests, errors, retried, latency."""


class MoveDone(BaseModel):
    """The move that a write belongs to: who may write, and what the version before was."""

    environment: str = Field(min_length=1)
    epoch: int = Field(ge=1)
    version: int
    previous: int | None = None
    decision: str | None = None


class Record(BaseModel):
    """What the adapter remembers of a model: it outlives the process."""

    move: MoveDone
    wanted: Percents = {}
    versions: dict[int, str] = {}
    """Digests."""
    fault: str = ""

    def tag(self) -> str:
        """The state's ETag."""
        return f'"{hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:32]}"'


class VersionWrite(BaseModel):
    """Body of ``PUT /models/{model}/versions/{version}``."""

    move: MoveDone
    digest: str
    uri: str
    restore: bool = False


class SplitWrite(BaseModel):
    """Body of ``PUT /models/{model}/split``."""

    move: MoveDone
    traffic: Percents
    restore: bool = False


class Problem(Exception):  # noqa: N818  # called as RFC 9457 does
    """An answer that is no success."""

    def __init__(self, status: int, kind: str, detail: str) -> None:
        self.status, self.kind, self.detail = status, kind, detail
        super().__init__(detail)


class Records:
    """One JSON file per model, replaced whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, model: str) -> Record | None:
        """What is remembered."""
        file = self._file(model)
        return Record.model_validate_json(file.read_text()) if file.exists() else None

    def write(self, model: str, record: Record | None) -> None:
        """Remember, or forget."""
        file = self._file(model)
        if record is None:
            file.unlink(missing_ok=True)
            return
        draft = file.with_suffix(".new")
        draft.write_text(record.model_dump_json())
        draft.replace(file)

    def _file(self, model: str) -> Path:
        # A hash, so that no name leads out of the folder.
        return self._folder / f"{hashlib.sha256(model.encode()).hexdigest()}.json"


class Adapter:
    """The contract over an endpoint; one call at a time."""

    def __init__(self, endpoint: Endpoint, folder: Path) -> None:
        self.endpoint, self.records, self.lock = endpoint, Records(folder), Lock()

    def state(self, model: str) -> tuple[Record, dict[str, Any]]:
        """What is wanted and what is."""
        record = self.records.read(model)
        if record is None:
            raise Problem(404, "absent", f"nothing is known of {model}")
        record = self._converge(model, record)
        versions = [
            {"version": version, "digest": digest, "ready": self.endpoint.ready(model, version)}
            for version, digest in sorted(record.versions.items())
        ]
        shown = record.model_dump(mode="json", exclude={"versions"})
        return record, {
            **shown,
            "versions": versions,
            "traffic": {str(one): percent for one, percent in self.endpoint.routed(model).items()},
        }

    def allowed(self, model: str, move: MoveDone, tags: tuple[str, str], *, restore: bool = False) -> Record | None:
        """Refuse whoever was overtaken; the record that the write is about."""
        record = self.records.read(model)
        if_match, if_none_match = tags
        if not if_match and not if_none_match:
            raise Problem(428, "precondition-required", "say If-Match, or If-None-Match: * for the first write")
        if (record is None) != bool(if_none_match) or (record is not None and if_match != record.tag()):
            raise Problem(412, "changed", "the state is another one by now")
        if record is None:
            return None
        if record.move.environment != move.environment:
            raise Problem(409, "foreign-environment", f"this is the place of {record.move.environment!r}")
        if record.move.epoch > move.epoch and not restore:
            raise Problem(409, "stale-epoch", f"epoch {record.move.epoch} was here")
        return record

    def run(self, model: str, version: int, write: VersionWrite, tags: tuple[str, str]) -> None:
        """Start a version that gets no traffic by that."""
        old = self.allowed(model, write.move, tags, restore=write.restore)
        wanted = dict(old.wanted) if old else {}
        versions = {**(old.versions if old else {}), version: write.digest}
        # Remembered first: from here on no older move gets through.
        self.records.write(model, Record(move=write.move, wanted=wanted, versions=versions))
        self.endpoint.run(model, version, write.digest, write.uri)

    def split(self, model: str, write: SplitWrite, tags: tuple[str, str]) -> None:
        """Shift traffic, as soon as everything that shall get some is ready."""
        old = self.allowed(model, write.move, tags, restore=write.restore)
        traffic = {version: percent for version, percent in write.traffic.items() if percent}
        if old is None or not set(traffic) <= set(old.versions):
            raise Problem(422, "not-deployed", "a version is to get traffic that is not deployed")
        if sum(traffic.values()) != 100:  # noqa: PLR2004  # percent
            raise Problem(422, "no-split", "the shares do not sum to 100")
        record = Record(move=write.move, wanted=traffic, versions=old.versions)
        self.records.write(model, record)
        self._converge(model, record)

    def stop(self, model: str, version: int, move: MoveDone, tags: tuple[str, str]) -> None:
        """Remove a version that gets no traffic."""
        old = self.allowed(model, move, tags)
        if old is None or version not in old.versions:
            raise Problem(404, "absent", f"version {version} is not deployed")
        if version in old.wanted or version in self.endpoint.routed(model):
            raise Problem(409, "busy", f"version {version} gets traffic")
        self.endpoint.stop(model, version)
        versions = {one: digest for one, digest in old.versions.items() if one != version}
        self.records.write(model, old.model_copy(update={"versions": versions}))

    def forget(self, model: str, environment: str, tags: tuple[str, str]) -> None:
        """Remove everything of a model."""
        record = self.records.read(model)
        if record is None:
            raise Problem(404, "absent", f"nothing is known of {model}")
        self.allowed(model, record.move.model_copy(update={"environment": environment}), tags)
        self.endpoint.route(model, {})
        for version in record.versions:
            self.endpoint.stop(model, version)
        self.records.write(model, None)

    def _converge(self, model: str, record: Record) -> Record:
        """Route as wanted when everything is ready; take traffic away from a version that failed."""
        routed, moved = self.endpoint.routed(model), record.move.version
        failure = self.endpoint.failure(model, moved) if moved in record.versions else ""
        if failure and not record.fault:
            others = {version: percent for version, percent in routed.items() if version != moved}
            kept = {max(others, key=lambda version: others[version]): 100} if others else routed
            record = record.model_copy(update={"fault": f"version {moved}: {failure}", "wanted": kept})
            self.records.write(model, record)
        if routed != record.wanted and all(self.endpoint.ready(model, version) for version in record.wanted):
            self.endpoint.route(model, record.wanted)
        return record


def adapter(endpoint: Endpoint, folder: Path) -> FastAPI:
    """The contract as an application; put authentication before it.

    :param folder: Where it remembers what was asked of it. One process per folder.
    """
    app, held = FastAPI(title="Serving adapter"), Adapter(endpoint, folder)

    @app.exception_handler(Problem)
    def _problem(request: Request, error: Problem) -> Response:  # noqa: ARG001  # as FastAPI calls it
        body = {"type": f"urn:ml-lifecycle:{error.kind}", "status": error.status, "detail": error.detail}
        return JSONResponse(body, error.status, media_type="application/problem+json")

    @app.get("/models/{model}")
    def _state(model: str) -> Response:
        with held.lock:
            record, state = held.state(model)
        return JSONResponse(state, headers={"ETag": record.tag()})

    @app.put("/models/{model}/versions/{version}", status_code=202)
    def _run(model: str, version: int, write: VersionWrite, tag: IfMatch = "", absent: IfNoneMatch = "") -> None:
        with held.lock:
            held.run(model, version, write, (tag, absent))

    @app.delete("/models/{model}/versions/{version}", status_code=204)
    def _stop(model: str, version: int, environment: str, epoch: int, tag: IfMatch = "") -> None:
        with held.lock:
            held.stop(model, version, MoveDone(environment=environment, epoch=epoch, version=version), (tag, ""))

    @app.put("/models/{model}/split", status_code=202)
    def _split(model: str, write: SplitWrite, tag: IfMatch = "") -> None:
        with held.lock:
            held.split(model, write, (tag, ""))

    @app.get("/models/{model}/observations")
    def _observations(model: str, since: datetime) -> dict[str, Any]:
        return {"versions": list(held.endpoint.counts(model, since))}

    @app.delete("/models/{model}", status_code=204)
    def _forget(model: str, environment: str, tag: IfMatch = "") -> None:
        with held.lock:
            held.forget(model, environment, (tag, ""))

    return app
