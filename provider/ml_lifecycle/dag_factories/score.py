"""``<model>_score``: each partition's predictions by the champion, exactly once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Param

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
from ml_lifecycle.operators.scoring import ListOtherPartitionsOperator, ScoreBatchOperator
from ml_lifecycle.sensors.data import DatasetReadySensor
from ml_lifecycle.sensors.deployment import ModelVersionSensor

if TYPE_CHECKING:
    from ml_lifecycle.pipeline.spec import Pipeline, ScoringSection

OPEN_RUNS = 4


def score_dag(pipeline: Pipeline) -> DAG:
    """Wait for the data and for a champion, then score; of several partitions, each on a worker of its own."""
    data, model = pipeline.data, pipeline.model
    scoring = scoring_of(pipeline)
    sources = [data.source, *data.related.values()]
    with _dag(pipeline, scoring) as dag:
        request = resolve_task(pipeline, "score", sources=sources).output
        data_ready = DatasetReadySensor(
            task_id="data_ready",
            sources=[plain(source) for source in sources],
            request=request,
            poke_interval=LOOK_EVERY_S,
            timeout=SENSOR_TIMEOUT_S,
        )
        champion_ready = ModelVersionSensor(
            task_id="champion_ready",
            model=model,
            poke_interval=LOOK_EVERY_S,
            timeout=SENSOR_TIMEOUT_S,
        )
        what: dict[str, Any] = {
            "model": model,
            "request": request,
            "source": plain(data.source),
            "related": related_of(data),
            "columns": columns_of(data),
            "scored": plain(scoring.output),
            "max_bad": scoring.max_bad,
        }
        score = ScoreBatchOperator(task_id="score", **what)
        # Skipped where the run is about one partition.
        listed = ListOtherPartitionsOperator(task_id="list_others", model=model, request=request)
        others = ScoreBatchOperator.partial(task_id="score_others", **what).expand(partition=listed.output)
        data_ready >> [score, others]
        champion_ready >> [score, others]
    return dag


def scoring_of(pipeline: Pipeline) -> ScoringSection:
    """The section about scoring, of a pipeline that has one."""
    if pipeline.scoring is None:
        raise ValueError(f"{pipeline.model} has no scoring section")
    return pipeline.scoring


def _dag(pipeline: Pipeline, scoring: ScoringSection) -> DAG:
    when = f"by its schedule `{scoring.schedule}`, one run per interval, and " if scoring.schedule else ""
    return stream_dag(
        pipeline,
        "score",
        does="Scores a partition by the champion, and publishes the predictions once. It waits for the partition and "
        f"for a champion. It runs {when}by hand: then also for several partitions side by side.",
        schedule=cron(scoring.schedule),
        start=scoring.start,
        end=scoring.end,
        params={
            "partition": partition_field(pipeline, "score"),
            "partitions": Param(
                None,
                type=["null", "array"],
                items={"type": "string"},
                title="Partitions",
                description="Several partitions to score side by side, one a line; then leave the field above empty.",
            ),
            "reason": text_field("Reason", "Why this scoring is asked for."),
        },
        max_active_runs=OPEN_RUNS,
    )
