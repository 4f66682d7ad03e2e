"""Operators alone, as a hand-written DAG uses them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from ml_lifecycle.core.errors import ServiceUnavailableError
from ml_lifecycle.hooks.tools import tools_for
from ml_lifecycle.operators.assets import newest_event, retrain_asset
from ml_lifecycle.operators.data import SnapshotDatasetOperator
from ml_lifecycle.operators.monitoring import RespondToMonitoringOperator
from ml_lifecycle.operators.request import ResolveRequestOperator
from ml_lifecycle.operators.scoring import ScoreBatchOperator
from ml_lifecycle.operators.training import TrainModelOperator
from tests.on_airflow.runs import context_of

COLUMNS = {"key": "id", "time": "at", "target": "late"}
ROWS = {"uri": "rows/{{ partition }}.parquet"}
LABELS = {"uri": "labels/{{ partition }}.parquet"}


@pytest.fixture
def dag(airflow: Path) -> Iterator[DAG]:
    """A DAG of the team's project."""
    with DAG("alone", schedule=None) as dag:
        dag.fileloc = str(airflow / "team" / "dags" / "alone.py")
        yield dag


def snapshot(**changes: Any) -> SnapshotDatasetOperator:
    """A snapshot of January, with some arguments changed."""
    arguments = {
        "task_id": "snapshot", "model": "alone", "partitions": ["2024-01"], "source": ROWS, "labels": LABELS,
        "columns": COLUMNS,
    }  # fmt: skip
    return SnapshotDatasetOperator(**{**arguments, **changes})


def resolve(**changes: Any) -> ResolveRequestOperator:
    """The first task of a training."""
    arguments = {"task_id": "resolve", "model": "alone", "sources": [ROWS, LABELS], "window": 2}
    return ResolveRequestOperator(**{**arguments, **changes})


def test_an_operator_without_a_request_makes_and_records_one(dag: DAG) -> None:
    task = snapshot()

    dataset = task.execute(context_of(task, run_id="manual__7"))

    assert dataset["rows"] == 200
    recorded = tools_for(context_of(task)).ledger.results("test", "alone", "resolve")
    request = next(entry["content"] for entry in recorded if entry["run"] == "alone/manual__7")
    assert (request["requester"], request["trigger"]) == ("engineer", "manual")


def test_a_result_that_was_edited_between_tasks_is_refused(dag: DAG) -> None:
    task = snapshot()
    dataset = task.execute(context_of(task))
    train = TrainModelOperator(
        task_id="train", model="alone", dataset={**dataset, "rows": 7}, estimator="sklearn.tree.DecisionTreeClassifier"
    )

    with pytest.raises(AirflowFailException, match=r"dataset \(DatasetRef .*is not a result that the ledger knows"):
        train.execute(context_of(train))


def test_a_request_that_was_edited_between_tasks_is_refused(dag: DAG) -> None:
    first = resolve()
    request = first.execute(context_of(first))
    task = snapshot(partitions=(), request={**request, "requester": "somebody else"})

    with pytest.raises(AirflowFailException, match=r"request .*is not a result that the ledger knows"):
        task.execute(context_of(task))


def test_a_request_about_another_model_is_refused(dag: DAG) -> None:
    first = resolve(model="other")
    task = snapshot(request=first.execute(context_of(first)))

    with pytest.raises(AirflowFailException, match="the request is about 'other', the task about 'alone'"):
        task.execute(context_of(task))


def test_wrong_arguments_are_all_named_without_a_foreign_traceback(dag: DAG) -> None:
    task = snapshot(columns={"kee": "id"}, source={"url": "rows"})

    with pytest.raises(AirflowFailException) as failed:
        task.execute(context_of(task))

    text = str(failed.value)
    for part in ("task 'snapshot'", "columns.key", "columns.kee", "source.uri", "correct the operator's arguments"):
        assert part in text
    assert failed.value.__suppress_context__


def test_what_a_person_has_to_mend_is_not_tried_again(dag: DAG) -> None:
    task = snapshot(partitions=["2030-01"])

    with pytest.raises(AirflowFailException, match=r"2030-01\.parquet"):
        task.execute(context_of(task))


def test_what_may_pass_is_tried_again(dag: DAG, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: Any) -> None:
        raise ServiceUnavailableError("MLflow did not answer", where="http://mlflow:5000")

    monkeypatch.setattr("ml_lifecycle.stages.data.snapshot", down)
    task = snapshot()

    with pytest.raises(ServiceUnavailableError, match="http://mlflow:5000: MLflow did not answer"):
        task.execute(context_of(task))


