from __future__ import annotations

import dataclasses
import json
import math
import socket
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pandas as pd  # noqa: TID253  # as above
import pytest

from ml_lifecycle.backends.monitoring.base import DriftResult
from ml_lifecycle.backends.monitoring.evidently import EvidentlyDetector
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
from ml_lifecycle.core.errors import (
    ChampionError,
    ColumnError,
    PartitionMissingError,
    RequestError,
)
from ml_lifecycle.stages import runner
from ml_lifecycle.stages.data import SnapshotJob, snapshot
from ml_lifecycle.stages.monitoring import (
    DriftJob,
    ResponseJob,
    compare_tables,
    detect_drift,
    respond,
)
from ml_lifecycle.stages.runner import Tools
from ml_lifecycle.stages.training import TrainingJob, train

NOW = datetime(2013, 6, 1, tzinfo=timezone.utc)
COLUMNS = Columns(key="trip", time="leaves", target="late")
SOURCE = Source(uri="trips/{{ partition }}.parquet")
LABELS = Source(uri="outcomes/{{ partition }}.parquet")


# --- Evidently -------------------------------------------------------------------------------------------------------


def compared(reference: Any, current: Any) -> DriftResult:
    return EvidentlyDetector().compare(
        pd.DataFrame({"x": reference}), pd.DataFrame({"x": current}), columns=["x"], threshold=0.1, title="x"
    )


def distance(reference: Any, current: Any) -> tuple[str, float | None]:
    (column,) = compared(reference, current).columns
    return column.method, column.distance


def test_numbers_are_compared_by_their_shift_in_standard_deviations() -> None:
    reference = list(range(12))

    method, found = distance(reference, [value + 3 for value in reference])

    # The standard deviation of 0..11 is sqrt((12**2 - 1) / 12).
    assert method == "wasserstein"
    assert found == pytest.approx(3 / math.sqrt(143 / 12))


def test_categories_are_compared_by_their_shares() -> None:
    method, found = distance(["a", "b"], ["a", "a"])

    # Shares (1/2, 1/2) and (1, 0) have the middle (3/4, 1/4).
    left = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert method == "jensenshannon"
    assert found == pytest.approx(math.sqrt((left + math.log(1 / 0.75)) / 2))


@pytest.mark.parametrize(
    ("reference", "current"),
    [
        ([True, False], [False, True]),
        ([1, 2, 1, 2], [2.0, 1.0]),
        (["a", None], [None, "a"]),
        ([7.0] * 5, [7.0] * 3),
        (pd.Categorical(["a", "b"]), ["b", "a"]),
        (pd.array([True, None], dtype="boolean"), pd.array([None, True], dtype="boolean")),
    ],
)
def test_the_same_shares_have_no_distance(reference: Any, current: Any) -> None:
    method, found = distance(reference, current)

    assert method == "jensenshannon"
    assert found == pytest.approx(0.0, abs=1e-6)


def test_missing_and_infinite_numbers_are_left_out() -> None:
    reference = [*map(float, range(12))]

    _, found = distance([*reference, np.nan, np.inf], [*reference, np.nan, -np.inf, np.nan])

    assert found == pytest.approx(0.0)


def test_a_constant_that_moves_has_drifted() -> None:
    (column,) = compared([7.0] * 20, [8.0] * 20).columns

    assert column.drifted


def test_a_column_that_lost_all_its_values_has_drifted() -> None:
    (column,) = compared([*map(float, range(20))], [np.nan] * 20).columns

    assert column.method == "jensenshannon"
    assert column.drifted


@pytest.mark.parametrize("values", [[None, None], [np.nan, np.nan], pd.to_datetime(["2013-01-01", "2013-01-02"])])
def test_what_says_nothing_is_not_measured(values: Any) -> None:
    result = compared(values, values)

    (column,) = result.columns
    assert (column.distance, column.drifted) == (None, False)
    assert "<table" in result.html


