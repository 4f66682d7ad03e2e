"""A registered version in, a decision about exactly its digest out."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from ml_lifecycle.backends.ledger.base import Asked
from ml_lifecycle.core import approval
from ml_lifecycle.core.approval import Briefing, Portrait, Required
from ml_lifecycle.core.contracts import (
    ApprovalTerms,
    Ask,
    Contract,
    Decision,
    GateDecision,
    ModelVersion,
    Move,
    Posting,
    RunRequest,
    ValidationReport,
    Verdict,
    Vote,
)
from ml_lifecycle.core.deployment import denied, epoch_of
from ml_lifecycle.core.errors import ApprovalRefusedError, LedgerError, LifecycleError, NoDecisionError, RequestError
from ml_lifecycle.stages.evidence import gate_of, registrations, requesters_of, training_of
from ml_lifecycle.stages.runner import Tools

BY_HAND = ("manual", "command")
GUARD_GRACE_S = 10.0
"""How long a vote may take to show in the ledger: Airflow resumes the task while the guard still writes it."""
NO_REASON = "no reason given"
_LOOK_EVERY_S = 0.2
_AFTER_A_BLOCK = "find out who answered what; another version, other data or another policy is another question"


class ApprovalJob(Contract):
    """Who is asked what."""

    request: RunRequest
    required: Required = "always"
    terms: ApprovalTerms = ApprovalTerms()
    expires_after: timedelta = timedelta(hours=72)
    """Limits the ask, and a decision not yet used."""
    author: str | None = None
    """Who triggered the run that asks; may reject, and never approve."""
    committers: tuple[str, ...] = ()
    """Names of whoever committed the pipeline file last; may reject, and never approve."""


class Question(Contract):
    """An ask, with what the approver reads and may answer."""

    ask: Ask
    subject: str
    body: str
    """Markdown."""
    approve: str
    """The option that approves, such as ``Approve 3f9a2c1b``: a stale form names another digest and is refused."""
    reject: str = approval.REJECT
    requested_by: str | None = None
    """Who asked for the training that made this version, from the ledger; else who asked for its release."""
    decision: Decision | None = None
    """The decision that already stands: policy's own, or the one that an earlier try of the task received."""


class Answer(Contract):
    """What somebody answered, as Airflow says."""

    person: str
    option: str
    reason: str = ""


def pose(job: ApprovalJob, tools: Tools) -> Question | None:
    """Write the ask into the ledger and close older ones; ``None`` where this version is the champion already.

    What ran out, unanswered or unused, is asked anew, and so is what was asked under another policy or other terms, and
    what policy approved where it is a person's to decide now.
    What a newer candidate superseded is asked anew only by hand.

    :raises RequestError: the request names a version that the ledger does not know.
    :raises NoDecisionError: the gate failed the version, a newer candidate is being asked about, or the answers to the
        question contradict each other.
    """
    version, at = candidate_of(job.request, tools), tools.clock()
    head = tools.ledger.head(version.name, tools.environment)
    if head is not None and head.digest == version.digest:
        return None
    if version.gate_verdict is Verdict.FAIL:
        raise NoDecisionError(
            f"the gate failed version {version.version} of {version.name}: nobody may be asked to release it",
            way_out="train a better candidate, or change the gate and evaluate again",
        )
    gate = gate_of(version, tools)
    draft = _draft(version, head, job, tools)
    by_policy = _is_for_policy(draft, head, gate, job, tools)
    ask = next_ask(draft, job.request, tools, by_policy=by_policy)
    _refuse_outdated(ask, job.request, tools)
    first, *others = requesters_of(version.name, "train", tools, training_key=version.training_key) or (
        job.request.requester,
    )
    tools.ledger.ask(
        ask,
        requested_by=first,
        excluded=approval.also_excluded(requesters=filter(None, others), committers=job.committers),
        at=at,
        expires_at=at + job.expires_after,
    )
    tools.ledger.supersede(version.name, tools.environment, newest=ask, at=at)
    asked = as_asked(ask, tools)
    decision = tools.ledger.decision(ask.ask_id)
    if decision is None and by_policy:
        decision = let_policy_decide(ask, f"required: {job.required}", tools)
    return Question(
        ask=ask,
        subject=approval.subject(ask.model, ask.version, ask.digest, ask.environment),
        body=approval.body(_briefing(version, head, asked, job, tools, gate=gate)),
        approve=approval.approve_label(ask.digest),
        requested_by=asked.requested_by,
        decision=decision,
    )


