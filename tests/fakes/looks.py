"""What monitoring found, for tests of what people read about it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253  # no DAG file imports a test

from ml_lifecycle.backends.files import file_digest
from ml_lifecycle.backends.monitoring.profiles import ColumnFrame, ColumnProfile, Profile
from ml_lifecycle.core.contracts import (
    ColumnDrift,
    Columns,
    DatasetRef,
    DriftReport,
    Metric,
    MonitoringResponse,
    PerformanceEstimate,
    PerformanceReport,
    Verdict,
)
from ml_lifecycle.stages.drift_columns import TABLE, write_columns
from ml_lifecycle.stages.runner import Tools, record
from tests.fakes.champions import at

START = datetime(2013, 1, 1, tzinfo=timezone.utc)


def column(name: str = "temp", *, drifted: bool = True, **changes: Any) -> ColumnDrift:
    """A column that moved far and for certain, or one that stayed."""
    values: dict[str, Any] = {
        "column": name,
        "method": "ks",
        "kind": "number",
        "distance": 0.4 if drifted else 0.01,
        "threshold": 0.03,
        "drifted": drifted,
        "p_value": 1e-8 if drifted else 0.4,
        "adjusted": 2e-8 if drifted else 0.6,
        "missing": 0.0,
        "missing_before": 0.0,
        "rows": 900,
    }
    return ColumnDrift.model_validate(values | changes)


def report(*columns: ColumnDrift, **changes: Any) -> DriftReport:
    """A look at a partition that found these columns."""

    def dataset(letter: str, partition: str) -> DatasetRef:
        return DatasetRef(
            uri="datasets/x",
            rows=900,
            fingerprint=letter * 64,
            columns=Columns(key="id", time="at"),
            partitions=(partition,),
        )

    drifted = sum(one.drifted for one in columns)
    values: dict[str, Any] = {
        "model": "flights",
        "version": 3,
        "partition": "2013-06",
        "verdict": Verdict.FAIL if drifted else Verdict.PASS,
        "drifted_share": drifted / len(columns) if columns else None,
        "columns": columns,
        "reference": dataset("a", "2013-01"),
        "current": dataset("b", "2013-06"),
        "compared": len(columns),
        "drifted": drifted,
        "alpha": 0.011,
    }
    return DriftReport.model_validate(values | changes)


def performance(partition: str = "2013-06", value: float | None = 0.7, **changes: Any) -> PerformanceReport:
    """What the champion was worth on a partition, at least 0.6 being asked for."""
    verdict = Verdict.INCONCLUSIVE if value is None else Verdict.PASS if value >= 0.6 else Verdict.FAIL
    low, high = (None, None) if value is None else (value - 0.02, value + 0.02)
    values: dict[str, Any] = {
        "model": "flights",
        "version": 3,
        "partition": partition,
        "verdict": verdict,
        "metrics": {"roc_auc": Metric(value=value, rows=900, low=low, high=high)},
        "labelled_rows": 900,
        "at_least": 0.6,
        "estimate": PerformanceEstimate(
            metric="roc_auc", value=0.66, low=0.64, high=0.68, rows=900, valid=True, condition="the scores are true"
        ),
    }
    return PerformanceReport.model_validate(values | changes)


def response(partition: str = "2013-06", action: str = "retrain", **changes: Any) -> MonitoringResponse:
    """What followed from a look."""
    values = {"model": "flights", "partition": partition, "action": action, "reason": f"drift on {partition}"}
    return MonitoringResponse.model_validate(values | changes)


def looked(
    tools: Tools, partition: str, *columns: ColumnDrift, hours: float = 0.0, shown: int = 20, **changes: Any
) -> DriftReport:
    """A look in the ledger, with its table of all columns beside it."""
    uri = f"reports/drift/flights/{partition}-v3"

    def write(folder: Path) -> None:
        write_columns(folder / TABLE, columns, model="flights", version=3, partition=partition)

    tools.data.publish(uri, write)
    with tools.data.folder(uri) as folder:
        digest = file_digest(folder / TABLE)
    where = {"report_uri": f"{uri}/index.html", "table_uri": f"{uri}/{TABLE}", "table_digest": digest}
    found = report(*columns, partition=partition, **where, **changes)
    found = found.model_copy(update={"columns": found.columns[:shown]})
    record("detect_drift", found, at(tools, hours), model="flights")
    return found


def measured(tools: Tools, partition: str, value: float | None, *, hours: float = 0.0, **changes: Any) -> None:
    """A performance in the ledger."""
    record("measure_performance", performance(partition, value, **changes), at(tools, hours), model="flights")


def months(count: int) -> list[str]:
    """Names of that many partitions."""
    return [f"{2013 + place // 12}-{place % 12 + 1:02d}" for place in range(count)]


def moment(place: float) -> datetime:
    """When the look of that number was made."""
    return START + timedelta(days=30 * place)


# --- Profiles --------------------------------------------------------------------------------------------------------


def numbers(name: str, counts: Sequence[int], *, missing: int = 0, **frame: Any) -> ColumnProfile:
    """Counts in bins of width 1 that begin at 0."""
    last = len(counts) - 1
    values = {"curved": False, "first": 0, "last": last, "cells": (last,)} | frame
    return ColumnProfile(
        frame=ColumnFrame(name=name, kind="number", **values),
        counts=np.array(counts, dtype=np.int64),
        blocks=np.array([[sum(counts), missing]], dtype=np.int64),
    )


def categories(
    name: str, counted: dict[str, int], *, other: int = 0, missing: int = 0, names: Sequence[str] = ()
) -> ColumnProfile:
    """Counts of categories, in the order of ``names`` or as they come."""
    known = tuple(names or counted)
    counts = [*(counted.get(one, 0) for one in known), other]
    return ColumnProfile(
        frame=ColumnFrame(name=name, kind="category", categories=known, cells=(len(known),)),
        counts=np.array(counts, dtype=np.int64),
        blocks=np.array([[sum(counts), missing]], dtype=np.int64),
    )


def profile(*columns: ColumnProfile) -> Profile:
    """The columns as a table's counts."""
    rows = columns[0].present + columns[0].missing if columns else 0
    return Profile(rows=rows, blocks=("",), columns={one.frame.name: one for one in columns})
