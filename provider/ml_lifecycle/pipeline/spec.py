"""All that a pipeline file may say. Sections are fixed: the file describes a model's life, not a graph.

Every field's docstring is what ``ml-lifecycle schema`` and the reference page print.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ml_lifecycle.core.contracts import NAME, DropRule, GateRule, HoldoutSpec, Scalar, Source


class Section(BaseModel):
    """A part of the file: unknown keys are mistakes, values are not coerced beyond what the field says."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, use_attribute_docstrings=True)


class DataSection(Section):
    """Where the rows come from and what their columns mean."""

    source: Source
    """The rows, one file per partition, below the deployment's data root."""
    labels: Source | None = None
    """The target, where it arrives later than the rows; joined by key."""
    related: dict[str, Source] = {}
    """Further tables that the features need, handed to them by these names."""
    partitions: Literal["hourly", "daily", "monthly"] = "monthly"
    """How often a partition arrives, and so how it is named: 2013-01-31T07, 2013-01-31, 2013-01."""
    window: int = Field(default=1, ge=1, le=1000)
    """How many partitions a training reads, the newest last."""
    key: str
    """Column that names a row uniquely."""
    time: str | None = None
    """Column that says when the row's event takes place."""
    target: str | None = None
    """Column that is predicted."""
    labels_after: timedelta = timedelta(0)
    """How late the truth arrives after the partition's end."""
    drop: tuple[DropRule, ...] = ()
    """Rows that training and evaluation leave out, counted under their reason."""
    holdout: HoldoutSpec = HoldoutSpec()
    """Rows kept back for the evaluation."""


class ValidationSection(Section):
    """What the data is held to before anything is trained on it."""

    suite: str
    """Great Expectations suite, a JSON file below the project folder."""
    on_failure: Literal["block", "quarantine", "warn"] = "block"
    """block stops the run; quarantine sets failing rows aside; warn only says so."""


class Hyperparameter(Section):
    """A hyperparameter with what the trigger form says about it."""

    value: Scalar
    """The default."""
    help: str = ""
    """Shown in the form."""
    low: float | None = None
    """Least value that the form takes."""
    high: float | None = None
    """Greatest value that the form takes."""


class TrainingSection(Section):
    """What is trained, and when."""

    schedule: str | None = None
    """Cron expression or preset such as @monthly; left out: by hand and when monitoring asks for it."""
    start: date | None = None
    """First scheduled interval; left out: from the day the DAG is first seen."""
    end: date | None = None
    """Last day of the schedule."""
    features: str | None = None
    """module:function below the project folder that makes the model's input from the rows."""
    estimator: str
    """Class of an estimator that the deployment allows."""
    hyperparameters: dict[str, Scalar | Hyperparameter] = {}
    """Arguments of the estimator: a value, or value, help, low and high for the trigger form."""
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    """Makes the training repeatable."""


class EvaluationSection(Section):
    """What is measured, and what is enough."""

    metrics: tuple[Literal["roc_auc", "log_loss", "brier", "accuracy", "mae", "rmse"], ...] = ("roc_auc", "log_loss", "brier")
    """What is measured on the holdout."""
    slices: tuple[str, ...] = ()
    """Columns by whose values everything is measured again."""
    gate: tuple[GateRule, ...] = ()
    """Conditions for a release; without any, every candidate is inconclusive and asks a human."""


class ApprovalSection(Section):
    """Who answers for a release."""

    required: Literal["always", "on_inconclusive", "never"] = "always"
    """never and on_inconclusive let policy itself approve a passed gate."""
    approvers: tuple[str, ...] = ()
    """User names."""
    expires_after: timedelta = timedelta(hours=72)
    """Limits the ask, and a decision not yet used."""


class ScoringSection(Section):
    """Batch scoring by the champion."""

    schedule: str | None = None
    """Cron expression or preset; each interval is one partition."""
    start: date | None = None
    """First interval that is scored."""
    end: date | None = None
    """Last day whose interval is scored."""
    output: Source
    """Folder of a partition's predictions, below the data root."""


class DriftSection(Section):
    """When data counts as drifted."""

    threshold: float = Field(default=0.1, gt=0, le=1)
    """Distance above which a column has drifted."""
    share: float = Field(default=0.3, gt=0, le=1)
    """Share of drifted columns at which the data has drifted."""


class PerformanceSection(Section):
    """What the published predictions must be worth once their labels are in."""

    metric: str
    """One of the evaluation's metrics."""
    at_least: float | None = None
    """Least good value."""
    at_most: float | None = None
    """Greatest good value."""


class RetrainSection(Section):
    """Limits of automatic retraining."""

    cooldown: timedelta = timedelta(days=7)
    """Least time between two requests."""
    stop_after: int = Field(default=3, ge=1)
    """Requests in a row without a new champion, after which only an alert follows."""


class MonitoringSection(Section):
    """What is watched while the champion serves."""

    schedule: str | None = None
    """Cron expression or preset; each interval is one partition."""
    start: date | None = None
    """First interval that is watched."""
    end: date | None = None
    """Last day whose interval is watched."""
    reference: Literal["training"] = "training"
    """What the current data is compared with: the champion's training data."""
    drift: DriftSection = DriftSection()
    """When data counts as drifted."""
    performance: PerformanceSection | None = None
    """What predictions must be worth; left out: not measured."""
    on_drift: Literal["retrain", "alert", "nothing"] = "retrain"
    """What follows drift or lost performance."""
    retrain: RetrainSection = RetrainSection()
    """Limits of automatic retraining."""


class Pipeline(Section):
    """One model's whole life."""

    model: str = Field(pattern=NAME)
    """Name of the registered model, and the first part of its DAGs' names."""
    owner: str
    """Team that answers for the model."""
    contact: str
    """Where people reach that team."""
    risk: Literal["low", "medium", "high"] = "medium"
    """Tier that the model is tagged with."""
    description: str = ""
    """One line for the DAGs' pages."""
    data: DataSection
    validation: ValidationSection | None = None
    training: TrainingSection
    evaluation: EvaluationSection = EvaluationSection()
    approval: ApprovalSection = ApprovalSection()
    deployment: dict[str, Any] = {"backend": "alias"}
    """Target and its options, checked by the backend that it names."""
    scoring: ScoringSection | None = None
    monitoring: MonitoringSection | None = None
