from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal

import pytest

from ml_lifecycle.backends.files import digest_of_folder
from ml_lifecycle.core.approval import is_form_of
from ml_lifecycle.core.contracts import (
    ApprovalTerms,
    ChampionResult,
    Columns,
    DatasetRef,
    Decision,
    Evaluation,
    GateCheck,
    GateDecision,
    HoldoutSpec,
    Metric,
    ModelVersion,
    Posting,
    RunRequest,
    TrainedModel,
    ValidationReport,
    Verdict,
    Vote,
)
from ml_lifecycle.core.errors import (
    ApprovalRefusedError,
    LedgerError,
    NoDecisionError,
    RequestError,
    ServiceUnavailableError,
)
from ml_lifecycle.stages.approval import Answer, ApprovalJob, Question, candidate_of, pose, settle
from ml_lifecycle.stages.deployment import RollbackJob, deploy, roll_back
from ml_lifecycle.stages.release_right import DeploymentJob
from ml_lifecycle.stages.runner import Tools, record

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
Outcome = Literal["approve", "reject"]


def at(tools: Tools, moment: datetime) -> Tools:
    """The same deployment at a moment."""
    return replace(tools, clock=lambda: moment)


@pytest.fixture
def noon(tools: Tools) -> Tools:
    return at(tools, NOON)


def registered(
    tools: Tools,
    folder: Path,
    number: int,
    *,
    verdict: Verdict = Verdict.PASS,
    requester: str | None = "bob",
    against: ModelVersion | None = None,
) -> ModelVersion:
    """A version as the stages before leave it: package, run, results in the ledger.

    :param against: The champion that it was compared with.
    """
    run = replace(tools, run=f"flights_train/{number}")
    request = RunRequest(model="flights", run_id=run.run, requester=requester, reason=f"reason {number}")
    record("resolve", request, run, model="flights")
    package = folder / f"package-{number}"
    package.mkdir()
    (package / "package.json").write_text(f'{{"number": {number}}}')
    key = f"{number:064d}"
    # Tags can be changed by whoever reaches the tracking server: nobody is shown them.
    tags = {"ml_lifecycle.code_version": "forged", "ml_lifecycle.hyperparameters": '{"max_iter": 99}'}
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
        estimator="sklearn.linear_model.LogisticRegression",
        hyperparameters={"max_iter": number},
        seed=7,
        code_version=f"commit-{number}",
    )
    record("train", model, run, model="flights")
    report = ValidationReport(dataset=model.dataset, verdict=Verdict.PASS, expectations=14, report_uri="reports/1.html")
    record("validate", report, run, model="flights")
    evaluation = Evaluation(
        model=model,
        metrics={"roc_auc": Metric(value=0.75, rows=20)},
        champion=measured(against) if against is not None else None,
        predictions_uri="runs:/1/predictions.parquet",
        predictions_digest="e" * 64,
    )
    check = GateCheck(rule="roc_auc at least 0.6", verdict=verdict, observed=0.75)
    gate = GateDecision(
        evaluation=evaluation,
        verdict=verdict,
        checks=(check,),
        policy_digest="f" * 64,
        judged=number,
        report_uri=f"reports/evaluation/flights/{number}/index.html",
    )
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


def measured(version: ModelVersion) -> ChampionResult:
    return ChampionResult(version=version.version, digest=version.digest, metrics={}, differences={})


def judged_again(tools: Tools, version: ModelVersion, policy_digest: str) -> ModelVersion:
    """The same version, trained again with the same result and judged by another gate."""
    run = replace(tools, run="flights_train/again")
    gate = GateDecision.model_validate(tools.ledger.results("test", "flights", "gate")[-1]["content"])
    record("gate", gate.model_copy(update={"policy_digest": policy_digest}), run, model="flights")
    again = version.model_copy(update={"policy_digest": policy_digest})
    record("register", again, run, model="flights")
    return again


def asked(version: int | None = None, **options: Any) -> ApprovalJob:
    """An approval that an event started, unless it says otherwise."""
    request = {"trigger": "asset", **options.pop("request", {})}
    terms = {"approvers": ("ada", "bob", "cid"), **options.pop("terms", {})}
    values: dict[str, Any] = {"terms": ApprovalTerms(**terms), **options}
    return ApprovalJob(request=RunRequest(model="flights", stream="release", version=version, **request), **values)


def posed(tools: Tools, job: ApprovalJob) -> Question:
    question = pose(job, tools)
    assert question is not None
    return question


