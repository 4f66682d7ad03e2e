"""An approval on Airflow: the questions it asks, and what becomes of the answers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskAwaitingInput, TaskDeferred

from ml_lifecycle.core.contracts import Ask, Vote
from ml_lifecycle.core.errors import ApprovalRefusedError
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

    def vote(self, parked: TaskAwaitingInput, *, by: str, outcome: str = "approve", reason: str = "seen") -> None:
        """What the guard of the API server writes before Airflow takes the answer."""
        posting = (parked.kwargs or {})["posting"]
        given = {"outcome": outcome, "person": by, "channel": "airflow", "reason": reason}
        at = datetime.now(timezone.utc)
        self.ledger().vote(Vote(ask_id=posting["ask_id"], posting=posting["number"], at=at, **given))

    def approve(self, parked: TaskAwaitingInput, *, by: str = "approver") -> Any:
        """Answer through the guard, and resume."""
        self.vote(parked, by=by)
        return self.answer(parked, self.form["options"][0], by=by)

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


def deployed(deploy: Any, context: Any, parked: TaskAwaitingInput, *, answered: str) -> Any:
    """What a deployment comes to that finds this answer in Airflow's own record."""
    with pytest.raises(TaskDeferred):
        deploy.execute(context)
    recorded = {(parked.kwargs or {})["posting"]["ti_id"]: answered}
    return deploy.execute_complete(context, event={"status": "ready", "seen": "", "value": recorded})


TERMS = "approvers: [approver]}"


@pytest.fixture
def ready(dags: Dags, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Release]:
    """A candidate that the engineer trained, and its release up to the question."""
    monkeypatch.setattr("ml_lifecycle.stages.approval.GUARD_GRACE_S", 0.0)

    def make(*changes: tuple[str, str]) -> Release:
        model = f"ask{next(numbers)}"
        made = dags(model, *changes)
        # Airflow's test run is triggered by a user of its own.
        assert made[f"{model}_train"].test(logical_date=None).state == "success"
        run = Release(made, model)
        monkeypatch.setattr(
            "airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **form: setattr(run, "form", form)
        )
        return run

    return make


@pytest.fixture
def release(ready: Callable[..., Release]) -> Release:
    """A release that one approver answers."""
    return ready()


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

    decision = release.approve(parked)

    assert (decision["outcome"], decision["decided_by"], decision["reason"]) == ("approve", "approver", "seen")
    assert decision["requested_by"] == "dag_test"
    standing = release.ledger().decision_for(release.model, "test", decision["ask"]["digest"])
    assert standing.to_xcom() == decision


def test_a_try_after_the_answer_returns_it_and_asks_nobody(release: Release) -> None:
    decision = release.approve(release.ask())
    release.form = {}

    again = release.task("approve").execute(context_of(release.task("approve")))

    assert again == decision
    assert release.form == {}


def test_whoever_may_not_answer_is_asked_around(release: Release) -> None:
    parked = release.ask()

    with pytest.raises(TaskAwaitingInput) as again:
        release.answer(parked, "Reject", by="stranger", reason="no")

    assert (again.value.kwargs or {})["question"] == (parked.kwargs or {})["question"]
    assert release.approve(again.value)["decided_by"] == "approver"


def test_an_approval_that_came_past_the_guard_fails_the_task_and_names_the_cause(release: Release) -> None:
    parked = release.ask()

    with pytest.raises(AirflowFailException, match="the API server that took it does not run this package's plugin"):
        release.answer(parked, release.form["options"][0], by="approver")

    assert release.ledger().decision_for(release.model, "test", parked.kwargs["question"]["ask"]["digest"]) is None  # type: ignore[index]


def test_an_answer_that_the_ledger_holds_otherwise_blocks_the_release(release: Release) -> None:
    parked = release.ask()
    release.vote(parked, by="approver")

    with pytest.raises(AirflowFailException, match="the answers contradict each other"):
        release.answer(parked, "Reject", by="approver", reason="changed my mind")
    with pytest.raises(AirflowFailException, match="is blocked"):
        release.task("approve").execute(context_of(release.task("approve")))


def test_two_people_are_asked_where_two_have_to_approve(ready: Callable[..., Release]) -> None:
    release = ready((TERMS, "approvers: [ada, bob, cid], count: 2}"))
    parked = release.ask()

    release.vote(parked, by="ada")
    with pytest.raises(TaskAwaitingInput) as again:
        release.answer(parked, release.form["options"][0], by="ada")
    decision = release.approve(again.value, by="bob")

    assert [(one.kwargs or {})["posting"]["number"] for one in (parked, again.value)] == [1, 2]
    assert decision["approved_by"] == ["ada", "bob"]


