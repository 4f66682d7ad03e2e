"""A step of a rollout that its evidence does not decide: what people are asked, and what they read."""

from __future__ import annotations

from dataclasses import dataclass

from ml_lifecycle.core.approval import (
    MARKS,
    NOTHING,
    Asking,
    asked_by,
    cell,
    form_mark,
    links,
    number,
    people,
    short,
    table,
)
from ml_lifecycle.core.contracts import ApprovalTerms, Ask, Move, StepReport, Verdict, digest_of


def ask_about(report: StepReport, move: Move, dataset_fingerprint: str, terms: ApprovalTerms) -> Ask:
    """The question whether this step of this rollout may be passed; what is observed meanwhile does not change it."""
    return Ask(
        kind="step",
        model=move.model,
        environment=move.environment,
        version=move.version,
        digest=move.digest,
        dataset_fingerprint=dataset_fingerprint,
        metrics_digest=_digest_of(move, report.percent),
        gate_verdict=Verdict.INCONCLUSIVE,
        policy_digest=report.policy.content_digest(),
        epoch=move.epoch,
        terms=terms,
    )


def is_about(ask: Ask, move: Move, percent: int) -> bool:
    """Whether a question was about exactly this step."""
    named = (ask.kind, ask.model, ask.environment, ask.digest, ask.metrics_digest)
    return named == ("step", move.model, move.environment, move.digest, _digest_of(move, percent))


def _digest_of(move: Move, percent: int) -> str:
    return digest_of({"epoch": move.epoch, "percent": percent})


@dataclass(frozen=True, kw_only=True)
class StepBriefing(Asking):
    """All that people are told who decide about a step."""

    report: StepReport
    digest: str


def subject(ask: Ask, percent: int) -> str:
    """The question in one line."""
    step = f"{percent}%" if percent else "the shadow"
    return f"Go on from {step} with version {ask.version} ({short(ask.digest)}) of {ask.model} in {ask.environment}?"


def body(briefing: StepBriefing) -> str:
    """The question in full, as GitHub-flavoured markdown."""
    report = briefing.report
    step = f"gets **{report.percent}%** of the traffic" if report.percent else "answers in the **shadow**"
    opening = (
        f"**{cell(briefing.model)} version {report.version}** (`{short(briefing.digest)}`) {step} in "
        f"**{cell(briefing.environment)}**, and the evidence does not decide. Looking goes on: a version that is shown "
        f"to be worse is rolled back meanwhile, and one that passes goes on.\n\n"
        f"Approve: it gets the next share. Reject: the version before gets everything back.\n\n{asked_by(briefing)}"
    )
    rows = [
        (
            cell(check.name),
            MARKS[check.verdict],
            number(check.observed),
            _bounds(check.low, check.high),
            cell(check.detail),
        )
        for check in report.checks
    ]
    head = ("Check", "Verdict", "Observed", "Bounds", "")
    parts = [opening, people(briefing), table("What was observed", head, rows), links(briefing.links)]
    return "\n\n".join([*(part for part in parts if part), form_mark(briefing.ask_id)]) + "\n"


def _bounds(low: float | None, high: float | None) -> str:
    return NOTHING if low is None and high is None else f"{number(low)} to {number(high)}"
