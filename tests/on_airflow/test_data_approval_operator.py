"""An approval of data on Airflow: the question, what becomes of its answer, and what training makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskAwaitingInput

from ml_lifecycle.core.contracts import Vote
from ml_lifecycle.core.errors import ApprovalRefusedError
from ml_lifecycle.hooks.tools import tools_for
from tests.on_airflow.runs import context_of

Dags = Callable[..., dict[str, Any]]
SUITE = {
    "name": "rows",
    "expectations": [
        {
            "type": "expect_column_values_to_be_between",
            "kwargs": {"column": "distance", "min_value": 0, "max_value": 97},
        }
    ],
}
VALIDATION = """\
validation:
  suite: include/late_suite.json
  on_failure: {on_failure}
  approval: {{required: {required}, approvers: [approver, second], expires_after: 24h}}
training:
"""
numbers = count()


class Training:
    """One run of a training up to its data, and the question that the approver sees."""

    def __init__(self, dags: dict[str, Any], model: str) -> None:
        self.dag = dags[f"{model}_train"]
        self.model = model
        self.form: dict[str, Any] = {}
        self.request = self.run("resolve")
        self.report: Any = self.run("validate", dataset=self.run("snapshot"))

    def task(self, name: str, **handed: Any) -> Any:
        """A fresh task, as each try gets one."""
        task = self.dag.get_task(name)
        for field, value in handed.items():
            setattr(task, field, value)
        return task

    def run(self, name: str, **handed: Any) -> Any:
        """A task's whole work."""
        task = self.task(name, **handed)
        if name != "resolve":
            task.request = self.request
        return task.execute(context_of(task))

    def ask(self) -> TaskAwaitingInput:
        """A try that parks."""
        with pytest.raises(TaskAwaitingInput) as parked:
            self.run("approve_data", dataset=self.report)
        return parked.value

    def answer(self, parked: TaskAwaitingInput, outcome: str = "approve", *, by: str = "approver") -> Any:
        """Answer through the guard, and resume."""
        posting = (parked.kwargs or {})["posting"]
        at = datetime.now(timezone.utc)
        given: Any = {"outcome": outcome, "person": by, "channel": "airflow", "reason": "seen"}
        self.ledger().vote(Vote(ask_id=posting["ask_id"], posting=posting["number"], at=at, **given))
        task = self.task("approve_data", dataset=self.report, request=self.request)
        event = {
            "chosen_options": [self.form["options"][0 if outcome == "approve" else 1]],
            "params_input": {"reason": "seen"},
            "responded_by_user": {"id": "7", "name": by},
            "timedout": False,
        }
        return task.execute_complete(context_of(task), event=event, **(parked.kwargs or {}))

    def ledger(self) -> Any:
        """The ledger of this deployment."""
        return tools_for(context_of(self.task("approve_data"))).ledger

    def refused(self) -> list[str]:
        """What the audit says was refused to the training."""
        return [str(row["detail"]) for row in self.ledger().audit(self.model) if row["action"] == "train refused"]


@pytest.fixture
def training(dags: Dags, airflow: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Training]]:
    """Makes a training, its data validated; rows that are farther than 97 fail the suite."""
    monkeypatch.setattr("ml_lifecycle.stages.approval.GUARD_GRACE_S", 0.0)
    suite = airflow / "team" / "include" / "late_suite.json"

    def make(required: str = "always", *, farthest: int = 97) -> Training:
        model = f"data{next(numbers)}"
        suite.write_text(json.dumps(SUITE).replace("97", str(farthest)))
        section = VALIDATION.format(required=required, on_failure="quarantine")
        run = Training(dags(model, ("training:\n", section)), model)
        monkeypatch.setattr(
            "airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **form: setattr(run, "form", form)
        )
        return run

    yield make
    suite.unlink()


