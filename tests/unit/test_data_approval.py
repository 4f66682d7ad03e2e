"""Data is trained on under an approval of exactly this data, as it was checked, and under the pipeline's terms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from ml_lifecycle.core.approval import is_form_of
from ml_lifecycle.core.contracts import ApprovalTerms, DatasetRef, ExpectationResult, ValidationReport, Verdict, Vote
from ml_lifecycle.core.data_approval import DataBriefing, DataPolicy, SourceFile, ask_about, body, policy_decides
from ml_lifecycle.core.errors import ApprovalRefusedError, DigestMismatchError, NoDecisionError
from ml_lifecycle.stages.approval import Question
from ml_lifecycle.stages.data import SnapshotJob, snapshot
from ml_lifecycle.stages.data_approval import DataApprovalJob, pose_data
from ml_lifecycle.stages.runner import Tools, record
from ml_lifecycle.stages.training import train
from tests.fakes.champions import shown
from tests.fakes.small_model import COLUMNS, dataset, request, rows, training_job, with_project

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
POLICY = DataPolicy(terms=ApprovalTerms(approvers=("ada", "cleo", "anna")))


@pytest.fixture
def tools(tools: Tools, tmp_path: Path) -> Tools:
    return replace(with_project(tools, tmp_path / "project"), clock=lambda: NOON)


@pytest.fixture
def report(tools: Tools) -> ValidationReport:
    """What validation said of a dataset."""
    return ValidationReport(dataset=dataset(tools), verdict=Verdict.PASS, expectations=4, report_uri="reports/1.html")


def decided(
    data: DatasetRef | ValidationReport,
    tools: Tools,
    *people: str,
    outcome: Any = "approve",
    policy: DataPolicy = POLICY,
    environment: str = "test",
    expires_at: datetime | None = NOON + 72 * HOUR,
) -> str:
    """Ask about the data, and answer; returns the question's id."""
    ask = ask_about(data, policy, model="flights", environment=environment)
    tools.ledger.ask(ask, requested_by="anna", at=NOON, expires_at=expires_at)
    for person in people or ("ada",):
        way: Any = {"channel": "policy"} if person == "policy" else {"channel": "airflow", "posting": shown(ask, tools)}
        tools.ledger.vote(Vote(ask_id=ask.ask_id, outcome=outcome, person=person, reason="seen", at=NOON, **way))
    return ask.ask_id


def refusal(data: DatasetRef | ValidationReport, tools: Tools, policy: DataPolicy = POLICY) -> str:
    """Why the data may not be trained on; the audit says the same."""
    with pytest.raises(NoDecisionError) as refused:
        train(
            training_job(data if isinstance(data, DatasetRef) else data.dataset, dataset=data, data_approval=policy),
            tools,
        )
    row = tools.ledger.audit("flights")[-1]
    assert row["action"] == "train refused"
    assert row["actor"] == "anna"
    assert str(row["detail"]).endswith(refused.value.what)
    return refused.value.what


def test_approved_data_is_trained_on(report: ValidationReport, tools: Tools) -> None:
    decided(report, tools)

    model = train(training_job(report.dataset, dataset=report, data_approval=POLICY), tools)

    assert model.dataset == report.dataset


def test_data_that_nobody_was_asked_about_is_refused(report: ValidationReport, tools: Tools) -> None:
    assert refusal(report, tools) == "nobody decided about this data"


def test_a_question_that_is_still_open_gives_no_right(report: ValidationReport, tools: Tools) -> None:
    twice = DataPolicy(terms=ApprovalTerms(approvers=("ada", "cleo"), count=2))
    decided(report, tools, "ada", policy=twice)

    assert refusal(report, tools, twice) == "nobody decided about this data"


def test_a_training_that_is_done_already_is_not_handed_out_without_an_approval(
    report: ValidationReport, tools: Tools
) -> None:
    train(training_job(report.dataset, dataset=report), tools)

    assert refusal(report, tools) == "nobody decided about this data"


