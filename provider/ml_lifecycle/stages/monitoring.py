"""What monitoring found in; what to do about it out."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from ml_lifecycle.core import monitoring as core
from ml_lifecycle.core.contracts import (
    Ask,
    Contract,
    DriftReport,
    MonitoringResponse,
    PerformanceReport,
    RunRequest,
)
from ml_lifecycle.stages.runner import Tools


class ResponseJob(Contract):
    """What follows from the reports."""

    request: RunRequest
    drift: DriftReport | None
    performance: PerformanceReport | None
    on_drift: Literal["retrain", "alert", "nothing"] = "retrain"
    cooldown: timedelta = timedelta(days=7)
    stop_after: int = 3
    """Retrainings in a row without a new champion, after which only an alert follows."""


def respond(job: ResponseJob, tools: Tools) -> MonitoringResponse:
    """Decide what the reports call for; a retry of the same run gives the answer that it gave before."""
    request = job.request
    # Every call of the command line is called "command": those are occasions of their own.
    if "/" in tools.run:
        given = tools.ledger.results(
            tools.environment, request.model, "respond", run=tools.run, partition=request.partition, limit=1
        )
        for entry in given:
            return MonitoringResponse.model_validate(entry["content"])
    action, reason = core.respond(
        job.drift,
        job.performance,
        on_drift=job.on_drift,
        history=_history(job, tools),
        now=tools.clock(),
        cooldown=job.cooldown,
        stop_after=job.stop_after,
    )
    return MonitoringResponse(model=request.model, partition=request.partition, action=action, reason=reason)


# --- Response --------------------------------------------------------------------------------------------------------


def _history(job: ResponseJob, tools: Tools) -> core.History:
    model = job.request.model
    asked_for = tools.ledger.results(tools.environment, model, "respond", action="retrain")
    requested = [entry["at"] for entry in asked_for]
    releases = [move for move in tools.ledger.moves(model, tools.environment) if move.kind == "release"]
    since = releases[-1].moved_at if releases else None
    return core.History(
        requested_at=tuple(at for at in requested if since is None or at > since),
        last_request=requested[-1] if requested else None,
        waiting_version=_waiting_version(job, tools),
    )


def _waiting_version(job: ResponseJob, tools: Tools) -> int | None:
    """A version whose approval can still lead to a release, and was asked for within the cooldown."""
    head = tools.ledger.head(job.request.model, tools.environment)
    epoch = head.epoch if head is not None else 0
    asks = tools.ledger.open_asks(job.request.model, tools.environment)
    waiting = [
        ask.version
        for ask in asks
        if ask.epoch == epoch and _is_recent(ask, job.cooldown, tools) and _is_answerable(ask, tools)
    ]
    return waiting[-1] if waiting else None


def _is_recent(ask: Ask, cooldown: timedelta, tools: Tools) -> bool:
    registered = tools.ledger.results(tools.environment, ask.model, "register", version=ask.version, limit=1)
    return any(tools.clock() - entry["at"] < cooldown for entry in registered)


def _is_answerable(ask: Ask, tools: Tools) -> bool:
    asked = tools.ledger.asked(ask.ask_id)
    return asked is not None and (asked.expires_at is None or tools.clock() <= asked.expires_at)
