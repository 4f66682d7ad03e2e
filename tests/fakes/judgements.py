"""Judgements with their rows, for tests of what people read about them."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import numpy as np  # noqa: TID253  # no DAG file imports a test

from ml_lifecycle.backends.evaluation.intervals import difference, metric_of
from ml_lifecycle.backends.evaluation.rows import ScoredRows
from ml_lifecycle.core.contracts import (
    ChampionResult,
    Columns,
    DatasetRef,
    Evaluation,
    GateCheck,
    GateDecision,
    HoldoutFacts,
    HoldoutSpec,
    MeasurementSpec,
    Metric,
    ServingCheck,
    TrainedModel,
    Verdict,
)

RUN = "0f" * 16
SPEC = MeasurementSpec()


def hours(count: int) -> Any:
    """One row an hour."""
    return np.datetime64("2013-03-13", "ns") + np.arange(count) * np.timedelta64(1, "h")


def two_classes(
    count: int = 240, *, origins: tuple[str, ...] = ("EWR", "JFK", "LGA"), champion: bool = True
) -> ScoredRows:
    """Rows of ten days; the candidate sees more of the truth than the champion."""
    rng = np.random.default_rng(5)
    truth = (rng.random(count) < 0.4).astype("float64")
    said = {"candidate": 1.4, "champion": 0.7} if champion else {"candidate": 1.4}
    return ScoredRows(
        task="binary",
        truth=truth,
        scores={
            name: 1 / (1 + np.exp(-(skill * (2 * truth - 1) + rng.normal(size=count)))) for name, skill in said.items()
        },
        keys=np.array([f"f{place:04d}" for place in range(count)], dtype=object),
        classes=("no", "yes"),
        slices={"origin": np.array([origins[place % len(origins)] for place in range(count)], dtype=object)},
        time=hours(count),
    )


def numbers(count: int = 240) -> ScoredRows:
    """Rows of a regression."""
    rng = np.random.default_rng(6)
    truth = 100 * rng.random(count)
    scores = {"candidate": truth + 5 * rng.normal(size=count), "champion": truth + 9 * rng.normal(size=count)}
    return ScoredRows(task="regression", truth=truth, scores=scores, keys=np.arange(count), time=hours(count))


def three_classes() -> ScoredRows:
    """Six rows: the candidate takes one ``b`` for an ``a``, and both ``c`` for a ``b``."""
    certain = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
    return ScoredRows(
        task="multiclass",
        truth=np.array([0.0, 0, 1, 1, 2, 2]),
        scores={"candidate": certain[[0, 0, 0, 1, 1, 1]]},
        keys=np.arange(6),
        classes=("a", "b", "c"),
    )


def model(**changes: Any) -> TrainedModel:
    """A trained model with all that is on record of one."""
    dataset = DatasetRef(
        uri="snapshots/flights/4f1c2ab0",
        rows=1240,
        fingerprint="d" * 64,
        columns=Columns(key="id", time="at", target="late"),
        partitions=("2013-01", "2013-02", "2013-03"),
        dropped={"cancelled: it never arrived": 45},
    )
    facts: dict[str, Any] = {
        "name": "flights",
        "uri": f"runs:/{RUN}/model",
        "digest": "a" * 64,
        "training_key": "b" * 64,
        "run_id": RUN,
        "dataset": dataset,
        "holdout": HoldoutSpec(),
        "training_rows": 1000,
        "estimator": "sklearn.linear_model.LogisticRegression",
        "hyperparameters": {"C": 0.5},
        "seed": 7,
        "code_version": "1234567890abcdef",
        "features": "crew.features:build",
        "features_digest": "e" * 64,
        "environment_digest": "f" * 64,
        "hardware": "x86_64, 2 cores",
    }
    return TrainedModel.model_validate({**facts, **changes})


def holdout(rows: ScoredRows, **changes: Any) -> HoldoutFacts:
    """A holdout of the last days, proven."""
    facts: dict[str, Any] = {
        "fingerprint": "9" * 64,
        "rows": len(rows),
        "training_rows": 1000,
        "training_until": datetime(2013, 3, 12, 23, tzinfo=timezone.utc),
        "first": datetime(2013, 3, 13, tzinfo=timezone.utc),
        "last": datetime(2013, 3, 22, 23, tzinfo=timezone.utc),
    }
    return HoldoutFacts.model_validate({**facts, **changes})


def evaluated(rows: ScoredRows, *metrics: str, **changes: Any) -> Evaluation:
    """The rows measured, against the champion where they hold one."""
    champion = None
    if "champion" in rows.scores:
        champion = ChampionResult(
            version=3,
            digest="c" * 64,
            metrics={name: metric_of(name, rows, "champion", spec=SPEC) for name in metrics},
            differences={name: difference(name, rows, "candidate", "champion", spec=SPEC) for name in metrics},
            slices=_slices(rows, "champion", metrics),
        )
    facts: dict[str, Any] = {
        "model": model(),
        "metrics": {name: metric_of(name, rows, "candidate", spec=SPEC) for name in metrics},
        "slices": _slices(rows, "candidate", metrics),
        "champion": champion,
        "predictions_uri": f"runs:/{RUN}/evaluation/8888/predictions.parquet",
        "predictions_digest": "8" * 64,
        "task": rows.task,
        "classes": rows.classes,
        "holdout": holdout(rows),
        "serving": ServingCheck(
            verdict=Verdict.PASS,
            rows=64,
            largest_difference=0.0,
            load_s=1.2,
            latency_p50_ms=6.0,
            latency_p95_ms=8.9,
            peak_mb=212,
            model_mb=0.6,
        ),
    }
    return Evaluation.model_validate({**facts, **changes})


def _slices(rows: ScoredRows, contender: str, metrics: tuple[str, ...]) -> dict[str, dict[str, dict[str, Metric]]]:
    return {
        column: {
            str(value): {name: metric_of(name, rows.part(values == value), contender, spec=SPEC) for name in metrics}
            for value in sorted(set(values))
        }
        for column, values in rows.slices.items()
    }


def check(verdict: Verdict = Verdict.PASS, **changes: Any) -> GateCheck:
    """A check of a limit."""
    facts: dict[str, Any] = {
        "rule": "roc_auc at least 0.6",
        "verdict": verdict,
        "observed": 0.81,
        "low": 0.76,
        "high": 0.86,
        "metric": "roc_auc",
        "limit": 0.6,
        "confidence": 0.95,
        "rows": 240,
        "method": "DeLong",
    }
    return GateCheck.model_validate({**facts, **changes})


def decided(evaluation: Evaluation, *checks: GateCheck, judged: int = 1) -> GateDecision:
    """The judgement that the checks come to."""
    return GateDecision(
        evaluation=evaluation,
        verdict=Verdict.worst(one.verdict for one in checks),
        checks=checks,
        policy_digest="7" * 64,
        judged=judged,
    )
