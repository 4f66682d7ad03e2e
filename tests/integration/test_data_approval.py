"""Data that people have to approve, on a running Airflow: asked about, let through, rejected, and bypassed in vain."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trial import MONTHS, Trial, path_of

MODEL = "checked"

pytestmark = pytest.mark.integration


def training(trial: Trial, *, farthest: int) -> tuple[str, dict[str, Any]]:
    """A training that the engineer started, and the question about its data.

    :param farthest: Part of the suite: another one is another report, and so another question.
    """
    bounds = {"column": "distance", "min_value": 0, "max_value": farthest}
    suite = {"name": "s", "expectations": [{"type": "expect_column_values_to_be_between", "kwargs": bounds}]}
    (trial.project / "crew" / "suite.json").write_text(json.dumps(suite))
    run_id = trial.by("engineer").trigger(f"{MODEL}_train", partition=MONTHS[-1])
    return run_id, trial.question(f"{MODEL}_train", run_id, "approve_data")


def test_a_question_that_is_marked_as_success_lets_nothing_through(trial: Trial) -> None:
    run_id, question = training(trial, farthest=200)

    task = path_of(question["task_instance"]).removesuffix("/-1")
    report = trial.by("admin").xcom(f"{MODEL}_train", run_id, "validate")
    value = {"key": "return_value", "value": report, "map_index": -1}

    handed = trial.by("engineer").send("POST", f"{task}/xcomEntries", json=value)
    marked = trial.by("engineer").send("PATCH", task, json={"new_state": "success"})

    assert handed.ok, handed.text
    assert marked.ok, marked.text
    assert trial.ended(f"{MODEL}_train", run_id) == "failed"
    assert "nobody decided about this data" in trial.log(f"{MODEL}_train", run_id, "train")
    assert "engineer train refused" in trial.refusals(MODEL)
    assert not trial.ledger.results("dev", MODEL, "train")


def test_whoever_asked_is_refused_and_an_approver_lets_the_data_through(trial: Trial) -> None:
    run_id, question = training(trial, farthest=300)

    own = trial.answer("engineer", question, "Approve")
    let = trial.answer("approver", question, "Approve")

    assert own.status_code == 403
    assert "engineer may not answer this question" in own.text
    assert let.ok, let.text
    assert trial.ended(f"{MODEL}_train", run_id) == "success", trial.logs(f"{MODEL}_train", run_id)
    assert "engineer vote refused" in trial.refusals(MODEL)
    assert len(trial.ledger.results("dev", MODEL, "train")) == 1


def test_an_edited_report_is_refused_by_the_training(trial: Trial) -> None:
    run_id, question = training(trial, farthest=400)
    path = f"dags/{MODEL}_train/dagRuns/{run_id}/taskInstances/validate/xcomEntries/return_value"
    report = trial.by("admin").xcom(f"{MODEL}_train", run_id, "validate")
    edited = trial.by("admin").send("PATCH", path, json={"value": {**report, "expectations": 99}, "map_index": -1})

    let = trial.answer("approver", question, "Approve")

    assert edited.ok, edited.text
    assert let.ok, let.text
    assert trial.ended(f"{MODEL}_train", run_id) == "failed"
    assert "is not a result that the ledger knows" in trial.log(f"{MODEL}_train", run_id, "train")


def test_rejected_data_is_not_trained_on_and_the_run_is_no_failure(trial: Trial) -> None:
    run_id, question = training(trial, farthest=500)

    answered = trial.answer("second", question, "Reject", reason="labels are from last year")

    assert answered.ok, answered.text
    assert trial.ended(f"{MODEL}_train", run_id) == "success"
    assert trial.task(f"{MODEL}_train", run_id, "train")["state"] == "skipped"
    assert "second rejected the data: labels are from last year" in trial.log(f"{MODEL}_train", run_id, "approve_data")
