"""``<model>_score``: each partition's predictions by the champion, exactly once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import DAG

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
from ml_lifecycle.operators.scoring import ScoreBatchOperator
from ml_lifecycle.sensors.data import DatasetReadySensor
from ml_lifecycle.sensors.deployment import ModelVersionSensor

if TYPE_CHECKING:
    from ml_lifecycle.pipeline.spec import Pipeline, ScoringSection

OPEN_RUNS = 4


def score_dag(pipeline: Pipeline) -> DAG:
    """Wait for the data and for a champion, then score."""
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
        score = ScoreBatchOperator(
            task_id="score",
            model=model,
            request=request,
            source=plain(data.source),
            related=related_of(data),
            columns=columns_of(data),
            scored=plain(scoring.output),
        )
        [data_ready, champion_ready] >> score
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
        f"for a champion. It runs {when}by hand.",
        schedule=cron(scoring.schedule),
        start=scoring.start,
        end=scoring.end,
        params={
            "partition": partition_field(pipeline, "score"),
            "reason": text_field("Reason", "Why this scoring is asked for."),
        },
        max_active_runs=OPEN_RUNS,
    )
