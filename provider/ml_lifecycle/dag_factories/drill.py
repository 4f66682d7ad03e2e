"""``<model>_drill``: a rollback, rehearsed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import DAG

from ml_lifecycle.dag_factories.base import cron, plain, resolve_task, stream_dag, text_field
from ml_lifecycle.operators.deployment import RehearseRollbackOperator

if TYPE_CHECKING:
    from ml_lifecycle.pipeline.spec import DrillSection, Pipeline


def drill_dag(pipeline: Pipeline) -> DAG:
    """Rehearse going back one champion."""
    drill = drill_of(pipeline)
    with stream_dag(
        pipeline,
        "drill",
        does="Does all that a rollback does, but the traffic: fetches, checks and loads the champion before the "
        "present one, puts it where nobody looks, and takes the time. It fails where a rollback would not work, or "
        f"would take more than {drill.within.total_seconds():g} s. It runs by its schedule `{drill.schedule}`, and by "
        "hand.",
        schedule=cron(drill.schedule),
        params={"reason": text_field("Reason", "Why somebody wants to know.")},
    ) as dag:
        request = resolve_task(pipeline, "drill").output
        RehearseRollbackOperator(
            task_id="rehearse",
            model=pipeline.model,
            request=request,
            within=plain(drill)["within"],
            target=pipeline.deployment,
        )
    return dag


def drill_of(pipeline: Pipeline) -> DrillSection:
    """The section about drills, of a pipeline that has one."""
    if pipeline.drill is None:
        raise ValueError(f"{pipeline.model} has no drill section")
    return pipeline.drill