def test_thousands_of_categories_are_compared_by_the_most_frequent() -> None:
    many = [f"v{number}" for number in range(3000)]

    assert distance(["a"] * 3000 + many, ["a"] * 3000 + many)[1] == pytest.approx(0.0, abs=1e-6)


def test_a_comparison_is_quiet_and_opens_no_connection(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: Any) -> None:
        pytest.fail(f"a connection to {arguments[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)

    compared(["a", "b"], ["a", "b"])

    assert capfd.readouterr() == ("", "")


def test_a_misspelt_column_is_told_with_the_one_that_was_meant() -> None:
    table = pd.DataFrame({"miles": [1.0]})

    with pytest.raises(ColumnError, match="did you mean 'mile'"):
        compare_tables(table, table.rename(columns={"miles": "mile"}), columns=["miles"])


def test_any_two_tables_can_be_compared_without_their_keys_and_times() -> None:
    reference = pd.DataFrame(
        {
            "trip": list("abcd"),
            "leaves": pd.date_range("2013-01-01", periods=4),
            "kind": list("xxyy"),
            "n": [1, 1, 2, 2],
        }
    )

    found = compare_tables(reference, reference.assign(kind="x"), threshold=0.1, share=0.5)

    assert [(column.column, column.drifted) for column in found.columns] == [("kind", True), ("n", False)]
    assert (found.drifted_share, found.verdict) == (0.5, Verdict.FAIL)


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
    return DriftJob(request=request(partition), source=SOURCE, columns=COLUMNS, threshold=0.3)


def test_a_month_like_the_training_data_has_not_drifted(champion: TrainedModel, tools: Tools, tmp_path: Path) -> None:
    land(tmp_path, "2013-02")

    report = detect_drift(drift_job(), tools)

    assert (report.verdict, report.drifted_share, report.version) == (Verdict.PASS, 0.0, 1)
    assert {column.column for column in report.columns} == {"miles", "belts"}
    assert report.reference == champion.dataset
    assert report.current.rows == 80


def test_a_month_that_moved_has_drifted_and_is_measured_once(
    champion: TrainedModel, tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(tmp_path, "2013-02", shift=80)

    report = detect_drift(drift_job(), tools)
    monkeypatch.setattr(EvidentlyDetector, "compare", lambda *_, **__: pytest.fail("measured again"))
    again = detect_drift(drift_job(), tools)

    folder = (tmp_path / "data" / report.report_uri).parent
    assert (report.verdict, report.drifted_share) == (Verdict.FAIL, 0.5)
    assert report == again
    assert report.report_uri.startswith("reports/drift/trips/2013-02-v1-")
    assert json.loads((folder / "report.json").read_text())["verdict"] == "fail"
    assert "2013-02 against the training data of version 1" in (folder / "index.html").read_text()


def test_an_edited_report_does_not_change_the_verdict(champion: TrainedModel, tools: Tools, tmp_path: Path) -> None:
    land(tmp_path, "2013-02", shift=80)
    first = detect_drift(drift_job(), tools)
    path = (tmp_path / "data" / first.report_uri).with_name("report.json")
    path.write_text(path.read_text().replace('"verdict": "fail"', '"verdict": "pass"'))

    assert detect_drift(drift_job(), tools).verdict is Verdict.FAIL


def test_drift_needs_a_champion_a_partition_and_its_file(tools: Tools, tmp_path: Path) -> None:
    with pytest.raises(ChampionError, match="no version was released yet"):
        detect_drift(drift_job(), tools)
    with pytest.raises(RequestError, match="no partition was asked for"):
        detect_drift(drift_job(""), tools)


def test_a_month_that_is_not_there_is_an_error_and_publishes_nothing(
    champion: TrainedModel, tools: Tools, tmp_path: Path
) -> None:
    with pytest.raises(PartitionMissingError, match=r"trips/2013-02\.parquet"):
        detect_drift(drift_job(), tools)

    assert not (tmp_path / "data" / "reports").exists()


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
