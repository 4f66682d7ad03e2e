"""Marking, editing, clearing and triggering around an approval that nobody gave."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.bypass.acts import clear, forged, mark, nothing_moved, open_ask, run_of, write_xcom
from trial import Trial

pytestmark = pytest.mark.integration


def test_marking_the_approval_as_success_releases_nothing(trial: Trial) -> None:
    model, question = trial.asked()
    dag_id, run_id = run_of(question)

    mark(trial, "engineer", dag_id, run_id, "approve").raise_for_status()

    assert trial.task_ended(dag_id, run_id, "deploy") == "failed"
    nothing_moved(trial, model)
    assert "release refused: task 'deploy': no decision was handed over" in trial.refusals(model)


def test_a_decision_written_into_xcom_after_the_ask_releases_nothing(trial: Trial) -> None:
    model, question = trial.asked()
    dag_id, run_id = run_of(question)
    decision = forged(open_ask(trial, model))
    write_xcom(trial, "engineer", dag_id, run_id, "approve", value=decision)

    mark(trial, "engineer", dag_id, run_id, "approve").raise_for_status()

    assert trial.task_ended(dag_id, run_id, "deploy") == "failed"
    nothing_moved(trial, model)
    assert "no decision" in trial.refusals(model)


def test_a_rejection_turned_into_an_approval_in_xcom_stays_a_rejection(trial: Trial) -> None:
    model, question = trial.asked()
    dag_id, run_id = run_of(question)
    decision = forged(open_ask(trial, model))
    trial.answer("approver", question, "Reject", reason="too many false alarms").raise_for_status()
    trial.ended(dag_id, run_id)

    write_xcom(trial, "engineer", dag_id, run_id, "approve", value=decision)
    clear(trial, "engineer", dag_id, run_id, "deploy")

    assert trial.task_ended(dag_id, run_id, "deploy") in ("skipped", "failed")
    nothing_moved(trial, model)
    assert "too many false alarms" in str([row["detail"] for row in trial.ledger.audit(model)])


def test_another_version_written_into_the_request_before_the_ask_is_refused(trial: Trial) -> None:
    model = trial.model()
    trial.candidate(model)
    trial.candidate(model)
    question = trial.ask(model, version=1)
    dag_id, run_id = run_of(question)
    request = trial.by("engineer").xcom(dag_id, run_id, "resolve")

    write_xcom(trial, "engineer", dag_id, run_id, "resolve", value={**request, "version": 2})
    clear(trial, "engineer", dag_id, run_id, "approve")

    assert trial.task_ended(dag_id, run_id, "approve") == "failed"
    nothing_moved(trial, model)
    assert "not a result that the ledger knows" in trial.refusals(model)


def test_another_version_written_into_the_request_after_the_ask_is_refused(trial: Trial) -> None:
    model = trial.model()
    trial.candidate(model)
    trial.candidate(model)
    question = trial.ask(model, version=1)
    dag_id, run_id = run_of(question)
    request = trial.by("engineer").xcom(dag_id, run_id, "resolve")
    write_xcom(trial, "engineer", dag_id, run_id, "resolve", value={**request, "version": 2})

    trial.answer("approver", question, "Approve").raise_for_status()

    assert trial.task_ended(dag_id, run_id, "deploy") == "failed"
    nothing_moved(trial, model)
    assert "not a result that the ledger knows" in trial.refusals(model)


def test_airflow_variables_give_no_right_to_anything(trial: Trial) -> None:
    model = trial.model()
    trial.candidate(model)
    told = {"decision": "approve", "environment": "sandbox", "required": "never", "approvers": "engineer"}
    for name, value in told.items():
        for key in (f"ml_lifecycle_{name}", f"{model}_{name}", name):
            trial.by("operator").send("POST", "variables", json={"key": key, "value": value}).raise_for_status()

    question = trial.ask(model, reason="{{ var.value.ml_lifecycle_decision }}")
    reply = trial.answer("engineer", question, "Approve")

    assert reply.status_code == 403
    nothing_moved(trial, model)
    assert "engineer vote refused" in trial.refusals(model)


@pytest.mark.parametrize(
    ("conf", "reason"),
    [
        ({"version": 7}, "has no version 7"),
        ({"version": "1; drop"}, "version"),
        ({"decision": {"outcome": "approve"}}, "takes no 'decision'"),
        ({"approved_by": "approver", "required": "never"}, "takes no 'approved_by'"),
    ],
    ids=["an unknown version", "no version at all", "a decision", "somebody's name"],
)
def test_what_a_run_is_triggered_with_approves_nothing(trial: Trial, conf: dict[str, Any], reason: str) -> None:
    model = trial.model()
    trial.candidate(model)

    reply = trial.by("engineer").send(
        "POST", f"dags/{model}_release/dagRuns", json={"logical_date": None, "conf": conf}
    )

    if reply.ok:
        run_id = reply.json()["dag_run_id"]
        assert trial.ended(f"{model}_release", run_id) == "failed"
        assert reason in trial.logs(f"{model}_release", run_id)
    else:
        assert reply.status_code == 400
        assert reason in reply.text
    nothing_moved(trial, model)


def test_a_decision_cannot_be_used_again_for_another_version(trial: Trial) -> None:
    model = trial.model()
    move = trial.released(model)
    decision = trial.ledger.decision(move.decision_id or "")
    assert decision is not None
    trial.candidate(model)
    dag_id, run_id = run_of(trial.ask(model))

    write_xcom(trial, "engineer", dag_id, run_id, "approve", value=decision.to_xcom())
    mark(trial, "engineer", dag_id, run_id, "approve").raise_for_status()

    assert trial.task_ended(dag_id, run_id, "deploy") == "failed"
    nothing_moved(trial, model, champion=1)
    assert "about version 1" in trial.refusals(model)


def test_an_old_release_that_is_cleared_does_not_come_back(trial: Trial) -> None:
    model = trial.model()
    trial.candidate(model)
    first = trial.release(model)
    trial.released(model)

    clear(trial, "engineer", f"{model}_release", first, "deploy")

    assert trial.task_ended(f"{model}_release", first, "deploy") == "failed"
    nothing_moved(trial, model, champion=2)
    assert "release refused" in trial.refusals(model)


def test_deploying_twice_under_one_decision_moves_once(trial: Trial) -> None:
    model = trial.model()
    trial.candidate(model)
    run_id = trial.release(model)

    clear(trial, "engineer", f"{model}_release", run_id, "deploy")

    assert trial.task_ended(f"{model}_release", run_id, "deploy") == "success"
    assert len(trial.ledger.moves(model, "dev")) == 1
    nothing_moved(trial, model, champion=1)


def test_the_deploy_task_cleared_alone_while_nobody_has_answered_releases_nothing(trial: Trial) -> None:
    model, question = trial.asked()
    dag_id, run_id = run_of(question)

    mark(trial, "engineer", dag_id, run_id, "approve", state="skipped").raise_for_status()
    # A run that the scheduler is just ending would stay ended, with its task cleared.
    trial.ended(dag_id, run_id)
    write_xcom(trial, "engineer", dag_id, run_id, "approve", value=forged(open_ask(trial, model)))
    mark(trial, "engineer", dag_id, run_id, "approve").raise_for_status()
    clear(trial, "engineer", dag_id, run_id, "deploy")

    assert trial.task_ended(dag_id, run_id, "deploy") == "failed"
    nothing_moved(trial, model)
    assert "no decision" in trial.refusals(model)


def test_a_hand_written_dag_that_deploys_whatever_happens_deploys_nothing(trial: Trial) -> None:
    trial.candidate("handmade")
    trial.ask("handmade")
    decision = forged(open_ask(trial, "handmade"))
    run_id = trial.by("engineer").trigger("permissive", decision=decision)
    trial.question("permissive", run_id)

    mark(trial, "engineer", "permissive", run_id, "approve", state="failed").raise_for_status()

    assert trial.task_ended("permissive", run_id, "deploy") == "failed"
    nothing_moved(trial, "handmade")
    assert "no decision" in trial.refusals("handmade")


def test_a_release_cannot_be_backfilled(trial: Trial) -> None:
    model = trial.model()
    trial.candidate(model)
    days = {"from_date": "2024-01-01T00:00:00Z", "to_date": "2024-01-03T00:00:00Z"}

    reply = trial.by("engineer").send("POST", "backfills", json={"dag_id": f"{model}_release", **days})

    assert not reply.ok
    assert trial.by("engineer").runs(f"{model}_release") == []
    nothing_moved(trial, model)


def test_a_sandbox_deploys_nothing_even_where_policy_approves(trial: Trial) -> None:
    trial.candidate("boxed", environment="sandbox")

    run_id = trial.by("engineer").trigger("boxed_release")

    assert trial.ended("boxed_release", run_id) == "failed"
    nothing_moved(trial, "boxed")
    assert trial.task("boxed_release", run_id, "approve")["state"] == "success"
    assert trial.ledger.head("boxed", "sandbox") is None
    assert "the environment 'sandbox' deploys nothing" in trial.refusals("boxed")


def test_a_viewer_can_neither_answer_nor_edit_nor_mark(trial: Trial) -> None:
    model, question = trial.asked()
    dag_id, run_id = run_of(question)

    answered = trial.answer("viewer", question, "Approve")
    marked = mark(trial, "viewer", dag_id, run_id, "approve")

    assert (answered.status_code, marked.status_code) == (403, 403)
    nothing_moved(trial, model)
