from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from ml_lifecycle.backends.files import digest_of_folder
from ml_lifecycle.core.contracts import (
    Columns,
    DatasetRef,
    Evaluation,
    GateCheck,
    GateDecision,
    HoldoutSpec,
    Metric,
    ModelVersion,
    RunRequest,
    TrainedModel,
    ValidationReport,
    Verdict,
)
from ml_lifecycle.core.errors import ApprovalRefusedError, LedgerError, NoDecisionError, RequestError
from ml_lifecycle.stages.approval import ApprovalJob, Question, answer, candidate_of, pose
from ml_lifecycle.stages.deployment import DeploymentJob, RollbackJob, deploy, roll_back
from ml_lifecycle.stages.runner import Tools, record

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)


def at(tools: Tools, moment: datetime) -> Tools:
    """The same deployment at a moment."""
    return replace(tools, clock=lambda: moment)


@pytest.fixture
def noon(tools: Tools) -> Tools:
    return at(tools, NOON)


def registered(
    tools: Tools, folder: Path, number: int, *, verdict: Verdict = Verdict.PASS, requester: str | None = "bob"
) -> ModelVersion:
    """A version as the stages before leave it: package, run, results in the ledger."""
    run = replace(tools, run=f"flights_train/{number}")
    request = RunRequest(model="flights", run_id=run.run, requester=requester, reason=f"reason {number}")
    record("resolve", request, run, model="flights")
    package = folder / f"package-{number}"
    package.mkdir()
    (package / "package.json").write_text(f'{{"number": {number}}}')
    key = f"{number:064d}"
    tags = {
        "ml_lifecycle.code_version": f"commit-{number}",
        "ml_lifecycle.hyperparameters": f'{{"max_iter": {number}}}',
    }
    tracked = tools.tracking.ensure_run("flights", key, name=str(number), tags=tags)
    dataset = DatasetRef(
        uri="snapshots/1",
        rows=100 * number,
        fingerprint="d" * 64,
        columns=Columns(key="id"),
        partitions=("2013-01",),
    )
    model = TrainedModel(
        name="flights",
        uri=tools.tracking.upload(tracked.run_id, package, "model"),
        digest=digest_of_folder(package),
        training_key=key,
        run_id=tracked.run_id,
        dataset=dataset,
        holdout=HoldoutSpec(),
        training_rows=80,
    )
    record("train", model, run, model="flights")
    report = ValidationReport(dataset=model.dataset, verdict=Verdict.PASS, expectations=14, report_uri="reports/1.html")
    record("validate", report, run, model="flights")
    evaluation = Evaluation(
        model=model,
        metrics={"roc_auc": Metric(value=0.75, rows=20)},
        predictions_uri="runs:/1/predictions.parquet",
        predictions_digest="e" * 64,
    )
    check = GateCheck(rule="roc_auc at least 0.6", verdict=verdict, observed=0.75)
    gate = GateDecision(evaluation=evaluation, verdict=verdict, checks=(check,), policy_digest="f" * 64)
    record("gate", gate, run, model="flights")
    found = tools.registry.ensure_version(
        "flights", training_key=key, uri=model.uri, run_id=model.run_id, tags={"ml_lifecycle.digest": model.digest}
    )
    version = ModelVersion(
        name="flights",
        version=found.version,
        digest=model.digest,
        training_key=key,
        uri=model.uri,
        run_id=model.run_id,
        dataset_fingerprint=model.dataset.fingerprint,
        metrics_digest=evaluation.content_digest(),
        gate_verdict=verdict,
        policy_digest=gate.policy_digest,
        reason=request.reason,
    )
    record("register", version, run, model="flights")
    return version


def asked(version: int | None = None, **options: Any) -> ApprovalJob:
    """An approval that an event started, unless it says otherwise."""
    request = {"trigger": "asset", **options.pop("request", {})}
    values: dict[str, Any] = {"approvers": ("ada", "bob"), **options}
    return ApprovalJob(request=RunRequest(model="flights", stream="release", version=version, **request), **values)


def posed(tools: Tools, job: ApprovalJob) -> Question:
    question = pose(job, tools)
    assert question is not None
    return question


def release(tools: Tools, question: Question, by: str = "ada") -> None:
    decision = question.decision or answer(question, question.approve, by=by, reason="good", tools=tools)
    request = RunRequest(model="flights", stream="release", version=question.ask.version)
    assert deploy(DeploymentJob(request=request, decision=decision), tools) is not None


# --- Which version ---------------------------------------------------------------------------------------------------


