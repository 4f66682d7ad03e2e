"""A model's life without any human, on a real Airflow: nobody triggers, nobody answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from trial import ENVIRONMENT, MONTHS, Trial

MODEL = "alone"
DRIFTED = "2024-03"
PIPELINE = f"""\
model: {MODEL}
owner: team
contact: team@example.com
data:
  source: "rows/{{{{ partition }}}}.parquet"
  window: 2
  key: id
  time: at
  target: late
training:
  schedule: "@monthly"
  start: 2024-02-01
  end: 2024-02-28
  features: crew.features:build
  estimator: sklearn.tree.DecisionTreeClassifier
  hyperparameters: {{max_depth: 3}}
evaluation:
  metrics: [roc_auc]
  gate:
    - {{metric: roc_auc, at_least: 0.6}}
    - {{metric: roc_auc, versus: champion, margin: 0.05}}
approval: {{required: on_inconclusive, approvers: [approver]}}
scoring: {{schedule: "@monthly", start: 2024-03-01, end: 2024-03-31, output: "scored/{{{{ partition }}}}"}}
monitoring:
  schedule: "@monthly"
  start: 2024-03-01
  end: 2024-03-31
  performance: {{metric: roc_auc, at_least: 0.1}}
  on_drift: retrain
  on_performance: rollback
"""
DEADLINE_S = 180

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """Two months alike and one in which everything lies farther away; ended once a second version serves."""
    trial = Trial(tmp_path_factory.mktemp("alone"), {MODEL: PIPELINE})
    rows = trial.deployment.data_root / "rows"
    try:
        trial.deployment.claim()
        rows.mkdir(parents=True)
        _write_month_far_away(rows / f"{DRIFTED}.parquet")
        trial.start()
        trial.wait_for("a second champion", lambda: (trial.champion(MODEL) or 0) > 1 or None, deadline_s=DEADLINE_S)
        yield trial
    finally:
        trial.stop()


def _write_month_far_away(file: Path, rows: int = 200) -> None:
    import pandas as pd

    distances = [100 + number * 37 % 100 for number in range(rows)]
    table = pd.DataFrame(
        {
            "id": [f"{DRIFTED}-{number}" for number in range(rows)],
            "at": pd.date_range(f"{DRIFTED}-01", periods=rows, freq="1h", tz="UTC"),
            "distance": distances,
            "late": [int((distance > 150) != (number % 10 == 0)) for number, distance in enumerate(distances)],
        }
    )
    table.to_parquet(file, index=False)


def test_drift_leads_to_a_new_champion_without_anybody(life: Trial) -> None:
    moves = life.ledger.moves(MODEL, ENVIRONMENT)

    assert [(move.kind, move.version) for move in moves] == [("release", 1), ("release", 2)]
    life.wait_for("the alias of the second version", lambda: life.alias(MODEL) == 2)


def test_both_decisions_are_recorded_as_policys_own(life: Trial) -> None:
    decisions = [life.ledger.decision(move.decision_id or "") for move in life.ledger.moves(MODEL, ENVIRONMENT)]

    assert [decision.decided_by for decision in decisions if decision is not None] == ["policy", "policy"]
    assert [decision.ask.gate_verdict.value for decision in decisions if decision is not None] == ["pass", "pass"]


def test_no_person_asked_for_any_of_it(life: Trial) -> None:
    requests = [result["content"] for result in life.ledger.results(ENVIRONMENT, MODEL, "resolve")]

    assert {request.get("requester") for request in requests} == {None}
    assert {request["trigger"] for request in requests} == {"scheduled", "asset"}


def test_the_second_training_says_that_drift_asked_for_it(life: Trial) -> None:
    requests = [result["content"] for result in life.ledger.results(ENVIRONMENT, MODEL, "resolve")]
    retrained = [request for request in requests if request["stream"] == "train" and request["trigger"] == "asset"]

    assert len(retrained) == 1
    assert "drift" in retrained[0]["reason"]
    assert retrained[0]["partitions"] == [MONTHS[-1], DRIFTED]


def test_a_retraining_asks_for_no_rollback(life: Trial) -> None:
    engineer = life.by("engineer")

    events = engineer.call("GET", "assets/events", params={"limit": 100})["asset_events"]

    assert [event["name"] for event in events if event["source_task_id"] == "respond"] == [f"{MODEL}_retrain"]
    assert engineer.runs(f"{MODEL}_rollback") == []
