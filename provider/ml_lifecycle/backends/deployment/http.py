"""Serving behind a small REST contract that anybody can put before an endpoint of theirs.

The contract is docs/reference/http-target.yaml; docs/guides/http-target.md says what a service has to hold to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ml_lifecycle.backends.deployment.base import ALL, Means, Serving, SplittingTarget
from ml_lifecycle.backends.deployment.fence import before_of, refuse_foreign, refuse_older, refuse_unknown, shares
from ml_lifecycle.backends.deployment.rest import Answer, ask
from ml_lifecycle.core.contracts import Move, Observation, first_mistake
from ml_lifecycle.core.errors import RollbackNotReadyError, ServiceRefusedError, ServiceUnavailableError
from ml_lifecycle.core.values import StoredDuration

if TYPE_CHECKING:
    import requests

REHEARSAL: Final = ".drill"
"""End of the name that a rehearsal's version serves under; no model's name holds a dot."""

_ATTEMPTS: Final = 8
_OVERTAKEN: Final = frozenset({409, 412})
_NOTHING: Final = 404
_DONE: Final = frozenset({200, 201, 202, 204})
_PAUSE_S: Final = 0.5


class _Told(BaseModel):
    """A service may say more than is asked of it."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


_ToldT = TypeVar("_ToldT", bound=_Told)


class _MoveDone(_Told):
    environment: str
    epoch: int = Field(ge=0)
    version: int
    previous: int | None = None
    """The version that served when the move began."""


class _Deployed(_Told):
    version: int
    digest: str
    ready: bool


class _State(_Told):
    """What a service says about one model."""

    move: _MoveDone
    wanted: dict[int, int] = {}
    traffic: dict[int, int] = {}
    versions: tuple[_Deployed, ...] = ()
    fault: str = ""
    detail: str = ""

    @field_validator("wanted", "traffic")
    @classmethod
    def _whole(cls, traffic: dict[int, int]) -> dict[int, int]:
        found = {version: percent for version, percent in traffic.items() if percent}
        if any(not 0 < percent <= ALL for percent in found.values()) or sum(found.values()) not in (0, ALL):
            raise ValueError("the shares are no percentages that sum to 100")
        return found

    def runs(self, move: Move) -> bool:
        """Whether the move's version is deployed, with these bytes."""
        return any((one.version, one.digest) == (move.version, move.digest) for one in self.versions)

    def idle(self, *kept: int | None) -> tuple[int, ...]:
        """Versions that neither get traffic nor shall, but for these."""
        busy = {*kept, *self.wanted, *self.traffic}
        return tuple(one.version for one in self.versions if one.version not in busy)


class _Observed(_Told):
    versions: tuple[Observation, ...] = ()


