"""Serving by model servers on this machine."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final, Literal

from pydantic import Field, field_validator

from ml_lifecycle.backends.deployment.base import ALL, Means, Serving, SplittingTarget
from ml_lifecycle.backends.deployment.fence import refuse_foreign, refuse_older, refuse_unknown
from ml_lifecycle.backends.serving_home import reading, rehearsal
from ml_lifecycle.backends.serving_home.control import change
from ml_lifecycle.backends.serving_home.home import Home
from ml_lifecycle.backends.serving_home.state import ModelState, Routing, Slot, asked, deployed, retired
from ml_lifecycle.core.contracts import Move, Observation
from ml_lifecycle.core.errors import ConfigurationError, ServiceRefusedError
from ml_lifecycle.core.values import StoredDuration

_HEADER: Final = r"^[A-Za-z][A-Za-z0-9-]{0,63}$"
_VALUE: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"


class LocalTarget(SplittingTarget):
    """One server process per version behind HAProxy, at ``http://<machine>:<port>/<model>/invocations``.

    Processes belong to the supervisor that ``ml-lifecycle serving up`` starts, and outlive every task. A new version
    whose server dies or hangs loses its traffic within seconds, whoever looks; it gets none again under this move.
    """

    backend: Literal["local"] = "local"
    user_header: str = Field(default="X-User-Id", pattern=_HEADER)
    """Requests with the same value stay with the same version while the split does; without one, each is on its own."""
    tester_header: str = Field(default="X-Tester", pattern=_HEADER)
    """Whoever sends it with :attr:`tester_value` reaches the new version, whatever the split. No access control."""
    tester_value: str = Field(default="new", pattern=_VALUE)
    answer_timeout: StoredDuration = timedelta(seconds=5)
    """How long a version has to answer before another one is asked instead."""

    @field_validator("answer_timeout")
    @classmethod
    def _bounded(cls, value: timedelta) -> timedelta:
        if not timedelta(seconds=1) <= value <= timedelta(minutes=5):
            raise ValueError("it has to be from 1s to 5m; users wait that long for a version that hangs")
        return value

    def deploy(self, move: Move, means: Means) -> None:
        """Keep the package, and start the version's server in the slot that serves nobody."""
        self._deploy(move, means, lambda state: state)

    def promote(self, move: Move, means: Means) -> None:
        """As :meth:`deploy`, and send it all traffic as soon as its server answers."""
        self._deploy(move, means, lambda state: asked(state, ALL))

    def set_split(self, move: Move, percent: int, means: Means) -> None:
        """Change the split in HAProxy's file and at run time."""
        home = _home(means)

        def split(state: ModelState | None) -> ModelState:
            _refuse(state, move)
            if state is None or state.holding(move.version, move.digest) != state.new or state.epoch != move.epoch:
                raise ServiceRefusedError(
                    f"version {move.version} is not deployed under epoch {move.epoch}",
                    where=f"{move.model} in {home.folder}",
                    way_out="deploy it first",
                )
            return asked(state, percent)

        change(home, move.model, split)

    def status(self, model: str, means: Means) -> Serving:
        """HAProxy's map and servers, supervisord's processes, and what the servers say of their bytes."""
        return reading.serving(_home(means), model)

    def observe(self, model: str, since: datetime, means: Means) -> Mapping[int, Observation]:
        """HAProxy's counts of requests and errors, and the servers' latencies."""
        return reading.observed(_home(means), model, since)

    def retire(self, move: Move, means: Means) -> None:
        """End the servers that get no traffic."""

        def without(state: ModelState | None) -> ModelState | None:
            _refuse(state, move)
            return retired(state, move.version) if state is not None else None

        change(_home(means), move.model, without)

    def destroy(self, model: str, environment: str, means: Means) -> None:
        """End the model's servers, and take it out of HAProxy."""

        def gone(state: ModelState | None) -> None:
            _refuse_foreign(state, environment)

        change(_home(means), model, gone)

    def restore(self, head: Move, means: Means) -> None:
        """As :meth:`promote`, with the head's epoch, and whatever was wrong with its version before."""
        self._deploy(head, means, lambda state: asked(state, ALL), anew=True)

    def rehearse(self, move: Move, means: Means) -> Mapping[int, int]:
        """Start a server of its own that gets no traffic, hold it against the package's golden rows, and end it."""
        refuse_unknown(move, means.registry)
        home = _home(means)
        home.settings()
        with means.package(move.uri, move.digest) as folder:
            home.keep_package(folder, move.digest)
            answers = rehearsal.rehearse(home, _fresh(move, 0, means), move.model)
        return {move.version: ALL} if answers else {}

    def _deploy(
        self, move: Move, means: Means, then: Callable[[ModelState], ModelState], *, anew: bool = False
    ) -> None:
        """Keep the package, and write down that its version runs.

        :param anew: Whatever epoch the place claims.
        """
        home = _home(means)
        home.supervisor.pid()
        before = home.state(move.model)
        _refuse_foreign(before, move.environment) if anew else _refuse(before, move)
        refuse_unknown(move, means.registry)
        with means.package(move.uri, move.digest) as folder:
            home.keep_package(folder, move.digest)

        def begun(state: ModelState | None) -> ModelState:
            _refuse_foreign(state, move.environment) if anew else _refuse(state, move)
            if anew and state is not None:
                state = state.model_copy(update={"epoch": 0})
            fresh = _fresh(move, home.free_port(home.states()), means)
            return then(deployed(state, move, fresh, routing=self._routing(), salt=secrets.token_hex(8)))

        change(home, move.model, begun)

    def _routing(self) -> Routing:
        return Routing(
            user_header=self.user_header,
            tester_header=self.tester_header,
            tester_value=self.tester_value,
            answer_timeout_ms=round(self.answer_timeout.total_seconds() * 1000),
        )


def _home(means: Means) -> Home:
    if means.serving_home is None:
        raise ConfigurationError(
            "there is no place for model servers",
            where="[ml_lifecycle] serving_home",
            way_out="name a folder, and run `ml-lifecycle serving up --home <folder>` on this machine",
        )
    return Home(means.serving_home)


def _fresh(move: Move, port: int, means: Means) -> Slot:
    return Slot(version=move.version, digest=move.digest, port=port, trusted_types=means.trusted_types)


def _refuse(state: ModelState | None, move: Move) -> None:
    if state is not None:
        refuse_older(move, environment=state.environment, epoch=state.epoch, where=_where(state.model))


def _refuse_foreign(state: ModelState | None, environment: str) -> None:
    if state is not None:
        refuse_foreign(state.environment, environment, where=_where(state.model))


def _where(model: str) -> str:
    return f"the servers of {model} on this machine"
