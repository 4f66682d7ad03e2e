"""``<model>_release``: from a registered candidate to a champion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import DAG, Param

from ml_lifecycle.dag_factories.base import plain, resolve_task, stream_dag, text_field
from ml_lifecycle.operators.approval import ApproveModelOperator
from ml_lifecycle.operators.assets import candidate_asset
from ml_lifecycle.operators.deployment import DeployModelOperator

if TYPE_CHECKING:
    from ml_lifecycle.pipeline.spec import Pipeline

OPEN_RELEASES = 16
"""A newer candidate must be able to ask while an older question is still open: asking closes the older one."""


def release_dag(pipeline: Pipeline) -> DAG:
    """Ask, and deploy what was approved."""
    model = pipeline.model
    approval, terms = plain(pipeline.approval), pipeline.approval.terms.to_xcom()
    with _dag(pipeline) as dag:
        request = resolve_task(pipeline, "release").output
        decision = ApproveModelOperator(
            task_id="approve",
            model=model,
            request=request,
            required=approval["required"],
            **terms,
            expires_after=approval["expires_after"],
            contact=pipeline.contact,
        ).output
        DeployModelOperator(
            task_id="deploy",
            model=model,
            request=request,
            decision=decision,
            target=pipeline.deployment,
            rules=[plain(rule) for rule in pipeline.evaluation.gate],
            measurement=pipeline.evaluation.spec.to_xcom(),
            required=approval["required"],
        )
    return dag


def _dag(pipeline: Pipeline) -> DAG:
    who = {
        "always": "A person answers under *Required Actions*",
        "on_inconclusive": "Policy approves what passed the gate; else a person answers under *Required Actions*",
        "never": "Policy approves what passed the gate",
    }[pipeline.approval.required]
    version = Param(
        None,
        type=["null", "integer"],
        minimum=1,
        title="Version",
        description="The model version to release. Left empty: the newest.",
    )
    return stream_dag(
        pipeline,
        "release",
        does=f"Asks whether a candidate may serve, and makes it serve. {who}; whoever asked for the training, "
        "triggered the release or committed the pipeline file last cannot approve. It runs for each registered "
        "candidate, and by hand.",
        schedule=[candidate_asset(pipeline.model)],
        params={"version": version, "reason": text_field("Reason", "Why this release is asked for.")},
        max_active_runs=OPEN_RELEASES,
    )
