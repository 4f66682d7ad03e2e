"""A scored partition in; drift, performance and what to do about them out."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from ml_lifecycle.core.contracts import (
    Columns,
    Contract,
    DriftReport,
    DropRule,
    MonitoringResponse,
    PerformanceReport,
    RunRequest,
    Source,
)
from ml_lifecycle.stages.runner import Tools


class DriftJob(Contract):
    """What is compared with the champion's training data."""

    request: RunRequest
    source: Source
    related: dict[str, Source] = {}
    columns: Columns
    threshold: float = 0.1
    """Distance above which a column has drifted, 0 to 1."""
    share: float = 0.3
    """Share of drifted columns at which the dataset has drifted, 0 to 1."""


class PerformanceJob(Contract):
    """Which published predictions are held against their labels."""

    request: RunRequest
    scored: Source
    labels: Source
    columns: Columns
    drop: tuple[DropRule, ...] = ()
    metric: str
    at_least: float | None = None
    at_most: float | None = None


class ResponseJob(Contract):
    """What follows from the reports."""

    request: RunRequest
    drift: DriftReport | None
    performance: PerformanceReport | None
    on_drift: Literal["retrain", "alert", "nothing"] = "retrain"
    cooldown: timedelta = timedelta(days=7)
    stop_after: int = 3
    """Retrainings in a row without a new champion, after which only an alert follows."""


def detect_drift(job: DriftJob, tools: Tools) -> DriftReport:
    """Compare the partition with what the champion was trained on, publish the report, and judge."""
    raise NotImplementedError


def measure_performance(job: PerformanceJob, tools: Tools) -> PerformanceReport:
    """Join the published predictions with their labels and judge; inconclusive while labels are missing."""
    raise NotImplementedError


def respond(job: ResponseJob, tools: Tools) -> MonitoringResponse:
    """Decide what the reports call for, and write it into the ledger."""
    raise NotImplementedError