def settle(
    question: Question, posting: Posting, answer: Answer | None, tools: Tools, *, grace_s: float | None = None
) -> Decision | None:
    """What an answer came to; ``None`` where others still have to answer.

    An approval counts if the guard of Airflow's API server wrote it into the ledger, a rejection whichever way it came.

    :param answer: ``None`` where nobody answered in time.
    :param grace_s: How long the guard's vote is waited for; ``None`` for :data:`GUARD_GRACE_S`.
    :raises ApprovalRefusedError: somebody rejected it who may not answer; the question stays open.
    :raises NoDecisionError: the answers contradict each other.
    :raises LedgerError: nobody answered and no decision stands, an approval came past the guard, or the answer is not
        the one that the ledger holds.
    """
    if answer is not None:
        _hold_against_ledger(question, posting, answer, tools, GUARD_GRACE_S if grace_s is None else grace_s)
    as_asked(question.ask, tools)
    decision = tools.ledger.decision(question.ask.ask_id)
    if decision is None and answer is None:
        raise LedgerError(
            "nobody decided in time; a time-out is never an approval",
            where=question.subject,
            way_out=f"run {approval.asking_run(question.ask)} again to ask anew",
        )
    return decision


def candidate_of(request: RunRequest, tools: Tools) -> ModelVersion:
    """The version that a release is about: the request's, else the newest; as the ledger recorded its registration.

    :raises RequestError: the ledger knows no such version.
    """
    known = {version.version: version for version in registrations(request.model, tools)}
    wanted = request.version if request.version is not None else max(known, default=None)
    if wanted is not None and wanted in known:
        return known[wanted]
    asked = f"has no version {wanted}" if wanted is not None else "has no version yet"
    there = ", ".join(map(str, sorted(known)))
    raise RequestError(
        f"{request.model} {asked}",
        where=f"the ledger of {tools.environment}",
        way_out=f"it has {there}" if there else f"run {request.model}_train first, and see what its gate says",
    )


# --- Asking ----------------------------------------------------------------------------------------------------------


def next_ask(draft: Ask, request: RunRequest, tools: Tools, *, by_policy: bool = True) -> Ask:
    """The same question as before while it can still be answered or used, else the same one anew.

    :param by_policy: Whether policy may decide it; where not, an approval by policy is none.
    """
    for renewal in count():
        ask = draft.model_copy(update={"renewal": renewal})
        asked, decision = tools.ledger.asked(ask.ask_id), tools.ledger.decision(ask.ask_id)
        is_policys = decision is not None and decision.decided_by == approval.POLICY
        is_void = is_policys and not by_policy
        if asked is None or not (is_void or _has_lapsed(asked, decision, request, tools.clock())):
            return ask
    raise AssertionError("count() does not end")


def _is_for_policy(draft: Ask, head: Move | None, gate: GateDecision | None, job: ApprovalJob, tools: Tools) -> bool:
    """Whether no person has to be asked: it passed against the champion in force, and nobody turned it away before."""
    return (
        approval.policy_decides(job.required, draft.gate_verdict)
        and not approval.not_compared(gate.evaluation if gate is not None else None, head)
        # What was rolled back comes back only under a person's approval.
        and draft.digest not in denied(tools.ledger.moves(draft.model, tools.environment))
        and not _was_rejected(draft, tools)
    )


def _was_rejected(ask: Ask, tools: Tools) -> bool:
    """Whether a person rejected the same bytes, whatever was asked about them."""
    before = tools.ledger.decision_for(ask.model, ask.environment, ask.digest)
    return before is not None and before.outcome == "reject"


def _draft(version: ModelVersion, head: Move | None, job: ApprovalJob, tools: Tools) -> Ask:
    return Ask(
        model=version.name,
        environment=tools.environment,
        version=version.version,
        digest=version.digest,
        dataset_fingerprint=version.dataset_fingerprint,
        metrics_digest=version.metrics_digest,
        gate_verdict=version.gate_verdict,
        policy_digest=version.policy_digest,
        epoch=epoch_of(head),
        terms=job.terms,
    )


def _has_lapsed(asked: Asked, decision: Decision | None, request: RunRequest, at: datetime) -> bool:
    if asked.blocked:
        return False
    if decision is not None:
        # A rejection is final, as a contradiction is; an approval runs out.
        return decision.outcome == "approve" and decision.expires_at is not None and at > decision.expires_at
    if asked.superseded:
        return request.trigger in BY_HAND
    return asked.expires_at is not None and at > asked.expires_at