def shown(tools: Tools, question: Question, *, run: str = "r/1", author: str | None = None) -> Posting:
    """The question as a task shows it."""
    posting = Posting(
        ask_id=question.ask.ask_id,
        model="flights",
        environment="test",
        dag_id="flights_release",
        run_id=run,
        task_id="approve",
        author=author,
    )
    return tools.ledger.post(posting, at=tools.clock())


def guarded(
    tools: Tools, question: Question, posting: Posting, by: str = "ada", outcome: Outcome = "approve"
) -> Answer:
    """An answer that the guard of the API server wrote into the ledger, as Airflow hands it to the task."""
    tools.ledger.vote(
        Vote(
            ask_id=question.ask.ask_id,
            outcome=outcome,
            person=by,
            channel="airflow",
            posting=posting.number,
            reason="good",
            at=tools.clock(),
        )
    )
    return said(question, by, outcome)


def said(question: Question, by: str, outcome: Outcome = "approve", reason: str = "") -> Answer:
    return Answer(person=by, option=question.approve if outcome == "approve" else "Reject", reason=reason)


def settled(tools: Tools, question: Question, posting: Posting, answer: Answer | None) -> Decision | None:
    return settle(question, posting, answer, tools, grace_s=0)


def decided(tools: Tools, question: Question, by: str = "ada", outcome: Outcome = "approve") -> Decision:
    posting = shown(tools, question)
    decision = settled(tools, question, posting, guarded(tools, question, posting, by, outcome))
    assert decision is not None
    return decision


def refusals(tools: Tools) -> list[str]:
    return [row["detail"] for row in tools.ledger.audit("flights") if row["action"] == "vote refused"]


def release(tools: Tools, question: Question) -> None:
    decision = question.decision or decided(tools, question)
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

    question = posed(noon, asked())
    body = question.body

    assert "replaces version 1" in body
    assert "| data rows | 100 | 200 |" in body
    assert "| code version | commit-1 | commit-2 |" in body
    assert "| max_iter | 1 | 2 |" in body
    assert "roc_auc at least 0.6" in body
    assert "14 of 14 expectations met (pass)." in body
    assert "This holdout has judged 2 candidates, this one included" in body
    assert "Evaluation report: reports/evaluation/flights/2/index.html" in body
    assert "Data report: reports/1.html" in body
    assert "Asked for by bob: reason 2." in body
    assert is_form_of(question.ask.ask_id, body)
    assert "2026-03-04 12:00 UTC" in body


