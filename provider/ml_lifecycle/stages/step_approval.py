"""A step that its evidence does not decide in, a person's decision about going on out."""

from __future__ import annotations

from datetime import timedelta

from ml_lifecycle.core.approval import also_excluded, approve_label
from ml_lifecycle.core.contracts import ApprovalTerms, Decision, StepReport, Verdict
from ml_lifecycle.core.step_approval import StepBriefing, ask_about, body, subject
from ml_lifecycle.stages.approval import Question, as_asked, next_ask, told_of_any
from ml_lifecycle.stages.rollout import StepJob, going_on, report_of
from ml_lifecycle.stages.runner import Tools


class StepQuestionJob(StepJob):
    """Who is asked whether a step may be passed."""

    terms: ApprovalTerms = ApprovalTerms()
    expires_after: timedelta = timedelta(hours=72)
    author: str | None = None
    """Who triggered the run that asks; may reject, and never approve."""
    committers: tuple[str, ...] = ()
    """Names of whoever committed the pipeline file last; may reject, and never approve."""


def held(job: StepJob, tools: Tools) -> StepReport | None:
    """What the step came to when it had waited as long as it may; ``None`` before.

    :raises StaleEpochError: the rollout is over.
    """
    with going_on(job, tools) as rollout:
        return report_of(rollout.move, job.percent, tools)


def pose_step(job: StepQuestionJob, tools: Tools) -> Question | None:
    """Write the ask into the ledger; ``None`` where the evidence has decided meanwhile.

    :raises StaleEpochError: the rollout is over.
    """
    at = tools.clock()
    with going_on(job, tools) as rollout:
        report = report_of(rollout.move, job.percent, tools)
        if report is None or report.verdict is not Verdict.INCONCLUSIVE:
            return None
        fingerprint = rollout.right.version.dataset_fingerprint
        ask = next_ask(ask_about(report, rollout.move, fingerprint, job.terms), job.request, tools)
        first = rollout.right.decision.requested_by or job.request.requester
        excluded = also_excluded(committers=job.committers)
        tools.ledger.ask(ask, requested_by=first, excluded=excluded, at=at, expires_at=at + job.expires_after)
        asked = as_asked(ask, tools)
    decision: Decision | None = tools.ledger.decision(ask.ask_id)
    briefing = StepBriefing(
        report=report,
        digest=ask.digest,
        reason=job.request.reason,
        links={"Rollout": tools.report_url(report.report_uri) if report.report_uri else ""},
        **told_of_any(asked, job.author, tools),
    )
    return Question(
        ask=ask,
        subject=subject(ask, job.percent),
        body=body(briefing),
        approve=approve_label(ask.digest),
        requested_by=asked.requested_by,
        decision=decision,
    )
