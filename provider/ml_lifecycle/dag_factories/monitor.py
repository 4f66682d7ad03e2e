"""``<model>_monitor``: what happens to the champion's data and to its predictions."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, TriggerRule

from ml_lifecycle.core.data import LABELS_GRACE
from ml_lifecycle.dag_factories.base import (
    LOOK_EVERY_S,
    SENSOR_TIMEOUT_S,
    columns_of,
    cron,
    partition_field,
    plain,
    related_of,
    resolve_task,
    stream_dag,
    text_field,
)
from ml_lifecycle.operators.monitoring import (
    DetectDriftOperator,
    MonitorPerformanceOperator,
    RespondToMonitoringOperator,
)
from ml_lifecycle.operators.validation import CheckQualityOperator
from ml_lifecycle.sensors.data import DatasetReadySensor

if TYPE_CHECKING:
    from ml_lifecycle.pipeline.spec import MonitoringSection, Pipeline, ScoringSection

PERIODS = {"hourly": timedelta(hours=1), "daily": timedelta(days=1), "monthly": timedelta(days=28)}
PREDICTIONS = "predictions.parquet"
OPEN_RUNS = 4
"""Beside those that wait for their labels."""


def monitor_dag(pipeline: Pipeline) -> DAG:
    """Wait until the partition was scored; look at its data, for drift, and at performance by its labels; respond."""
    data, model = pipeline.data, pipeline.model
    monitoring = monitoring_of(pipeline)
    watched = _watched(pipeline)
    with _dag(pipeline, monitoring) as dag:
        request = resolve_task(pipeline, "monitor", sources=[watched] if watched else [data.source]).output
        ready = DatasetReadySensor(
            task_id="scored_ready" if watched else "data_ready",
            sources=[plain(watched or data.source)],
            request=request,
            # Predictions appear whole, by one rename.
            settle_seconds=0.0 if watched else 5.0,
            poke_interval=LOOK_EVERY_S,
            timeout=SENSOR_TIMEOUT_S,
        )
        drift = DetectDriftOperator(
            task_id="drift",
            model=model,
            request=request,
            source=plain(data.source),
            related=related_of(data),
            columns=columns_of(data),
            every=data.partitions,
            policy=monitoring.policy(time=data.time).to_xcom(),
            scored=plain(pipeline.scoring.output) if pipeline.scoring else None,
            # Each one holds a table in memory.
            max_active_tis_per_dag=1,
        )
        ready >> drift
        performance = None
        if monitoring.performance is not None and pipeline.scoring is not None:
            performance = _performance(pipeline, monitoring, pipeline.scoring, request, ready)
        _respond(
            pipeline,
            monitoring,
            request=request,
            drift=drift.output,
            performance=performance,
            quality=_quality(pipeline, request, ready) if monitoring.quality else None,
        )
    return dag


def _quality(pipeline: Pipeline, request: Any, ready: DatasetReadySensor) -> Any:
    if pipeline.validation is None:
        return None
    quality = CheckQualityOperator(
        task_id="quality",
        model=pipeline.model,
        request=request,
        source=plain(pipeline.data.source),
        related=related_of(pipeline.data),
        columns=columns_of(pipeline.data),
        suite=pipeline.validation.suite,
    )
    ready >> quality
    return quality.output


def _respond(pipeline: Pipeline, monitoring: MonitoringSection, **reports: Any) -> None:
    data = pipeline.data
    RespondToMonitoringOperator(
        task_id="respond",
        model=pipeline.model,
        **reports,
        on_drift=monitoring.on_drift,
        on_performance=monitoring.on_performance,
        on_quality=monitoring.on_quality,
        limits=plain(monitoring.retrain),
        data={
            "source": plain(data.source),
            "labels": plain(data.labels),
            "related": related_of(data),
            "columns": columns_of(data),
            "every": data.partitions,
            "window": data.window,
        },
        runbook=monitoring.runbook or "",
        contact=pipeline.contact,
    )


def monitoring_of(pipeline: Pipeline) -> MonitoringSection:
    """The section about monitoring, of a pipeline that has one."""
    if pipeline.monitoring is None:
        raise ValueError(f"{pipeline.model} has no monitoring section")
    return pipeline.monitoring


def _performance(
    pipeline: Pipeline, monitoring: MonitoringSection, scoring: ScoringSection, request: Any, ready: DatasetReadySensor
) -> Any:
    data, rule = pipeline.data, monitoring.performance
    if rule is None:
        return None
    performance = MonitorPerformanceOperator(
        task_id="performance",
        model=pipeline.model,
        request=request,
        scored=plain(scoring.output),
        labels=plain(data.labels or data.source),
        columns=columns_of(data),
        drop=[plain(one) for one in data.drop],
        metric=rule.metric,
        at_least=rule.at_least,
        at_most=rule.at_most,
        confidence=rule.confidence,
        min_rows=rule.min_rows,
        min_coverage=rule.min_coverage,
        labelled_at=rule.labelled_at,
        measurement=pipeline.evaluation.spec.to_xcom(),
        # Without labels in time it runs all the same, and says that nothing is known.
        trigger_rule=TriggerRule.NONE_FAILED,
    )
    if data.labels is None:
        ready >> performance
    else:
        labels_ready = DatasetReadySensor(
            task_id="labels_ready",
            sources=[plain(data.labels)],
            request=request,
            soft_fail=True,
            poke_interval=LOOK_EVERY_S,
            timeout=(data.labels_after + LABELS_GRACE).total_seconds(),
        )
        ready >> labels_ready >> performance
    return performance.output


def _watched(pipeline: Pipeline) -> Any:
    """The file whose presence says that a partition was scored, or ``None`` where nothing is scored."""
    from ml_lifecycle.core.contracts import Source

    return Source(uri=f"{pipeline.scoring.output.uri.rstrip('/')}/{PREDICTIONS}") if pipeline.scoring else None


def _dag(pipeline: Pipeline, monitoring: MonitoringSection) -> DAG:
    when = f"by its schedule `{monitoring.schedule}`, one run per interval, and " if monitoring.schedule else ""
    then = {
        "retrain": "asks for a training with the reason",
        "rollback": "goes back to the champion before",
        "alert": "tells the model's team",
        "nothing": "only records it",
    }[monitoring.on_drift]
    waiting = math.ceil(pipeline.data.labels_after / PERIODS[pipeline.data.partitions])
    return stream_dag(
        pipeline,
        "monitor",
        does="Compares a scored partition with what the champion was trained on, measures its predictions once the "
        f"labels are in, and on drift or lost performance {then}. It runs {when}by hand.",
        schedule=cron(monitoring.schedule),
        start=monitoring.start,
        end=monitoring.end,
        params={
            "partition": partition_field(pipeline, "look at"),
            "reason": text_field("Reason", "Why somebody wants to look."),
        },
        max_active_runs=OPEN_RUNS + waiting,
    )
