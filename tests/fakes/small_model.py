"""A small real model's project, data and jobs, for tests of the stages that train and judge."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_lifecycle.backends.files import write_parquet
from ml_lifecycle.core.contracts import (
    Ask,
    Columns,
    DatasetRef,
    Evaluation,
    GateDecision,
    GateRule,
    ModelVersion,
    Move,
    RunRequest,
    TrainedModel,
    Vote,
)
from ml_lifecycle.stages.evaluation import EvaluationJob, GateJob, RegistrationJob, evaluate, gate, register
from ml_lifecycle.stages.runner import Tools, record
from ml_lifecycle.stages.training import TrainingJob, train

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = Columns(key="id", time="at", target="late")
FEATURES = "crew.features:build"
LOGISTIC = "sklearn.linear_model.LogisticRegression"
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
FEATURE_CODE = """
def build(rows, weather):
    return rows[["distance", "carrier"]].assign(temp=rows["day"].map(weather.set_index("day")["temp"]))
"""


def with_project(tools: Tools, folder: Path) -> Tools:
    """The same tools, on a project of its own whose feature code the test may change."""
    (folder / "crew").mkdir(parents=True)
    (folder / "crew" / "features.py").write_text(FEATURE_CODE)
    return dataclasses.replace(tools, project=folder)


def rows(count: int = 400, *, seed: int = 1) -> pd.DataFrame:
    """Flights that are late when they are far and the carrier is B6, with noise; some carriers are missing."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(seed)
    distance = rng.normal(size=count)
    carrier = rng.choice(np.array(["AA", "B6", "UA"], dtype=object), count)
    late = distance + (carrier == "B6") + 0.5 * rng.normal(size=count) > 0.5
    start = pd.Timestamp("2013-01-01", tz="UTC")
    table: pd.DataFrame = pd.DataFrame(
        {
            "id": [f"f{number:05d}" for number in range(count)],
            "at": start + pd.to_timedelta(np.arange(count) // 2, unit="h"),
            "day": np.arange(count) % 7,
            "distance": distance,
            "carrier": [None if number % 50 == 0 else name for number, name in enumerate(carrier)],
            "late": late,
        }
    )
    return table


def weather() -> pd.DataFrame:
    """One temperature a weekday."""
    import pandas as pd

    table: pd.DataFrame = pd.DataFrame({"day": range(7), "temp": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]})
    return table


def dataset(tools: Tools, table: pd.DataFrame | None = None, *, uri: str = "datasets/one") -> DatasetRef:
    """A published dataset, as a snapshot leaves it."""
    held = rows() if table is None else table

    def write(folder: Path) -> None:
        write_parquet(held, folder / "data.parquet")
        write_parquet(weather(), folder / "weather.parquet")

    fingerprint = tools.data.publish(uri, write)
    return DatasetRef(uri=uri, rows=len(held), fingerprint=fingerprint, columns=COLUMNS, partitions=("2013-01",))


def request(**changes: Any) -> RunRequest:
    """A request for a training, with a reason and a requester."""
    asked = {"model": "flights", "partition": "2013-01", "reason": "first training", "requester": "anna"}
    return RunRequest.model_validate({**asked, **changes})


def training_job(found: DatasetRef, **changes: Any) -> TrainingJob:
    """A job that trains in milliseconds."""
    job = {"request": request(), "dataset": found, "features": FEATURES, "estimator": LOGISTIC, "seed": 7}
    return TrainingJob.model_validate({**job, **changes})


def trained(tools: Tools, found: DatasetRef | None = None, **changes: Any) -> TrainedModel:
    """A model whose training stands in the ledger."""
    model = train(training_job(found or dataset(tools), **changes), tools)
    record("train", model, tools, model="flights")
    return model


def judged(tools: Tools, evaluation: Evaluation, *rules: GateRule) -> GateDecision:
    """The gate's decision, by default on a rule that passes."""
    return gate(GateJob(evaluation=evaluation, rules=rules or (GateRule(metric="roc_auc", at_least=0.5),)), tools)


def registered(tools: Tools, model: TrainedModel) -> ModelVersion:
    """The model's version after evaluation and gate."""
    evaluation = evaluate(EvaluationJob(model=model, rehearse=False), tools)
    version = register(RegistrationJob(request=request(), decision=judged(tools, evaluation)), tools)
    assert version is not None
    return version


def released(tools: Tools, model: TrainedModel) -> Move:
    """The model as champion, approved by another person than the requester."""
    version = registered(tools, model)
    record("register", version, tools, model="flights")
    head = tools.ledger.head("flights", tools.environment)
    ask = Ask(
        model="flights",
        environment=tools.environment,
        version=version.version,
        digest=version.digest,
        dataset_fingerprint=version.dataset_fingerprint,
        metrics_digest=version.metrics_digest,
        gate_verdict=version.gate_verdict,
        policy_digest=version.policy_digest,
        epoch=head.epoch if head is not None else 0,
    )
    tools.ledger.ask(ask, requested_by="anna", at=NOW, expires_at=None)
    vote = Vote(ask_id=ask.ask_id, outcome="approve", person="bert", channel="signed", at=NOW)
    decision = tools.ledger.vote(vote)
    assert decision is not None
    return tools.ledger.release(version, decision, moved_by="bert", at=NOW)
