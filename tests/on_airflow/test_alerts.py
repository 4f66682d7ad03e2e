"""Whoever answers for a model is told when one of its tasks fails for good, and when monitoring alerts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.bases.notifier import BaseNotifier
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from ml_lifecycle.core.contracts import PerformanceReport, Verdict
from ml_lifecycle.core.errors import ConfigurationError
from ml_lifecycle.hooks.notify import alert_owner
from ml_lifecycle.hooks.tools import tools_for
from ml_lifecycle.operators.monitoring import RespondToMonitoringOperator
from ml_lifecycle.stages.runner import record
from tests.on_airflow.runs import context_of, states

Dags = Callable[..., dict[str, Any]]


class ToFile(BaseNotifier):
    """Appends event and message to a file."""

    template_fields = ("text",)

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.text = "{{ ml_lifecycle.event }} {{ ml_lifecycle.owner }}: {{ ml_lifecycle.message }}"

    def notify(self, context: Any) -> None:
        with Path(self.path).open("a", encoding="utf-8") as file:
            file.write(self.text + "\n")


class Broken(BaseNotifier):
    """Ends the process that it runs in, if nobody stops it."""

    def __call__(self, *_: Any) -> None:
        raise SystemExit("gone")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the deployment's notifier writes; another one is broken."""
    path = tmp_path / "told"
    kinds = [{"class": f"{__name__}.Broken"}, {"class": f"{__name__}.ToFile", "kwargs": {"path": str(path)}}]
    monkeypatch.setenv("AIRFLOW__ML_LIFECYCLE__NOTIFIERS", json.dumps(kinds))
    return path


def test_a_task_that_fails_for_good_is_told_to_the_owner_with_the_reason(dags: Dags, told: Path) -> None:
    dag = dags("broke", ("rows/{{", "gone/{{"))["broke_train"]

    run = dag.test(run_conf={"partition": "2024-03"}, logical_date=None)

    assert states(run)["resolve"] == "failed"
    lines = told.read_text().splitlines()
    assert lines[0] == "failed team: broke_train.resolve failed"
    assert lines[1].startswith("the window 2024-02 to 2024-03: partition 2024-02, 2024-03 is not there: gone/2024-02")
    assert lines[2].startswith("Look here: http://airflow.example.com/dags/broke_train/runs/manual__")
    assert lines[2].endswith("/tasks/resolve")
    assert lines[3:] == ["The model's team: team, team@example.com"]


def test_every_task_of_every_dag_of_a_model_tells_its_owner(dags: Dags) -> None:
    tasks = [task for dag in dags("watchful").values() for task in dag.tasks]

    assert len(tasks) > 10
    for task in tasks:
        (callback,) = task.on_failure_callback
        assert (callback.func, callback.keywords) == (
            alert_owner,
            {"model": "watchful", "contact": "team@example.com"},
        )


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ConfigurationError("the host is missing", way_out="enter it"), "the host is missing; enter it"),
        (AirflowFailException("the data failed"), "the data failed"),
        (ValueError("postgresql://ada:hidden-word@db"), "ValueError: the task's log says more"),
        (None, "the task's log says why"),
        (
            ConfigurationError("'<!channel> <https://evil|here> a < b' is no column"),
            "'< !channel> < https://evil|here> a < b' is no column",
        ),
    ],
)
def test_only_texts_of_our_own_are_told(dags: Dags, told: Path, error: Exception | None, shown: str) -> None:
    task = dags("careful")["careful_train"].get_task("train")
    context = context_of(task)
    context["exception"] = error

    alert_owner(context, model="careful", contact="team@example.com")

    assert told.read_text().splitlines()[1] == shown


def test_what_monitoring_alerts_of_is_told_to_the_owner(dags: Dags, told: Path) -> None:
    task = dags("alarmed", ("monitoring:\n", "monitoring:\n  on_drift: alert\n"))["alarmed_monitor"].get_task("respond")
    assert isinstance(task, RespondToMonitoringOperator)
    lost = PerformanceReport(
        model="alarmed", version=1, partition="2024-02", verdict=Verdict.FAIL, metrics={}, labelled_rows=100
    )
    record("performance", lost, tools_for(context_of(task)), model="alarmed")
    task.request, task.drift, task.performance, task.partition = None, None, lost.to_xcom(), "2024-02"

    with pytest.raises(AirflowSkipException, match="alert: "):
        task.execute(context_of(task))

    lines = told.read_text().splitlines()
    assert lines[0] == "alert team: alarmed_monitor.respond alerts"
    assert lines[-1] == "The model's team: team, team@example.com"
