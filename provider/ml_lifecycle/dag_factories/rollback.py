"""``<model>_rollback``: the previous champion serves again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import DAG

from ml_lifecycle.dag_factories.base import resolve_task, stream_dag, text_field
from ml_lifecycle.operators.assets import rollback_wanted_asset
from ml_lifecycle.operators.deployment import RollbackModelOperator

if TYPE_CHECKING:
    from ml_lifecycle.pipeline.spec import Pipeline


def rollback_dag(pipeline: Pipeline) -> DAG:
    """Go back one champion."""
    is_automatic = _is_automatic(pipeline)
    when = (
        "by hand, and when monitoring finds that the champion has lost its performance" if is_automatic else "by hand"
    )
    with stream_dag(
        pipeline,
        "rollback",
        does="Makes the champion before the present one serve again. It needs no approval, and is written into the "
        f"audit with who, when and why. It runs {when}.",
        schedule=[rollback_wanted_asset(pipeline.model)] if is_automatic else None,
        params={"reason": text_field("Reason", "What is wrong with the present champion; kept in the audit.")},
    ) as dag:
        request = resolve_task(pipeline, "rollback").output
        RollbackModelOperator(task_id="rollback", model=pipeline.model, request=request, target=pipeline.deployment)
    return dag


def _is_automatic(pipeline: Pipeline) -> bool:
    monitoring = pipeline.monitoring
    return monitoring is not None and "rollback" in (monitoring.on_performance, monitoring.on_drift)