@pytest.mark.parametrize(
    ("run_type", "trigger", "partitions"),
    [
        ("manual", "manual", ["2024-02", "2024-03"]),
        ("operator_triggered", "manual", ["2024-02", "2024-03"]),
        ("scheduled", "scheduled", ["2024-01", "2024-02"]),
        ("backfill", "backfill", ["2024-01", "2024-02"]),
    ],
)
def test_the_interval_of_a_scheduled_run_is_its_partition(
    dag: DAG, run_type: str, trigger: str, partitions: list[str]
) -> None:
    task = resolve()
    context = context_of(task, run_type=run_type)
    context["data_interval_start"] = datetime(2024, 2, 1, tzinfo=timezone.utc)

    request = task.execute(context)

    assert (request["trigger"], request["partitions"]) == (trigger, partitions)


def events(*extras: dict[str, Any]) -> dict[Any, list[Any]]:
    """Asset events as they reach a run: the last one here came first."""
    made = [
        SimpleNamespace(extra=extra, timestamp=datetime(2024, 4, len(extras) - number, tzinfo=timezone.utc))
        for number, extra in enumerate(extras)
    ]
    return {retrain_asset("alone"): made}


def test_of_coalesced_events_the_newest_counts(dag: DAG) -> None:
    task = resolve()
    context = context_of(task, run_type="asset_triggered", triggering_user_name=None)
    context["triggering_asset_events"] = events(
        {"reason": "drift in 2024-02", "partition": "2024-02"}, {"reason": "old", "partition": "2024-03"}
    )

    request = task.execute(context)

    assert (request["reason"], request["partition"], request["trigger"]) == ("drift in 2024-02", "2024-02", "asset")
    assert request["requester"] is None


def test_a_retraining_reads_the_newest_partition_with_labels_not_the_one_that_drifted(dag: DAG) -> None:
    task = resolve()
    context = context_of(task, run_type="asset_triggered")
    context["triggering_asset_events"] = events({"reason": "drift", "observed": "2024-02"})

    assert task.execute(context)["partitions"] == ["2024-02", "2024-03"]


def test_a_run_without_events_has_no_event(dag: DAG) -> None:
    assert newest_event({}) == {}


def test_scoring_waits_for_a_partition_that_was_named_and_trains_on_none(dag: DAG) -> None:
    task = resolve(stream="score")

    assert task.execute(context_of(task, conf={"partition": "2031-01"}))["partition"] == "2031-01"
    assert task.execute(context_of(task))["partition"] == "2024-03"


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"partitoin": "2024-02"}, "did you mean 'partition'"),
        ({"max_depth": 99}, "99 is out of bounds"),
        ({"hyperparameters": {"depth": 1}}, "declares no hyperparameter 'depth'"),
    ],
)
def test_a_form_that_asks_for_what_is_not_offered_is_refused(dag: DAG, conf: dict[str, Any], message: str) -> None:
    task = resolve(hyperparameters={"max_depth": {"value": 3, "low": 1, "high": 9}})

    with pytest.raises(AirflowFailException, match=message):
        task.execute(context_of(task, conf=conf))


def test_a_hyperparameter_called_like_a_field_of_the_form_is_set_by_its_full_name(dag: DAG) -> None:
    task = resolve(hyperparameters={"reason": {"value": 1}})

    request = task.execute(context_of(task, conf={"reason": "why", "hyperparameters": {"reason": 2}}))

    assert (request["reason"], request["hyperparameters"]) == ("why", {"reason": 2})


def test_no_retraining_skips_what_follows_and_still_says_what_was_found(dag: DAG) -> None:
    task = RespondToMonitoringOperator(task_id="respond", model="alone", partition="2024-03")
    context = context_of(task)

    with pytest.raises(AirflowSkipException):
        task.execute(context)

    assert context["pushed"]["return_value"]["action"] != "retrain"
    assert not context["outlet_events"]._dict


def test_scoring_without_a_champion_says_so(dag: DAG) -> None:
    task = ScoreBatchOperator(
        task_id="score", model="orphan", source=ROWS, columns=COLUMNS, scored={"uri": "orphan/{{ partition }}"},
        partition="2024-03",
    )  # fmt: skip

    with pytest.raises(AirflowFailException, match="no version was released yet"):
        task.execute(context_of(task))