class HttpTarget(SplittingTarget):
    """A service of one's own that holds to the contract, such as an adapter before Azure ML or Vertex AI.

    Each write names the state that it was decided on (``If-Match``) and the move's environment and epoch: the service
    refuses what it was overtaken by, so that two writers cannot undo each other.
    """

    backend: Literal["http"] = "http"
    connection: str = Field(default="ml_lifecycle_endpoint", min_length=1, max_length=250)
    """Id of the connection of type ``http`` that leads to the service."""
    deadline: StoredDuration = timedelta(seconds=60)
    """How long one call is tried, its repetitions included."""
    rehearsal_within: StoredDuration = timedelta(minutes=5)
    """How long a rehearsal waits for its version to be ready."""

    def deploy(self, move: Move, means: Means) -> None:
        """Have the service run the move's version; one that gets no traffic makes place for it."""
        refuse_unknown(move, means.registry)
        service = self._service(move.model, means)
        service.write(move, lambda state: service.put_version(move, state))
        service.remove_idle(move, keep_previous=True)

    def promote(self, move: Move, means: Means) -> None:
        """Send all traffic to the move's version as soon as it is ready."""
        self._serve(move, means, restore=False)

    def set_split(self, move: Move, percent: int, means: Means) -> None:
        """Send this share to the move's version, and the rest to the one that served when the move began."""
        service = self._service(move.model, means)
        service.write(move, lambda state: service.put_split(move, percent, state))

    def retire(self, move: Move, means: Means) -> None:
        """Have every version stopped that gets no traffic; the move's stays."""
        self._service(move.model, means).remove_idle(move, keep_previous=False)

    def restore(self, head: Move, means: Means) -> None:
        """As :meth:`promote`, and put the service's epoch right."""
        self._serve(head, means, restore=True)

    def status(self, model: str, means: Means) -> Serving:
        """What the service says that it serves."""
        state, _ = self._service(model, means).read()
        if state is None:
            return Serving()
        ready = tuple(sorted(one.version for one in state.versions if one.ready))
        waiting = sorted({state.move.version, *state.wanted} - set(ready))
        settled = not state.fault and not waiting and state.traffic == state.wanted
        return Serving(
            traffic=state.traffic,
            epoch=state.move.epoch,
            environment=state.move.environment,
            ready=ready,
            settled=settled,
            fault=state.fault,
            detail=state.detail or ("" if settled else _waiting_for(waiting)),
        )

    def observe(self, model: str, since: datetime, means: Means) -> Mapping[int, Observation]:
        """What the service counted, of versions that are deployed."""
        service = self._service(model, means)
        state, _ = service.read()
        if state is None:
            return {}
        found = service.observations(since)
        return {
            one.version: found.get(one.version, Observation(version=one.version, requests=0)) for one in state.versions
        }

    def destroy(self, model: str, environment: str, means: Means) -> None:
        """Have the service stop and forget everything of the model."""
        self._service(model, means).delete(environment)

    def rehearse(self, move: Move, means: Means) -> Mapping[int, int]:
        """Have the version serve as ``<model>.drill``, look, and have it removed."""
        refuse_unknown(move, means.registry)
        alone = move.model_copy(update={"model": f"{move.model}{REHEARSAL}"})
        service = self._service(alone.model, means)
        try:
            service.delete(move.environment)
            service.write(alone, lambda state: service.put_version(alone, state))
            service.write(alone, lambda state: service.put_split(alone, ALL, state))
            return self._settled(alone.model, means).traffic
        finally:
            # What failed before is told; what is left is removed by the next rehearsal.
            with suppress(ServiceUnavailableError):
                service.delete(move.environment)

    def _serve(self, move: Move, means: Means, *, restore: bool) -> None:
        service = self._service(move.model, means)
        state, _ = service.read()
        if state is None or not state.runs(move):
            refuse_unknown(move, means.registry)
            service.write(move, lambda state: service.put_version(move, state), restore=restore)
        service.write(move, lambda state: service.put_split(move, ALL, state), restore=restore)

    def _settled(self, model: str, means: Means) -> Serving:
        until = time.monotonic() + self.rehearsal_within.total_seconds()
        while not (seen := self.status(model, means)).settled:
            if seen.fault or time.monotonic() > until:
                raise RollbackNotReadyError(
                    seen.fault or f"it was not ready within {self.rehearsal_within} ({seen.detail})",
                    where=f"{model} at connection {self.connection!r}",
                    way_out="see the service's log",
                )
            time.sleep(_PAUSE_S)
        return seen

    def _service(self, model: str, means: Means) -> _Service:
        session = means.client("http", self.connection)
        return _Service(session, model, self.deadline.total_seconds())