def test_a_task_that_is_tried_again_asks_the_same_question_once(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    first = posed(noon, asked())

    again = posed(at(noon, NOON + HOUR), asked())

    assert again == first
    assert [row["action"] for row in noon.ledger.audit("flights")].count("ask") == 1


def test_a_try_after_the_answer_finds_it_and_asks_nobody(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    decision = decided(noon, posed(noon, asked()), outcome="reject")

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
    with pytest.raises(ApprovalRefusedError, match="superseded"):
        decided(noon, older)


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
    with pytest.raises(ApprovalRefusedError, match="superseded"):
        decided(later, first)
    assert decided(later, second).outcome == "approve"


def test_an_approval_that_was_never_used_runs_out_and_is_asked_for_anew(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    question = posed(noon, asked(expires_after=HOUR))
    decision = decided(noon, question)

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


def test_what_was_asked_under_another_gate_is_asked_anew(noon: Tools, tmp_path: Path) -> None:
    version = registered(noon, tmp_path, 1)
    before = posed(noon, asked())
    decision = decided(noon, before)
    judged_again(noon, version, "9" * 64)

    question = posed(noon, asked())

    assert decision.outcome == "approve"
    assert (question.ask.policy_digest, question.decision) == ("9" * 64, None)
    assert "roc_auc at least 0.6" in question.body
    assert noon.ledger.open_asks("flights", "test") == (question.ask,)


def test_the_newest_judgement_counts_also_where_it_is_one_that_was_given_before(noon: Tools, tmp_path: Path) -> None:
    version = registered(noon, tmp_path, 1)
    judged_again(noon, version, "9" * 64)
    record("register", version, replace(noon, run="flights_train/3"), model="flights")

    assert posed(noon, asked()).ask.policy_digest == version.policy_digest


def test_other_terms_are_another_question(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    first = posed(noon, asked())
    decided(noon, first)

    second = posed(noon, asked(terms={"count": 2}))

    assert second.ask != first.ask
    assert second.decision is None


# --- Policy ----------------------------------------------------------------------------------------------------------


def test_policy_never_approves_what_a_person_rejected(noon: Tools, tmp_path: Path) -> None:
    version = registered(noon, tmp_path, 1)
    decided(noon, posed(noon, asked()), outcome="reject")
    judged_again(noon, version, "9" * 64)

    question = posed(noon, asked(required="never"))

    assert (question.ask.policy_digest, question.decision) == ("9" * 64, None)


@pytest.mark.parametrize("required", ["never", "on_inconclusive"])
def test_policy_approves_what_passed_and_is_named(noon: Tools, tmp_path: Path, required: str) -> None:
    registered(noon, tmp_path, 1)

    question = posed(noon, asked(required=required, terms={"count": 2}))

    assert question.decision is not None
    assert [(vote.person, vote.channel) for vote in noon.ledger.votes(question.ask.ask_id)] == [("policy", "policy")]
    assert (question.decision.outcome, question.decision.decided_by) == ("approve", "policy")
    assert noon.ledger.decision(question.ask.ask_id) == question.decision


def test_policy_approves_what_met_the_champion(noon: Tools, tmp_path: Path) -> None:
    first = registered(noon, tmp_path, 1)
    release(noon, posed(noon, asked(required="never")))
    registered(noon, tmp_path, 2, against=first)

    question = posed(noon, asked(required="never"))

    assert question.decision is not None
    assert (question.ask.version, question.decision.decided_by) == (2, "policy")
    assert "present champion" not in question.body


def test_policy_leaves_what_never_met_the_champion_to_a_person(noon: Tools, tmp_path: Path) -> None:
    first = registered(noon, tmp_path, 1)
    release(noon, posed(noon, asked(required="never")))
    for number in (2, 3):
        registered(noon, tmp_path, number, against=first)
    release(noon, posed(noon, asked(2, required="never")))

    question = posed(noon, asked(3, required="never"))

    assert question.decision is None
    assert noon.ledger.open_asks("flights", "test") == (question.ask,)
    why = "judged against version 1, not against the present champion, version 2: train again to compare"
    assert f"**It was {why}.**" in question.body
    assert decided(noon, question).outcome == "approve"


def test_what_policy_approved_is_asked_anew_where_the_pipeline_wants_a_person_since(
    noon: Tools, tmp_path: Path
) -> None:
    registered(noon, tmp_path, 1)
    before = posed(noon, asked(required="never"))

    question = posed(noon, asked(required="always"))

    assert before.decision is not None
    assert question.ask == before.ask.model_copy(update={"renewal": 1})
    assert question.decision is None
    assert noon.ledger.open_asks("flights", "test") == (question.ask,)
    assert posed(noon, asked(required="never")).decision == before.decision


def test_what_policy_approved_is_left_to_a_person_once_one_rejected_the_same_bytes(noon: Tools, tmp_path: Path) -> None:
    version = registered(noon, tmp_path, 1)
    posed(noon, asked(required="never"))
    judged_again(noon, version, "9" * 64)
    decided(noon, posed(noon, asked()), outcome="reject")
    judged_again(noon, version, version.policy_digest)
    record("register", version, replace(noon, run="flights_train/3"), model="flights")

    question = posed(noon, asked(required="never"))

    assert (question.ask.policy_digest, question.decision) == (version.policy_digest, None)


@pytest.mark.parametrize("required", ["never", "on_inconclusive"])
def test_an_inconclusive_candidate_always_asks_a_person(noon: Tools, tmp_path: Path, required: str) -> None:
    registered(noon, tmp_path, 1, verdict=Verdict.INCONCLUSIVE)

    question = posed(noon, asked(required=required))

    assert question.decision is None
    assert noon.ledger.open_asks("flights", "test") == (question.ask,)


# --- Who is shown as what --------------------------------------------------------------------------------------------


def test_the_approver_reads_who_may_not_approve_and_who_did(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    job = asked(terms={"count": 2}, author="dora", committers=("Cid", "cid@example.com"))
    question = posed(noon, job)
    guarded(noon, question, shown(noon, question))

    body = posed(noon, job).body

    assert "2 different people of ada, bob, cid have to approve it" in body
    assert "Approved so far by 1 of 2: ada." in body
    assert "- bob asked for it, and may reject but not approve." in body
    assert "- dora started the run that asks, and may reject but not approve." in body
    assert "- Cid, cid@example.com committed the pipeline file last, and may reject but not approve." in body
    assert "**1 more than may still approve are needed.**" in body


def test_the_committer_counts_from_the_moment_of_the_question(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)

    question = posed(noon, asked(committers=("Ada",)))

    with pytest.raises(ApprovalRefusedError, match="ada committed the pipeline file last"):
        decided(noon, question, "ada")
    assert decided(noon, question, "cid").decided_by == "cid"


def test_without_a_tracking_server_the_question_is_asked_without_its_links(
    noon: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(noon, tmp_path, 1)

    def fail(*_: object) -> None:
        raise ServiceUnavailableError("no answer")

    monkeypatch.setattr(noon.tracking, "get_run", fail)
    monkeypatch.setattr(noon.registry, "version", fail)

    assert "| max_iter | 1 |" in posed(noon, asked()).body


# --- What answers come to --------------------------------------------------------------------------------------------


def test_an_approval_that_the_guard_took_is_the_decision(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    question = posed(noon, asked())

    decision = decided(at(noon, NOON + HOUR), question)

    assert (decision.outcome, decision.decided_by, decision.reason) == ("approve", "ada", "good")
    assert (decision.decided_at, decision.expires_at) == (NOON + HOUR, NOON + 73 * HOUR)
    assert decision.requested_by == "bob"


def test_a_vote_that_shows_late_is_waited_for(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    question = posed(noon, asked())
    posting = shown(noon, question)
    late = threading.Timer(0.3, guarded, (noon, question, posting))
    late.start()

    decision = settle(question, posting, said(question, "ada"), noon, grace_s=10)

    late.join()
    assert decision is not None
    assert decision.outcome == "approve"


def test_an_approval_past_the_guard_is_refused_and_says_why(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    question = posed(noon, asked())

    with pytest.raises(LedgerError, match="does not run this package's plugin"):
        settled(noon, question, shown(noon, question), said(question, "ada"))

    assert noon.ledger.decision(question.ask.ask_id) is None
    assert noon.ledger.open_asks("flights", "test") == (question.ask,)
    assert [why.startswith("the approval by ada is not in the ledger") for why in refusals(noon)] == [True]


@pytest.mark.parametrize(("reason", "kept"), [("too few rows", "too few rows"), (" ", "no reason given")])
def test_a_rejection_counts_whichever_way_it_came(noon: Tools, tmp_path: Path, reason: str, kept: str) -> None:
    registered(noon, tmp_path, 1)
    question = posed(noon, asked())

    decision = settled(noon, question, shown(noon, question), said(question, "bob", "reject", reason))

    assert decision is not None
    assert (decision.outcome, decision.decided_by, decision.reason) == ("reject", "bob", kept)


def test_a_rejection_by_a_stranger_past_the_guard_leaves_the_question_open(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    question = posed(noon, asked())

    with pytest.raises(ApprovalRefusedError, match="eve may not answer this question"):
        settled(noon, question, shown(noon, question), said(question, "eve", "reject", "no"))

    assert noon.ledger.open_asks("flights", "test") == (question.ask,)


@pytest.mark.parametrize(("by", "outcome"), [("ada", "reject"), ("bob", "approve"), ("bob", "reject")])
def test_an_answer_that_the_ledger_holds_otherwise_blocks_the_question_for_ever(
    noon: Tools, tmp_path: Path, by: str, outcome: Outcome
) -> None:
    registered(noon, tmp_path, 1)
    question = posed(noon, asked())
    posting = shown(noon, question)
    guarded(noon, question, posting)

    with pytest.raises(LedgerError, match=f"the ledger holds approve by ada, Airflow {outcome} by {by}"):
        settled(noon, question, posting, said(question, by, outcome))

    with pytest.raises(NoDecisionError, match=r"version 1 \(\w+\) of flights is blocked: the ledger holds"):
        pose(asked(request={"trigger": "manual"}), noon)
    with pytest.raises(NoDecisionError, match=r"version 1 \(\w+\) of flights is blocked"):
        settled(noon, question, posting, None)


def test_a_rejection_past_the_guard_after_an_approval_elsewhere_blocks(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    question = posed(noon, asked())
    here, there = shown(noon, question), shown(noon, question, run="r/2")
    guarded(noon, question, there)

    with pytest.raises(LedgerError, match="ada approved it, and cid rejected it past the guard"):
        settled(noon, question, here, said(question, "cid", "reject", "no"))

    asked_so_far = noon.ledger.asked(question.ask.ask_id)
    assert asked_so_far is not None
    assert asked_so_far.blocked


def test_a_second_rejection_changes_nothing(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    question = posed(noon, asked())
    here, there = shown(noon, question), shown(noon, question, run="r/2")
    guarded(noon, question, there, "ada", "reject")

    decision = settled(noon, question, here, said(question, "cid", "reject", "no"))

    assert decision is not None
    assert decision.decided_by == "ada"


def test_two_people_decide_where_two_are_asked_for(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    question = posed(noon, asked(terms={"count": 2}))
    first = shown(noon, question)

    assert settled(noon, question, first, guarded(noon, question, first, "ada")) is None
    second = shown(noon, question)
    with pytest.raises(ApprovalRefusedError, match="ada has answered already"):
        guarded(noon, question, second, "ada")
    decision = settled(noon, question, second, guarded(noon, question, second, "cid"))

    assert decision is not None
    assert (decision.outcome, decision.approved_by) == ("approve", ("ada", "cid"))
    assert (first.number, second.number) == (1, 2)


def test_a_form_of_another_question_is_refused(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    question = posed(noon, asked())

    with pytest.raises(LedgerError, match="'Approve 00000000' answers another question than this one"):
        settled(noon, question, shown(noon, question), Answer(person="ada", option="Approve 00000000"))

    assert refusals(noon) == ["'Approve 00000000' answers another question than this one"]


def test_a_time_out_is_never_an_approval_and_uses_a_decision_from_outside(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    question = posed(noon, asked())
    posting = shown(noon, question)

    with pytest.raises(LedgerError, match="a time-out is never an approval"):
        settled(noon, question, posting, None)
    signed = Vote(ask_id=question.ask.ask_id, outcome="approve", person="ada", channel="signed", at=NOON)
    noon.ledger.vote(signed)

    decision = settled(noon, question, posting, None)
    assert decision is not None
    assert decision.decided_by == "ada"


@pytest.mark.parametrize(
    ("by", "why"), [("bob", "bob asked for it"), ("eve", "eve may not answer"), ("dora", "dora may not answer")]
)
def test_a_refused_answer_leaves_the_question_open(noon: Tools, tmp_path: Path, by: str, why: str) -> None:
    registered(noon, tmp_path, 1)
    question = posed(noon, asked())

    with pytest.raises(ApprovalRefusedError, match=why):
        decided(noon, question, by)

    assert noon.ledger.open_asks("flights", "test") == (question.ask,)


def test_whoever_triggered_the_release_cannot_approve_it(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    question = posed(noon, asked(request={"trigger": "manual", "requester": "ada"}, author="ada"))

    with pytest.raises(ApprovalRefusedError, match="ada started the run that asks"):
        guarded(noon, question, shown(noon, question, author="ada"))


def test_without_a_requester_of_the_training_the_one_of_the_release_counts(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1, requester=None)

    question = posed(noon, asked(request={"trigger": "manual", "requester": "ada"}))

    assert question.requested_by == "ada"
    with pytest.raises(ApprovalRefusedError, match="ada asked for it"):
        decided(noon, question)


def test_everybody_who_asked_for_the_very_same_training_may_reject_and_not_approve(noon: Tools, tmp_path: Path) -> None:
    version = registered(noon, tmp_path, 1, requester="bob")
    (trained,) = noon.ledger.results("test", "flights", "train")
    for number, person in ((2, None), (3, "ada"), (4, "Ada")):
        run = replace(noon, run=f"flights_train/{number}")
        record("resolve", RunRequest(model="flights", run_id=run.run, requester=person), run, model="flights")
        record("train", TrainedModel.model_validate(trained["content"]), run, model="flights")
        record("register", version, run, model="flights")

    question = posed(noon, asked())

    assert question.requested_by == "bob"
    assert "- bob asked for it, and may reject but not approve." in question.body
    assert "asked for it, too, and may reject but not approve." in question.body
    with pytest.raises(ApprovalRefusedError, match="bob asked for it, so somebody else"):
        decided(noon, question, "bob")
    with pytest.raises(ApprovalRefusedError, match="ada asked for it, too, so somebody else"):
        decided(noon, question, "ada")
    assert decided(noon, question, "ada", "reject").outcome == "reject"


def test_an_answer_after_the_expiry_does_not_count(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    question = posed(noon, asked(expires_after=HOUR))

    with pytest.raises(ApprovalRefusedError, match="expired"):
        decided(at(noon, NOON + 2 * HOUR), question)


def test_a_question_that_was_never_asked_cannot_be_answered(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    question = posed(noon, asked())
    posting = shown(noon, question)
    forged = question.model_copy(update={"ask": question.ask.model_copy(update={"version": 9})})

    with pytest.raises(LedgerError, match="nobody asked about version 9"):
        settled(noon, forged, posting, None)
