"""What monitoring left in the ledger and in its reports in; its trend over time, for people and for queries, out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from pydantic import Field

from ml_lifecycle.backends.files import file_digest, write_parquet
from ml_lifecycle.backends.reports.trend import render_trend
from ml_lifecycle.core.contracts import (
    ColumnDrift,
    Contract,
    DriftReport,
    MonitoringResponse,
    PerformanceReport,
    digest_of,
)
from ml_lifecycle.core.errors import DataError, RequestError
from ml_lifecycle.core.trend import Look, Point, Trend, events_of, points
from ml_lifecycle.stages.drift_columns import read_columns
from ml_lifecycle.stages.runner import Tools

if TYPE_CHECKING:
    import pandas as pd

PAGE: Final = "index.html"
TABLE: Final = "history.parquet"
LAYOUT: Final = 1
"""Part of every page's name: a change of what it shows makes other names."""
_TRIES: Final = 4
"""Looks at one partition on average that are read: where there were more, the oldest partitions are left out."""
_DIGITS: Final = 8
"""Of a digest: enough for a name."""

Result = TypeVar("Result", bound=Contract)


class TrendJob(Contract):
    """Whose past is shown, and how much of it."""

    model: str
    last: int = Field(default=120, ge=1, le=10_000)
    """How many partitions."""
    until: str | None = None
    """The newest one; ``None`` for the newest that there is."""
    tables: bool = True
    """Whether the reports' tables of all columns are read; else only the columns that the reports name are shown."""


def trend(job: TrendJob, tools: Tools) -> Trend:
    """Read what was found: nothing is computed again, and a table that is gone or was changed is named.

    :raises RequestError: monitoring has found nothing yet.
    """
    found = _read(job, tools)
    if not found.looks:
        raise RequestError(
            f"monitoring has found nothing of {job.model}",
            where=f"environment {tools.environment}",
            way_out="run its monitor DAG first, or name another model",
        )
    return found


def _read(job: TrendJob, tools: Tools) -> Trend:
    drift = _latest(job, tools, "detect_drift", DriftReport)
    performance = _latest(job, tools, "measure_performance", PerformanceReport)
    responses = _latest(job, tools, "respond", MonitoringResponse)
    known = sorted({*drift, *performance})
    kept = [name for name in known if job.until is None or name <= job.until][-job.last :]
    looks, gone = [], []
    for name in kept:
        report, measured, answered = drift.get(name), performance.get(name), responses.get(name)
        columns, missing = _columns(report, job, tools)
        gone += [missing] if missing else []
        looks.append(
            Look(
                partition=name,
                at=min(one.at for one in (report, measured) if one is not None),
                drift=report.result if report is not None else None,
                columns=columns,
                performance=measured.result if measured is not None else None,
                response=answered.result if answered is not None else None,
            )
        )
    later = [one.at for some in (drift, performance) for name, one in some.items() if name > max(kept, default="")]
    moves = tools.ledger.moves(job.model, tools.environment)
    before = [move for move in moves if not later or move.moved_at < min(later)]
    return Trend(job.model, tools.environment, tuple(looks), events_of(looks, before), tuple(gone))


def publish_trend(model: str, partition: str, tools: Tools) -> str:
    """Publish a page of the trend up to a partition, with the table that it is drawn from; returns the page's ``uri``.

    Where neither drift nor performance was looked at, there is nothing to show, and the text is empty. The same
    past makes the same page: a task that runs again publishes nothing more.
    """
    found = _read(TrendJob(model=model, until=partition), tools)
    if not found.looks:
        return ""
    uri = f"reports/trend/{model}/{partition}-{_digest(found)[:_DIGITS]}"
    links = {look.partition: _beside(look.drift.report_uri) for look in found.looks if look.drift is not None}

    def write(folder: Path) -> None:
        (folder / PAGE).write_text(render_trend(found, links=links), encoding="utf-8")
        write_parquet(table_of(found), folder / TABLE)

    tools.data.publish(uri, write)
    return f"{uri}/{PAGE}"


def table_of(found: Trend) -> pd.DataFrame:
    """A row per number of each partition, as ``history.parquet`` holds them."""
    import pandas as pd

    names = list(Point.__dataclass_fields__)
    table: pd.DataFrame = pd.DataFrame([asdict(point) for point in points(found)], columns=names)
    numbers = ["value", "low", "high", "at_least", "at_most", "p_value", "adjusted", "missing", "unseen", "importance"]
    kinds: dict[str, Any] = dict.fromkeys(numbers, "float64") | {"version": "Int64", "window": "int64", "rows": "int64"}
    typed: pd.DataFrame = table.astype(kinds)
    return typed


# --- From the ledger -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found(Generic[Result]):
    """The last result about a partition."""

    result: Result
    at: datetime
    """When the first one was written."""


def _latest(job: TrendJob, tools: Tools, stage: str, contract: type[Result]) -> dict[str, _Found[Result]]:
    """What a stage concluded about each partition."""
    found: dict[str, _Found[Result]] = {}
    for entry in tools.ledger.results(tools.environment, job.model, stage, limit=_TRIES * job.last):
        name = str(entry["content"]["partition"])
        first = found[name].at if name in found else entry["at"]
        found[name] = _Found(contract.model_validate(entry["content"]), first)
    return found


def _columns(found: _Found[DriftReport] | None, job: TrendJob, tools: Tools) -> tuple[tuple[ColumnDrift, ...], str]:
    """Every column of a report, or those that it names itself, with why."""
    if found is None:
        return (), ""
    report = found.result
    if not (report.table_uri and job.tables):
        return report.columns, ""
    uri, _, name = report.table_uri.rpartition("/")
    try:
        with tools.data.folder(uri) as folder:
            # What the ledger holds is true whatever became of the file.
            if file_digest(folder / name) != report.table_digest:
                return report.columns, f"{report.partition}: the table of all columns was changed, and is left out"
            return read_columns(folder / name), ""
    except (DataError, FileNotFoundError):
        return report.columns, f"{report.partition}: the table of all columns is gone, or cannot be read"


# --- Publishing ------------------------------------------------------------------------------------------------------


def _digest(found: Trend) -> str:
    """Names what a page shows."""
    looks = [
        {
            "partition": look.partition,
            "drift": look.drift.content_digest() if look.drift is not None else None,
            "columns": len(look.columns),
            "performance": look.performance.content_digest() if look.performance is not None else None,
            "response": look.response.content_digest() if look.response is not None else None,
        }
        for look in found.looks
    ]
    return digest_of([LAYOUT, found.environment, looks, [asdict(event) for event in found.events], list(found.gone)])


def _beside(report_uri: str) -> str:
    """A report's address as seen from a trend's page: both lie below the reports' folder, three folders deep."""
    folder, _, path = report_uri.partition("/")
    return f"../../../{path}" if folder == "reports" and path else ""