class _Service:
    """The resources of one model."""

    def __init__(self, session: requests.Session, model: str, deadline_s: float) -> None:
        self._session, self._path, self._deadline_s = session, f"/models/{model}", deadline_s
        self.where = f"{session.base_url}{self._path}"  # type: ignore[attr-defined]  # the joint's session has one

    def read(self) -> tuple[_State | None, str]:
        """What is there and its tag; ``None`` where nothing is."""
        answer = self._ask("GET", "")
        if answer.status == _NOTHING:
            return None, ""
        self._refuse_failed(answer, "GET")
        if not answer.etag:
            raise ServiceRefusedError(
                "it gives its state no ETag", where=self.where, way_out="see docs/guides/http-target.md"
            )
        return self._parsed(_State, answer.body), answer.etag

    def write(
        self, move: Move, change: Callable[[_State | None], tuple[str, str, Any] | None], *, restore: bool = False
    ) -> None:
        """Change what is there, unless somebody else did meanwhile: then look again.

        :param change: Method, path and body out of what is there; ``None`` where it is so already.
        :param restore: Whatever epoch the service claims.
        """
        for _ in range(_ATTEMPTS):
            state, etag = self.read()
            done = state.move if state is not None else _MoveDone(environment="", epoch=0, version=0)
            if restore:
                refuse_foreign(done.environment, move.environment, where=self.where)
            else:
                refuse_older(move, environment=done.environment, epoch=done.epoch, where=self.where)
            wanted = change(state)
            if wanted is None:
                return
            method, path, body = wanted
            guard = {"If-Match": etag} if state is not None else {"If-None-Match": "*"}
            query = {"environment": move.environment, "epoch": str(move.epoch)} if body is None else None
            if body is not None and restore:
                body = {**body, "restore": True}
            answer = self._ask(method, path, body=body, headers=guard, query=query)
            if answer.status in _DONE or (method == "DELETE" and answer.status == _NOTHING):
                return
            if answer.status not in _OVERTAKEN:
                self._refuse_failed(answer, method)
        raise ServiceUnavailableError(
            f"others changed it {_ATTEMPTS} times in between", where=self.where, way_out="find out who writes there"
        )

    def put_version(self, move: Move, state: _State | None) -> tuple[str, str, Any] | None:
        """Run the move's version."""
        if state is not None and state.runs(move) and state.move == _done(move, state) and not state.fault:
            return None
        body = {"move": _told(move, state), "digest": move.digest, "uri": move.uri}
        return "PUT", f"/versions/{move.version}", body

    def put_split(self, move: Move, percent: int, state: _State | None) -> tuple[str, str, Any] | None:
        """Give the move's version its share."""
        if state is None or not state.runs(move):
            raise ServiceRefusedError(
                f"version {move.version} is not deployed", where=self.where, way_out="deploy it, then shift traffic"
            )
        done = _done(move, state)
        # One that somebody removed under its traffic is still named, so that the service refuses: a version that was
        # to get a little does not get everything.
        known = {*(one.version for one in state.versions), *state.wanted}
        before = done.previous if done.previous in known else None
        traffic = shares(move.version, percent, before)
        if state.wanted == traffic and state.move == done and not state.fault:
            return None
        body = {"move": _told(move, state), "traffic": {str(one): share for one, share in sorted(traffic.items())}}
        return "PUT", "/split", body

    def remove_idle(self, move: Move, *, keep_previous: bool) -> None:
        """Stop what gets no traffic, but for the move's version and, if wanted, the one that served before."""
        more = True

        def first_idle(state: _State | None) -> tuple[str, str, Any] | None:
            nonlocal more
            kept = state.move.previous if state is not None and keep_previous else None
            idle = state.idle(move.version, kept) if state is not None else ()
            more = len(idle) > 1
            return ("DELETE", f"/versions/{idle[0]}", None) if idle else None

        while more:
            self.write(move, first_idle)

    def observations(self, since: datetime) -> dict[int, Observation]:
        """What was counted, by version."""
        answer = self._ask("GET", "/observations", query={"since": since.isoformat()})
        self._refuse_failed(answer, "GET")
        return {one.version: one for one in self._parsed(_Observed, answer.body).versions}

    def delete(self, environment: str) -> None:
        """Stop and forget everything.

        :raises TargetRefusedError: it belongs to another environment.
        """
        for _ in range(_ATTEMPTS):
            state, etag = self.read()
            if state is None:
                return
            refuse_foreign(state.move.environment, environment, where=self.where)
            answer = self._ask("DELETE", "", headers={"If-Match": etag}, query={"environment": environment})
            if answer.status in _DONE:
                return
            if answer.status not in {_NOTHING, *_OVERTAKEN}:
                self._refuse_failed(answer, "DELETE")
        raise ServiceUnavailableError("it changes all the time", where=self.where, way_out="find out who writes there")

    def _ask(self, method: str, path: str, **options: Any) -> Answer:
        deadline = time.monotonic() + self._deadline_s
        return ask(self._session, method, f"{self._path}{path}", deadline=deadline, **options)

    def _refuse_failed(self, answer: Answer, method: str) -> None:
        if answer.status not in _DONE:
            said = answer.body.get("detail", "") if isinstance(answer.body, dict) else ""
            raise ServiceRefusedError(
                f"it answered {answer.status}{f': {str(said)[:200]!r}' if said else ''}",
                where=f"{method} {self.where}",
                way_out="see docs/guides/http-target.md and the service's log",
            )

    def _parsed(self, kind: type[_ToldT], body: Any) -> _ToldT:
        try:
            return kind.model_validate(body)
        except ValidationError as error:
            raise ServiceRefusedError(
                f"its answer is not what the contract says: {first_mistake(error)}",
                where=self.where,
                way_out="see docs/reference/http-target.yaml",
            ) from None


def _done(move: Move, state: _State) -> _MoveDone:
    """What the service will know of the move; the version before is fixed when its first write comes."""
    old = state.move
    begun = (old.epoch, old.environment, old.version) == (move.epoch, move.environment, move.version)
    previous = old.previous if begun else before_of(move.version, state.wanted or state.traffic)
    return _MoveDone(environment=move.environment, epoch=move.epoch, version=move.version, previous=previous)


def _told(move: Move, state: _State | None) -> dict[str, Any]:
    previous = _done(move, state).previous if state is not None else None
    return {
        "environment": move.environment,
        "epoch": move.epoch,
        "version": move.version,
        "previous": previous,
        "decision": move.decision_id,
    }


def _waiting_for(waiting: list[int]) -> str:
    if not waiting:
        return "the traffic is being shifted"
    return f"version {', '.join(map(str, waiting))} is not ready"
