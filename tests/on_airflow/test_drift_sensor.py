"""A DAG written by hand waits for what monitoring finds."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from ml_lifecycle.core.contracts import ColumnDrift, Columns, DatasetRef, DriftReport, Verdict
from ml_lifecycle.hooks.tools import tools_for
from ml_lifecycle.sensors.monitoring import DriftSensor
from ml_lifecycle.stages.runner import record
from ml_lifecycle.triggers import StatusTrigger
from tests.on_airflow.runs import context_of

DATASET = DatasetRef(
    uri="snapshots/watched/1", rows=1, fingerprint="0" * 64, columns=Columns(key="id"), partitions=("2013-01",)
)
NOON = datetime(2013, 5, 1, 12, tzinfo=timezone.utc)


@pytest.fixture
def dag(airflow: Path) -> Iterator[DAG]:
    """A DAG of the team's project."""
    with DAG("watching", schedule=None) as dag:
        dag.fileloc = str(airflow / "team" / "dags" / "watching.py")
        yield dag


def column(name: str, distance: float | None, window: int = 1) -> ColumnDrift:
    drifted = (distance or 0) > 0.1
    return ColumnDrift(column=name, method="ks", distance=distance, threshold=0.1, drifted=drifted, window=window)


def looked(sensor: DriftSensor, verdict: Verdict, partition: str, *columns: ColumnDrift, at: datetime = NOON) -> None:
    """A monitor's run that found something at a moment."""
    report = DriftReport(
        model=sensor.model,
        version=1,
        partition=partition,
        verdict=verdict,
        drifted_share=None,
        columns=columns,
        reference=DATASET,
        current=DATASET,
        report_uri=f"reports/drift/{sensor.model}/{partition}/index.html",
        compared=len(columns),
    )
    tools = dataclasses.replace(tools_for(context_of(sensor)), clock=lambda: at, run=f"watched_monitor/{partition}")
    record("detect_drift", report, tools, model=sensor.model)


def waits(sensor: DriftSensor) -> TaskDeferred:
    """What it hands to the triggerer."""
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(context_of(sensor))
    return deferred.value


def test_drift_that_was_found_is_not_waited_for_and_its_summary_is_returned(dag: DAG) -> None:
    sensor = DriftSensor(task_id="found", model="found", partition="2013-05")
    looked(sensor, Verdict.FAIL, "2013-05", column("temp", 0.2), column("temp", 0.3, 7), column("wind", 0.4))

    assert sensor.execute(context_of(sensor)) == {
        "model": "found",
        "version": 1,
        "partition": "2013-05",
        "verdict": "fail",
        "compared": 3,
        "drifted": 3,
        "columns": ["wind", "temp"],
        "report_uri": "reports/drift/found/2013-05/index.html",
        "at": "2013-05-01T12:00:00+00:00",
    }


def test_a_look_without_drift_and_one_at_an_earlier_partition_are_waited_past_in_the_triggerer(dag: DAG) -> None:
    sensor = DriftSensor(task_id="waiting", model="waiting", partition="2013-05", timeout=20)
    looked(sensor, Verdict.FAIL, "2013-04")
    looked(sensor, Verdict.PASS, "2013-05")
    looked(sensor, Verdict.INCONCLUSIVE, "2013-06")
    deferred = waits(sensor)
    path, values = deferred.trigger.serialize()
    looked(sensor, Verdict.FAIL, "2013-07")

    async def first() -> Any:
        return (await anext(StatusTrigger(**values).run())).payload

    event = asyncio.run(asyncio.wait_for(first(), timeout=30))

    assert path == "ml_lifecycle.triggers.StatusTrigger"
    assert (event["status"], event["seen"]) == ("ready", "fail on 2013-07")
    assert sensor.execute_complete(context_of(sensor), event)["partition"] == "2013-07"


def test_any_verdict_may_be_waited_for(dag: DAG) -> None:
    sensor = DriftSensor(task_id="any", model="looked_at", partition="2013-05", verdict="any")
    waits(sensor)

    looked(sensor, Verdict.INCONCLUSIVE, "2013-05")

    assert sensor.execute(context_of(sensor))["verdict"] == "inconclusive"


@pytest.mark.parametrize(
    ("since", "is_ready"),
    [
        ("2013-05-01T12:00:00Z", True),
        ("2013-05-01T12:00:01+00:00", False),
        ("2013-05-01T14:00:00+02:00", True),
        ("2013-05-01T08:00:01-04:00", False),
    ],
)
def test_only_looks_from_a_moment_on_count_whatever_its_time_zone(dag: DAG, since: str, is_ready: bool) -> None:  # noqa: FBT001  # pytest fills it
    sensor = DriftSensor(task_id="since", model=f"since_{abs(hash(since))}", since=since)
    looked(sensor, Verdict.FAIL, "2013-05")

    if is_ready:
        assert sensor.execute(context_of(sensor))["at"] == "2013-05-01T12:00:00+00:00"
    else:
        waits(sensor)


def test_of_several_looks_the_newest_one_is_returned(dag: DAG) -> None:
    sensor = DriftSensor(task_id="newest", model="newest", since=NOON.isoformat())
    for days, partition in enumerate(("2013-05", "2013-06")):
        looked(sensor, Verdict.FAIL, partition, at=NOON + timedelta(days=days))

    assert sensor.execute(context_of(sensor))["partition"] == "2013-06"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "neither a partition nor a moment says which looks count"),
        ({"since": "yesterday"}, "'yesterday' is no moment with its offset from UTC"),
        ({"since": "2013-05-01T12:00:00"}, "is no moment with its offset from UTC"),
        ({"partition": "2013-05", "verdict": "pass"}, "verdict 'pass' is not waited for"),
    ],
)
def test_what_cannot_be_waited_for_is_said_at_once(dag: DAG, arguments: dict[str, str], message: str) -> None:
    sensor = DriftSensor(task_id="wrong", model="wrong", **arguments)

    with pytest.raises(AirflowFailException, match=message):
        sensor.execute(context_of(sensor))


def test_the_partition_and_the_moment_may_be_templates() -> None:
    assert DriftSensor.template_fields == ("partition", "since")
