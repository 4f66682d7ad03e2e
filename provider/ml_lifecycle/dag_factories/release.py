"""``<model>_release``: from a registered candidate to a champion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseOperator, Param

from ml_lifecycle.backends.deployment import steps_of
from ml_lifecycle.dag_factories.base import LOOK_EVERY_S, SENSOR_TIMEOUT_S, plain, resolve_task, stream_dag, text_field
from ml_lifecycle.operators.approval import ApproveModelOperator
from ml_lifecycle.operators.assets import candidate_asset
from ml_lifecycle.operators.deployment import DeployModelOperator
from ml_lifecycle.operators.rollout import (
    AskAboutStepOperator,
    PromoteModelOperator,
    RetireModelOperator,
    RolloutStepOperator,
)
from ml_lifecycle.sensors.rollout import RolloutOverSensor

if TYPE_CHECKING:
    from ml_lifecycle.pipeline.spec import Pipeline

OPEN_RELEASES = 16
"""A newer candidate must be able to ask while an older question is still open: asking closes the older one."""


def release_dag(pipeline: Pipeline) -> DAG:
    """Ask, and deploy what was approved: at once, or step by step."""
    model = pipeline.model
    approval, terms = plain(pipeline.approval), pipeline.approval.terms.to_xcom()
    steps = steps_of(pipeline.deployment)
    with _dag(pipeline) as dag:
        request = resolve_task(pipeline, "release").output
        approve = ApproveModelOperator(
            task_id="approve",
            model=model,
            request=request,
            required=approval["required"],
            **terms,
            expires_after=approval["expires_after"],
            contact=pipeline.contact,
        )
        under = {
            "model": model,
            "request": request,
            "decision": approve.output,
            "target": pipeline.deployment,
            "rules": [plain(rule) for rule in pipeline.evaluation.gate],
            "measurement": pipeline.evaluation.spec.to_xcom(),
            "required": approval["required"],
        }
        if steps:
            (
                RolloutOverSensor(
                    task_id="rollout_over", model=model, poke_interval=LOOK_EVERY_S, timeout=SENSOR_TIMEOUT_S
                )
                >> approve
            )
            _rollout(pipeline, steps, under)
        else:
            DeployModelOperator(task_id="deploy", **under)
    return dag


def _rollout(pipeline: Pipeline, steps: Sequence[int | str], under: Mapping[str, Any]) -> None:
    """The steps, one task each, and what comes after the last one."""
    asks = pipeline.deployment.get("analysis", {}).get("on_inconclusive") == "ask"
    last: BaseOperator = DeployModelOperator(task_id="deploy", outlets=[], **under)
    for step in steps:
        percent = 0 if step == "shadow" else int(step)
        task = RolloutStepOperator(
            task_id=f"step_{step}" if percent else str(step), percent=percent, contact=pipeline.contact, **under
        )
        last >> task
        if asks:
            last >> AskAboutStepOperator(
                task_id=f"ask_{step}",
                percent=percent,
                terms=pipeline.approval.terms.to_xcom(),
                expires_after=plain(pipeline.approval)["expires_after"],
                contact=pipeline.contact,
                **{name: under[name] for name in ("model", "request", "decision", "target")},
            )
        last = task
    promote = PromoteModelOperator(task_id="promote", **under)
    last >> promote
    RetireModelOperator(
        task_id="retire",
        model=pipeline.model,
        request=under["request"],
        deployment=promote.output,
        target=pipeline.deployment,
        contact=pipeline.contact,
    )


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