def test_people_are_told_when_another_of_them_has_to_answer(
    ready: Callable[..., Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    release = ready((TERMS, "approvers: [ada, bob], count: 2}"))
    told: list[str] = []
    # A task that goes on is the same try.
    monkeypatch.setattr("tests.on_airflow.runs.uuid4", lambda: UUID(int=7))
    monkeypatch.setattr("ml_lifecycle.hooks.notify.notify_posed", lambda *_, subject, **__: told.append(subject))

    parked = release.ask()
    with pytest.raises(TaskAwaitingInput):
        release.answer(parked, "Reject", by="stranger", reason="no")
    release.vote(parked, by="ada")
    with pytest.raises(TaskAwaitingInput):
        release.answer(parked, release.form["options"][0], by="ada")

    assert told == [release.form["subject"], f"{release.form['subject']} 1 of 2 approved: ada."]


def test_whatever_goes_wrong_while_people_are_told_the_question_is_asked(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no thread can be started")

    monkeypatch.setattr("ml_lifecycle.hooks.notify.notify_posed", fail)

    assert release.approve(release.ask())["outcome"] == "approve"


def test_a_try_after_the_first_of_two_answers_asks_for_the_second(ready: Callable[..., Release]) -> None:
    release = ready((TERMS, "approvers: [ada, bob], count: 2}"))
    release.vote(release.ask(), by="ada")

    parked = release.ask()

    assert "Approved so far by 1 of 2: ada." in release.form["body"]
    assert release.approve(parked, by="bob")["approved_by"] == ["ada", "bob"]


def test_a_showing_says_which_task_shows_it_and_who_triggered_it(release: Release) -> None:
    parked = release.ask()

    posting = release.ledger().posting_at("test", f"{release.model}_release", "manual__1", "approve", -1)

    assert posting is not None
    assert posting.to_xcom() == (parked.kwargs or {})["posting"]
    assert (posting.number, posting.author) == (1, "engineer")


def test_the_last_committer_of_the_pipeline_file_cannot_approve(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {f"{release.model}.yaml": ("Approver",)}
    monkeypatch.setattr("ml_lifecycle.backends.git.committers_of", lambda file: known[file.name])

    parked = release.ask()

    assert "Approver committed the pipeline file last" in release.form["body"]
    with pytest.raises(ApprovalRefusedError, match="approver committed the pipeline file last"):
        release.vote(parked, by="approver")


def test_a_time_out_is_never_an_approval(release: Release) -> None:
    parked = release.ask()
    event = {"error": "The Human-in-the-loop response timeout has passed", "error_type": "timeout"}
    task = release.task("approve")

    with pytest.raises(AirflowFailException, match="a time-out is never an approval"):
        task.execute_complete(context_of(task), event=event, **(parked.kwargs or {}))
    with pytest.raises(AirflowFailException, match="a time-out is never an approval"):
        release.answer(parked, release.form["options"][0], by=None)


def test_a_time_out_uses_a_decision_that_was_signed_outside(release: Release) -> None:
    parked = release.ask()
    ask_id, at = (parked.kwargs or {})["posting"]["ask_id"], datetime.now(timezone.utc)
    release.ledger().vote(Vote(ask_id=ask_id, outcome="approve", person="approver", channel="signed", at=at))

    assert release.answer(parked, "", by=None)["decided_by"] == "approver"


def test_an_option_of_another_question_is_refused(release: Release) -> None:
    parked = release.ask()

    with pytest.raises(AirflowFailException, match="'Approve 00000000' answers another question"):
        release.answer(parked, "Approve 00000000", by="approver")


def test_an_approved_version_is_deployed_and_then_asked_about_no_more(release: Release) -> None:
    parked = release.ask()
    deploy = release.task("deploy")
    deploy.decision = release.approve(parked)
    context = context_of(deploy)

    deployment = deployed(deploy, context, parked, answered=release.form["options"][0])

    assert deployment["champion"]["version"] == 1
    (event,) = context["outlet_events"]._dict.values()
    assert event.extra["version"] == 1
    with pytest.raises(AirflowSkipException, match="serves already"):
        release.task("approve").execute(context_of(release.task("approve")))


def test_a_rejected_version_is_not_deployed_and_the_reason_is_given(release: Release) -> None:
    parked = release.ask()
    deploy = release.task("deploy")
    deploy.decision = release.answer(parked, "Reject", by="approver", reason="too few rows")

    with pytest.raises(AirflowSkipException, match="rejected by approver: too few rows"):
        deployed(deploy, context_of(deploy), parked, answered="Reject")

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