def _refuse_outdated(ask: Ask, request: RunRequest, tools: Tools) -> None:
    """A candidate that waited in line must not push a newer one aside; a person may."""
    asked = tools.ledger.asked(ask.ask_id)
    newer = [one.version for one in tools.ledger.open_asks(ask.model, ask.environment) if one.version > ask.version]
    if (asked is not None and asked.superseded) or (asked is None and newer and request.trigger not in BY_HAND):
        raise NoDecisionError(
            f"a newer candidate than version {ask.version} was asked about",
            where=f"{ask.model} in {ask.environment}",
            way_out=f"answer that one, or run {ask.model}_release by hand with version {ask.version}",
        )


def as_asked(ask: Ask, tools: Tools) -> Asked:
    """The question as the ledger has it.

    :raises LedgerError: nobody asked.
    :raises NoDecisionError: the answers to it contradict each other.
    """
    asked = tools.ledger.asked(ask.ask_id)
    if asked is None:
        raise LedgerError(
            f"nobody asked about {approval.named(ask)}",
            where=f"the ledger of {tools.environment}",
            way_out=f"run {approval.asking_run(ask)} again",
        )
    if asked.blocked:
        raise NoDecisionError(
            f"the question about {approval.named(ask)} is blocked: {asked.blocked}",
            where=f"the ledger of {tools.environment}",
            way_out=_AFTER_A_BLOCK,
        )
    return asked


def let_policy_decide(ask: Ask, reason: str, tools: Tools) -> Decision | None:
    """Policy's own approval, where a person is not asked for; ``None`` where a person rejected the same bytes before.

    :raises ApprovalRefusedError: what is asked about did not pass.
    """
    if _was_rejected(ask, tools):
        return None
    vote = Vote(
        ask_id=ask.ask_id,
        outcome="approve",
        person=approval.POLICY,
        channel="policy",
        reason=reason,
        at=tools.clock(),
    )
    return tools.ledger.vote(vote)


# --- Answers ---------------------------------------------------------------------------------------------------------


def _hold_against_ledger(question: Question, posting: Posting, answer: Answer, tools: Tools, grace_s: float) -> None:
    """Refuse an answer that the ledger does not hold; a rejection that came past the guard is written into it."""
    outcome = approval.option_means(answer.option, question.ask.digest)
    vote = _vote_on(posting, tools, grace_s)
    if vote is None and outcome == "reject":
        vote = _take_rejection(question, posting, answer, tools)
    if vote is None:
        raise _unguarded(question, answer, outcome, tools)
    if vote.outcome != outcome or approval.same_name(vote.person) != approval.same_name(answer.person):
        raise _contradiction(
            question,
            f"the ledger holds {_said(vote.person, vote.outcome)}, Airflow {_said(answer.person, outcome)}",
            tools,
        )


def _vote_on(posting: Posting, tools: Tools, grace_s: float) -> Vote | None:
    until = time.monotonic() + grace_s
    while True:
        found = [vote for vote in tools.ledger.votes(posting.ask_id) if vote.posting == posting.number]
        if found or time.monotonic() >= until:
            return found[0] if found else None
        time.sleep(_LOOK_EVERY_S)


def _take_rejection(question: Question, posting: Posting, answer: Answer, tools: Tools) -> Vote:
    """Write a rejection that came past the guard, which would have asked for its reason.

    :raises ApprovalRefusedError: this person may not answer.
    :raises LedgerError: it was approved before.
    """
    vote = Vote(
        ask_id=posting.ask_id,
        outcome="reject",
        person=answer.person,
        channel="airflow",
        posting=posting.number,
        reason=answer.reason.strip() or NO_REASON,
        at=tools.clock(),
    )
    try:
        tools.ledger.vote(vote)
    except ApprovalRefusedError:
        given = _vote_on(posting, tools, 0)
        if given is not None:
            return given
        standing = tools.ledger.decision(posting.ask_id)
        if standing is None:
            raise
        if standing.outcome == "approve":
            raise _contradiction(
                question, f"{standing.decided_by} approved it, and {answer.person} rejected it past the guard", tools
            ) from None
    return vote


def _unguarded(question: Question, answer: Answer, outcome: str | None, tools: Tools) -> LedgerError:
    """The error that says so, written into the audit."""
    why = f"{answer.option!r} answers another question than this one"
    again = f"run {approval.asking_run(question.ask)} again"
    way_out = f"Airflow keeps the form of a task's first try: {again} to get a fresh one"
    if outcome == "approve":
        why = (
            f"the approval by {answer.person} is not in the ledger: the API server that took it does not run this "
            "package's plugin, or writes to another ledger"
        )
        way_out = f"install the package beside every API server, then {again} and answer anew"
    tools.ledger.refuse(question.ask.ask_id, person=answer.person, why=why, at=tools.clock())
    return LedgerError(why, where=question.subject, way_out=way_out)


