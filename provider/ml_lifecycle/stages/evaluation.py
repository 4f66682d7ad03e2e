"""A trained model in; what it does on rows it never saw, whether that is enough, and its registered version out."""

from __future__ import annotations

from ml_lifecycle.core.contracts import (
    Contract,
    Evaluation,
    GateDecision,
    GateRule,
    ModelVersion,
    RunRequest,
    TrainedModel,
    ValidationReport,
)
from ml_lifecycle.stages.runner import Tools


class EvaluationJob(Contract):
    """What is measured; the champion of the ledger is measured on the same rows."""

    model: TrainedModel
    metrics: tuple[str, ...] = ("roc_auc", "log_loss", "brier")
    slices: tuple[str, ...] = ()


class GateJob(Contract):
    """The rules that a candidate is held to."""

    evaluation: Evaluation
    rules: tuple[GateRule, ...]


class RegistrationJob(Contract):
    """What is registered, and why it was trained."""

    request: RunRequest
    decision: GateDecision
    validation: ValidationReport | None = None


def evaluate(job: EvaluationJob, tools: Tools) -> Evaluation:
    """Measure the candidate on its holdout, and the champion beside it."""
    raise NotImplementedError


def gate(job: GateJob, tools: Tools) -> GateDecision:
    """Judge the evaluation and note the verdict on the run."""
    raise NotImplementedError


def register(job: RegistrationJob, tools: Tools) -> ModelVersion | None:
    """Register the candidate once per training key; ``None`` where the gate failed it."""
    raise NotImplementedError
