from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pandas as pd  # noqa: TID253  # as above
import pytest

from ml_lifecycle.core.contracts import (
    Ask,
    Columns,
    ModelVersion,
    RunRequest,
    Source,
    TrainedModel,
    Verdict,
    Vote,
)
from ml_lifecycle.stages import runner
from ml_lifecycle.stages.data import SnapshotJob, snapshot
from ml_lifecycle.stages.drift import DriftJob, detect_drift
from ml_lifecycle.stages.monitoring import ResponseJob, respond
from ml_lifecycle.stages.runner import Tools
from ml_lifecycle.stages.training import TrainingJob, train

NOW = datetime(2013, 6, 1, tzinfo=timezone.utc)
COLUMNS = Columns(key="trip", time="leaves", target="late")
SOURCE = Source(uri="trips/{{ partition }}.parquet")
LABELS = Source(uri="outcomes/{{ partition }}.parquet")


# --- The stages ------------------------------------------------------------------------------------------------------


def land(tmp_path: Path, partition: str, *, shift: float = 0.0, rows: int = 80) -> None:
    """A month of trips: the long ones are late, and ``shift`` moves all of them."""
    random = np.random.default_rng(int(partition[-2:]))
    miles = random.uniform(0, 100, rows)
    keys = [f"{partition}-{number}" for number in range(rows)]
    leaves = pd.date_range(f"{partition}-01", periods=rows, freq="h", tz="UTC")
    for family in ("trips", "outcomes"):
        (tmp_path / "data" / family).mkdir(parents=True, exist_ok=True)
    trips = {"trip": keys, "leaves": leaves, "miles": miles + shift, "belts": random.uniform(0, 1, rows)}
    pd.DataFrame(trips).to_parquet(tmp_path / f"data/trips/{partition}.parquet")
    outcomes = pd.DataFrame({"trip": keys, "late": miles > 50})
    outcomes.to_parquet(tmp_path / f"data/outcomes/{partition}.parquet")


def request(partition: str = "2013-02") -> RunRequest:
    return RunRequest(model="trips", stream="monitor", partition=partition, partitions=(partition,))


@pytest.fixture
def champion(tools: Tools, tmp_path: Path) -> TrainedModel:
    """A model that was trained on January and released as version 1."""
    land(tmp_path, "2013-01")
    dataset = snapshot(
        SnapshotJob(model="trips", partitions=("2013-01",), source=SOURCE, labels=LABELS, columns=COLUMNS), tools
    )
    asked = RunRequest(model="trips", partition="2013-01")
    for evidence in (dataset, asked):
        runner.record("given", evidence, tools, model="trips")
    job = TrainingJob(request=asked, dataset=dataset, estimator="sklearn.linear_model.LogisticRegression")
    trained = runner.run(train, job, tools, model="trips")
    release(trained, tools)
    return trained


def release(trained: TrainedModel, tools: Tools, version: int = 1, at: datetime = NOW - timedelta(days=60)) -> None:
    head = tools.ledger.head("trips", tools.environment)
    registered = ModelVersion(
        name="trips",
        version=version,
        digest=trained.digest,
        training_key=trained.training_key,
        uri=trained.uri,
        run_id=trained.run_id,
        dataset_fingerprint=trained.dataset.fingerprint,
        metrics_digest="0" * 64,
        gate_verdict=Verdict.PASS,
        policy_digest="0" * 64,
    )
    tools.ledger.record_result(tools.environment, "train/1", "register", registered, model="trips", at=at)
    ask = question(registered, tools, epoch=head.epoch if head else 0)
    tools.ledger.ask(ask, requested_by=None, at=at, expires_at=None)
    signed = Vote(ask_id=ask.ask_id, outcome="approve", person="approver", channel="signed", at=at)
    decision = tools.ledger.vote(signed)
    assert decision is not None
    tools.ledger.release(registered, decision, moved_by="release/1", at=at)


def question(registered: ModelVersion, tools: Tools, *, epoch: int) -> Ask:
    return Ask(
        model="trips",
        environment=tools.environment,
        version=registered.version,
        digest=registered.digest,
        dataset_fingerprint=registered.dataset_fingerprint,
        metrics_digest=registered.metrics_digest,
        gate_verdict=registered.gate_verdict,
        policy_digest=registered.policy_digest,
        epoch=epoch,
    )


def drift_job(partition: str = "2013-02") -> DriftJob:
    return DriftJob(request=request(partition), source=SOURCE, columns=COLUMNS)


