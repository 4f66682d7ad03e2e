"""One YAML file per model in, the DAGs of that model's life out.

A DAG file beside ``flight_delays.yaml`` is called ``flight_delays.py`` and holds two lines::

    from ml_lifecycle.dag_factories import airflow_dags
    globals().update(airflow_dags(__file__))
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from airflow.sdk import get_parsing_context

from ml_lifecycle.core.contracts import Stream
from ml_lifecycle.core.errors import PipelineError
from ml_lifecycle.dag_factories.base import dag_id_of
from ml_lifecycle.pipeline.loader import read_pipeline

if TYPE_CHECKING:
    from airflow.sdk import DAG

    from ml_lifecycle.pipeline.spec import Pipeline

__all__ = ["airflow_dags", "pipeline_dags"]


def airflow_dags(file: str) -> dict[str, DAG]:
    """The DAGs of the YAML file that lies beside a DAG file and has its name.

    Where Airflow is about to run one task, only that task's DAG is made.

    :param file: The DAG file: ``__file__``.
    :raises PipelineError: with every mistake of the YAML as ``file:line:column: path: what; way out``: Airflow shows it
        as the file's import error, and other files' DAGs live on.
    """
    path = Path(file).with_suffix(".yaml")
    if not path.is_file():
        raise PipelineError([f"{path}: there is no such file; put the model's YAML beside {Path(file).name}"])
    dags = pipeline_dags(read_pipeline(path), only=get_parsing_context().dag_id)
    for dag in dags.values():
        dag.fileloc = file
    return dags


def pipeline_dags(pipeline: Pipeline, *, only: str | None = None) -> dict[str, DAG]:
    """A pipeline's DAGs by their ids, always in the same order.

    :param only: The one id that is wanted; ``None`` for all.
    """
    wanted = (stream for stream in streams_of(pipeline) if only in (None, dag_id_of(pipeline.model, stream)))
    return {dag_id_of(pipeline.model, stream): _build(stream, pipeline) for stream in wanted}


def streams_of(pipeline: Pipeline) -> tuple[Stream, ...]:
    """Scoring, monitoring and drills have a DAG where the file has a section about them."""
    streams: list[Stream] = ["train", "release", "rollback"]
    if pipeline.scoring is not None:
        streams.append("score")
    if pipeline.monitoring is not None:
        streams.append("monitor")
    if pipeline.drill is not None:
        streams.append("drill")
    return tuple(streams)


def _build(stream: Stream, pipeline: Pipeline) -> DAG:
    # Each stream imports only the operators that it uses.
    if stream == "train":
        from ml_lifecycle.dag_factories.train import train_dag as build
    elif stream == "release":
        from ml_lifecycle.dag_factories.release import release_dag as build
    elif stream == "score":
        from ml_lifecycle.dag_factories.score import score_dag as build
    elif stream == "monitor":
        from ml_lifecycle.dag_factories.monitor import monitor_dag as build
    elif stream == "drill":
        from ml_lifecycle.dag_factories.drill import drill_dag as build
    else:
        from ml_lifecycle.dag_factories.rollback import rollback_dag as build
    return build(pipeline)
