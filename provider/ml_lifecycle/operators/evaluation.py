"""A trained model in; its evaluation, the gate's judgement and its registered version out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from ml_lifecycle.hooks.tasks import Handed
from ml_lifecycle.links import MlflowRunLink, MlflowVersionLink, ReportLink, remember_run, remember_version
from ml_lifecycle.operators.assets import announce, candidate_asset
from ml_lifecycle.operators.base import LifecycleOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ml_lifecycle.core.contracts import GateDecision
    from ml_lifecycle.stages.runner import Tools


class EvaluateModelOperator(LifecycleOperator):
    """Measure a trained model on its holdout, and the champion on the same rows; returns an ``Evaluation``.

    :param trained: What :class:`~ml_lifecycle.operators.training.TrainModelOperator` returned.
    :param metrics: What is measured; left out: what is usual for the task.
    :param slices: Columns by whose values everything is measured again.
    :param measurement: How metrics are measured and bounded: ``{"cluster": "day", ...}``.
    :param versions: Versions that a rule compares with.
    :param baseline: Whether a rule compares with a simple prediction.
    """

    template_fields: Sequence[str] = (*LifecycleOperator.template_fields, "trained")
    operator_extra_links = (MlflowRunLink(),)

    def __init__(
        self,
        *,
        trained: Handed,
        metrics: Sequence[str] = (),
        slices: Sequence[str] = (),
        measurement: Mapping[str, Any] | None = None,
        versions: Sequence[int] = (),
        baseline: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.trained = trained
        self.metrics = metrics
        self.slices = slices
        self.measurement = measurement
        self.versions = versions
        self.baseline = baseline

    def work(self, context: Context, tools: Tools) -> dict[str, Any]:  # noqa: ARG002  # each step gets both
        """The evaluation, as plain JSON."""
        from ml_lifecycle.stages import evaluation

        job = self.job(
            evaluation.EvaluationJob,
            model=self.trained,
            metrics=self.metrics,
            slices=self.slices,
            spec=self.measurement or {},
            versions=self.versions,
            baseline=self.baseline,
        )
        result = self.conclude(evaluation.evaluate, job, tools)
        remember_run(self, result.model.run_id, tools)
        return result.to_xcom()


class EvaluationGateOperator(LifecycleOperator):
    """Judge an evaluation by rules; returns a ``GateDecision``. A failed model is an answer: the task succeeds.

    :param evaluation: What :class:`EvaluateModelOperator` returned.
    :param rules: ``[{"metric": "roc_auc", "at_least": 0.6}, ...]``; without any, every model is inconclusive.
    :param purpose: What the model is for, for its report and card: ``{"description": "...", "owner": "...", ...}``.
    """

    template_fields: Sequence[str] = (*LifecycleOperator.template_fields, "evaluation")
    operator_extra_links = (ReportLink(), MlflowRunLink())

    def __init__(
        self,
        *,
        evaluation: Handed,
        rules: Sequence[Mapping[str, Any]] = (),
        purpose: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.evaluation = evaluation
        self.rules = rules
        self.purpose = purpose

    def work(self, context: Context, tools: Tools) -> dict[str, Any]:  # noqa: ARG002  # each step gets both
        """The judgement, as plain JSON."""
        from ml_lifecycle.stages import evaluation

        job = self.job(evaluation.GateJob, evaluation=self.evaluation, rules=self.rules, purpose=self.purpose or {})
        decision = self.conclude(evaluation.gate, job, tools)
        self.report_uri = decision.report_uri
        for check in decision.checks:
            self.log.info("%s: %s (observed %s) %s", check.verdict.value, check.rule, check.observed, check.detail)
        remember_run(self, decision.evaluation.model.run_id, tools)
        return decision.to_xcom()


class RegisterModelOperator(LifecycleOperator):
    """Register a candidate that the gate did not fail; returns a ``ModelVersion`` and emits the ``candidate`` asset.

    The task is skipped where the gate failed the model.

    :param decision: What :class:`EvaluationGateOperator` returned.
    :param validation: The report on the data that it was trained on, where there is one.
    """

    template_fields: Sequence[str] = (*LifecycleOperator.template_fields, "decision", "validation")
    operator_extra_links = (MlflowVersionLink(), MlflowRunLink())

    def __init__(self, *, model: str, decision: Handed, validation: Handed | None = None, **kwargs: Any) -> None:
        super().__init__(model=model, **{"outlets": [candidate_asset(model)], **kwargs})
        self.decision = decision
        self.validation = validation

    def work(self, context: Context, tools: Tools) -> dict[str, Any]:
        """The registered version, as plain JSON."""
        from ml_lifecycle.stages import evaluation

        job = self.job(
            evaluation.RegistrationJob,
            request=self.resolved(context, tools),
            decision=self.decision,
            validation=self.validation,
        )
        version = self.conclude(evaluation.register, job, tools)
        remember_run(self, job.decision.evaluation.model.run_id, tools)
        if version is None:
            raise AirflowSkipException(f"not registered: {_failures(job.decision)}")
        remember_version(self, version.name, version.version, tools)
        extra = {"model": self.model, "version": version.version, "digest": version.digest, "reason": version.reason}
        announce(context, candidate_asset(self.model), extra)
        return version.to_xcom()


def _failures(decision: GateDecision) -> str:
    failed = [f"{check.rule}, observed {check.observed}" for check in decision.checks if check.verdict.value == "fail"]
    return "the gate failed it: " + "; ".join(failed)
