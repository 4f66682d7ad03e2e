"""What the DAGs of all streams have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, CronDataIntervalTimetable, Param

from ml_lifecycle.core.contracts import Stream
from ml_lifecycle.core.data import EXAMPLES
from ml_lifecycle.hooks.notify import alert_owner
from ml_lifecycle.operators.request import ResolveRequestOperator

if TYPE_CHECKING:
    from ml_lifecycle.core.contracts import Source
    from ml_lifecycle.pipeline.spec import DataSection, Pipeline

EXECUTION_TIMEOUT = timedelta(hours=12)
"""Bounds a task that hangs; waiting for data or people does not count."""
SENSOR_TIMEOUT_S = 7 * 86400.0
LOOK_EVERY_S = 10.0


def dag_id_of(model: str, stream: Stream) -> str:
    """What a model's DAG is called."""
    return f"{model}_{stream}"


def stream_dag(
    pipeline: Pipeline,
    stream: Stream,
    *,
    does: str,
    schedule: Any = None,
    start: date | None = None,
    end: date | None = None,
    params: Mapping[str, Param] | None = None,
    max_active_runs: int = 1,
) -> DAG:
    """A DAG without tasks.

    :param does: What a run does and what starts it, in Markdown.
    :param start: First interval of the schedule; given, past intervals are caught up with.
    :param end: Last day on which an interval may start.
    """
    return DAG(
        dag_id=dag_id_of(pipeline.model, stream),
        description=pipeline.description or does.split(".", 1)[0],
        schedule=schedule,
        start_date=datetime.combine(start, time.min, timezone.utc) if start else None,
        end_date=datetime.combine(end, time.max, timezone.utc) if end else None,
        catchup=start is not None,
        max_active_runs=max_active_runs,
        default_args={
            "owner": pipeline.owner,
            "on_failure_callback": partial(alert_owner, model=pipeline.model, contact=pipeline.contact),
            "retries": 2,
            "retry_delay": timedelta(seconds=10),
            "retry_exponential_backoff": 2.0,
            "max_retry_delay": timedelta(minutes=10),
            "execution_timeout": EXECUTION_TIMEOUT,
        },
        params=dict(params or {}),
        doc_md=_page(pipeline, does),
        tags=[model_tag(pipeline.model), stream, "ml-lifecycle", f"risk:{pipeline.risk}"],
    )


def model_tag(model: str) -> str:
    """The tag that says which model a DAG is about: its reports are shown to whoever may read the DAG."""
    return f"model:{model}"


def cron(schedule: str | None) -> CronDataIntervalTimetable | None:
    """The timetable of a cron expression in UTC, whose intervals are partitions; ``None`` for no schedule."""
    return CronDataIntervalTimetable(schedule, timezone="UTC") if schedule else None


def resolve_task(pipeline: Pipeline, stream: Stream, *, sources: Sequence[Source] = ()) -> ResolveRequestOperator:
    """The first task: what was this run asked?"""
    return ResolveRequestOperator(
        task_id="resolve",
        model=pipeline.model,
        stream=stream,
        sources=[plain(source) for source in sources],
        every=pipeline.data.partitions,
        window=pipeline.data.window,
        hyperparameters={
            name: plain(hyperparameter) for name, hyperparameter in pipeline.training.hyperparameters.items()
        }
        if stream == "train"
        else None,
    )


def plain(section: Any) -> Any:
    """A part of the pipeline as plain JSON values, or ``None``."""
    return None if section is None else section.model_dump(mode="json")


def columns_of(data: DataSection) -> dict[str, str | None]:
    """Which columns carry meaning for the lifecycle itself."""
    return {"key": data.key, "time": data.time, "target": data.target}


def related_of(data: DataSection) -> dict[str, Any]:
    """The tables beside the rows, by name."""
    return {name: plain(source) for name, source in data.related.items()}


def text_field(title: str, description: str) -> Param:
    """A field of the trigger form that may stay empty."""
    return Param(None, type=["null", "string"], title=title, description=description)


def partition_field(pipeline: Pipeline, verb: str) -> Param:
    """The field that names a partition."""
    example = EXAMPLES[pipeline.data.partitions]
    return text_field("Partition", f"The partition to {verb}, such as {example}. Left empty: the newest that is there.")


def _page(pipeline: Pipeline, does: str) -> str:
    about = f"{pipeline.description}\n\n" if pipeline.description else ""
    return (
        f"{about}{does}\n\n"
        f"- Owner: {pipeline.owner}; contact: {pipeline.contact}\n"
        f"- Risk: {pipeline.risk}\n"
        "- By hand: **Trigger**; every field may stay empty\n"
        "- Where to look: the buttons *MLflow run*, *MLflow version* and *Report* under a task's *Details*; its log, "
        "whose last line says what was wrong and what to do\n"
        f"- All DAGs of this model: the tag `{model_tag(pipeline.model)}`\n"
    )
