"""Waiting without a worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, AirflowSkipException, TaskDeferred

from ml_lifecycle.core.contracts import Ask, Verdict, Vote
from ml_lifecycle.core.errors import LifecycleError, ServiceUnavailableError
from ml_lifecycle.hooks.tools import tools_for
from ml_lifecycle.sensors import data as sensors_data
from ml_lifecycle.sensors.approval import ApprovalSensor
from ml_lifecycle.sensors.data import DatasetReadySensor
from ml_lifecycle.sensors.deployment import ModelVersionSensor
from ml_lifecycle.triggers import Status, StatusTrigger, load_probe
from tests.on_airflow.runs import context_of

ROWS = [{"uri": "rows/{{ partition }}.parquet"}]
READY = "ml_lifecycle.sensors.data:look_at_partition"


@pytest.fixture
def dag(airflow: Path) -> Iterator[DAG]:
    """A DAG of the team's project."""
    with DAG("waiting", schedule=None) as dag:
        dag.fileloc = str(airflow / "team" / "dags" / "waiting.py")
        yield dag


def first_event(trigger: StatusTrigger) -> dict[str, Any]:
    """What the trigger yields first."""

    async def run() -> dict[str, Any]:
        event = await anext(trigger.run())
        payload: dict[str, Any] = event.payload
        return payload

    return asyncio.run(asyncio.wait_for(run(), timeout=30))


def trigger_of(probe: str = READY, *, arguments: dict[str, Any] | None = None, seconds: float = 20) -> StatusTrigger:
    """A trigger that looks often."""
    deadline = datetime.now(timezone.utc) + timedelta(seconds=seconds)
    return StatusTrigger(probe=probe, arguments=arguments or {}, interval_s=0.01, deadline=deadline.isoformat())


def test_a_partition_that_is_there_is_not_waited_for(dag: DAG) -> None:
    sensor = DatasetReadySensor(task_id="ready", sources=ROWS, partition="2024-01", settle_seconds=0)

    assert sensor.execute(context_of(sensor)) == "2024-01"


def test_a_partition_that_is_absent_is_waited_for_in_the_triggerer(dag: DAG, airflow: Path) -> None:
    source = [{"uri": "later/{{ partition }}.parquet"}]
    sensor = DatasetReadySensor(task_id="ready", sources=source, partition="2024-01", settle_seconds=0, timeout=20)

    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(context_of(sensor))
    trigger = deferred.value.trigger
    path, values = trigger.serialize()
    (airflow / "data" / "later").mkdir()
    (airflow / "data" / "later" / "2024-01.parquet").hardlink_to(airflow / "data" / "rows" / "2024-01.parquet")
    event = first_event(StatusTrigger(**values))

    assert path == "ml_lifecycle.triggers.StatusTrigger"
    assert event == {"status": "ready", "seen": "partition 2024-01 is complete", "value": "2024-01"}
    assert sensor.execute_complete(context_of(sensor), event) == "2024-01"


def test_the_request_names_the_partition_where_the_task_does_not(dag: DAG) -> None:
    sensor = DatasetReadySensor(task_id="ready", sources=ROWS, request={"partition": "2024-02"}, settle_seconds=0)

    assert sensor.execute(context_of(sensor)) == "2024-02"


def test_a_sensor_without_a_partition_says_what_to_do(dag: DAG) -> None:
    sensor = DatasetReadySensor(task_id="ready", sources=ROWS)

    with pytest.raises(AirflowFailException, match="hand it a request, or partition="):
        sensor.execute(context_of(sensor))


def test_the_end_of_a_wait_names_what_was_waited_for_and_what_was_seen_last(dag: DAG) -> None:
    sensor = DatasetReadySensor(task_id="ready", sources=ROWS, partition="2030-01", timeout=60)
    arguments = {"project": "/nowhere", "run": "waiting/1", "job": {"partition": "2030-01", "sources": ROWS}}

    event = first_event(trigger_of(arguments=arguments, seconds=0))

    assert event["status"] == "timeout"
    with pytest.raises(
        AirflowSensorTimeout, match=r"waited 60 s for partition 2030-01.*seen last: rows/2030-01.parquet"
    ):
        sensor.execute_complete(context_of(sensor), event)


def test_a_soft_sensor_skips_at_the_end_of_its_wait(dag: DAG) -> None:
    sensor = DatasetReadySensor(task_id="ready", sources=ROWS, partition="2030-01", soft_fail=True)

    with pytest.raises(AirflowSkipException, match="seen last: nothing"):
        sensor.execute_complete(context_of(sensor), {"status": "timeout", "seen": "nothing", "value": None})


def test_a_sensor_may_wait_on_its_worker(dag: DAG) -> None:
    sensor = DatasetReadySensor(
        task_id="ready", sources=ROWS, partition="2024-01", settle_seconds=0, deferrable=False, poke_interval=0.01
    )

    assert sensor.execute(context_of(sensor)) == "2024-01"


def test_what_may_pass_is_waited_out_and_what_may_not_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter([ServiceUnavailableError("MLflow is down"), LifecycleError("the model is called otherwise")])

    def probe() -> Status:
        raise next(seen)

    monkeypatch.setattr(sensors_data, "look_at_partition", probe)

    assert first_event(trigger_of()) == {"status": "error", "seen": "the model is called otherwise", "value": None}