def test_the_newest_registration_is_the_candidate_unless_the_request_names_one(noon: Tools, tmp_path: Path) -> None:
    first, second = registered(noon, tmp_path, 1), registered(noon, tmp_path, 2)

    assert candidate_of(RunRequest(model="flights", stream="release"), noon) == second
    assert candidate_of(RunRequest(model="flights", stream="release", version=1), noon) == first


def test_an_unknown_version_is_refused_with_those_that_exist(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    registered(noon, tmp_path, 2)

    with pytest.raises(RequestError, match="flights has no version 7; it has 1, 2"):
        candidate_of(RunRequest(model="flights", stream="release", version=7), noon)


def test_a_model_without_versions_says_what_to_run(noon: Tools) -> None:
    with pytest.raises(RequestError, match="flights has no version yet; run flights_train first"):
        candidate_of(RunRequest(model="flights", stream="release"), noon)


# --- Asking ----------------------------------------------------------------------------------------------------------


def test_the_question_is_about_exactly_what_was_registered(noon: Tools, tmp_path: Path) -> None:
    version = registered(noon, tmp_path, 1)

    question = posed(noon, asked())

    ask = question.ask
    assert (ask.version, ask.digest, ask.epoch, ask.environment) == (1, version.digest, 0, "test")
    assert (ask.dataset_fingerprint, ask.metrics_digest) == (version.dataset_fingerprint, version.metrics_digest)
    assert question.approve == f"Approve {version.digest[:8]}"
    assert question.subject == f"Release flights version 1 ({version.digest[:8]}) to test?"
    assert question.requested_by == "bob"
    assert noon.ledger.open_asks("flights", "test") == (ask,)


def test_the_approver_reads_what_the_ledger_holds(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    release(noon, posed(noon, asked()))
    registered(noon, tmp_path, 2)

    body = posed(noon, asked()).body

    assert "replaces version 1" in body
    assert "| data rows | 100 | 200 |" in body
    assert "| code version | commit-1 | commit-2 |" in body
    assert "| max_iter | 1 | 2 |" in body
    assert "roc_auc at least 0.6" in body
    assert "14 of 14 expectations met (pass)." in body
    assert "Data report: reports/1.html" in body
    assert "Asked for by bob: reason 2." in body
    assert "2026-03-04 12:00 UTC" in body


def test_a_task_that_is_tried_again_asks_the_same_question_once(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    first = posed(noon, asked())

    again = posed(at(noon, NOON + HOUR), asked())

    assert again == first
    assert [row["action"] for row in noon.ledger.audit("flights")].count("ask") == 1


def test_a_try_after_the_answer_finds_it_and_asks_nobody(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    decision = answer(posed(noon, asked()), "Reject", by="ada", reason="too slow", tools=noon)

    again = posed(noon, asked())

    assert again.decision == decision


def test_the_champion_is_not_asked_about(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    release(noon, posed(noon, asked()))

    assert pose(asked(), noon) is None


def test_what_the_gate_failed_is_never_asked_about(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1, verdict=Verdict.FAIL)

    with pytest.raises(NoDecisionError, match="the gate failed version 1"):
        pose(asked(required="never"), noon)


def test_a_newer_candidate_closes_the_open_question(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    older = posed(noon, asked())
    registered(noon, tmp_path, 2)

    newer = posed(noon, asked())

    assert noon.ledger.open_asks("flights", "test") == (newer.ask,)
    with pytest.raises(LedgerError, match="superseded"):
        answer(older, older.approve, by="ada", reason="", tools=noon)


def test_a_candidate_that_waited_in_line_does_not_push_a_newer_one_aside(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    registered(noon, tmp_path, 2)
    newer = posed(noon, asked(2))

    with pytest.raises(NoDecisionError, match="a newer candidate than version 1 was asked about"):
        pose(asked(1), noon)

    assert noon.ledger.open_asks("flights", "test") == (newer.ask,)


def test_a_person_may_ask_about_an_older_version_again(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    superseded = posed(noon, asked(1))
    registered(noon, tmp_path, 2)
    posed(noon, asked(2))

    question = posed(noon, asked(1, request={"trigger": "manual"}))

    assert question.ask == superseded.ask.model_copy(update={"renewal": 1})
    assert noon.ledger.open_asks("flights", "test") == (question.ask,)


def test_a_question_that_ran_out_is_asked_anew(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    first = posed(noon, asked(expires_after=HOUR))

    later = at(noon, NOON + 2 * HOUR)
    second = posed(later, asked(expires_after=HOUR))

    assert (first.ask.renewal, second.ask.renewal) == (0, 1)
    with pytest.raises(LedgerError, match="superseded"):
        answer(first, first.approve, by="ada", reason="", tools=later)
    assert answer(second, second.approve, by="ada", reason="", tools=later).outcome == "approve"


def test_an_approval_that_was_never_used_runs_out_and_is_asked_for_anew(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    question = posed(noon, asked(expires_after=HOUR))
    decision = answer(question, question.approve, by="ada", reason="", tools=noon)

    anew = posed(at(noon, NOON + 2 * HOUR), asked(expires_after=HOUR))

    assert decision.expires_at == NOON + HOUR
    assert (anew.ask.renewal, anew.decision) == (1, None)


def test_a_version_that_was_rolled_back_is_a_new_question(noon: Tools, tmp_path: Path) -> None:
    for number in (1, 2):
        registered(noon, tmp_path, number)
        release(noon, posed(noon, asked()))
    roll_back(RollbackJob(request=RunRequest(model="flights", stream="rollback", run_id="r/1")), at(noon, NOON + HOUR))

    question = posed(at(noon, NOON + 2 * HOUR), asked(2))

    assert (question.ask.version, question.ask.epoch, question.decision) == (2, 3, None)


# --- Policy ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("required", ["never", "on_inconclusive"])
def test_policy_approves_what_passed_and_is_named(noon: Tools, tmp_path: Path, required: str) -> None:
    registered(noon, tmp_path, 1)

    question = posed(noon, asked(required=required, approvers=()))

    assert question.decision is not None
    assert (question.decision.outcome, question.decision.decided_by) == ("approve", "policy")
    assert noon.ledger.decision(question.ask.ask_id) == question.decision


@pytest.mark.parametrize("required", ["never", "on_inconclusive"])
def test_an_inconclusive_candidate_always_asks_a_person(noon: Tools, tmp_path: Path, required: str) -> None:
    registered(noon, tmp_path, 1, verdict=Verdict.INCONCLUSIVE)

    question = posed(noon, asked(required=required))

    assert question.decision is None
    assert noon.ledger.open_asks("flights", "test") == (question.ask,)


# --- Answering -------------------------------------------------------------------------------------------------------


def test_an_approval_is_written_with_who_why_and_until_when(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    question = posed(noon, asked())

    decision = answer(question, question.approve, by="ada", reason=" good numbers ", tools=at(noon, NOON + HOUR))

    assert (decision.outcome, decision.decided_by, decision.reason) == ("approve", "ada", "good numbers")
    assert (decision.decided_at, decision.expires_at) == (NOON + HOUR, NOON + 73 * HOUR)
    assert decision.requested_by == "bob"
    assert noon.ledger.decision(question.ask.ask_id) == decision


@pytest.mark.parametrize(
    ("option", "by", "why"),
    [
        (None, "bob", "bob asked for this model"),
        (None, "eve", "eve may not answer"),
        ("Approve aaaaaaaa", "ada", "the form said 'Approve aaaaaaaa'"),
    ],
)
def test_a_refused_answer_leaves_the_question_open(
    noon: Tools, tmp_path: Path, option: str | None, by: str, why: str
) -> None:
    registered(noon, tmp_path, 1)
    question = posed(noon, asked())

    with pytest.raises(ApprovalRefusedError, match=why):
        answer(question, option or question.approve, by=by, reason="", tools=noon)

    assert noon.ledger.open_asks("flights", "test") == (question.ask,)


def test_the_requester_is_read_from_the_ledger_whatever_the_question_says(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    question = posed(noon, asked()).model_copy(update={"requested_by": None})

    with pytest.raises(ApprovalRefusedError, match="bob asked for this model"):
        answer(question, question.approve, by="bob", reason="", tools=noon)


def test_without_a_requester_of_the_training_the_one_of_the_release_counts(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1, requester=None)

    question = posed(noon, asked(request={"trigger": "manual", "requester": "ada"}))

    assert question.requested_by == "ada"
    with pytest.raises(ApprovalRefusedError, match="ada asked for this model"):
        answer(question, question.approve, by="ada", reason="", tools=noon)


def test_a_rejection_stands_when_an_approval_follows(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    question = posed(noon, asked())
    answer(question, "Reject", by="bob", reason="", tools=noon)

    standing = answer(question, question.approve, by="ada", reason="", tools=noon)

    assert (standing.outcome, standing.decided_by) == ("reject", "bob")


def test_an_answer_after_the_expiry_does_not_count(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    question = posed(noon, asked(expires_after=HOUR))

    with pytest.raises(LedgerError, match="expired"):
        answer(question, question.approve, by="ada", reason="", tools=at(noon, NOON + 2 * HOUR))


def test_a_question_that_was_never_asked_cannot_be_answered(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    question = posed(noon, asked())
    forged = question.model_copy(update={"ask": question.ask.model_copy(update={"version": 9})})

    with pytest.raises(LedgerError, match="nobody asked about version 9"):
        answer(forged, forged.approve, by="ada", reason="", tools=noon)
