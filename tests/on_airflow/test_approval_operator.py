"""An approval on Airflow: the questions it asks, and what becomes of the answers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from itertools import count
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskAwaitingInput

from ml_lifecycle.core.contracts import Ask
from ml_lifecycle.hooks.tools import tools_for
from tests.on_airflow.runs import context_of

Dags = Callable[..., dict[str, Any]]
numbers = count()


class Release:
    """One run of a release, and the question that the approver sees."""

    def __init__(self, dags: dict[str, Any], model: str) -> None:
        self.dag = dags[f"{model}_release"]
        self.model = model
        self.form: dict[str, Any] = {}
        self.request = self.dag.get_task("resolve").execute(context_of(self.dag.get_task("resolve")))

    def task(self, name: str) -> Any:
        """A fresh task, as each try gets one."""
        task = self.dag.get_task(name)
        task.request = self.request
        return task

    def ask(self) -> TaskAwaitingInput:
        """A try that parks."""
        with pytest.raises(TaskAwaitingInput) as parked:
            self.task("approve").execute(context_of(self.task("approve")))
        return parked.value

    def answer(self, parked: TaskAwaitingInput, option: str, *, by: str | None, reason: str | None = None) -> Any:
        """Resume with an answer."""
        task = self.task("approve")
        event = {
            "chosen_options": [option],
            "params_input": {"reason": reason},
            "responded_at": datetime.now(timezone.utc),
            "responded_by_user": {"id": "7", "name": by} if by else None,
            "timedout": by is None,
        }
        return task.execute_complete(context_of(task), event=event, **(parked.kwargs or {}))

    def ledger(self) -> Any:
        """The ledger of this deployment."""
        return tools_for(context_of(self.task("approve"))).ledger


@pytest.fixture
def release(dags: Dags, monkeypatch: pytest.MonkeyPatch) -> Release:
    """A candidate that the engineer trained, and its release up to the question."""
    model = f"ask{next(numbers)}"
    made = dags(model)
    # Airflow's test run is triggered by a user of its own.
    assert made[f"{model}_train"].test(logical_date=None).state == "success"
    run = Release(made, model)

    def upsert(**form: Any) -> None:
        run.form = form

    monkeypatch.setattr("airflow.providers.standard.operators.hitl.upsert_hitl_detail", upsert)
    return run


def test_the_question_names_the_version_and_the_digest_in_its_option(release: Release) -> None:
    parked = release.ask()

    approve, reject = release.form["options"]
    digest = parked.kwargs["question"]["ask"]["digest"]  # type: ignore[index]
    assert approve == f"Approve {digest[:8]}"
    assert reject == "Reject"
    assert "version 1" in release.form["subject"]
    assert list(release.form["params"]) == ["reason"]
    assert release.form["assigned_users"] is None


def test_the_question_stays_open_as_long_as_the_pipeline_says(release: Release) -> None:
    first = release.ask()
    again = release.ask()

    assert timedelta(hours=71) < first.timeout <= timedelta(hours=72)
    assert again.timeout < first.timeout


def test_an_approval_stands_in_the_ledger_with_its_reason(release: Release) -> None:
    parked = release.ask()

    decision = release.answer(parked, release.form["options"][0], by="approver", reason="good numbers")

    assert (decision["outcome"], decision["decided_by"], decision["reason"]) == ("approve", "approver", "good numbers")
    assert decision["requested_by"] == "dag_test"
    standing = release.ledger().decision_for(release.model, "test", decision["ask"]["digest"])
    assert standing.to_xcom() == decision


def test_a_try_after_the_answer_returns_it_and_asks_nobody(release: Release) -> None:
    decision = release.answer(release.ask(), release.form["options"][0], by="approver")
    release.form = {}

    again = release.task("approve").execute(context_of(release.task("approve")))

    assert again == decision
    assert release.form == {}


def test_whoever_may_not_answer_is_asked_around(release: Release) -> None:
    parked = release.ask()

    with pytest.raises(TaskAwaitingInput) as again:
        release.answer(parked, release.form["options"][0], by="stranger")

    assert again.value.kwargs == parked.kwargs
    assert release.answer(again.value, release.form["options"][0], by="approver")["decided_by"] == "approver"


def test_a_time_out_is_never_an_approval(release: Release) -> None:
    parked = release.ask()
    event = {"error": "The Human-in-the-loop response timeout has passed", "error_type": "timeout"}
    task = release.task("approve")

    with pytest.raises(AirflowFailException, match="a time-out is never an approval"):
        task.execute_complete(context_of(task), event=event, **(parked.kwargs or {}))
    with pytest.raises(AirflowFailException, match="a time-out is never an approval"):
        release.answer(parked, release.form["options"][0], by=None)


def test_an_option_of_another_question_is_refused(release: Release) -> None:
    parked = release.ask()

    with pytest.raises(AirflowFailException, match="'Approve 00000000' answers another question"):
        release.answer(parked, "Approve 00000000", by="approver")


def test_an_approved_version_is_deployed_and_then_asked_about_no_more(release: Release) -> None:
    decision = release.answer(release.ask(), release.form["options"][0], by="approver")
    deploy = release.task("deploy")
    deploy.decision = decision
    context = context_of(deploy)

    deployment = deploy.execute(context)

    assert deployment["champion"]["version"] == 1
    (event,) = context["outlet_events"]._dict.values()
    assert event.extra["version"] == 1
    with pytest.raises(AirflowSkipException, match="serves already"):
        release.task("approve").execute(context_of(release.task("approve")))


def test_a_rejected_version_is_not_deployed_and_the_reason_is_given(release: Release) -> None:
    deploy = release.task("deploy")
    deploy.decision = release.answer(release.ask(), "Reject", by="approver", reason="too few rows")

    with pytest.raises(AirflowSkipException, match="rejected by approver: too few rows"):
        deploy.execute(context_of(deploy))

    assert release.ledger().head(release.model, "test") is None


def test_the_dag_s_form_and_time_limits_do_not_reach_the_question(release: Release) -> None:
    task = release.task("approve")

    assert list(task.serialized_params) == ["reason"]
    assert task.execution_timeout is None
    assert tuple(task.template_fields) == ("request",)


@pytest.mark.parametrize("by", ["approver", None])
def test_a_question_that_a_newer_candidate_replaced_is_skipped_whether_answered_or_not(
    release: Release, by: str | None
) -> None:
    parked = release.ask()
    ledger, now = release.ledger(), datetime.now(timezone.utc)
    asked = Ask.model_validate((parked.kwargs or {})["question"]["ask"])
    newer = asked.model_copy(update={"version": 2, "digest": "2" * 64})
    ledger.ask(newer, requested_by=None, at=now, expires_at=None)
    ledger.supersede(release.model, "test", newest=newer, at=now)

    with pytest.raises(AirflowSkipException, match="newer candidate's question has replaced this one"):
        release.answer(parked, release.form["options"][0], by=by)

    assert ledger.decision(asked.ask_id) is None
