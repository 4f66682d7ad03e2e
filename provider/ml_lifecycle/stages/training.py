"""A validated dataset in, a model package out."""

from __future__ import annotations

from ml_lifecycle.core.contracts import Contract, DatasetRef, HoldoutSpec, RunRequest, Scalar, TrainedModel, ValidationReport
from ml_lifecycle.stages.runner import Tools


class TrainingJob(Contract):
    """What is trained, on what, and how."""

    request: RunRequest
    """Its hyperparameters override the job's; its reason and requester are recorded."""
    dataset: DatasetRef | ValidationReport
    """What to train on: a snapshot, or the report that passed it."""
    features: str | None = None
    """``include.flight_delays.features:build``; called with the rows and each related table by name."""
    estimator: str
    """``sklearn.ensemble.HistGradientBoostingClassifier``; only what the deployment lists."""
    hyperparameters: dict[str, Scalar] = {}
    seed: int = 0
    holdout: HoldoutSpec = HoldoutSpec()


def train(job: TrainingJob, tools: Tools) -> TrainedModel:
    """Train once per training key; a run that already trained exactly this is returned as it is."""
    raise NotImplementedError
