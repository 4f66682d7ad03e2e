"""What monitoring found over time, in the order of the partitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ml_lifecycle.core.contracts import (
    ColumnDrift,
    DriftReport,
    MonitoringResponse,
    Move,
    PerformanceEstimate,
    PerformanceReport,
    Verdict,
)


@dataclass(frozen=True)
class Look:
    """All that was found about one partition; of several looks at it, the last one."""

    partition: str
    at: datetime
    """When it was first looked at."""
    drift: DriftReport | None = None
    columns: tuple[ColumnDrift, ...] = ()
    """Every column in every window, where the report's table could be read; else those that the report names."""
    performance: PerformanceReport | None = None
    response: MonitoringResponse | None = None

    @property
    def drifted(self) -> frozenset[tuple[str, str]]:
        """Role and name of what drifted in any window."""
        return frozenset((one.role, one.column) for one in self.columns if one.drifted)


@dataclass(frozen=True)
class Event:
    """What happened to the model between the looks."""

    place: float
    """Number of the look that it belongs to, from 0; an event between looks lies on a half."""
    kind: Literal["release", "rollback", "retrain"]
    label: str
    detail: str


@dataclass(frozen=True)
class Trend:
    """What monitoring found of one model over time."""

    model: str
    environment: str
    looks: tuple[Look, ...]
    """Oldest partition first."""
    events: tuple[Event, ...] = ()
    gone: tuple[str, ...] = ()
    """Tables that could not be read, in sentences."""

    @property
    def verdict(self) -> Verdict:
        """What the newest partition's look for drift says; of a model without one, its newest performance."""
        for report in (
            *(look.drift for look in reversed(self.looks)),
            *(look.performance for look in reversed(self.looks)),
        ):
            if report is not None:
                return report.verdict
        return Verdict.INCONCLUSIVE


@dataclass(frozen=True)
class Point:
    """One number of one partition: a row of ``history.parquet``."""

    partition: str
    at: datetime
    kind: Literal["feature", "prediction", "metric", "estimate"]
    """``feature`` and ``prediction``: a distance; ``metric``: a performance on labels; ``estimate``: before them."""
    name: str
    window: int
    method: str
    value: float | None
    low: float | None
    high: float | None
    at_least: float | None
    at_most: float | None
    """The limit that the value was held to: of a distance, what matters."""
    verdict: str
    version: int | None
    rows: int
    p_value: float | None = None
    adjusted: float | None = None
    missing: float | None = None
    unseen: float | None = None
    importance: float | None = None
    detail: str = ""


def points(trend: Trend) -> Iterator[Point]:
    """Every number of every look, in order."""
    for look in trend.looks:
        yield from (_of_column(look, one) for one in look.columns)
        if look.performance is not None:
            yield from _of_performance(look, look.performance)


def is_unknown(column: ColumnDrift) -> bool:
    """Whether nobody can say that a column stayed: it was not measured, or its certainty is not known."""
    return not column.drifted and (column.distance is None or column.p_value is None)


def _of_column(look: Look, column: ColumnDrift) -> Point:
    unknown = Verdict.INCONCLUSIVE if is_unknown(column) else Verdict.PASS
    return Point(
        partition=look.partition,
        at=look.at,
        kind=column.role,
        name=column.column,
        window=column.window,
        method=column.method,
        value=column.distance,
        low=None,
        high=None,
        at_least=None,
        at_most=column.threshold,
        verdict=(Verdict.FAIL if column.drifted else unknown).value,
        version=look.drift.version if look.drift is not None else None,
        rows=column.rows,
        p_value=column.p_value,
        adjusted=column.adjusted,
        missing=column.missing,
        unseen=column.unseen,
        importance=column.importance,
        detail=column.detail,
    )


def _of_performance(look: Look, report: PerformanceReport) -> Iterator[Point]:
    for name, metric in sorted(report.metrics.items()):
        yield Point(
            partition=look.partition,
            at=look.at,
            kind="metric",
            name=name,
            window=1,
            method="",
            value=metric.value,
            low=metric.low,
            high=metric.high,
            at_least=report.at_least,
            at_most=report.at_most,
            verdict=report.verdict.value,
            version=report.version,
            rows=metric.rows,
            detail=report.detail,
        )
    if report.estimate is not None:
        yield _of_estimate(look, report, report.estimate)


def _of_estimate(look: Look, report: PerformanceReport, estimate: PerformanceEstimate) -> Point:
    return Point(
        partition=look.partition,
        at=look.at,
        kind="estimate",
        name=estimate.metric,
        window=1,
        method="",
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        at_least=report.at_least,
        at_most=report.at_most,
        verdict=(Verdict.PASS if estimate.valid else Verdict.INCONCLUSIVE).value,
        version=report.version,
        rows=estimate.rows,
        detail=estimate.condition,
    )


def events_of(looks: Sequence[Look], moves: Sequence[Move]) -> tuple[Event, ...]:
    """Where releases, rollbacks and requests for a retraining lie among the looks, in order.

    :param looks: Oldest partition first.
    """
    found = [
        Event(
            # After the newest partition that was looked at before it, wherever a backfill lies in time.
            place=max((place for place, look in enumerate(looks) if look.at <= move.moved_at), default=-1) + 0.5,
            kind=move.kind,
            label=f"v{move.version}",
            detail=f"version {move.version} released by {move.moved_by}"
            if move.kind == "release"
            else f"rolled back to version {move.version} by {move.moved_by}: {move.reason}",
        )
        for move in moves
    ]
    found += [
        Event(float(place), "retrain", "retrain", look.response.reason)
        for place, look in enumerate(looks)
        if look.response is not None and look.response.action == "retrain"
    ]
    return tuple(sorted(found, key=lambda event: event.place))


def by_name(looks: Sequence[Look], role: str) -> Mapping[str, list[tuple[int, tuple[ColumnDrift, ...]]]]:
    """The columns of a role: for each, the number of the look and what was found in its windows, shortest first."""
    found: dict[str, list[tuple[int, tuple[ColumnDrift, ...]]]] = {}
    for place, look in enumerate(looks):
        windows: dict[str, list[ColumnDrift]] = {}
        for one in look.columns:
            if one.role == role:
                windows.setdefault(one.column, []).append(one)
        for name, some in windows.items():
            found.setdefault(name, []).append((place, tuple(sorted(some, key=lambda one: one.window))))
    return found
