"""The reconciler on a real ledger, registry and target."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ml_lifecycle.backends.deployment.alias import AliasTarget
from ml_lifecycle.core.contracts import ApprovalTerms, Ask, Posting, Vote
from ml_lifecycle.core.errors import ServiceUnavailableError
from ml_lifecycle.core.invariants import violations
from ml_lifecycle.stages.champion import means_of
from ml_lifecycle.stages.deployment import RollbackJob, deploy, roll_back
from ml_lifecycle.stages.reconciliation import (
    Reconciliation,
    ReconciliationJob,
    due_escalations,
    note_escalation,
    reconcile,
    snapshot,
)
from ml_lifecycle.stages.release_right import DeploymentJob
from ml_lifecycle.stages.runner import Tools
from tests.fakes.champions import HOUR, NOON, at, decided, registered, released

JOB = ReconciliationJob(model="flights")


@pytest.fixture
def noon(tools: Tools) -> Tools:
    return replace(tools, clock=lambda: NOON)


def champion(tools: Tools) -> int | None:
    return tools.registry.alias("flights", "champion")


def actions(tools: Tools) -> list[str]:
    return [row["action"] for row in tools.ledger.audit("flights")]


def left_open(tools: Tools, folder: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> DeploymentJob:
    """A release that ended after its intent was written, before the target was reached."""
    job = decided(tools, registered(tools, folder, number))
    with monkeypatch.context() as crashing, suppress(ServiceUnavailableError):
        crashing.setattr(AliasTarget, "promote", _unreachable)
        deploy(job, tools)
    return job


def _unreachable(*_args: Any, **_kwargs: Any) -> Any:
    raise ServiceUnavailableError("the service does not answer")


# --- Where nothing is to be done -------------------------------------------------------------------------------------


def test_what_is_as_it_should_be_stays_untouched(noon: Tools, tmp_path: Path) -> None:
    released(noon, tmp_path, 1)
    released(noon, tmp_path, 2)
    rows = actions(noon)

    report = reconcile(JOB, noon)

    assert report == Reconciliation(model="flights", epoch=2, version=2)
    assert report.faults == ()
    assert actions(noon) == rows


def test_a_model_that_was_never_released_is_sound(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)

    assert reconcile(JOB, noon) == Reconciliation(model="flights")


# --- Targets ---------------------------------------------------------------------------------------------------------


def test_an_alias_that_was_moved_by_hand_is_set_back_and_told_in_the_audit(noon: Tools, tmp_path: Path) -> None:
    released(noon, tmp_path, 1)
    released(noon, tmp_path, 2)
    noon.registry.set_alias("flights", "champion", 1)

    report = reconcile(JOB, noon)

    assert (champion(noon), report.faults) == (2, ())
    (told,) = report.repaired
    assert told == "the target serves version 1 with 100%; version 2 at epoch 2 is in force"
    row = noon.ledger.audit("flights")[-1]
    assert (row["action"], row["actor"]) == ("move by hand refused", "unknown")
    assert row["detail"].endswith("it is set back")
    assert reconcile(JOB, noon).repaired == ()


def test_an_alias_that_was_taken_away_is_set_again(noon: Tools, tmp_path: Path) -> None:
    released(noon, tmp_path, 1)
    noon.registry.remove_alias("flights", "champion")

    report = reconcile(JOB, noon)

    assert champion(noon) == 1
    assert report.repaired == ("the target serves nothing; version 1 at epoch 1 is in force",)


def test_a_target_that_claims_an_epoch_which_the_ledger_never_made_is_put_right(noon: Tools, tmp_path: Path) -> None:
    released(noon, tmp_path, 1)
    forged = noon.registry.model_tags("flights")["ml_lifecycle.alias.champion"].replace('"epoch":1', '"epoch":99')
    noon.registry.tag_model("flights", {"ml_lifecycle.alias.champion": forged})

    report = reconcile(JOB, noon)

    assert "claims epoch 99" in report.repaired[0]
    assert AliasTarget().status("flights", means_of(noon)).epoch == 1
    released(noon, tmp_path, 2)
    assert champion(noon) == 2


def test_swapped_bytes_are_not_put_back_and_are_told(noon: Tools, tmp_path: Path) -> None:
    released(noon, tmp_path, 1)
    released(noon, tmp_path, 2)
    noon.registry.set_alias("flights", "champion", 1)
    for stored in (tmp_path / "tracking").rglob("package.json"):
        stored.write_text("swapped")

    report = reconcile(JOB, noon)

    assert champion(noon) == 1
    assert "the model package has digest" in report.unrepaired[0]
    assert [one.invariant for one in report.violations] == ["target serves the head"]
    assert report.faults


def test_an_alias_before_the_first_release_is_told_and_left(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    noon.registry.set_alias("flights", "champion", 1)

    report = reconcile(JOB, noon)

    assert [one.what for one in report.violations] == ["it serves version 1: 100%, and nothing was ever released"]


def test_another_environments_alias_is_left_alone(noon: Tools, tmp_path: Path) -> None:
    released(noon, tmp_path, 1)
    prod = replace(noon, environment="prod")
    job = decided(prod, registered(prod, tmp_path, 2))
    prod.ledger.release(_registered(prod, 2), job.decision, moved_by="ada", at=NOON)

    report = reconcile(JOB, prod)

    assert champion(noon) == 1
    assert "belongs to the environment 'test', not 'prod'" in report.unrepaired[0]


def _registered(tools: Tools, number: int) -> Any:
    from ml_lifecycle.stages.evidence import registrations as all_of

    return next(one for one in all_of("flights", tools) if one.version == number)


def test_a_sandbox_is_only_looked_at(noon: Tools, tmp_path: Path) -> None:
    released(noon, tmp_path, 1)
    noon.registry.remove_alias("flights", "champion")

    report = reconcile(JOB, replace(noon, environment="sandbox"))

    assert (champion(noon), report) == (None, Reconciliation(model="flights"))


# --- Deployments that were left --------------------------------------------------------------------------------------


def test_a_deployment_that_was_left_is_carried_out(
    noon: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released(noon, tmp_path, 1)
    job = left_open(noon, tmp_path, 2, monkeypatch)

    report = reconcile(JOB, at(noon, 100))

    assert (report.finished, report.faults, champion(noon)) == ((2,), (), 2)
    move = noon.ledger.moves("flights", "test")[1]
    assert noon.ledger.deployment_states(move) == ("intent", "observed", "done")
    assert deploy(job, at(noon, 101)) is not None


def test_a_move_that_was_left_before_its_intent_is_carried_out(noon: Tools, tmp_path: Path) -> None:
    version = registered(noon, tmp_path, 1)
    noon.ledger.release(version, decided(noon, version).decision, moved_by="ada", at=NOON)

    report = reconcile(JOB, noon)

    assert (report.finished, champion(noon)) == ((1,), 1)


def test_a_deployment_that_a_newer_move_overtook_is_closed(
    noon: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released(noon, tmp_path, 1)
    left_open(noon, tmp_path, 2, monkeypatch)
    roll_back(RollbackJob(request={"model": "flights", "stream": "rollback", "run_id": "r/1"}), noon)

    report = reconcile(JOB, noon)

    assert (report.closed, report.finished, report.faults, champion(noon)) == ((2,), (), (), 1)
    move = noon.ledger.moves("flights", "test")[1]
    assert noon.ledger.deployment_states(move) == ("intent", "superseded")
    assert reconcile(JOB, noon).closed == ()


def test_a_deployment_whose_approval_was_blocked_is_not_carried_out(
    noon: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released(noon, tmp_path, 1)
    job = left_open(noon, tmp_path, 2, monkeypatch)
    noon.ledger.block(job.decision.ask.ask_id, why="Airflow records a Reject", at=NOON)

    report = reconcile(JOB, noon)

    assert champion(noon) == 1
    assert "Airflow records a Reject" in report.unrepaired[0]
    assert [one.invariant for one in report.violations] == ["valid decision"]


def test_a_service_that_does_not_answer_is_left_to_the_next_run(
    noon: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released(noon, tmp_path, 1)
    monkeypatch.setattr(noon.registry, "alias", _unreachable)

    with pytest.raises(ServiceUnavailableError):
        reconcile(JOB, noon)


# --- Questions that wait ---------------------------------------------------------------------------------------------


def waiting(tools: Tools, **terms: Any) -> Ask:
    """An open question that has been shown once."""
    made = ApprovalTerms.model_validate({"approvers": ("ada",), "escalate_to": ("olga",), **terms})
    ask = Ask(
        model="flights",
        environment="test",
        version=1,
        digest="a" * 64,
        dataset_fingerprint="d" * 64,
        metrics_digest="e" * 64,
        gate_verdict="pass",
        policy_digest="f" * 64,
        epoch=0,
        terms=made,
    )
    tools.ledger.ask(ask, requested_by=None, at=NOON, expires_at=NOON + 10 * HOUR)
    place = {"dag_id": "flights_release", "run_id": "r", "task_id": "approve"}
    tools.ledger.post(Posting(ask_id=ask.ask_id, model="flights", environment="test", **place), at=NOON)
    return ask


@pytest.mark.parametrize(("hours", "is_due"), [(1.99, False), (2, True), (10, True), (10.01, False)])
def test_a_question_is_escalated_from_its_hour_on_until_it_expires(noon: Tools, hours: float, is_due: bool) -> None:  # noqa: FBT001  # a table
    ask = waiting(noon, escalate_after_s=7200)

    assert due_escalations("flights", at(noon, hours)) == ((ask,) if is_due else ())


def test_people_are_told_of_an_escalation_once(noon: Tools) -> None:
    ask = waiting(noon, escalate_after_s=7200)

    note_escalation(ask, at(noon, 3))

    assert due_escalations("flights", at(noon, 4)) == ()


def test_a_question_without_a_second_list_or_with_an_answer_is_not_escalated(noon: Tools) -> None:
    waiting(noon)
    answered = waiting(noon, escalate_after_s=60)
    noon.ledger.vote(Vote(ask_id=answered.ask_id, outcome="approve", person="ada", channel="signed", at=NOON))

    assert due_escalations("flights", at(noon, 5)) == ()


# --- The picture -----------------------------------------------------------------------------------------------------


def test_the_picture_of_a_real_history_violates_nothing(noon: Tools, tmp_path: Path) -> None:
    for number in (1, 2):
        released(noon, tmp_path, number)
    roll_back(RollbackJob(request={"model": "flights", "stream": "rollback", "run_id": "r/1"}), noon)
    deploy(decided(at(noon, 1), _registered(noon, 2)), at(noon, 2))

    picture = snapshot("flights", noon, runs=True)

    assert violations(picture) == ()
    assert len(picture.asks) == 3
    assert len(picture.moves) == len(picture.steps) == 4
    assert picture.observed == {2: 100}


def test_the_picture_of_the_ledger_alone_needs_no_service(
    noon: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released(noon, tmp_path, 1)
    for name in ("alias", "versions", "runs_of"):
        monkeypatch.setattr(noon.registry, name, _unreachable)

    picture = snapshot("flights", noon, look=False)

    assert (picture.observed, violations(picture)) == (None, ())


def test_a_row_that_was_changed_in_the_database_is_told(noon: Tools, tmp_path: Path) -> None:
    released(noon, tmp_path, 1)
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        for (trigger,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f"DROP TRIGGER {trigger}")
        database.execute("UPDATE moves SET moved_by = 'mallory'")
    database.close()

    found = reconcile(JOB, noon).violations

    assert [one.invariant for one in found] == ["audit chain"]
    assert "its row in moves was changed or put in" in found[0].what