def test_rejected_data_is_refused_with_the_reason(report: ValidationReport, tools: Tools) -> None:
    decided(report, tools, outcome="reject")

    assert refusal(report, tools) == "ada rejected it: seen"


@pytest.mark.parametrize(("late", "allowed"), [(timedelta(0), True), (timedelta(microseconds=1), False)])
def test_an_approval_lasts_until_it_expires(
    report: ValidationReport,
    tools: Tools,
    late: timedelta,
    allowed: bool,  # noqa: FBT001  # a column of the table above
) -> None:
    decided(report, tools, expires_at=NOON + HOUR)
    then = replace(tools, clock=lambda: NOON + HOUR + late)

    if allowed:
        train(training_job(report.dataset, dataset=report, data_approval=POLICY), then)
    else:
        assert refusal(report, then).startswith("the approval by ada expired at 2026-03-01T13:00")


def other_data(report: ValidationReport, tools: Tools) -> ValidationReport:
    return report.model_copy(update={"dataset": dataset(tools, uri="datasets/two").model_copy(update={"rows": 1})})


def other_report(report: ValidationReport, tools: Tools) -> ValidationReport:
    broken = ExpectationResult(expectation="expect_x", severity="warning", verdict=Verdict.FAIL)
    return report.model_copy(update={"unmet": (broken,)})


def other_verdict(report: ValidationReport, tools: Tools) -> ValidationReport:
    return report.model_copy(update={"verdict": Verdict.FAIL})


@pytest.mark.parametrize("other", [other_data, other_report, other_verdict])
def test_an_approval_of_something_else_is_refused(
    report: ValidationReport, tools: Tools, other: Callable[[ValidationReport, Tools], ValidationReport]
) -> None:
    decided(other(report, tools), tools)

    assert refusal(report, tools) == "the approval is about another report on this data"


def test_an_approval_of_other_bytes_is_refused(report: ValidationReport, tools: Tools) -> None:
    changed = report.dataset.model_copy(update={"fingerprint": "f" * 64})
    decided(report.model_copy(update={"dataset": changed}), tools)

    assert refusal(report, tools) == "nobody decided about this data"


def test_an_approval_in_another_environment_is_refused(report: ValidationReport, tools: Tools) -> None:
    decided(report, tools, environment="sandbox")

    assert refusal(report, tools) == "nobody decided about this data"


@pytest.mark.parametrize(
    "given",
    [
        DataPolicy(terms=ApprovalTerms(approvers=("ada",))),
        DataPolicy(required="on_failure", terms=POLICY.terms),
        DataPolicy(terms=ApprovalTerms(approvers=("ada", "cleo", "anna"), escalate_to=("eve",), escalate_after_s=1.0)),
    ],
)
def test_an_approval_under_other_terms_is_refused(report: ValidationReport, tools: Tools, given: DataPolicy) -> None:
    decided(report, tools, policy=given)

    assert refusal(report, tools) == "the approval was given under other terms than the pipeline's"


def test_a_blocked_question_gives_no_right(report: ValidationReport, tools: Tools) -> None:
    tools.ledger.block(decided(report, tools), why="two contradictory answers", at=NOON)

    assert refusal(report, tools) == "the question was blocked: two contradictory answers"


def test_the_decision_that_came_last_counts(report: ValidationReport, tools: Tools) -> None:
    decided(report, tools)
    other = DataPolicy(terms=ApprovalTerms(approvers=("cleo",)))
    decided(report, tools, "cleo", outcome="reject", policy=other)

    assert refusal(report, tools) == "cleo rejected it: seen"


def test_whoever_asked_for_the_run_cannot_approve_its_data(report: ValidationReport, tools: Tools) -> None:
    with pytest.raises(ApprovalRefusedError, match="anna asked for it, so somebody else has to approve it"):
        decided(report, tools, "anna")