def _contradiction(question: Question, why: str, tools: Tools) -> LedgerError:
    """The error that says so; the ask loses every right."""
    tools.ledger.block(question.ask.ask_id, why=why, at=tools.clock())
    return LedgerError(
        f"the answers contradict each other: {why}",
        where=question.subject,
        way_out=_AFTER_A_BLOCK,
    )


def _said(person: str, outcome: str | None) -> str:
    return f"{outcome or 'an answer to another question'} by {person}"


# --- What the approver reads -----------------------------------------------------------------------------------------


def _briefing(
    version: ModelVersion,
    head: Move | None,
    asked: Asked,
    job: ApprovalJob,
    tools: Tools,
    *,
    gate: GateDecision | None,
) -> Briefing:
    return Briefing(
        candidate=_portrait(version.name, version.version, version.digest, tools),
        champion=_portrait(head.model, head.version, head.digest, tools) if head is not None else None,
        gate=gate,
        verdict=version.gate_verdict,
        data_checks=_data_checks(version, tools),
        links=_links(version, tools, gate=gate),
        reason=version.reason,
        **told_of_any(asked, job.author, tools),
    )


def told_of_any(asked: Asked, author: str | None, tools: Tools) -> dict[str, Any]:
    """What an approver is told of any question: who asks, who may answer, who did; by the fields of ``Asking``."""
    ask_id = asked.ask.ask_id
    authors = [author, *(posting.author for posting in tools.ledger.postings(ask_id))]
    return {
        "ask_id": ask_id,
        "model": asked.ask.model,
        "environment": tools.environment,
        "requested_by": asked.requested_by,
        "expires_at": asked.expires_at,
        "terms": asked.ask.terms,
        "asked_at": asked.at,
        "approved_by": tuple(vote.person for vote in tools.ledger.votes(ask_id) if vote.outcome == "approve"),
        "barred": approval.cannot_approve(requested_by=asked.requested_by, authors=authors, excluded=asked.excluded),
    }


def _portrait(model: str, version: int, digest: str, tools: Tools) -> Portrait:
    trained = training_of(model, digest, tools)
    if trained is None:
        return Portrait(version, digest)
    code = {
        "code_version": trained.code_version,
        "features": trained.features,
        "features_digest": trained.features_digest,
        "environment_digest": trained.environment_digest,
        "estimator": trained.estimator,
        "seed": "" if trained.seed is None else str(trained.seed),
        "hardware": trained.hardware,
    }
    return Portrait(version, digest, trained.dataset, code, trained.hyperparameters)


def _report_of(version: ModelVersion, tools: Tools) -> ValidationReport | None:
    fingerprint = version.dataset_fingerprint
    checked = tools.ledger.results(
        tools.environment, version.name, "validate", dataset__fingerprint=fingerprint, limit=1
    )
    return ValidationReport.model_validate(checked[0]["content"]) if checked else None


def _data_checks(version: ModelVersion, tools: Tools) -> str:
    report = _report_of(version, tools)
    if report is None:
        return ""
    met = report.expectations - len(report.unmet)
    unmet = f" Not met: {approval.cell(', '.join(one.expectation for one in report.unmet))}." if report.unmet else ""
    aside = f" {report.quarantined_rows:,} rows were set aside." if report.quarantined_rows else ""
    return f"{met} of {report.expectations} expectations met ({report.verdict.value}).{unmet}{aside}"


def _links(version: ModelVersion, tools: Tools, *, gate: GateDecision | None) -> dict[str, str]:
    report = _report_of(version, tools)
    return {
        "Evaluation report": tools.report_url(gate.report_uri) if gate is not None else "",
        "MLflow run: parameters, metrics, evaluation": _address(lambda: tools.tracking.get_run(version.run_id)),
        "MLflow version": _address(lambda: tools.registry.version(version.name, version.version)),
        "Data report": tools.report_url(report.report_uri) if report is not None else "",
    }


def _address(find: Callable[[], Any]) -> str:
    """Where a browser finds it; nothing where it was deleted, or its server does not answer."""
    try:
        found = find()
    except LifecycleError:
        return ""
    return str(found.url) if found is not None else ""
