"""``<model>_train``: from partitions to a registered candidate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, AssetOrTimeSchedule, Param

from ml_lifecycle.dag_factories.base import (
    columns_of,
    cron,
    partition_field,
    plain,
    related_of,
    resolve_task,
    stream_dag,
    text_field,
)
from ml_lifecycle.operators.approval import ApproveDatasetOperator
from ml_lifecycle.operators.assets import retrain_asset
from ml_lifecycle.operators.data import SnapshotDatasetOperator
from ml_lifecycle.operators.evaluation import EvaluateModelOperator, EvaluationGateOperator, RegisterModelOperator
from ml_lifecycle.operators.request import form_fields
from ml_lifecycle.operators.training import TrainModelOperator
from ml_lifecycle.operators.validation import ValidateDatasetOperator

if TYPE_CHECKING:
    from ml_lifecycle.pipeline.spec import Hyperparameter, Pipeline

JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}


def train_dag(pipeline: Pipeline) -> DAG:
    """Snapshot, validate, let people look at the data, train, evaluate, judge, register."""
    data, training, model = pipeline.data, pipeline.training, pipeline.model
    sources = [data.source, *([data.labels] if data.labels else ()), *data.related.values()]
    with _dag(pipeline) as dag:
        request = resolve_task(pipeline, "train", sources=sources).output
        dataset = SnapshotDatasetOperator(
            task_id="snapshot",
            model=model,
            request=request,
            source=plain(data.source),
            labels=plain(data.labels),
            related=related_of(data),
            columns=columns_of(data),
            drop=[plain(rule) for rule in data.drop],
        ).output
        validated = None
        if pipeline.validation is not None:
            validated = ValidateDatasetOperator(
                task_id="validate",
                model=model,
                dataset=dataset,
                suite=pipeline.validation.suite,
                on_failure=pipeline.validation.on_failure,
            ).output
        trained = TrainModelOperator(
            task_id="train",
            model=model,
            request=request,
            dataset=_approved(pipeline, request, dataset if validated is None else validated),
            data_approval=_data_policy(pipeline),
            features=training.features,
            estimator=training.estimator,
            hyperparameters=training.values,
            seed=training.seed,
            holdout=plain(data.holdout),
        ).output
        evaluation = EvaluateModelOperator(
            task_id="evaluate",
            model=model,
            trained=trained,
            metrics=list(pipeline.evaluation.metrics),
            slices=list(pipeline.evaluation.slices),
            measurement=pipeline.evaluation.spec.to_xcom(),
            versions=sorted({rule.versus for rule in pipeline.evaluation.gate if isinstance(rule.versus, int)}),
            baseline=any(rule.versus == "baseline" for rule in pipeline.evaluation.gate),
        ).output
        decision = EvaluationGateOperator(
            task_id="gate",
            model=model,
            evaluation=evaluation,
            rules=[plain(rule) for rule in pipeline.evaluation.gate],
            purpose={
                "description": pipeline.description,
                "owner": pipeline.owner,
                "contact": pipeline.contact,
                "risk": pipeline.risk,
            },
        ).output
        RegisterModelOperator(task_id="register", model=model, request=request, decision=decision, validation=validated)
    return dag


def _approved(pipeline: Pipeline, request: Any, checked: Any) -> Any:
    """The data, behind a question about it where the pipeline has one."""
    policy = _data_policy(pipeline)
    if policy is None:
        return checked
    return ApproveDatasetOperator(
        task_id="approve_data",
        model=pipeline.model,
        request=request,
        dataset=checked,
        policy=policy,
        expires_after=plain(pipeline.validation)["approval"]["expires_after"],
        contact=pipeline.contact,
    ).output


def _data_policy(pipeline: Pipeline) -> dict[str, Any] | None:
    approval = pipeline.validation.approval if pipeline.validation is not None else None
    return None if approval is None else approval.policy.to_xcom()


def _dag(pipeline: Pipeline) -> DAG:
    training, retrain = pipeline.training, retrain_asset(pipeline.model)
    timetable = cron(training.schedule)
    schedule = [retrain] if timetable is None else AssetOrTimeSchedule(timetable=timetable, assets=[retrain])
    when = f" by its schedule `{training.schedule}`," if training.schedule else ""
    fields = {
        "partition": partition_field(pipeline, "train on, together with those before it"),
        "reason": text_field("Reason", "Why this training is asked for; it stays with the model version."),
    }
    fields |= {name: _field(name, training.hyperparameters[name]) for name in form_fields(training.hyperparameters)}
    return stream_dag(
        pipeline,
        "train",
        does=f"Trains, evaluates and judges a candidate, and registers it unless the gate fails it. It runs{when} when "
        "monitoring asks for it, and by hand.",
        schedule=schedule,
        start=training.start,
        end=training.end,
        params=fields,
    )


def _field(name: str, spec: Hyperparameter) -> Param:
    kind = JSON_TYPES.get(type(spec.value))
    bounds: dict[str, Any] = {"minimum": spec.low, "maximum": spec.high}
    schema = {key: value for key, value in bounds.items() if value is not None}
    return Param(
        None,
        type=["null", kind] if kind else ["null", *JSON_TYPES.values()],
        title=name,
        description=f"{spec.help} Left empty: {spec.value}.".strip(),
        **schema,
    )
