"""Reports in, what to do about them out: an alert, a retraining, a rollback or nothing."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field

from ml_lifecycle.backends.ledger.base import Past
from ml_lifecycle.core import response as core
from ml_lifecycle.core.contracts import (
    Ask,
    Columns,
    Contract,
    DriftReport,
    MonitoringResponse,
    Move,
    PerformanceReport,
    Rate,
    RunRequest,
    Source,
    ValidationReport,
    Verdict,
)
from ml_lifecycle.core.data import Every
from ml_lifecycle.core.deployment import epoch_of
from ml_lifecycle.core.response import Action, Plan, Reports
from ml_lifecycle.stages.champion import promoted
from ml_lifecycle.stages.fresh_data import FreshDataJob, fresh_data
from ml_lifecycle.stages.runner import Tools

STAGE = "respond"
"""What the ledger knows responses as."""
MEASURED = "measure_performance"
"""What the ledger knows performance reports as."""
SHOWN = 100
"""A message counts no more attempts than these."""


class ResponseJob(Contract):
    """What follows from the reports."""

    request: RunRequest
    drift: DriftReport | None = None
    performance: PerformanceReport | None = None
    quality: ValidationReport | None = None
    on_drift: Action = "retrain"
    on_performance: Action | None = None
    """``None``: as drift does."""
    on_quality: Literal["alert", "nothing"] = "alert"
    cooldown: timedelta = timedelta(days=7)
    """Least time between two requests for a retraining."""
    stop_after: int = Field(default=3, ge=1)
    """Retrainings that did not help, after which only an alert follows."""
    budget: Rate | None = None
    """How many retrainings may be asked for; ``None``: as many as the cooldown allows."""
    new_rows: int = Field(default=1, ge=0)
    """Least number of labelled rows that no training has seen."""
    remind_after: timedelta = timedelta(days=7)
    """After this time people are told of the same finding again."""
    runbook: str = ""
    """Where people read what to do."""
    source: Source | None = None
    """Where a training reads its rows; ``None``: nobody looks for labelled rows that are new."""
    labels: Source | None = None
    """Where the target lives, if not beside the rows."""
    related: dict[str, Source] = Field(default_factory=dict)
    columns: Columns | None = None
    """With a target, only rows that have it count as labelled."""
    every: Every = "monthly"
    """How often a partition arrives."""
    window: int = Field(default=1, ge=1)
    """How many partitions a training reads."""

    @property
    def plan(self) -> Plan:
        """What the pipeline wants done, and its limits."""
        return Plan(**{name: getattr(self, name) for name in Plan.__dataclass_fields__})

    @property
    def reports(self) -> Reports:
        """What this look found."""
        return Reports(drift=self.drift, performance=self.performance, quality=self.quality)


def respond(job: ResponseJob, tools: Tools) -> MonitoringResponse:
    """Decide what the reports call for, and write it down; a retry of the same run gives the answer it gave before.

    However many decide at the same moment, each knows what those before it asked for.
    """
    request, now = job.request, tools.clock()
    facts = _circumstances(job, tools)

    def conclude(past: Past) -> MonitoringResponse:
        if (given := _given(past, request, tools)) is not None:
            return given
        return core.respond(
            job.reports,
            job.plan,
            _history(past, job, now, facts),
            facts,
            model=request.model,
            partition=request.partition,
            now=now,
        )

    return tools.ledger.conclude(tools.environment, tools.run, STAGE, conclude, model=request.model, at=now)


def is_wanted(model: str, epoch: int, tools: Tools) -> bool:
    """Whether monitoring asked for a rollback of the champion of this epoch."""
    asked = tools.ledger.results(tools.environment, model, STAGE, action="rollback", epoch=epoch, limit=1)
    return bool(asked)


def _given(past: Past, request: RunRequest, tools: Tools) -> MonitoringResponse | None:
    # Every call of the command line is called "command": those are occasions of their own.
    if "/" not in tools.run:
        return None
    given = past.results(STAGE, run=tools.run, partition=request.partition, limit=1)
    return MonitoringResponse.model_validate(given[0]["content"]) if given else None


# --- What monitoring said before -------------------------------------------------------------------------------------


def _history(past: Past, job: ResponseJob, now: datetime, facts: core.Circumstances) -> core.History:
    moves = past.moves()
    if facts.rolling_out is not None and moves[-1].version == facts.rolling_out:
        moves = moves[:-1]
    last = next(iter(past.results(STAGE, limit=1)), None)
    content = last["content"] if last is not None else {}
    well = past.results(STAGE, healthy=True, limit=1)
    head = moves[-1] if moves else None
    rollbacks = past.results(STAGE, action="rollback", epoch=head.epoch, limit=1) if head else ()
    told_at = content.get("told_at")
    return core.History(
        moves=moves,
        requests=_requests(past, job, now),
        well_seq=well[-1]["seq"] if well else 0,
        rollback_asked_at=rollbacks[-1]["at"] if rollbacks else None,
        finding=content.get("finding", ""),
        told_at=datetime.fromisoformat(told_at) if told_at else None,
    )


def _requests(past: Past, job: ResponseJob, now: datetime) -> tuple[core.Request, ...]:
    """The newest ones, as many as any limit counts."""
    most = max(job.stop_after, core.allowance(job.budget)[0] if job.budget else 1, SHOWN)
    asked = past.results(STAGE, action="retrain", limit=most)
    times = {entry["seq"]: entry["at"] for entry in asked}
    if any(at > now for at in times.values()):
        times |= _straightened(past)
    return tuple(core.Request(times[one["seq"]], one["seq"], one["content"].get("epoch")) for one in asked)


def _straightened(past: Past) -> dict[int, datetime]:
    """When each response was given at the latest: a clock that was ahead is corrected by whatever came after."""
    found: dict[int, datetime] = {}
    latest: datetime | None = None
    for entry in reversed(past.results(STAGE)):
        latest = entry["at"] if latest is None else min(latest, entry["at"])
        found[entry["seq"]] = latest
    return found


# --- What else there is to know --------------------------------------------------------------------------------------


def _circumstances(job: ResponseJob, tools: Tools) -> core.Circumstances:
    model = job.request.model
    champion, head = promoted(model, tools), tools.ledger.head(model, tools.environment)
    rolling_out = head.version if head is not None and head != champion else None
    previous = tools.ledger.previous(model, tools.environment) if rolling_out is None else None
    begun = tools.ledger.results(tools.environment, model, "snapshot", limit=1)
    return core.Circumstances(
        waiting_version=_waiting_version(job, tools),
        rolling_out=rolling_out,
        waiting_data=_waits_for_data(job, tools),
        previous=previous,
        previous_failed=_failed_on(previous, tools) if previous is not None else "",
        begun_seq=begun[-1]["seq"] if begun else 0,
        fresh=_fresh_data(job, champion, tools),
    )


def _failed_on(previous: Move, tools: Tools) -> str:
    """The partition on which a version was last measured and found bad; empty where it was not."""
    measured = tools.ledger.results(tools.environment, previous.model, MEASURED, version=previous.version)
    reports = (PerformanceReport.model_validate(result["content"]) for result in reversed(measured))
    last = next((report for report in reports if report.verdict is not Verdict.INCONCLUSIVE), None)
    return last.partition if last is not None and last.verdict is Verdict.FAIL else ""


def _fresh_data(job: ResponseJob, champion: Move | None, tools: Tools) -> core.FreshData | None:
    """Looked at only where something calls for a retraining: it opens files."""
    if job.source is None or not core.wants_retraining(job.reports, job.plan, champion):
        return None
    asked = FreshDataJob(
        model=job.request.model,
        source=job.source,
        labels=job.labels,
        related=job.related,
        columns=job.columns,
        every=job.every,
        window=job.window,
    )
    return fresh_data(asked, tools, failed=_failed_partitions(job))


def _failed_partitions(job: ResponseJob) -> dict[str, str]:
    if job.quality is None or job.quality.verdict is not Verdict.FAIL:
        return {}
    return dict.fromkeys(job.quality.dataset.partitions, "its data failed its suite")


def _waiting_version(job: ResponseJob, tools: Tools) -> int | None:
    """A version whose approval can still lead to a release, and was asked for within the cooldown."""
    head = tools.ledger.head(job.request.model, tools.environment)
    asks = tools.ledger.open_asks(job.request.model, tools.environment)
    waiting = [
        ask.version
        for ask in asks
        if ask.kind == "model"
        and ask.epoch == epoch_of(head)
        and _is_recent(ask, job.cooldown, tools)
        and _is_answerable(ask, tools)
    ]
    return waiting[-1] if waiting else None


def _waits_for_data(job: ResponseJob, tools: Tools) -> bool:
    """Whether people were asked about a training's data within the cooldown, and can still answer."""
    asks = tools.ledger.open_asks(job.request.model, tools.environment)
    asked = [tools.ledger.asked(ask.ask_id) for ask in asks if ask.kind == "dataset" and _is_answerable(ask, tools)]
    return any(one is not None and tools.clock() - one.at < job.cooldown for one in asked)


def _is_recent(ask: Ask, cooldown: timedelta, tools: Tools) -> bool:
    registered = tools.ledger.results(tools.environment, ask.model, "register", version=ask.version, limit=1)
    return any(tools.clock() - entry["at"] < cooldown for entry in registered)


def _is_answerable(ask: Ask, tools: Tools) -> bool:
    asked = tools.ledger.asked(ask.ask_id)
    return asked is not None and (asked.expires_at is None or tools.clock() <= asked.expires_at)
