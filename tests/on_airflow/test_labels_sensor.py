"""Waiting for labels without a worker."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd  # noqa: TID253  # no DAG file imports a test
import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, AirflowSkipException, TaskDeferred

from ml_lifecycle.sensors.labels import LabelsReadySensor
from ml_lifecycle.triggers import StatusTrigger
from tests.on_airflow.runs import context_of


@pytest.fixture
def dag(airflow: Path) -> Iterator[DAG]:
    """A DAG of the team's project."""
    with DAG("waiting_for_labels", schedule=None) as dag:
        dag.fileloc = str(airflow / "team" / "dags" / "waiting_for_labels.py")
        yield dag


@pytest.fixture
def place(airflow: Path, request: pytest.FixtureRequest) -> Path:
    """A folder of this test's own below the data root, with 20 predictions of one month."""
    folder = airflow / "data" / re.sub(r"\W+", "_", request.node.name)
    (folder / "scored" / "2024-02").mkdir(parents=True)
    table = pd.DataFrame({"id": range(20), "score": [0.5] * 20})
    table.to_parquet(folder / "scored" / "2024-02" / "predictions.parquet", index=False)
    return folder


def label(place: Path, count: int, *, late: Any = 1) -> None:
    (place / "labels").mkdir(exist_ok=True)
    table = pd.DataFrame({"id": range(count), "late": [late] * count, "told": ["x" * 100] * count})
    table.to_parquet(place / "labels" / "2024-02.parquet", index=False)


def sensor(place: Path, **options: Any) -> LabelsReadySensor:
    given: dict[str, Any] = {
        "task_id": "labels",
        "model": "trips",
        "scored": {"uri": f"{place.name}/scored/{{{{ partition }}}}"},
        "labels": {"uri": f"{place.name}/labels/{{{{ partition }}}}.parquet"},
        "columns": {"key": "id", "target": "late"},
        "partition": "2024-02",
        "poke_interval": 0.01,
        **options,
    }
    return LabelsReadySensor(**given)


def first_event(trigger: StatusTrigger) -> dict[str, Any]:
    """What the trigger yields first."""

    async def run() -> dict[str, Any]:
        event = await anext(trigger.run())
        payload: dict[str, Any] = event.payload
        return payload

    return asyncio.run(asyncio.wait_for(run(), timeout=30))


def test_labels_that_are_there_are_not_waited_for(dag: DAG, place: Path) -> None:
    label(place, 19)
    task = sensor(place)

    assert task.execute(context_of(task)) == {
        "partition": "2024-02",
        "predictions": 20,
        "labelled_rows": 19,
        "coverage": 0.95,
        "late": False,
    }


def test_labels_are_waited_for_in_the_triggerer_until_enough_have_come(dag: DAG, place: Path) -> None:
    label(place, 5)
    task = sensor(place, timeout=20)

    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context_of(task))
    _, values = deferred.value.trigger.serialize()
    label(place, 20)
    event = first_event(StatusTrigger(**values))

    assert (event["status"], event["value"]["coverage"]) == ("ready", 1.0)
    assert event["seen"] == "20 of 20 predictions have a label (100.0%), and 95.0% are asked for"
    assert task.execute_complete(context_of(task), event)["labelled_rows"] == 20


@pytest.mark.parametrize("absent", ["scored", "labels"])
def test_files_that_are_absent_or_half_written_are_waited_for(dag: DAG, place: Path, absent: str) -> None:
    label(place, 20)
    file = place / "labels" / "2024-02.parquet"
    if absent == "scored":
        (place / "scored" / "2024-02" / "predictions.parquet").unlink()
    else:
        file.write_bytes(file.read_bytes()[:50])
    task = sensor(place)

    with pytest.raises(TaskDeferred):
        task.execute(context_of(task))


def test_rows_that_never_get_a_label_are_not_waited_for(dag: DAG, place: Path) -> None:
    (place / "labels").mkdir()
    late = pd.array([1] * 10 + [None] * 10, dtype="Int64")
    pd.DataFrame({"id": range(20), "late": late}).to_parquet(place / "labels" / "2024-02.parquet", index=False)
    task = sensor(place, coverage=1.0, drop=[{"column": "late", "because": "cancelled"}])

    assert task.execute(context_of(task))["labelled_rows"] == 10


def test_labels_that_are_overdue_fail_skip_or_let_go_on(dag: DAG, place: Path) -> None:
    label(place, 5)
    options = {"labels_after": timedelta(days=1), "grace": 3600.0}
    failing, skipping, going = (
        sensor(place, task_id=f"labels_{number}", **options, **more)
        for number, more in enumerate(({}, {"soft_fail": True}, {"go_on": True}))
    )

    with pytest.raises(AirflowSensorTimeout, match=r"labels of 95% .* are overdue: 25\.0% are there"):
        failing.execute(context_of(failing))
    with pytest.raises(AirflowSkipException, match="are overdue"):
        skipping.execute(context_of(skipping))
    assert going.execute(context_of(going))["late"] is True
    assert failing.timeout == 25 * 3600


def test_labels_that_are_still_due_are_waited_for(dag: DAG, place: Path) -> None:
    label(place, 5)
    task = sensor(place, labels_after=timedelta(days=100_000))

    with pytest.raises(TaskDeferred):
        task.execute(context_of(task))


def test_labels_that_cannot_be_joined_end_the_wait(dag: DAG, place: Path) -> None:
    (place / "labels").mkdir()
    table = pd.DataFrame({"id": [str(number) for number in range(20)], "late": 1})
    table.to_parquet(place / "labels" / "2024-02.parquet", index=False)
    task = sensor(place)

    with pytest.raises(AirflowFailException, match="the key 'id' is text in the labels and number in the predictions"):
        task.execute(context_of(task))


def test_the_request_names_the_partition_where_the_task_does_not(dag: DAG, place: Path) -> None:
    label(place, 20)
    task = sensor(place, partition=None, request={"partition": "2024-02"})
    nameless = sensor(place, task_id="nameless", partition=None)

    assert task.execute(context_of(task))["partition"] == "2024-02"
    with pytest.raises(AirflowFailException, match="hand it a request, or partition="):
        nameless.execute(context_of(nameless))


def test_labels_may_be_waited_for_on_a_worker(dag: DAG, place: Path) -> None:
    label(place, 20)
    task = sensor(place, deferrable=False)

    assert task.execute(context_of(task))["coverage"] == 1.0