# --- Response --------------------------------------------------------------------------------------------------------


def at(tools: Tools, moment: datetime, run: str) -> Tools:
    return dataclasses.replace(tools, clock=lambda: moment, run=run)


def response_job(tools: Tools, tmp_path: Path, partition: str = "2013-02") -> ResponseJob:
    land(tmp_path, partition, shift=80)
    drift = runner.run(detect_drift, recorded(drift_job(partition), tools), tools, model="trips")
    asked = request(partition)
    runner.record("resolve", asked, tools, model="trips")
    return ResponseJob(request=asked, drift=drift, performance=None)


def recorded(job: DriftJob, tools: Tools) -> DriftJob:
    runner.record("resolve", job.request, tools, model="trips")
    return job


def answer(job: ResponseJob, tools: Tools) -> tuple[str, str]:
    """What is answered in a run that concluded what the job holds."""
    for evidence in (job.request, job.drift):
        if evidence is not None:
            runner.record("given", evidence, tools, model="trips")
    response = runner.run(respond, job, tools, model="trips")
    return response.action, response.reason


def test_drift_asks_once_and_a_retry_says_the_same(champion: TrainedModel, tools: Tools, tmp_path: Path) -> None:
    job = response_job(tools, tmp_path)

    first = answer(job, at(tools, NOW, "trips_monitor/february"))
    retry = answer(job, at(tools, NOW + timedelta(hours=1), "trips_monitor/february"))
    other = answer(job, at(tools, NOW + timedelta(hours=1), "trips_monitor/again"))
    later = answer(job, at(tools, NOW + timedelta(days=7), "trips_monitor/later"))

    assert first == retry
    assert first[0] == "retrain"
    assert first[1].startswith("drift on 2013-02: 1 of 2 features moved (miles ")
    assert other[0] == "nothing"
    assert "a retraining was asked for 1 h ago, within the cooldown of 7 d" in other[1]
    assert later[0] == "retrain"


def test_requests_without_a_release_end_in_an_alert_until_there_is_one(
    champion: TrainedModel, tools: Tools, tmp_path: Path
) -> None:
    job = response_job(tools, tmp_path)
    days = [NOW + timedelta(days=8 * number) for number in range(5)]

    actions = [answer(job, at(tools, day, f"trips_monitor/{day:%d}"))[0] for day in days[:4]]
    release(champion, tools, version=2, at=days[3] + timedelta(hours=1))
    after = answer(job, at(tools, days[4], "trips_monitor/after"))

    assert actions == ["retrain", "retrain", "retrain", "alert"]
    assert after[0] == "retrain"


def test_an_open_approval_holds_retraining_back(champion: TrainedModel, tools: Tools, tmp_path: Path) -> None:
    job = response_job(tools, tmp_path)
    entry = tools.ledger.results(tools.environment, "trips", "register")[0]["content"]
    waiting = ModelVersion.model_validate({**entry, "version": 2, "digest": "3" * 64})
    tools.ledger.record_result(tools.environment, "train/2", "register", waiting, model="trips", at=NOW)
    tools.ledger.ask(question(waiting, tools, epoch=1), requested_by=None, at=NOW, expires_at=None)

    soon = answer(job, at(tools, NOW + timedelta(days=1), "trips_monitor/soon"))
    late = answer(job, at(tools, NOW + timedelta(days=8), "trips_monitor/late"))

    assert soon[0] == "nothing"
    assert "version 2 already waits for its approval" in soon[1]
    assert late[0] == "retrain"


def test_a_question_that_ran_out_holds_retraining_back_no_longer(
    champion: TrainedModel, tools: Tools, tmp_path: Path
) -> None:
    job = response_job(tools, tmp_path)
    entry = tools.ledger.results(tools.environment, "trips", "register")[0]["content"]
    waiting = ModelVersion.model_validate({**entry, "version": 2, "digest": "3" * 64})
    tools.ledger.record_result(tools.environment, "train/2", "register", waiting, model="trips", at=NOW)
    end = NOW + timedelta(days=3)
    tools.ledger.ask(question(waiting, tools, epoch=1), requested_by=None, at=NOW, expires_at=end)

    open_still = answer(job, at(tools, end, "trips_monitor/open"))
    over = answer(job, at(tools, end + timedelta(minutes=1), "trips_monitor/over"))

    assert open_still[0] == "nothing"
    assert over[0] == "retrain"
