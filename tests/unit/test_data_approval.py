"""Data is trained on under an approval of exactly this data, as it was checked, and under the pipeline's terms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from ml_lifecycle.core.contracts import ApprovalTerms, DatasetRef, ExpectationResult, ValidationReport, Verdict, Vote
from ml_lifecycle.core.data_approval import DataPolicy, ask_about, policy_decides
from ml_lifecycle.core.errors import ApprovalRefusedError, NoDecisionError
from ml_lifecycle.stages.runner import Tools
from ml_lifecycle.stages.training import train
from tests.fakes.small_model import dataset, request, training_job, with_project

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
        channel: Any = "policy" if person == "policy" else "signed"
        vote = Vote(ask_id=ask.ask_id, outcome=outcome, person=person, channel=channel, reason="seen", at=NOON)
        tools.ledger.vote(vote)
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