def test_a_slow_look_does_not_hold_up_other_triggers(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow() -> Status:
        time.sleep(0.3)
        return Status(ready=True, seen="at last")

    monkeypatch.setattr(sensors_data, "look_at_partition", slow)

    async def run() -> int:
        beats = 0
        waiting = asyncio.ensure_future(anext(trigger_of().run()))
        while not waiting.done():
            await asyncio.sleep(0.01)
            beats += 1
        return beats

    assert asyncio.run(run()) > 5


def test_only_the_package_s_own_probes_are_run() -> None:
    with pytest.raises(LifecycleError, match="'os:system' is no probe of this package"):
        load_probe("os:system")


def test_a_version_and_an_alias_are_found_in_the_registry(dag: DAG, tmp_path: Path) -> None:
    by_alias = ModelVersionSensor(task_id="alias", model="waited", alias="champion")
    by_number = ModelVersionSensor(task_id="number", model="waited", version="1")
    tools = tools_for(context_of(by_alias))
    with pytest.raises(TaskDeferred):
        by_alias.execute(context_of(by_alias))

    run = tools.tracking.ensure_run("waited", "a" * 64, name="waited", tags={})
    tools.registry.ensure_version("waited", training_key="a" * 64, uri="runs:/1/model", run_id=run.run_id, tags={})
    tools.registry.set_alias("waited", "champion", 1)

    assert by_alias.execute(context_of(by_alias)) == 1
    assert by_number.execute(context_of(by_number)) == 1


@pytest.mark.parametrize(("version", "alias"), [("1", "champion"), ("latest", None)])
def test_a_version_sensor_waits_for_one_thing(dag: DAG, version: str | None, alias: str | None) -> None:
    sensor = ModelVersionSensor(task_id="ready", model="waited", version=version, alias=alias)

    with pytest.raises(AirflowFailException, match="give version=7, alias='staging', or neither"):
        sensor.execute(context_of(sensor))


def decide(sensor: ApprovalSensor, outcome: str, *, age: timedelta = timedelta(0), **changes: Any) -> Ask:
    """Somebody answers, somewhere."""
    tools = tools_for(context_of(sensor))
    at = datetime.now(timezone.utc) - age
    known: dict[str, Any] = {
        "model": sensor.model,
        "environment": "test",
        "version": 1,
        "digest": sensor.digest,
        "dataset_fingerprint": "b" * 64,
        "metrics_digest": "c" * 64,
        "gate_verdict": Verdict.PASS,
        "policy_digest": "d" * 64,
        "epoch": 0,
    }
    ask = Ask(**{**known, **changes})
    tools.ledger.ask(ask, requested_by=None, at=at, expires_at=at + timedelta(hours=1))
    vote = {"outcome": outcome, "person": "approver", "channel": "signed", "reason": "why"}
    tools.ledger.vote(Vote(ask_id=ask.ask_id, at=at, **vote))
    return ask


def waits(sensor: ApprovalSensor) -> bool:
    """Whether it goes on waiting."""
    with pytest.raises(TaskDeferred):
        sensor.execute(context_of(sensor))
    return True


def test_an_approval_that_expired_or_was_blocked_is_waited_past(dag: DAG) -> None:
    expired = ApprovalSensor(task_id="expired", model="lapsed", digest="3" * 64)
    decide(expired, "approve", age=timedelta(hours=3))
    blocked = ApprovalSensor(task_id="blocked", model="disputed", digest="3" * 64)
    ask = decide(blocked, "approve")
    tools_for(context_of(blocked)).ledger.block(ask.ask_id, why="they differ", at=datetime.now(timezone.utc))

    assert waits(expired)
    assert waits(blocked)
    decide(expired, "approve", renewal=1)
    assert expired.execute(context_of(expired))["ask"]["renewal"] == 1


def test_a_decision_about_another_version_or_kind_is_waited_past(dag: DAG) -> None:
    def sensor(name: str, **wanted: Any) -> ApprovalSensor:
        return ApprovalSensor(task_id=name, model="sorted", digest="4" * 64, **wanted)

    first, second, data = sensor("first", version="1"), sensor("second", version=2), sensor("data", kind="dataset")
    decide(first, "approve")

    assert first.execute(context_of(first))["ask"]["version"] == 1
    assert waits(second)
    assert waits(data)
    decide(data, "approve", kind="dataset", version=0)
    assert data.execute(context_of(data))["ask"]["kind"] == "dataset"


def test_a_decision_is_found_whichever_way_it_came(dag: DAG) -> None:
    sensor = ApprovalSensor(task_id="decided", model="decided", digest="1" * 64)
    with pytest.raises(TaskDeferred):
        sensor.execute(context_of(sensor))

    decide(sensor, "approve")

    assert sensor.execute(context_of(sensor))["decided_by"] == "approver"


def test_a_rejection_skips_fails_or_is_returned(dag: DAG) -> None:
    def sensor(on_reject: str) -> ApprovalSensor:
        return ApprovalSensor(task_id=on_reject, model="rejected", digest="2" * 64, on_reject=on_reject)

    skip, fail, back = sensor("skip"), sensor("fail"), sensor("return")
    decide(skip, "reject")

    with pytest.raises(AirflowSkipException, match="approver rejected it: why"):
        skip.execute(context_of(skip))
    with pytest.raises(AirflowFailException, match="approver rejected it: why"):
        fail.execute(context_of(fail))
    assert back.execute(context_of(back))["outcome"] == "reject"
