"""Reports in, what to do about them out: an alert, a retraining, a rollback or nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field

from ml_lifecycle.core import monitoring as core
from ml_lifecycle.core.contracts import (
    Columns,
    Contract,
    DriftReport,
    MonitoringResponse,
    PerformanceReport,
    Rate,
    RunRequest,
    Source,
    ValidationReport,
)
from ml_lifecycle.core.data import Every
from ml_lifecycle.stages.runner import Tools

Answer = Literal["retrain", "rollback", "alert", "nothing"]


class ResponseJob(Contract):
    """What follows from the reports."""

    request: RunRequest
    drift: DriftReport | None = None
    performance: PerformanceReport | None = None
    quality: ValidationReport | None = None
    on_drift: Answer = "retrain"
    on_performance: Answer | None = None
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


def respond(job: ResponseJob, tools: Tools) -> MonitoringResponse:
    """Decide what the reports call for; a retry of the same run gives the answer that it gave before."""
    action, reason = core.respond(
        job.drift,
        job.performance,
        on_drift=job.on_drift if job.on_drift != "rollback" else "alert",
        history=core.History(),
        now=tools.clock(),
        cooldown=job.cooldown,
        stop_after=job.stop_after,
    )
    return MonitoringResponse(model=job.request.model, partition=job.request.partition, action=action, reason=reason)
