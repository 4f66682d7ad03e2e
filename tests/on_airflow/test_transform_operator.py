"""Batch scoring by SageMaker, as a task."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from ml_lifecycle.hooks import tools as hooks_tools
from ml_lifecycle.operators.transform import TransformBatchOperator
from tests.fakes.aws_server import Amazon
from tests.fakes.sagemaker_place import DirectCloud
from tests.on_airflow.runs import context_of

JOB = {"model": "flights-1-abc", "source": "s3://bucket/in/", "output": "s3://bucket/out/"}


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> DirectCloud:
    """An account of Amazon with the model."""
    found = DirectCloud(Amazon(looks=5))
    found.client("sagemaker").create_model(
        ModelName=JOB["model"],
        ExecutionRoleArn="arn:aws:iam::123456789012:role/models",
        PrimaryContainer={"Image": "image", "ModelDataUrl": "s3://bucket/model.tar.gz"},
    )

    def client_of(service: str, connection_id: str, *, timeout_s: float) -> Any:
        return found.client(service, connection_id)

    monkeypatch.setattr(hooks_tools, "client_of", client_of)
    return found


@pytest.fixture
def task(airflow: Path) -> Iterator[TransformBatchOperator]:
    with DAG("transforming", schedule=None) as dag:
        dag.fileloc = str(airflow / "team" / "dags" / "transforming.py")
        yield TransformBatchOperator(task_id="transform", model="flights", transform=JOB)


def deferred(task: TransformBatchOperator) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as parked:
        task.execute(context_of(task))
    return parked.value


def states(cloud: DirectCloud) -> list[str]:
    return [job["TransformJobStatus"] for job in cloud.amazon.jobs.values()]


def test_the_job_is_waited_for_without_a_worker_and_started_once(
    cloud: DirectCloud, task: TransformBatchOperator
) -> None:
    first, second = deferred(task), deferred(task)

    assert first.trigger.arguments["name"] == second.trigger.arguments["name"]
    assert len(states(cloud)) == 1


def test_a_person_who_ends_the_task_ends_the_job(cloud: DirectCloud, task: TransformBatchOperator) -> None:
    parked = deferred(task)

    asyncio.run(parked.trigger.on_kill())

    assert set(states(cloud)) <= {"Stopping", "Stopped"}


def test_a_worker_that_is_told_to_stop_ends_the_job(cloud: DirectCloud, task: TransformBatchOperator) -> None:
    deferred(task)

    task.on_kill()

    assert set(states(cloud)) <= {"Stopping", "Stopped"}


@pytest.mark.parametrize("state", ["failed", "stopped"])
def test_a_job_that_did_not_end_well_fails_the_task(task: TransformBatchOperator, state: str) -> None:
    value = {"name": "flights-1", "state": state, "detail": "no space left"}

    with pytest.raises(AirflowFailException, match=f"ended as {state}: no space left"):
        task.execute_complete({}, {"status": "ready", "value": value, "seen": ""})


def test_how_it_ended_is_returned(task: TransformBatchOperator) -> None:
    value = {"name": "flights-1", "state": "done", "detail": ""}

    assert task.execute_complete({}, {"status": "ready", "value": value, "seen": ""}) == value