def test_the_question_stands_between_validation_and_training(dags: Dags) -> None:
    section = VALIDATION.format(required="always", on_failure="block")

    dag = dags("asked", ("training:\n", section))["asked_train"]

    assert dag.get_task("approve_data").upstream_task_ids == {"resolve", "validate"}
    assert dag.get_task("train").upstream_task_ids == {"resolve", "approve_data"}
    assert dag.get_task("train").data_approval == dag.get_task("approve_data").policy


def test_without_the_section_nobody_is_asked(dags: Dags) -> None:
    dag = dags("unasked")["unasked_train"]

    assert "approve_data" not in dag.task_ids
    assert dag.get_task("train").data_approval is None


def test_the_approver_reads_what_was_set_aside_and_where_the_data_came_from(training: Callable[..., Training]) -> None:
    run = training()

    run.ask()

    assert run.form["options"][0] == f"Approve {run.report['dataset']['fingerprint'][:8]}"
    assert "| set aside: distance: expect_column_values_to_be_between | 8 |" in run.form["body"]
    assert "| rows | rows/2024-03.parquet |" in run.form["body"]
    assert "| labels | labels/2024-03.parquet |" in run.form["body"]
    assert f"/ml-lifecycle/reports/{run.model}_train/validation/" in run.form["body"]


def test_approved_data_is_handed_on_and_trained_on(training: Callable[..., Training]) -> None:
    run = training()

    handed = run.answer(run.ask())

    assert handed == run.report
    assert run.run("train", dataset=handed)["dataset"] == run.report["dataset"]


def test_a_try_after_the_answer_asks_nobody(training: Callable[..., Training]) -> None:
    run = training()
    run.answer(run.ask())
    run.form = {}

    assert run.run("approve_data", dataset=run.report) == run.report
    assert run.form == {}


def test_rejected_data_leaves_the_run_skipped_and_is_not_trained_on(training: Callable[..., Training]) -> None:
    run = training()

    with pytest.raises(AirflowSkipException, match="approver rejected the data: seen"):
        run.answer(run.ask(), "reject")

    with pytest.raises(AirflowFailException, match="approver rejected it: seen"):
        run.run("train", dataset=run.report)


def test_a_question_that_was_marked_as_success_gives_no_right(training: Callable[..., Training]) -> None:
    run = training()
    run.ask()

    with pytest.raises(AirflowFailException, match="nobody decided about this data"):
        run.run("train", dataset=run.report)

    assert len(run.refused()) == 1
    assert run.refused()[0].endswith("nobody decided about this data")


def test_an_edited_report_gives_no_right(training: Callable[..., Training]) -> None:
    run = training()
    run.answer(run.ask())
    edited = {**run.report, "quarantined_rows": 0, "quarantined_for": []}

    with pytest.raises(AirflowFailException, match="is not a result that the ledger knows"):
        run.run("train", dataset=edited)


def test_the_bare_snapshot_is_not_what_was_approved(training: Callable[..., Training]) -> None:
    run = training()
    run.answer(run.ask())
    snapshot = run.run("snapshot")

    with pytest.raises(AirflowFailException, match="nobody decided about this data"):
        run.run("train", dataset=snapshot)


def test_policy_approves_data_that_passed_whole(training: Callable[..., Training]) -> None:
    run = training("on_failure", farthest=100)

    handed = run.run("approve_data", dataset=run.report)

    decision = run.ledger().decision_for(run.model, "test", run.report["dataset"]["fingerprint"])
    assert handed == run.report
    assert decision.decided_by == "policy"
    assert run.run("train", dataset=handed)["name"] == run.model


def test_people_are_asked_about_data_that_rows_were_set_aside_from(training: Callable[..., Training]) -> None:
    run = training("on_failure")

    run.ask()

    assert run.ledger().decision_for(run.model, "test", run.report["dataset"]["fingerprint"]) is None


def test_whoever_started_the_run_cannot_approve_its_data(training: Callable[..., Training]) -> None:
    run = training()
    parked = run.ask()

    with pytest.raises(ApprovalRefusedError, match="may not answer this question, only approver, second"):
        run.answer(parked, by="engineer")