@pytest.mark.parametrize("stage", ["snapshot", "validate"])
def test_whoever_asked_for_the_same_data_before_cannot_approve_it_either(
    report: ValidationReport, tools: Tools, stage: str
) -> None:
    data: DatasetRef | ValidationReport = report if stage == "validate" else report.dataset
    earlier = replace(tools, run="flights_train/earlier")
    record("resolve", request().model_copy(update={"requester": "cleo"}), earlier, model="flights")
    record(stage, data, earlier, model="flights")

    question = posed(data, tools)

    given = {"ask_id": question.ask.ask_id, "outcome": "approve", "channel": "airflow", "at": NOON}
    for person, why in (("anna", "anna asked for it, so"), ("cleo", "cleo asked for it, too, so")):
        vote = Vote.model_validate({**given, "person": person, "posting": shown(question.ask, tools)})
        with pytest.raises(ApprovalRefusedError, match=why):
            tools.ledger.vote(vote)
    assert "cleo asked for it, too, and may reject but not approve." in question.body


def test_an_approval_of_data_releases_no_model(report: ValidationReport, tools: Tools) -> None:
    ask = ask_about(report, POLICY, model="flights", environment="test")

    assert (ask.kind, ask.version, ask.epoch) == ("dataset", 0, 0)
    assert ask.digest == ask.dataset_fingerprint == report.dataset.fingerprint
    assert ask.metrics_digest == report.content_digest()


# --- Policy ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("required", "verdict", "set_aside", "alone"),
    [
        ("on_failure", Verdict.PASS, 0, True),
        ("on_failure", Verdict.PASS, 1, False),
        ("on_failure", Verdict.FAIL, 0, False),
        ("on_failure", Verdict.INCONCLUSIVE, 0, False),
        ("always", Verdict.PASS, 0, False),
    ],
)
def test_policy_decides_only_about_data_that_passed_whole(
    report: ValidationReport,
    required: Any,
    verdict: Verdict,
    set_aside: int,
    alone: bool,  # noqa: FBT001  # a column of the table above
) -> None:
    found = report.model_copy(update={"verdict": verdict, "quarantined_rows": set_aside})

    assert policy_decides(DataPolicy(required=required), found) is alone


def test_policy_does_not_decide_about_data_that_nobody_checked(report: ValidationReport) -> None:
    assert not policy_decides(DataPolicy(required="on_failure"), report.dataset)


def test_a_decision_by_policy_does_not_do_where_people_are_asked(report: ValidationReport, tools: Tools) -> None:
    alone = DataPolicy(required="on_failure", terms=POLICY.terms)
    decided(report, tools, "policy", policy=alone)

    train(training_job(report.dataset, dataset=report, data_approval=alone, request=request()), tools)

    assert refusal(report, tools) == "the approval was given under other terms than the pipeline's"


# --- Asking ----------------------------------------------------------------------------------------------------------


def posed(data: DatasetRef | ValidationReport, tools: Tools, **changes: Any) -> Question:
    job = {"request": request(), "data": data, "policy": POLICY, "expires_after": 24 * HOUR}
    return pose_data(DataApprovalJob.model_validate({**job, **changes}), tools)


def test_the_question_names_the_fingerprint_and_is_the_same_for_the_same_data(
    report: ValidationReport, tools: Tools
) -> None:
    first, second = posed(report, tools), posed(report, tools)

    assert first.ask == second.ask
    assert first.approve == f"Approve {report.dataset.fingerprint[:8]}"
    assert first.subject == f"Train flights on data {report.dataset.fingerprint[:8]} in test?"
    assert first.requested_by == "anna"
    asked = tools.ledger.asked(first.ask.ask_id)
    assert asked is not None
    assert asked.expires_at == NOON + 24 * HOUR


def test_a_question_does_not_close_one_about_other_data(report: ValidationReport, tools: Tools) -> None:
    other = dataset(tools, rows(300), uri="datasets/two")

    posed(report, tools)
    posed(other, tools)

    assert len(tools.ledger.open_asks("flights", "test")) == 2


def test_an_approval_that_stands_is_used_again_until_it_expires(report: ValidationReport, tools: Tools) -> None:
    decided(report, tools, expires_at=NOON + 24 * HOUR)

    assert posed(report, tools).decision is not None
    later = posed(report, replace(tools, clock=lambda: NOON + 25 * HOUR))

    assert later.decision is None
    assert later.ask.renewal == 1


def test_a_rejection_is_final(report: ValidationReport, tools: Tools) -> None:
    decided(report, tools, outcome="reject")

    question = posed(report, replace(tools, clock=lambda: NOON + 2400 * HOUR))

    assert question.decision is not None
    assert question.decision.outcome == "reject"


def test_policy_approves_what_passed_whole_under_its_own_name(report: ValidationReport, tools: Tools) -> None:
    alone = DataPolicy(required="on_failure", terms=POLICY.terms)

    question = posed(report, tools, policy=alone)

    assert question.decision is not None
    assert question.decision.decided_by == "policy"
    train(training_job(report.dataset, dataset=report, data_approval=alone), tools)


def test_nobody_is_asked_about_bytes_that_are_not_the_fingerprints(
    report: ValidationReport, tools: Tools, tmp_path: Path
) -> None:
    (tmp_path / "data" / "datasets" / "one" / "data.parquet").write_bytes(b"swapped")

    with pytest.raises(DigestMismatchError):
        posed(report, tools)


def test_the_approver_reads_where_the_data_came_from(tools: Tools, tmp_path: Path) -> None:
    (tmp_path / "data" / "rows").mkdir(parents=True)
    rows().to_parquet(tmp_path / "data" / "rows" / "2013-01.parquet")
    job = {"model": "flights", "partitions": ["2013-01"], "source": {"uri": "rows/{{ partition }}.parquet"}}
    data = snapshot(SnapshotJob.model_validate({**job, "columns": COLUMNS}), tools)

    text = posed(data, tools).body

    digest = tools.data.file_digest("rows/2013-01.parquet")
    assert f"| rows | rows/2013-01.parquet | `{digest[:8]}` |" in text
    assert "| rows | 400 |" in text
    assert "No suite was held against this data" in text


def test_the_approver_reads_what_is_not_there_and_what_failed() -> None:
    data = DatasetRef(
        uri="snapshots/1",
        rows=1234,
        fingerprint="a" * 64,
        columns=COLUMNS,
        partitions=("2013-01", "2013-02"),
        dropped={"cancelled": 12},
        label_columns=("late",),
    )
    far = ExpectationResult(expectation="expect_x", column="miles", verdict=Verdict.FAIL, unexpected_rows=7)
    hostile = ExpectationResult(
        expectation="expect_y", severity="warning", verdict=Verdict.FAIL, detail="a|b\n# <img src=x>"
    )
    report = ValidationReport(
        dataset=data,
        verdict=Verdict.PASS,
        expectations=5,
        unmet=(hostile,),
        quarantined_rows=7,
        quarantined_for=(far,),
    )

    text = body(
        DataBriefing(
            ask_id="e" * 64,
            model="flights",
            environment="test",
            data=data,
            report=report,
            files=(SourceFile("labels", "labels/2013-01.csv", "b" * 64),),
            champions=data.model_copy(update={"rows": 1000, "partitions": ("2012-12",)}),
            requested_by="anna",
            reason="labels were imported",
            terms=POLICY.terms,
        )
    )

    assert "Asked for by anna: labels were imported." in text
    assert is_form_of("e" * 64, text)
    assert "| rows | 1,000 | 1,234 |" in text
    assert "| partitions | 2012-12 | 2013-01, 2013-02 |" in text
    assert "| columns that came with the labels | late | late |" in text
    assert "| dropped: cancelled | 12 |" in text
    assert "| set aside: miles: expect_x | 7 |" in text
    assert "### Expectations: 4 of 5 met" in text
    assert r"| expect_y | warning | **fail** | – | a\|b # &lt;img src=x&gt; |" in text  # noqa: RUF001  # as the page has it
    assert "| labels | labels/2013-01.csv | `bbbbbbbb` |" in text


def test_data_that_says_nothing_of_its_origin_is_told_so(report: ValidationReport, tools: Tools) -> None:
    assert "**Do not approve what you do not know.**" in posed(report, tools).body
